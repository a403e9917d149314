//! Which containers are published at all: the operator's filters, and the container's own yes or no.

use super::notes::Notes;
use super::values::{boolean, matches, quoted};
use crate::config::{Filter, Publish};
use crate::docker::names::logical;
use crate::docker::{COMPOSE_PROJECT, Container};

/// Label with which a container opts in (where the operator filters) or out.
pub(super) const ENABLE: &str = "remora.enable";

/// The container's own word, if it has one.
pub(super) fn enabled(container: &Container, notes: &mut Notes) -> Option<bool> {
    let value = container.labels.get(ENABLE)?;
    let word = boolean(value, false);
    if word.is_none() {
        notes.warn(ENABLE, format!("{} is not understood and does nothing: expected true or false", quoted(value)));
    }
    word
}

/// Why a container is not published, if so. What the operator excludes stays out whatever the container says: labels are
/// written by whoever may start a container.
///
/// The networks are those of the `stack`, which may be another container's. Where that one is not known, a condition on
/// networks leaves nothing out: such a container is not registered before it is known, and is judged again then.
pub(super) fn left_out(
    container: &Container,
    stack: Option<&Container>,
    publish: &Publish,
    enabled: Option<bool>,
) -> Option<String> {
    if let Some(filter) = publish.exclude.iter().find(|filter| holds(filter, container, stack) == Some(true)) {
        return Some(format!("excluded by REMORA_EXCLUDE ({})", describe(filter)));
    }
    match enabled {
        Some(false) => Some(format!("{ENABLE}=false (label)")),
        Some(true) => None,
        None if publish.include.is_empty() => None,
        None if publish.include.iter().any(|filter| holds(filter, container, stack) != Some(false)) => None,
        None => Some("not included by REMORA_INCLUDE".to_owned()),
    }
}

/// Whether a condition holds; `None`: that cannot be known yet.
fn holds(filter: &Filter, container: &Container, stack: Option<&Container>) -> Option<bool> {
    Some(match filter {
        Filter::Label { key, value } => container
            .labels
            .get(key.as_str())
            .is_some_and(|actual| value.as_ref().is_none_or(|pattern| matches(pattern, actual))),
        Filter::Name(pattern) => matches(pattern, logical(&container.name).0),
        Filter::Image(pattern) => matches(pattern, &container.image),
        Filter::Network(pattern) => stack?.networks.keys().any(|name| matches(pattern, name)),
        Filter::Project(pattern) => {
            container.labels.get(COMPOSE_PROJECT).is_some_and(|project| matches(pattern, project))
        }
    })
}

fn describe(filter: &Filter) -> String {
    match filter {
        Filter::Label { key, value: None } => format!("label:{key}"),
        Filter::Label { key, value: Some(value) } => format!("label:{key}={value}"),
        Filter::Name(pattern) => format!("name:{pattern}"),
        Filter::Image(pattern) => format!("image:{pattern}"),
        Filter::Network(pattern) => format!("network:{pattern}"),
        Filter::Project(pattern) => format!("project:{pattern}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::container;
    use super::*;

    fn reason(container: &Container, include: Vec<Filter>, exclude: Vec<Filter>) -> Option<String> {
        let publish = Publish { include, exclude, ..Publish::default() };
        left_out(container, Some(container), &publish, enabled(container, &mut Notes::default()))
    }

    #[test]
    fn filters_look_at_label_name_image_network_and_project() {
        let container = container("shop_web_1")
            .label("com.docker.compose.project", "shop")
            .label("tier", "front")
            .network("shop_default", "172.20.0.2")
            .build();
        for filter in [
            Filter::Label { key: "tier".into(), value: None },
            Filter::Label { key: "tier".into(), value: Some("fr*".into()) },
            Filter::Name("shop_*".into()),
            Filter::Image("*app*".into()),
            Filter::Network("shop_default".into()),
            Filter::Project("shop".into()),
        ] {
            assert_eq!(reason(&container, vec![filter.clone()], vec![]), None, "{filter:?}");
            assert!(reason(&container, vec![], vec![filter.clone()]).unwrap().contains("REMORA_EXCLUDE"), "{filter:?}");
        }
        assert!(reason(&container, vec![Filter::Name("other".into())], vec![]).is_some());
    }

    #[test]
    fn a_container_may_opt_in_and_out_but_not_past_an_exclusion() {
        let yes = container("web").label(ENABLE, "true").build();
        let no = container("web").label(ENABLE, "false").build();
        let other = vec![Filter::Name("other".into())];
        assert_eq!(reason(&yes, other.clone(), vec![]), None);
        assert!(reason(&no, vec![], vec![]).unwrap().contains(ENABLE));
        assert!(reason(&yes, vec![], vec![Filter::Name("web".into())]).is_some());
        let unclear = container("web").label(ENABLE, "maybe").build();
        let mut notes = Notes::default();
        assert_eq!(enabled(&unclear, &mut notes), None);
        assert_eq!(notes.into_list().len(), 1);
    }
}
