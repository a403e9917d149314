//! Host name, entry point and image: where inspect shows something that nobody asked for, or hides what somebody did.

use serde_json::{Map, Value, json};

use super::json::{Original, at, is_empty, text};
use super::{Source, label};

/// Whether the host name in the document is one that somebody asked for.
///
/// * Case 1: the engine's own choice is the short id, and the clone shall have its own.
/// * Cases 2 and 3: a shared network or the host's name shows the other's name, and the engine refuses to be told it.
/// * Case 4: with the host's network it shows the host's name, unless it was given another one.
pub(super) fn has_own_hostname(original: &Original<'_>, node: Option<&str>) -> bool {
    let hostname = text(original.config, "Hostname");
    let shares = original.network_parent().is_some() || text(original.host, "UTSMode") == "host";
    let is_the_nodes = original.network_mode() == "host" && node == Some(hostname);
    !(shares || hostname == original.short_id() || is_the_nodes)
}

/// Corrects the names in a copy of `Config`.
pub(super) fn names(original: &Original<'_>, node: Option<&str>, config: &mut Map<String, Value>) {
    if !has_own_hostname(original, node) {
        config.insert("Hostname".to_owned(), json!(""));
    }
    if original.network_parent().is_some() {
        // the parent's, too
        config.insert("Domainname".to_owned(), json!(""));
    }
}

/// Case 7: no entry point, where the image has one, was asked for with `--entrypoint ""`. Sent back as null it would be the
/// image's; an empty word is how the engine is told "none". An empty *list* stays one, and stays empty.
pub(super) fn entrypoint(image: Option<&Value>, config: &mut Map<String, Value>) {
    let has_none = config.get("Entrypoint").is_none_or(Value::is_null);
    // An image that cannot be seen may have one.
    let images_own = image.is_none_or(|image| !is_empty(at(at(image, "Config"), "Entrypoint")));
    if has_none && images_own {
        config.insert("Entrypoint".to_owned(), json!([""]));
    }
}

/// The image as its owner asked for it: what has to be resolved to see whether it still means the same image. A clone that had to
/// name its image by id remembers it in a label.
#[must_use]
pub fn image_reference(container: &Value) -> &str {
    let config = at(container, "Config");
    let own = text(config, "Image");
    let is_pinned = !own.is_empty() && own == text(container, "Image");
    let written = text(at(config, "Labels"), label::IMAGE);
    if is_pinned && !written.is_empty() { written } else { own }
}

/// Cases 12 and 13: the name while it still means the same image, because people read it; else the id, because a name that has
/// moved would make another container.
pub(super) fn image(source: &Source<'_>, config: &mut Map<String, Value>) -> String {
    let id = text(source.container, "Image");
    let reference = image_reference(source.container);
    let means_the_same = !reference.is_empty() && (id.is_empty() || source.tag == Some(id));
    let sent = if means_the_same { reference } else { id };
    config.insert("Image".to_owned(), json!(sent));
    reference.to_owned()
}

