//! Errors as real engines (20.10; where it says so a newer one) word them.

use super::*;

fn refused(status: u16, message: &str) -> DockerError {
    DockerError::Refused { call: "POST /containers/{id}/start", status, message: message.to_owned() }
}

#[test]
fn the_words_of_a_real_engine_say_what_to_do() {
    let id = "9976621f4e0877a16fce1c9c62644a21287d172f908ae5deeed2ca65aa520f4f";
    let taken = Trouble::NameTaken(Some(ContainerId::new(id)));
    let endpoint = "driver failed programming external connectivity on endpoint web \
                    (eb5043f73045a768e95a8a2c1ad995f509c7b2704ad47a976a01e9bc48673602)";
    let cases = [
        (
            409,
            format!(
                "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or \
                 rename) that container to be able to reuse that name."
            ),
            taken.clone(),
        ),
        (
            409,
            format!(
                "Error when allocating new name: Conflict. The container name \"/web\" is already in use by container \
                 \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
            ),
            taken,
        ),
        (409, "The name \"web\" is already in use by container".to_owned(), Trouble::NameTaken(None)),
        (500, format!("{endpoint}: Bind for 0.0.0.0:18099 failed: port is already allocated"), Trouble::PortTaken),
        (
            500,
            format!(
                "{endpoint}: Error starting userland proxy: listen tcp4 0.0.0.0:18098: bind: address already in use"
            ),
            Trouble::PortTaken,
        ),
        (403, "Address already in use".to_owned(), Trouble::AddressTaken),
        (404, "No such image: nope:1".to_owned(), Trouble::ImageMissing),
        (
            400,
            "invalid mount config for type \"bind\": bind source path does not exist: /nonesuch/x".to_owned(),
            Trouble::MountMissing,
        ),
        (404, "network nonet not found".to_owned(), Trouble::NetworkMissing),
        (
            404,
            "failed to set up container networking: network nonet not found".to_owned(), // 28.5
            Trouble::NetworkMissing,
        ),
        (400, "can't create 'AutoRemove' container with restart policy".to_owned(), Trouble::Invalid),
        (400, "Renaming a container with the same name as its current name".to_owned(), Trouble::Invalid),
        (
            400,
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
             process: exec: \"/nonesuch\": stat /nonesuch: no such file or directory: unknown"
                .to_owned(),
            Trouble::Invalid,
        ),
        (403, "endpoint with name web already exists in network back".to_owned(), Trouble::Invalid),
        (
            409,
            format!(
                "Cannot update container {id}: Restart policy cannot be updated because AutoRemove is enabled for the \
                 container"
            ),
            Trouble::Invalid,
        ),
        (404, format!("sandbox {id} not found"), Trouble::Busy),
        (409, "removal of container web is already in progress".to_owned(), Trouble::Busy),
        (
            409,
            format!(
                "You cannot remove a restarting container {id}. Stop the container before attempting removal or force \
                 remove"
            ),
            Trouble::Busy,
        ),
        (409, format!("cannot join network of a non running container: {id}"), Trouble::Busy),
        (409, format!("Container {id} is not running"), Trouble::Busy),
        (500, "no space left on device".to_owned(), Trouble::Unwell),
        (503, String::new(), Trouble::Unwell),
    ];
    for (status, message, trouble) in cases {
        assert_eq!(classify(&refused(status, &message)), trouble, "{status} {message}");
    }
}

#[test]
fn what_was_not_answered_may_have_been_done() {
    let call = "POST /containers/create";
    for error in [
        DockerError::TimedOut { call, after: CHANGE_TIMEOUT },
        DockerError::Unreachable { address: String::new(), reason: String::new() },
        DockerError::Unreadable { call, reason: String::new() },
    ] {
        assert_eq!(classify(&error), Trouble::Unknown, "{error}");
    }
    assert_eq!(classify(&DockerError::NotFound(String::new())), Trouble::Gone);
}

#[test]
fn a_document_is_never_printed() {
    let document = Document::new(serde_json::json!({"Id": "ab", "Name": "/web", "Config": {"Env": ["KEY=canary"]}}));
    assert_eq!(format!("{document:?}"), "Document(web ab)");
    assert_eq!((document.id(), document.name()), ("ab", "web"));
    assert_eq!(document.value()["Config"]["Env"][0], "KEY=canary");
}
