//! Stage A of a replacement: the clone is made under its staged name and compared with the original. Nothing that runs is touched,
//! and most of what can go wrong goes wrong here: a missing image, a bad mount, somebody else at the same work.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Order, Plan};
use crate::docker::control::{Control, Document, Trouble, classify};
use crate::docker::names::Role;
use crate::docker::spec::{self, ApiVersion, CloneSpec, Marks, Options, Source, Volumes};
use crate::docker::{COMPOSE_PROJECT, ContainerId, DockerError};
use crate::heal::cause::Cause;
use crate::heal::labels;
use crate::heal::policy::{self, Policy};

/// Lines of a container's log that are kept as evidence.
const LOG_LINES: usize = 20;

/// What has to be known besides the container.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Why.
    pub cause: Cause,
    /// Since when (RFC 3339).
    pub since: String,
    /// Who does it.
    pub by: String,
    /// The engine's highest API version.
    pub api: ApiVersion,
    /// The engine's host name.
    pub node: String,
    /// Former ids of containers that this one may refer to → the ids of those that have their places now.
    pub parents: BTreeMap<String, String>,
    /// Others share its namespaces.
    pub has_dependents: bool,
    /// Others link to it.
    pub is_linked: bool,
}

/// A clone that waits for its turn.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What the operation is to come to.
    pub plan: Plan,
    /// The clone.
    pub new: ContainerId,
    /// Why the order is what it is.
    pub why_order: String,
    /// What the clone does not have.
    pub warnings: Vec<String>,
    /// The last lines of the old one's log.
    pub log: String,
}

/// Why there is no clone. Nothing has been changed.
#[derive(Debug, Clone)]
pub enum Unprepared {
    /// It cannot be replaced by one like it; it can be restarted.
    Restart(String),
    /// It cannot be helped, and trying again would not change that.
    Hopeless(String),
    /// Not now.
    Trouble(String),
}

impl From<DockerError> for Unprepared {
    fn from(error: DockerError) -> Self {
        Self::Trouble(error.to_string())
    }
}

/// Makes the clone of this container.
pub async fn prepare<D: Control>(
    docker: &D,
    id: &ContainerId,
    policy: &Policy,
    around: &Surroundings,
) -> Result<Prepared, Unprepared> {
    if around.is_linked {
        return Err(Unprepared::Restart(
            "other containers link to it (--link), and links follow the old one".to_owned(),
        ));
    }
    let original = docker.document(id.as_str()).await?;
    let document = original.value();
    let image = docker.image(original.at("/Image").as_str().unwrap_or_default()).await?;
    let reference = spec::image_reference(document);
    let tag = docker.image(reference).await?;
    let running = *original.at("/State/Running") == true;
    if policy.volumes == policy::Volumes::Refuse {
        refuse_loss(docker, id, document).await?;
    }
    let (order, why_order) = order(docker, &original, running, policy, around).await?;
    let mut marks = Marks::next(document).map_err(|error| Unprepared::Hopeless(error.to_string()))?;
    order.as_str().clone_into(&mut marks.order);
    around.cause.as_str().clone_into(&mut marks.cause);
    marks.since.clone_from(&around.since);
    marks.by.clone_from(&around.by);
    let source = Source {
        container: document,
        image: image.as_ref().map(Document::value),
        tag: tag.as_ref().and_then(|tag| tag.at("/Id").as_str()),
        api: around.api,
        node: Some(&around.node),
    };
    let options = Options {
        volumes: if policy.volumes == policy::Volumes::Fresh { Volumes::Fresh } else { Volumes::Adopt },
        pin_ports: policy.pin_ports && order == Order::StopFirst,
    };
    let clone = spec::clone_of(&source, &marks, &around.parents, options)
        .map_err(|error| Unprepared::Restart(error.to_string()))?;
    for volume in clone.volumes() {
        if !docker.volume_exists(volume).await? {
            // The engine would make an empty one, and the service would start without its data.
            return Err(Unprepared::Hopeless(format!("its volume {volume} does not exist any more")));
        }
    }
    remove_corpses(docker, &marks.name).await?;
    let log = docker.logs(id.as_str(), LOG_LINES).await.unwrap_or_default();
    let new = create(docker, &clone, &marks).await?;
    if let Err(error) = complete(docker, &new, &original, &clone, &around.parents, options).await {
        // Best effort: what stays is found by its label, and cancelled at the next look for unfinished operations.
        let _left = docker.remove(new.as_str(), true).await;
        return Err(error);
    }
    // Compose counts containers by their labels, and would count a corpse.
    let is_composed = !original.label(COMPOSE_PROJECT).is_empty();
    Ok(Prepared {
        plan: Plan {
            op: marks.op,
            name: marks.name,
            order,
            cause: around.cause.clone(),
            restart_policy: spec::restart_policy(document),
            on_failure: policy.on_failure,
            keep_failed: policy.keep_failed > 0 && !is_composed,
            fresh: true,
        },
        new,
        why_order,
        warnings: clone.warnings,
        log,
    })
}

