//! From what a container is doing to what should be registered for it.

use super::names::LONGEST;
use super::network::{NoStack, owner, stack};
use super::notes::Notes;
use super::values::{head, one_line};
use super::{Peers, Settings, Verdict, docker_check, filters, services};
use crate::config::Deregister;
use crate::consul::Status;
use crate::docker::names::{Role, logical};
use crate::docker::{Sight, State};

/// The verdict, in the order: is it meant to be seen at all, does it run, where is it reached.
pub(super) fn judge(sight: &Sight, peers: &dyn Peers, settings: &Settings, notes: &mut Notes) -> Verdict {
    let container = &sight.container;
    let (name, role) = logical(&container.name);
    let shown = one_line(head(name, LONGEST));
    match role {
        Role::Settled | Role::Staged => {}
        Role::Retired => return Verdict::Nothing(format!("{shown} has been replaced; this is what it was")),
        Role::Undo | Role::Failed => return Verdict::Nothing(format!("a replacement of {shown} that failed")),
    }
    match &container.state {
        State::Created => return Verdict::Nothing("not running (created)".to_owned()),
        State::Removing => return Verdict::Nothing("not running (being removed)".to_owned()),
        State::Exited if is_clean(sight) || settings.publish.deregister == Deregister::Always => {
            return Verdict::Nothing(format!("not running (exited, code {})", container.exit_code));
        }
        _ => {}
    }
    let enabled = filters::enabled(container, notes);
    let networks = stack(container, peers).ok();
    if let Some(reason) = filters::left_out(container, networks.as_deref(), &settings.publish, enabled) {
        return Verdict::Nothing(reason);
    }
    if sight.draining {
        return Verdict::Nothing("draining: a stop signal was sent".to_owned());
    }
    if matches!(container.state, State::Exited | State::Restarting | State::Dead) {
        return hold(docker_check::not_running(container));
    }
    if role == Role::Staged && has_its_place(sight, name, peers) {
        return Verdict::Nothing(format!("a replacement of {shown}, which still has its place"));
    }
    let owner = match owner(container, peers) {
        Ok(owner) => owner,
        Err(NoStack::Unknown(peer, reason)) => return Verdict::Wait { peer, reason },
        Err(NoStack::Waits(why)) => return Verdict::Nothing(why),
        Err(NoStack::Down(why)) => return hold(why),
    };
    match (services::services(sight, owner, enabled, settings, notes), &container.state) {
        (Ok(planned), _) => Verdict::Services(planned),
        // What Docker says is not understood: that is no reason to take anything away.
        (Err(_), State::Unknown(_)) => hold(docker_check::not_running(container)),
        (Err(why), _) => Verdict::Nothing(why),
    }
}

fn hold(output: String) -> Verdict {
    Verdict::Hold { status: Status::Critical, output }
}

/// Whether it ended as it should: by itself without an error, or because somebody stopped it.
fn is_clean(sight: &Sight) -> bool {
    sight.container.exit_code == 0 || sight.draining
}

/// Whether the container that a staged one is to replace still holds the ids: two must not claim the same.
fn has_its_place(staged: &Sight, name: &str, peers: &dyn Peers) -> bool {
    peers.find(name).is_some_and(|other| {
        let is_live =
            matches!(other.container.state, State::Running | State::Paused | State::Restarting | State::Unknown(_));
        other.container.id != staged.container.id && is_live && !other.draining
    })
}
