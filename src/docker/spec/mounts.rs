//! Volumes: what was asked for stays as it was asked for (case 21); what the engine has added by itself is asked for by name, so
//! that the clone finds the data of the original.

use serde_json::{Map, Value, json};

use super::json::{Original, at, clean, entries, is_empty, members, text};
use super::{Unclonable, Volumes, label};

/// Where a mount of the document comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was asked for, and is asked for again in the same words.
    Asked,
    /// A volume without a name of its own: of the image, of `-v /data`, of a mount without a source; or one that was, before it
    /// was taken over by an earlier clone.
    Anonymous,
    /// `--volumes-from`: nobody asked for this place in particular.
    Inherited,
}

/// Where this mount comes from.
pub(super) fn origin(original: &Original<'_>, mount: &Value) -> Origin {
    let destination = text(mount, "Destination");
    let target = clean(destination);
    let bound = entries(original.host, "Binds")
        .iter()
        .filter_map(Value::as_str)
        .filter_map(bind_target)
        .any(|bound| clean(bound) == target);
    // Case 20: a place is mounted once; asking for it twice is refused.
    let covered = bound || members(original.host, "Tmpfs").any(|(path, _)| clean(path) == target);
    if covered {
        return Origin::Asked;
    }
    let is_volume = text(mount, "Type") == "volume";
    match entries(original.host, "Mounts").iter().find(|asked| clean(text(asked, "Target")) == target) {
        Some(asked)
            if is_volume && (text(asked, "Source").is_empty() || was_anonymous(original, volume_name(mount))) =>
        {
            Origin::Anonymous
        }
        Some(_) => Origin::Asked,
        None if is_volume && is_empty(at(original.host, "VolumesFrom")) => Origin::Anonymous,
        None => Origin::Inherited,
    }
}

/// The place in the container that a bind names together with a source. A bind without a source (`/data`) makes an anonymous volume.
fn bind_target(bind: &str) -> Option<&str> {
    let mut parts = bind.split(':');
    parts.next()?;
    parts.next()
}

/// The name of a mounted volume; empty if it is none, or nobody tells. Newer engines (seen on 28.5, not on 20.10) leave it
/// out where a bind without a source (`/data`) made the volume: there it is read from the folder in which the engine keeps it.
pub(super) fn volume_name(mount: &Value) -> &str {
    let name = text(mount, "Name");
    if !name.is_empty() || text(mount, "Type") != "volume" || !matches!(text(mount, "Driver"), "" | "local") {
        return name;
    }
    let folder = text(mount, "Source").strip_suffix("/_data").and_then(|path| path.rsplit('/').next());
    // As the engine names what nobody has named; any other folder may be anything.
    folder.filter(|it| it.len() == 64 && it.bytes().all(|byte| byte.is_ascii_hexdigit())).unwrap_or_default()
}

fn was_anonymous(original: &Original<'_>, volume: &str) -> bool {
    original.label(label::ANONYMOUS).is_some_and(|names| names.split(',').any(|name| name == volume))
}

/// Whether it holds data in volumes that nobody has given a name (`remora.heal.volumes=refuse`).
#[must_use]
pub fn has_anonymous_volumes(container: &Value) -> bool {
    Original::read(container)
        .is_ok_and(|original| original.mounts().iter().any(|mount| origin(&original, mount) == Origin::Anonymous))
}

