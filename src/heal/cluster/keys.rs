//! Where everything is in Consul's KV.

/// The keys of one agent. Names of nodes and containers are a part of a path each: neither may hold a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
    node: String,
}

impl Keys {
    /// With `REMORA_KV_PREFIX` and the name of this node.
    #[must_use]
    pub fn new(prefix: &str, node: &str) -> Self {
        Self { prefix: prefix.trim_matches('/').to_owned(), node: node.to_owned() }
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The prefix of all pauses; without a slash, because the widest of them is this key itself.
    #[must_use]
    pub fn pauses(&self) -> String {
        format!("{}/heal/pause", self.prefix)
    }

    /// The pause of everything, of a node, or of one container.
    #[must_use]
    pub fn pause(&self, node: Option<&str>, name: Option<&str>) -> String {
        let parts = node.into_iter().chain(name);
        parts.fold(self.pauses(), |key, part| format!("{key}/{part}"))
    }

    /// The prefix of what this node is asked to do.
    #[must_use]
    pub fn asks(&self) -> String {
        format!("{}/heal/ask/{}/", self.prefix, self.node)
    }

    /// What a node is asked to do about a container.
    #[must_use]
    pub fn ask(&self, node: &str, name: &str) -> String {
        format!("{}/heal/ask/{node}/{name}", self.prefix)
    }

    /// The prefix of the semaphore.
    #[must_use]
    pub fn slots(&self) -> String {
        format!("{}/heal/slot/", self.prefix)
    }

    /// One slot of the semaphore.
    #[must_use]
    pub fn slot(&self, number: usize) -> String {
        format!("{}{number}", self.slots())
    }

    /// The prefix of what is remembered of this node's containers.
    #[must_use]
    pub fn states(&self) -> String {
        format!("{}/heal/state/{}/", self.prefix, self.node)
    }

    /// What is remembered of one of them.
    #[must_use]
    pub fn state(&self, name: &str) -> String {
        format!("{}{name}", self.states())
    }

    /// The prefix of this node's events.
    #[must_use]
    pub fn events(&self) -> String {
        format!("{}/events/{}/", self.prefix, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consul::store::is_key;

    #[test]
    fn keys_are_as_documented() {
        let keys = Keys::new("/remora/", "n1");
        let all = [
            keys.pauses(),
            keys.pause(Some("n2"), None),
            keys.pause(Some("n2"), Some("web")),
            keys.ask("n2", "web"),
            keys.slot(3),
            keys.state("my.web_1-x"),
        ];
        assert_eq!(
            all,
            [
                "remora/heal/pause",
                "remora/heal/pause/n2",
                "remora/heal/pause/n2/web",
                "remora/heal/ask/n2/web",
                "remora/heal/slot/3",
                "remora/heal/state/n1/my.web_1-x",
            ]
        );
        assert!(all.iter().all(|key| is_key(key)));
        assert_eq!((keys.asks(), keys.events()), ("remora/heal/ask/n1/".to_owned(), "remora/events/n1/".to_owned()));
    }
}
