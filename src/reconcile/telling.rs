//! What is logged of changes and of writes: one line each, with a stable `event=` field.

use super::book::Told;
use super::diff::Op;

/// What a change of a container came to.
pub fn tell(told: &Told) {
    let (id, name) = (&told.id, &told.name);
    if let Some(reason) = &told.nothing {
        tracing::info!(event = "not_registered", container = %id, name = %name, reason = %reason, "nothing to register for {name}: {reason}");
    }
    for note in &told.notes {
        let (about, text) = (&note.about, &note.text);
        if note.warning {
            tracing::warn!(event = "label", container = %id, name = %name, about = %about, "{name}: {about}: {text}");
        } else {
            tracing::info!(event = "label", container = %id, name = %name, about = %about, "{name}: {about}: {text}");
        }
    }
}

/// A write that was made.
pub fn tell_write(op: &Op, key: &str) {
    match op {
        Op::Register(service) => {
            tracing::info!(event = "registered", service = %service.id, name = %service.name, address = %service.address, port = service.port, "registered {} as {} at {}:{}", service.id, service.name, service.address, service.port);
        }
        Op::Deregister(id) => {
            tracing::info!(event = "deregistered", service = %id, "deregistered {id}");
        }
        Op::UpdateCheck { id, status, output } if !key.contains(":remora:") => {
            tracing::info!(event = "health", service = %key, check = %id, status = %status, "{id} is {status}: {output}");
        }
        Op::UpdateCheck { .. } => {}
        Op::RemoveCheck(id) => {
            tracing::info!(event = "check_removed", service = %key, check = %id, "removed the check {id}");
        }
    }
}
