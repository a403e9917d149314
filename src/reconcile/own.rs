//! Whose a registration is. Everything that is ever overwritten or deregistered passes through here.

use arcstr::ArcStr;

use crate::consul::{ActualService, Service};
use crate::docker::ContainerId;
use crate::registration::Settings;

/// Whose a registration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// It carries our mark and our engine's id: a container of ours, or our own service (without a container).
    Ours(Option<ContainerId>),
    /// It carries the mark of an agent with our node name, but of another engine: a namesake that shares this Consul agent,
    /// or what this node was before its engine was installed anew.
    Namesake {
        /// That engine's id.
        engine: String,
        /// Its container.
        container: Option<ContainerId>,
    },
    /// It carries no mark of Remora: registrator's, or anybody's.
    Unmarked,
    /// It is an agent's of another node, or somebody else's.
    Foreign,
}

/// Reads the mark of a registration.
#[must_use]
pub fn owner(service: &ActualService, settings: &Settings) -> Owner {
    let meta = |key: &str| service.meta.get(key);
    match meta(Service::META_OWNER) {
        Some("remora") => {}
        Some(_) => return Owner::Foreign,
        None => return Owner::Unmarked,
    }
    let container = container(service);
    match meta(Service::META_ENGINE) {
        // The engine's id is unique, the node's name is a setting that may have changed since.
        Some(engine) if engine == settings.engine => Owner::Ours(container),
        Some(engine) if same_node(meta(Service::META_NODE), settings) => {
            Owner::Namesake { engine: engine.to_owned(), container }
        }
        _ => Owner::Foreign,
    }
}

/// The container that a registration is marked with.
#[must_use]
pub fn container(service: &ActualService) -> Option<ContainerId> {
    service.meta.get(Service::META_CONTAINER).filter(|id| !id.is_empty()).map(ContainerId::new)
}

/// Whether registrator (or whoever registered it without a mark) meant the same instance as we do: the same id is the
/// same node, container and port; with the same name on top it is not a coincidence. What has our id but another name, or
/// our id in another case, is somebody else's and stays untouched.
#[must_use]
pub fn adoptable(service: &ActualService, wanted: &Service) -> bool {
    service.id == wanted.id && service.name.eq_ignore_ascii_case(&wanted.name)
}

/// The id of an agent's own service in Consul.
#[must_use]
pub fn own_service_id(settings: &Settings) -> ArcStr {
    format!("{}:remora:{}", settings.node, settings.engine).to_ascii_lowercase().into()
}

/// Whether this is some agent's own service, and of which engine.
#[must_use]
pub fn agent_of(service: &ActualService) -> Option<&str> {
    let marked = service.meta.get(Service::META_OWNER).is_some_and(|owner| owner == "remora");
    let own = marked && service.name == "remora" && !service.meta.contains_key(Service::META_CONTAINER);
    own.then(|| service.meta.get(Service::META_ENGINE)).flatten()
}

fn same_node(node: Option<&str>, settings: &Settings) -> bool {
    // Node names are case-insensitive in Consul's catalog.
    node.is_some_and(|node| node.eq_ignore_ascii_case(&settings.node))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Publish;

    pub fn settings() -> Settings {
        Settings {
            node: "n1".to_owned(),
            engine: "ENGINE000001".to_owned(),
            publish: Publish::default(),
            health_ttl: None,
        }
    }

    fn with_meta(pairs: &[(&str, &str)]) -> ActualService {
        ActualService {
            meta: pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
            ..ActualService::default()
        }
    }

    #[test]
    fn the_engine_decides_and_the_nodes_name_only_tells_namesakes_from_strangers() {
        let marked = |engine, node| {
            with_meta(&[
                ("managed-by", "remora"),
                ("remora-engine", engine),
                ("remora-node", node),
                ("container-id", "abc"),
            ])
        };
        let settings = settings();
        let abc = Some(ContainerId::new("abc"));
        assert_eq!(owner(&marked("ENGINE000001", "renamed-since"), &settings), Owner::Ours(abc.clone()));
        let namesake = Owner::Namesake { engine: "OTHER".to_owned(), container: abc };
        assert_eq!(owner(&marked("OTHER", "N1"), &settings), namesake);
        assert_eq!(owner(&marked("OTHER", "n2"), &settings), Owner::Foreign);
    }

    #[test]
    fn nothing_without_the_mark_is_ours() {
        let settings = settings();
        assert_eq!(owner(&with_meta(&[]), &settings), Owner::Unmarked);
        assert_eq!(
            owner(&with_meta(&[("container-id", "abc"), ("remora-engine", "ENGINE000001")]), &settings),
            Owner::Unmarked
        );
        assert_eq!(
            owner(&with_meta(&[("managed-by", "nomad"), ("remora-engine", "ENGINE000001")]), &settings),
            Owner::Foreign
        );
        assert_eq!(owner(&with_meta(&[("managed-by", "remora")]), &settings), Owner::Foreign);
    }

    #[test]
    fn an_agents_own_service_is_known_by_its_mark_and_not_by_its_name() {
        let own =
            ActualService { name: "remora".into(), ..with_meta(&[("managed-by", "remora"), ("remora-engine", "E")]) };
        assert_eq!(agent_of(&own), Some("E"));
        assert_eq!(agent_of(&ActualService { name: "remora".into(), ..with_meta(&[]) }), None);
    }
}
