//! Tags: the container's, the port's, the operator's and the protocol's, in this order.

use super::metadata::Metadata;
use super::names::is_dns_label;
use super::notes::Notes;
use super::values::list;
use crate::config::{PortTags, Publish};
use crate::docker::{Container, Port, Protocol};

/// At most so many tags: the richest Traefik set-ups have some fifty.
pub(super) const MOST: usize = 256;

/// Longest tag, in bytes: a long Traefik rule has some hundreds.
pub(super) const LONGEST: usize = 2048;

/// The tags of one service, and which keys they come from.
pub(super) fn tags(
    container: &Container,
    metadata: &Metadata<'_>,
    port: Option<Port>,
    publish: &Publish,
    notes: &mut Notes,
) -> (Vec<String>, String) {
    let mut found: Vec<(String, Vec<String>)> = match publish.port_tags {
        PortTags::Merge => merged(metadata, port),
        PortTags::Replace => {
            metadata.get("tags", port).map(|entry| (entry.to_string(), list(entry.value))).into_iter().collect()
        }
    };
    if let Some(operators) = operators_tags(container, publish, notes) {
        found.push(("REMORA_TAGS".to_owned(), list(&operators)));
    }
    if let Some(port) = port.filter(|port| port.protocol != Protocol::Tcp) {
        found.push((format!("protocol of {port}"), vec![port.protocol.as_str().to_owned()]));
    }
    let mut tags: Vec<String> = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    for (from, found) in found {
        let about = from.split(' ').next().unwrap_or_default();
        for tag in found {
            if tag.len() > LONGEST || tag.chars().any(char::is_control) {
                notes.warn(
                    about,
                    format!("a tag is left out: expected at most {LONGEST} bytes without control characters"),
                );
            } else if tags.len() >= MOST {
                notes.warn(about, format!("has more than {MOST} tags: the rest is left out"));
                break;
            } else if !tags.contains(&tag) {
                if !is_dns_label(&tag) && !is_meant_for_a_proxy(&tag) {
                    notes.tell(about, "has tags that DNS cannot carry (expected lower-case letters, digits and -): they are registered as they are");
                }
                tags.push(tag);
            }
        }
        reasons.push(from);
    }
    (tags, reasons.join(", "))
}

/// The tags of every key for this port, the least specific first. A key with an empty value takes those before it away.
fn merged(metadata: &Metadata<'_>, port: Option<Port>) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for entry in metadata.all("tags", port) {
        if entry.is_empty() {
            found.clear();
        } else {
            found.push((entry.to_string(), list(entry.value)));
        }
    }
    found
}

/// `traefik.enable=true`, `urlprefix-/path`: nobody looks such a tag up by DNS.
fn is_meant_for_a_proxy(tag: &str) -> bool {
    tag.contains(['=', '/'])
}

fn operators_tags(container: &Container, publish: &Publish, notes: &mut Notes) -> Option<String> {
    let tags = publish.tags.as_ref()?;
    if !tags.contains("{{") {
        return Some(tags.clone());
    }
    match container.rendered_tags.as_deref() {
        Some(Ok(rendered)) => {
            for why in &rendered.left_out {
                notes.warn("REMORA_TAGS", format!("a tag is left out for this container: {}", shown(why)));
            }
            Some(rendered.text.clone())
        }
        Some(Err(why)) => {
            notes.warn("REMORA_TAGS", format!("yields no tags for this container: {}", shown(why)));
            None
        }
        None => {
            notes.warn("REMORA_TAGS", "yields no tags for this container: its template has not been rendered");
            None
        }
    }
}

fn shown(why: &str) -> String {
    super::values::head(&super::values::one_line(why), 300).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::testing::container;
    use super::*;

    const DNS: Option<Port> = Some(Port { number: 53, protocol: Protocol::Udp });

    fn read(container: &Container, publish: &Publish) -> (Vec<String>, Vec<super::super::Note>) {
        let mut notes = Notes::default();
        let metadata = Metadata::read(container, &mut notes);
        let (tags, _) = tags(container, &metadata, DNS, publish, &mut notes);
        (tags, notes.into_list())
    }

    #[test]
    fn generic_port_operator_and_protocol_come_in_this_order_without_doubles() {
        let container = container("dns").label("SERVICE_TAGS", "b, a").label("SERVICE_53_TAGS", "port,a").build();
        let mut publish = Publish { tags: Some("ops,b".into()), ..Publish::default() };
        assert_eq!(read(&container, &publish).0, ["b", "a", "port", "ops", "udp"]);
        publish.port_tags = PortTags::Replace;
        assert_eq!(read(&container, &publish).0, ["port", "a", "ops", "b", "udp"]);
    }

    #[test]
    fn a_template_that_fails_costs_its_tags_and_nothing_else() {
        let mut container = container("dns").label("SERVICE_TAGS", "own").build();
        let publish = Publish { tags: Some("{{.Nonsense}}".into()), ..Publish::default() };
        container.rendered_tags = Some(Box::new(Err("no field Nonsense".into())));
        let (tags, notes) = read(&container, &publish);
        assert_eq!(tags, ["own", "udp"]);
        assert!(notes.iter().any(|note| note.warning && note.about == "REMORA_TAGS"));
        let left_out = vec!["no value at .Nonsense".to_owned()];
        container.rendered_tags = Some(Box::new(Ok(crate::template::Rendered { text: "x, y,".into(), left_out })));
        let (tags, notes) = read(&container, &publish);
        assert_eq!(tags, ["own", "x", "y", "udp"]);
        assert!(notes.iter().any(|note| note.warning && note.text.contains("no value at .Nonsense")), "{notes:?}");
    }

    #[test]
    fn an_empty_key_for_a_port_takes_the_containers_tags_away() {
        for (specific, expected) in
            [("", vec!["ops", "udp"]), ("  ", vec!["ops", "udp"]), ("b", vec!["a", "b", "ops", "udp"])]
        {
            let container = container("dns").label("SERVICE_TAGS", "a").label("SERVICE_53_TAGS", specific).build();
            let publish = Publish { tags: Some("ops".into()), ..Publish::default() };
            assert_eq!(read(&container, &publish).0, expected, "{specific:?}");
        }
        let nested = container("dns")
            .label("SERVICE_TAGS", "a")
            .label("SERVICE_1-100_TAGS", "")
            .label("SERVICE_53_UDP_TAGS", "b")
            .build();
        assert_eq!(read(&nested, &Publish::default()).0, ["b", "udp"]);
    }

    #[test]
    fn tags_for_a_proxy_pass_as_they_are() {
        let rule = r"traefik.http.routers.x.rule=Host(`a`)\,Path(`/b`)";
        let container = container("dns").label("SERVICE_TAGS", rule).build();
        let (tags, notes) = read(&container, &Publish::default());
        assert_eq!(tags, ["traefik.http.routers.x.rule=Host(`a`),Path(`/b`)", "udp"]);
        assert!(notes.is_empty());
    }

    #[test]
    fn a_tag_with_control_characters_and_a_flood_of_tags_are_cut() {
        let flood = (0..1000).map(|number| format!("t{number}")).collect::<Vec<_>>().join(",");
        let container = container("dns").label("SERVICE_TAGS", &format!("a\u{7}b,{flood}")).build();
        let (tags, notes) = read(&container, &Publish::default());
        assert_eq!(tags.len(), MOST);
        assert!(notes.iter().filter(|note| note.warning).count() >= 2);
    }
}