/// Asks for what is mounted in a copy of `HostConfig`; returns the names of the anonymous volumes that are taken over.
pub(super) fn adopt(
    original: &Original<'_>,
    handling: Volumes,
    host: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>, Unclonable> {
    let mut asked = entries(original.host, "Mounts").to_vec();
    let mut anonymous = Vec::new();
    for mount in original.mounts() {
        match (origin(original, mount), handling) {
            (Origin::Asked, _) => {}
            (Origin::Anonymous, Volumes::Adopt) => {
                place(&mut asked, mount, warnings)?;
                anonymous.push(volume_name(mount).to_owned());
            }
            (Origin::Anonymous, Volumes::Fresh) => forget(original, &mut asked, mount),
            (Origin::Inherited, _) => place(&mut asked, mount, warnings)?,
        }
    }
    let before = entries(original.host, "Mounts");
    if asked != before {
        host.insert("Mounts".to_owned(), Value::Array(asked));
    }
    // Case 25: its places are asked for one by one now, and the other container's name need not mean anything any more.
    if !is_empty(at(original.host, "VolumesFrom")) {
        host.insert("VolumesFrom".to_owned(), Value::Null);
    }
    if handling == Volumes::Adopt
        && let Some(binds) = host.get_mut("Binds").and_then(Value::as_array_mut)
    {
        binds.retain(|bind| bind.as_str().is_none_or(|bind| bind_target(bind).is_some()));
    }
    Ok(anonymous)
}

/// Asks for this mount, in the words of whoever asked for its place before, if anybody has.
fn place(asked: &mut Vec<Value>, mount: &Value, warnings: &mut Vec<String>) -> Result<(), Unclonable> {
    let (kind, destination, name) = (text(mount, "Type"), text(mount, "Destination"), volume_name(mount));
    let target = clean(destination);
    if let Some(entry) = asked.iter_mut().find(|entry| clean(text(entry, "Target")) == target) {
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("Source".to_owned(), json!(name));
        }
        return Ok(());
    }
    let mut entry = json!({
        "Type": kind,
        "Target": destination,
        "ReadOnly": !mount.get("RW").and_then(Value::as_bool).unwrap_or(true),
    });
    let Some(members) = entry.as_object_mut() else { return Ok(()) };
    match kind {
        "volume" if !name.is_empty() => {
            members.insert("Source".to_owned(), json!(name));
            // An *empty* volume would be filled from the image again; the original would not do that either.
            let mut options = json!({"NoCopy": true});
            let driver = text(mount, "Driver");
            if !driver.is_empty() && driver != "local" {
                options = json!({"NoCopy": true, "DriverConfig": {"Name": driver}});
            }
            members.insert("VolumeOptions".to_owned(), options);
        }
        "bind" => {
            members.insert("Source".to_owned(), json!(text(mount, "Source")));
            let propagation = text(mount, "Propagation");
            if !propagation.is_empty() {
                members.insert("BindOptions".to_owned(), json!({"Propagation": propagation}));
            }
        }
        "tmpfs" => {
            warnings.push(format!("{destination} comes from another container: its size limit and mode are not known"));
        }
        _ => return Err(Unclonable::Mount { target: destination.to_owned(), kind: kind.to_owned() }),
    }
    asked.push(entry);
    Ok(())
}

/// Asks for a new volume where an earlier clone has asked for an anonymous one by name.
fn forget(original: &Original<'_>, asked: &mut Vec<Value>, mount: &Value) {
    let target = clean(text(mount, "Destination"));
    let is_declared = members(original.config, "Volumes").any(|(path, _)| clean(path) == target);
    let is_it = |entry: &Value| clean(text(entry, "Target")) == target;
    if is_declared {
        // `Config.Volumes` asks for it.
        asked.retain(|entry| !is_it(entry));
    } else if let Some(entry) = asked.iter_mut().find(|entry| is_it(entry)).and_then(Value::as_object_mut) {
        entry.remove("Source");
        if let Some(options) = entry.get_mut("VolumeOptions").and_then(Value::as_object_mut) {
            options.remove("NoCopy");
        }
    }
}

