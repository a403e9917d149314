//! A small inspect document for the tests of this room.

use serde_json::{Value, json};

use super::{Marks, Source};

/// The container's id.
pub(super) const ID: &str = "d366429b06d844c4f9020785e68221f3c2672347beddb7ea783b1f72103a63e6";
/// The same, short.
pub(super) const SHORT: &str = "d366429b06d8";
/// Its image's id.
pub(super) const IMAGE_ID: &str = "sha256:91ac65db92b8b4008fdc418ebd34b4ea36f42335b6ef5e68d369084c225e0664";

static IMAGE: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| image(&json!(null)));

/// A container `web` of an image `web:1` in the default network, which somebody has edited.
pub(super) fn document(edit: impl FnOnce(&mut Value)) -> Value {
    let mut document = json!({
        "Id": ID,
        "Name": "/web",
        "Image": IMAGE_ID,
        "Platform": "linux",
        "Path": "sleep",
        "Args": ["1000"],
        "State": {"Running": true},
        "Config": {
            "Hostname": SHORT, "Domainname": "", "User": "", "Env": ["A=1"], "Cmd": ["sleep", "1000"], "Image": "web:1",
            "Volumes": null, "WorkingDir": "", "Entrypoint": null, "Labels": {},
        },
        "HostConfig": {
            "NetworkMode": "default", "Binds": null, "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "AutoRemove": false, "VolumesFrom": null, "Links": null, "PublishAllPorts": false, "MaskedPaths": ["/proc/kcore"],
            "ContainerIDFile": "",
        },
        "NetworkSettings": {
            "Ports": {},
            "Networks": {"bridge": {"IPAMConfig": null, "Aliases": null, "NetworkID": "b", "IPAddress": "172.17.0.2"}},
        },
        "Mounts": [],
    });
    edit(&mut document);
    document
}

/// An image with this entry point.
pub(super) fn image(entrypoint: &Value) -> Value {
    json!({"Id": IMAGE_ID, "Config": {"Entrypoint": entrypoint}})
}

/// An engine of API 1.41, where the image's name means the image.
pub(super) fn source(container: &Value) -> Source<'_> {
    Source {
        container,
        image: Some(&IMAGE),
        tag: Some(IMAGE_ID),
        api: super::ApiVersion { major: 1, minor: 41 },
        node: None,
    }
}

/// The marks of its replacement.
pub(super) fn marks(container: &Value) -> Marks {
    let marks = Marks::next(container).unwrap_or_else(|_| Marks {
        op: "1a2b3c4d".to_owned(),
        name: "web".to_owned(),
        replaces: Vec::new(),
        generation: 1,
        order: String::new(),
        cause: String::new(),
        since: String::new(),
        by: String::new(),
    });
    Marks {
        order: "stop-first".to_owned(),
        cause: "unhealthy".to_owned(),
        since: "2026-11-26T04:00:00Z".to_owned(),
        by: "node-1".to_owned(),
        ..marks
    }
}
