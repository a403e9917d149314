//! What a replacement writes on the container that it makes: labels, the only thing that stays with a container and that nobody
//! can change afterwards. A later agent reads them, and so does the next replacement.

use serde_json::{Map, Value, json};

use super::json::{Original, at, text};
use super::{Unclonable, label};
use crate::docker::names;

/// Ids of former containers that are kept: a dependent that still holds one of these finds its parent's successor.
const MOST_REPLACED: usize = 8;

/// What a replacement writes on the container that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    /// The operation's number ([`names::operation`] of the container that is replaced).
    pub op: String,
    /// The plain name that the container will have in the end.
    pub name: String,
    /// Full ids of the containers that have been in this place, the newest first, at most eight.
    pub replaces: Vec<String>,
    /// How many replacements there have been in this place; the first replacement is 1.
    pub generation: u32,
    /// `stop-first` or `start-first`: what has been chosen, not what the operator's label asks for.
    pub order: String,
    /// Why it is replaced.
    pub cause: String,
    /// Since when (RFC 3339).
    pub since: String,
    /// Who replaces it: the agent's container, or the node's name.
    pub by: String,
}

impl Marks {
    /// The marks of the container that takes this one's place; `order`, `cause`, `since` and `by` are for the caller to fill in.
    ///
    /// # Errors
    /// When this is no inspect document.
    pub fn next(container: &Value) -> Result<Self, Unclonable> {
        let original = Original::read(container)?;
        let name = text(container, "Name").trim_start_matches('/');
        if name.is_empty() {
            return Err(Unclonable::Unreadable { field: "Name" });
        }
        let former = original.label(label::REPLACES).unwrap_or_default();
        let former = former.split(',').map(str::trim).filter(|id| !id.is_empty() && *id != original.id);
        let generation = original.label(label::GENERATION).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        Ok(Self {
            op: names::operation(original.id),
            name: names::logical(name).0.to_owned(),
            replaces: std::iter::once(original.id).chain(former).take(MOST_REPLACED).map(str::to_owned).collect(),
            generation: generation.saturating_add(1),
            order: String::new(),
            cause: String::new(),
            since: String::new(),
            by: String::new(),
        })
    }

    /// The name that the new container is created with.
    #[must_use]
    pub fn staged_name(&self) -> String {
        names::Role::Staged.name(&self.name, &self.op)
    }

    /// Takes the marks of former operations off these labels and writes its own.
    pub(super) fn write(&self, labels: &mut Map<String, Value>) {
        labels.retain(|key, _| !is_mark(key));
        let generation = self.generation.to_string();
        let replaces = self.replaces.iter().take(MOST_REPLACED).map(String::as_str).collect::<Vec<_>>().join(",");
        for (key, value) in [
            (label::OP, &self.op),
            (label::NAME, &self.name),
            (label::REPLACES, &replaces),
            (label::GENERATION, &generation),
            (label::ORDER, &self.order),
            (label::CAUSE, &self.cause),
            (label::SINCE, &self.since),
            (label::BY, &self.by),
        ] {
            labels.insert(key.to_owned(), json!(value));
        }
    }
}

/// Whether a label was written by an operation rather than by the container's owner.
#[must_use]
pub fn is_mark(key: &str) -> bool {
    super::OPERATION_LABELS.contains(&key)
}

/// The restart policy that a container shall have once it is settled, as `POST /containers/{id}/update` takes it: the one written
/// on it as long as its name says that it is not, and then its own, which an operator may have changed since.
#[must_use]
pub fn restart_policy(container: &Value) -> Value {
    let own = at(at(container, "HostConfig"), "RestartPolicy");
    if names::logical(text(container, "Name").trim_start_matches('/')).1 == names::Role::Settled {
        return plain(own);
    }
    written_restart_policy(container).unwrap_or_else(|| plain(own))
}

/// The restart policy that an operation wrote on the container that it made.
#[must_use]
pub fn written_restart_policy(container: &Value) -> Option<Value> {
    let written = at(at(container, "Config"), "Labels").get(label::RESTART_POLICY).and_then(Value::as_str)?;
    serde_json::from_str(written).ok().filter(Value::is_object)
}

/// `no` has three spellings: the word, an empty one, and nothing at all.
pub(super) fn plain(policy: &Value) -> Value {
    match policy.as_object() {
        Some(_) if !text(policy, "Name").is_empty() => policy.clone(),
        _ => json!({"Name": "no"}),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ID, document};
    use super::*;

    #[test]
    fn each_generation_counts_on_and_remembers_eight() {
        let mut container = document(|_| {});
        let first = Marks::next(&container).unwrap();
        assert_eq!((first.generation, first.name.as_str(), first.replaces.clone()), (1, "web", vec![ID.to_owned()]));
        let mut labels = Map::new();
        for number in 0..12 {
            let marks = Marks::next(&container).unwrap();
            marks.write(&mut labels);
            assert_eq!(marks.generation, number + 1);
            container["Config"]["Labels"] = Value::Object(labels.clone());
            container["Id"] = format!("{number:064}").into();
            container["Name"] = format!("/{}", marks.staged_name()).into();
        }
        let last = Marks::next(&container).unwrap();
        assert_eq!((last.name.as_str(), last.replaces.len()), ("web", 8), "additions to the name never pile up");
        assert_eq!(last.replaces[0], format!("{:064}", 11));
        assert_eq!(last.replaces[7], format!("{:064}", 4));
        assert_eq!(labels.len(), 8);
    }

    #[test]
    fn garbage_in_the_marks_costs_nothing_else() {
        let container = document(|it| {
            it["Config"]["Labels"] = json!({label::GENERATION: "many", label::REPLACES: ", ,x"});
        });
        let marks = Marks::next(&container).unwrap();
        assert_eq!((marks.generation, marks.replaces.len()), (1, 2));
        assert!(Marks::next(&json!({})).is_err());
    }

    // cases 18 and 30
    #[test]
    fn the_policy_to_come_is_the_written_one_or_its_own() {
        let own = document(|it| it["HostConfig"]["RestartPolicy"] = json!({"Name": "always", "MaximumRetryCount": 0}));
        assert_eq!(restart_policy(&own)["Name"], "always");
        let staged = document(|it| {
            it["Name"] = json!("/web.new-1a2b3c4d");
            it["HostConfig"]["RestartPolicy"] = json!({"Name": "no"});
            it["Config"]["Labels"] = json!({label::RESTART_POLICY: r#"{"Name":"on-failure","MaximumRetryCount":3}"#});
        });
        assert_eq!(restart_policy(&staged), json!({"Name": "on-failure", "MaximumRetryCount": 3}));
        for none in [json!(null), json!({"Name": "", "MaximumRetryCount": 0}), json!({})] {
            let container = document(|it| it["HostConfig"]["RestartPolicy"] = none);
            assert_eq!(restart_policy(&container), json!({"Name": "no"}));
        }
    }
}