/// The volumes that this `HostConfig` names (case 24).
pub(super) fn named_volumes(host: &Value) -> Vec<&str> {
    let bound = entries(host, "Binds").iter().filter_map(Value::as_str).filter_map(|bind| {
        let source = bind_target(bind).and(bind.split(':').next())?;
        (!source.starts_with('/')).then_some(source)
    });
    let mounted = entries(host, "Mounts").iter().filter(|mount| text(mount, "Type") == "volume");
    let mut names: Vec<_> = bound.chain(mounted.map(|mount| text(mount, "Source"))).collect();
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::testing::document;
    use super::*;

    fn volume(name: &str, destination: &str) -> Value {
        json!({"Type": "volume", "Name": name, "Source": format!("/somewhere/{name}/_data"), "Destination": destination,
            "Driver": "local", "Mode": "", "RW": true, "Propagation": ""})
    }

    fn adopted(
        handling: Volumes,
        edit: impl FnOnce(&mut Value),
    ) -> Result<(Value, Vec<String>, Vec<String>), Unclonable> {
        let document = document(edit);
        let original = Original::read(&document)?;
        let (mut host, mut warnings) = (Original::copy(original.host), Vec::new());
        let names = adopt(&original, handling, &mut host, &mut warnings)?;
        Ok((Value::Object(host), names, warnings))
    }

    #[test]
    fn case_16_anonymous_volumes_are_taken_over_by_name() {
        let edit = |it: &mut Value| {
            it["Config"]["Volumes"] = json!({"/data/": {}, "/named": {}});
            it["HostConfig"]["Binds"] = json!(["vol:/named/:ro", "/bare"]);
            it["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Target": "/unnamed"}]);
            let mut slow = volume("slow", "/slow");
            slow["Driver"] = json!("nfs");
            slow["RW"] = json!(false);
            it["Mounts"] = json!([
                volume("a", "/data"),
                volume("vol", "/named"),
                volume("b", "/bare"),
                volume("c", "/unnamed"),
                slow
            ]);
        };
        let (host, names, warnings) = adopted(Volumes::Adopt, edit).unwrap();
        assert_eq!(
            host["Mounts"],
            json!([
                {"Type": "volume", "Target": "/unnamed", "Source": "c"},
                {"Type": "volume", "Target": "/data", "Source": "a", "ReadOnly": false, "VolumeOptions": {"NoCopy": true}},
                {"Type": "volume", "Target": "/bare", "Source": "b", "ReadOnly": false, "VolumeOptions": {"NoCopy": true}},
                {"Type": "volume", "Target": "/slow", "Source": "slow", "ReadOnly": true,
                 "VolumeOptions": {"NoCopy": true, "DriverConfig": {"Name": "nfs"}}},
            ])
        );
        assert_eq!(host["Binds"], json!(["vol:/named/:ro"]));
        assert_eq!(
            (names, warnings.len()),
            (vec!["a".to_owned(), "b".to_owned(), "c".to_owned(), "slow".to_owned()], 0)
        );
        assert_eq!(named_volumes(&host), ["a", "b", "c", "slow", "vol"]);
        assert!(has_anonymous_volumes(&document(edit)));
    }

    #[test]
    fn an_anonymous_volume_that_is_told_without_its_name_is_taken_over_by_the_name_of_its_folder() {
        let id = "d4d5fe17bb4cb0d2c106ee057f5401f6c026c197e774ee1818ce2de83b52954e";
        let nameless = |source: String, driver: &str| json!({"Type": "volume", "Source": source, "Destination": "/data", "Driver": driver, "RW": true});
        let bare = |mount: Value| {
            adopted(Volumes::Adopt, |it| {
                it["HostConfig"]["Binds"] = json!(["/data"]);
                it["Mounts"] = json!([mount]);
            })
        };
        let (host, names, _) = bare(nameless(format!("/srv/docker/volumes/{id}/_data"), "local")).unwrap();
        assert_eq!((host["Mounts"][0]["Source"].as_str(), names), (Some(id), vec![id.to_owned()]));
        for (source, driver) in [
            (format!("/srv/docker/volumes/{id}"), "local"),
            ("/srv/docker/volumes/_data".to_owned(), "local"),
            (format!("/srv/{id}/_data"), "nfs"),
            (String::new(), "local"),
        ] {
            assert!(bare(nameless(source.clone(), driver)).is_err(), "{source} of {driver}: nothing is guessed");
        }
    }

    #[test]
    fn case_18_what_was_anonymous_is_remembered_and_does_not_grow() {
        let mounts = json!([{"Type": "volume", "Target": "/data", "Source": "a", "ReadOnly": false}]);
        let edit = |it: &mut Value| {
            it["Config"]["Volumes"] = json!({"/data": {}});
            it["Config"]["Labels"] = json!({label::ANONYMOUS: "a,z"});
            it["HostConfig"]["Mounts"] = mounts.clone();
            it["Mounts"] = json!([volume("a", "/data")]);
        };
        let (host, names, _) = adopted(Volumes::Adopt, edit).unwrap();
        assert_eq!((&host["Mounts"], names), (&mounts, vec!["a".to_owned()]));
        assert!(has_anonymous_volumes(&document(edit)));
        let (host, names, _) = adopted(Volumes::Fresh, edit).unwrap();
        assert_eq!((&host["Mounts"], names.len()), (&json!([]), 0), "a new one on demand");
    }

    #[test]
    fn fresh_volumes_are_left_to_the_engine() {
        let (host, names, _) = adopted(Volumes::Fresh, |it| {
            it["HostConfig"]["Mounts"] = json!([
                {"Type": "volume", "Target": "/unnamed"},
                {"Type": "volume", "Target": "/kept", "Source": "b", "VolumeOptions": {"NoCopy": true}},
            ]);
            it["HostConfig"]["Binds"] = json!(["/bare"]);
            it["Config"]["Labels"] = json!({label::ANONYMOUS: "b"});
            it["Mounts"] = json!([volume("a", "/unnamed"), volume("b", "/kept"), volume("c", "/bare")]);
        })
        .unwrap();
        let expected = json!([
            {"Type": "volume", "Target": "/unnamed"}, {"Type": "volume", "Target": "/kept", "VolumeOptions": {}},
        ]);
        assert_eq!((&host["Mounts"], &host["Binds"], names.len()), (&expected, &json!(["/bare"]), 0));
    }

    #[test]
    fn cases_20_and_21_what_was_asked_for_is_sent_in_the_same_words() {
        let binds = json!(["/a:/b:ro,rslave", "vol:/c/:nocopy"]);
        let mounts = json!([{"Type": "bind", "Source": "/x", "Target": "/y/"}, {"Type": "tmpfs", "Target": "/t"}]);
        let edit = |it: &mut Value| {
            it["HostConfig"]["Binds"] = binds.clone();
            it["HostConfig"]["Mounts"] = mounts.clone();
            it["HostConfig"]["Tmpfs"] = json!({"/run/": "size=1m"});
            it["Mounts"] = json!([
                {"Type": "bind", "Source": "/a", "Destination": "/b", "RW": false}, volume("vol", "/c"),
                {"Type": "bind", "Source": "/x", "Destination": "/y", "RW": true}, {"Type": "tmpfs", "Destination": "/t"},
                {"Type": "tmpfs", "Destination": "/run"},
            ]);
        };
        for handling in [Volumes::Adopt, Volumes::Fresh] {
            let (host, names, _) = adopted(handling, edit).unwrap();
            assert_eq!((&host["Binds"], &host["Mounts"], names.len()), (&binds, &mounts, 0));
        }
        assert!(!has_anonymous_volumes(&document(edit)));
    }

    #[test]
    fn case_25_volumes_from_becomes_explicit() {
        let edit = |it: &mut Value| {
            it["HostConfig"]["VolumesFrom"] = json!(["other:ro"]);
            it["Mounts"] = json!([
                volume("a", "/data"),
                {"Type": "bind", "Source": "/a", "Destination": "/b", "RW": false, "Propagation": "rprivate"},
                {"Type": "tmpfs", "Destination": "/t", "RW": true},
            ]);
        };
        let (host, names, warnings) = adopted(Volumes::Fresh, edit).unwrap();
        assert_eq!(host["VolumesFrom"], json!(null));
        assert_eq!(
            host["Mounts"],
            json!([
                {"Type": "volume", "Target": "/data", "Source": "a", "ReadOnly": false, "VolumeOptions": {"NoCopy": true}},
                {"Type": "bind", "Target": "/b", "Source": "/a", "ReadOnly": true, "BindOptions": {"Propagation": "rprivate"}},
                {"Type": "tmpfs", "Target": "/t", "ReadOnly": false},
            ])
        );
        assert_eq!((names.len(), warnings.len()), (0, 1), "the volume is the other one's");
        assert!(!has_anonymous_volumes(&document(edit)));
        let odd = adopted(Volumes::Adopt, |it| {
            it["HostConfig"]["VolumesFrom"] = json!(["other"]);
            it["Mounts"] = json!([{"Type": "cluster", "Destination": "/c"}]);
        });
        assert_eq!(odd, Err(Unclonable::Mount { target: "/c".to_owned(), kind: "cluster".to_owned() }));
    }

    #[test]
    fn null_and_empty_lists_of_mounts_stay_what_they_are() {
        for none in [json!(null), json!([])] {
            let (host, ..) = adopted(Volumes::Adopt, |it| {
                it["HostConfig"]["Mounts"] = none.clone();
                it["HostConfig"]["Binds"] = none.clone();
            })
            .unwrap();
            assert_eq!((&host["Mounts"], &host["Binds"]), (&none, &none));
        }
    }
}