/// Case 15: a name or an index may stand for images of several platforms. Only engines that can hold those say which one it was.
pub(super) fn platform(container: &Value) -> Option<String> {
    let platform = at(at(container, "ImageManifestDescriptor"), "platform");
    let (os, architecture, variant) = (text(platform, "os"), text(platform, "architecture"), text(platform, "variant"));
    if os.is_empty() || architecture.is_empty() {
        return None;
    }
    let variant = if variant.is_empty() { String::new() } else { format!("/{variant}") };
    Some(format!("{os}/{architecture}{variant}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{IMAGE_ID, document, image, source};
    use super::*;

    fn hostname(node: Option<&str>, edit: impl FnOnce(&mut Value)) -> (Value, Value) {
        let document = document(edit);
        let original = Original::read(&document).unwrap();
        let mut config = Original::copy(original.config);
        names(&original, node, &mut config);
        (config["Hostname"].clone(), config["Domainname"].clone())
    }

    #[test]
    fn case_1_the_engines_own_hostname_is_not_kept_and_another_is() {
        assert_eq!(hostname(None, |_| {}).0, "");
        assert_eq!(hostname(None, |it| it["Config"]["Hostname"] = json!("db")).0, "db");
    }

    #[test]
    fn cases_2_3_and_4_a_shared_hostname_is_not_sent() {
        let shared = hostname(None, |it| {
            it["HostConfig"]["NetworkMode"] = json!("container:abc");
            it["Config"]["Hostname"] = json!("parent");
            it["Config"]["Domainname"] = json!("parents.example");
        });
        assert_eq!(shared, (json!(""), json!("")));
        let uts = |it: &mut Value| {
            it["HostConfig"]["UTSMode"] = json!("host");
            it["Config"]["Hostname"] = json!("node-1");
        };
        assert_eq!(hostname(None, uts).0, "");
        let host = |it: &mut Value| {
            it["HostConfig"]["NetworkMode"] = json!("host");
            it["Config"]["Hostname"] = json!("node-1");
        };
        assert_eq!(hostname(Some("node-1"), host).0, "");
        assert_eq!(hostname(Some("node-2"), host).0, "node-1", "somebody gave it this name");
    }

    #[test]
    fn case_5_a_domain_is_kept() {
        assert_eq!(hostname(None, |it| it["Config"]["Domainname"] = json!("a.example")).1, "a.example");
    }

    #[test]
    fn case_7_no_entrypoint_stays_none() {
        let sent = |own: Value, image: Option<&Value>| {
            let mut config = Map::from_iter([("Entrypoint".to_owned(), own)]);
            entrypoint(image, &mut config);
            config["Entrypoint"].clone()
        };
        let (with, without) = (image(&json!(["/entry"])), image(&json!(null)));
        assert_eq!(sent(json!(null), Some(&with)), json!([""]));
        assert_eq!(sent(json!(null), None), json!([""]));
        assert_eq!(sent(json!(null), Some(&without)), json!(null));
        assert_eq!(sent(json!([]), Some(&with)), json!([]));
        assert_eq!(sent(json!(["/own"]), Some(&with)), json!(["/own"]));
    }

    #[test]
    fn cases_12_and_13_the_image_is_named_while_the_name_means_it() {
        let sent = |tag: Option<&str>, edit: &dyn Fn(&mut Value)| {
            let document = document(edit);
            let mut config = Map::new();
            let reference = super::image(&Source { tag, ..source(&document) }, &mut config);
            (config["Image"].as_str().unwrap().to_owned(), reference)
        };
        let both = |image: &str, reference: &str| (image.to_owned(), reference.to_owned());
        assert_eq!(sent(Some(IMAGE_ID), &|_| {}), both("web:1", "web:1"));
        assert_eq!(sent(Some("sha256:other"), &|_| {}), both(IMAGE_ID, "web:1"), "the tag has moved");
        assert_eq!(sent(None, &|_| {}), both(IMAGE_ID, "web:1"), "the tag is gone");
        let pinned = |it: &mut Value| {
            it["Config"]["Image"] = json!(IMAGE_ID);
            it["Config"]["Labels"] = json!({label::IMAGE: "web:1"});
        };
        assert_eq!(sent(Some(IMAGE_ID), &pinned), both("web:1", "web:1"), "the tag has come back");
        assert_eq!(sent(None, &pinned), both(IMAGE_ID, "web:1"), "remembered over generations");
    }

    #[test]
    fn case_15_the_platform_is_sent_where_the_engine_tells_it() {
        assert_eq!(platform(&document(|_| {})), None);
        let chosen = document(|it| {
            it["ImageManifestDescriptor"] =
                json!({"platform": {"os": "linux", "architecture": "arm", "variant": "v7"}});
        });
        assert_eq!(platform(&chosen).as_deref(), Some("linux/arm/v7"));
    }
}