/// `remora.heal.volumes=refuse`: what a replacement would lose must not be lost.
async fn refuse_loss<D: Control>(docker: &D, id: &ContainerId, document: &Value) -> Result<(), Unprepared> {
    if spec::has_anonymous_volumes(document) {
        return Err(Unprepared::Restart("it has anonymous volumes (remora.heal.volumes=refuse)".to_owned()));
    }
    if docker.changes_exist(id.as_str()).await? {
        return Err(Unprepared::Restart("it has changed its own files (remora.heal.volumes=refuse)".to_owned()));
    }
    Ok(())
}

async fn order<D: Control>(
    docker: &D,
    document: &Document,
    running: bool,
    policy: &Policy,
    around: &Surroundings,
) -> Result<(Order, String), Unprepared> {
    if let Some(order) = policy.order {
        return Ok((order, labels::ORDER.to_owned()));
    }
    if !running {
        return Ok((Order::StopFirst, "the old one does not run".to_owned()));
    }
    if around.has_dependents {
        return Ok((Order::StopFirst, "others share its namespaces".to_owned()));
    }
    let mut drivers = BTreeMap::new();
    for name in document.at("/NetworkSettings/Networks").as_object().into_iter().flat_map(|all| all.keys()) {
        if let Some(network) = docker.network(name).await? {
            drivers.insert(name.clone(), network.at("/Driver").as_str().unwrap_or_default().to_owned());
        }
    }
    let reasons = spec::stop_first_reasons(document.value(), &drivers, policy.shareable);
    Ok(if reasons.is_empty() {
        (Order::StartFirst, "both can run side by side".to_owned())
    } else {
        (Order::StopFirst, reasons.join("; "))
    })
}

/// The create call. Its name is made from the old container's id, so of two who try only one gets it.
async fn create<D: Control>(docker: &D, clone: &CloneSpec, marks: &Marks) -> Result<ContainerId, Unprepared> {
    let error = match docker.create(&clone.name, &clone.body, clone.platform.as_deref()).await {
        Ok(id) => return Ok(id),
        Err(error) => error,
    };
    match classify(&error) {
        Trouble::NameTaken(_) | Trouble::Unknown => {
            // Ours, if an answer was lost or an earlier run left it. A container that was made a moment ago and not by us
            // belongs to somebody who is at the same work.
            let Ok(found) = docker.document(&clone.name).await else { return Err(error.into()) };
            let ours = found.label(spec::label::OP) == marks.op
                && found.label(spec::label::BY) == marks.by
                && found.label(spec::label::SINCE) == marks.since;
            if ours {
                return Ok(ContainerId::new(found.id()));
            }
            Err(Unprepared::Trouble(format!("{} exists already: an earlier operation, or another agent's", clone.name)))
        }
        Trouble::ImageMissing => Err(Unprepared::Restart(format!("its image is gone: {error}"))),
        Trouble::MountMissing | Trouble::Invalid => {
            Err(Unprepared::Hopeless(format!("Docker takes no clone of it: {error}")))
        }
        _ => Err(error.into()),
    }
}

/// Its further networks, and the comparison.
async fn complete<D: Control>(
    docker: &D,
    new: &ContainerId,
    original: &Document,
    clone: &CloneSpec,
    parents: &BTreeMap<String, String>,
    options: Options,
) -> Result<(), Unprepared> {
    for (network, endpoint) in &clone.connect {
        docker.connect(network, &CloneSpec::connect_body(new.as_str(), endpoint)).await?;
    }
    let made = docker.document(new.as_str()).await?;
    let differences = spec::differences(original.value(), made.value(), parents, options);
    if differences.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = differences.iter().take(3).map(ToString::to_string).collect();
    Err(Unprepared::Restart(format!("a clone would not be the same: {}", told.join("; "))))
}

/// Earlier failures of this place: only the last one is worth a look.
async fn remove_corpses<D: Control>(docker: &D, name: &str) -> Result<(), Unprepared> {
    for id in docker.labelled(&format!("{}={name}", spec::label::NAME)).await? {
        let Ok(document) = docker.document(id.as_str()).await else { continue };
        let (place, role) = crate::docker::names::logical(document.name());
        if role == Role::Failed && place == name && *document.at("/State/Running") == false {
            docker.remove(id.as_str(), false).await?;
        }
    }
    Ok(())
}
