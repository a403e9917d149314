//! The containers of a soak, and what each of them should be.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::docker::{Container, Engine};
use crate::support::free_port;

/// What a container is made like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A random port and a HEALTHCHECK: the replacement starts first.
    Checked,
    /// A fixed port of the host: the old one stops first.
    Fixed,
    /// Docker's own restart policy goes first.
    Kept,
    /// Swarm's.
    Swarm,
    /// Its label says that nothing is to be done to it.
    Off,
}

impl Kind {
    /// Nobody but its owner touches it.
    pub const fn is_foreign(self) -> bool {
        matches!(self, Self::Swarm | Self::Off)
    }
}

/// What a place should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Some container with this name runs and is well.
    Well,
    /// This container, and it does not run.
    Down(Container),
    /// Nobody has the name.
    Gone,
}

/// All places, by name.
#[derive(Debug, Default)]
pub struct Park {
    pub places: BTreeMap<String, (Kind, Wanted)>,
    made: usize,
}

impl Park {
    /// Makes one more container that runs.
    pub async fn add(&mut self, engine: &Engine, kind: Kind) -> Container {
        let name = format!("{}{}", format!("{kind:?}").to_lowercase(), self.made);
        self.made += 1;
        let script = "trap 'exit 0' TERM; trap 'exit 1' USR1; /bin/busybox sleep 100000 & wait";
        let mut spec = engine.container(&name).command(&["/bin/sh", "-c", script]);
        for (label, value) in [
            ("grace", "0s"),
            ("unhealthy-for", "0s"),
            ("min-healthy", "0s"),
            ("drain", "0s"),
            // An engine that was restarted while a container started (live-restore) may leave it `starting` for ever, without a probe:
            // seen with 20.10.
            ("start-deadline", "20s"),
            ("verify-timeout", "20s"),
            ("backoff", "1s..2s"),
            // A place that has bad luck again and again is not given up.
            ("max-attempts", "50"),
        ] {
            spec = spec.label(&format!("remora.heal.{label}"), value);
        }
        let spec = match kind {
            Kind::Checked => spec.publish(80).health_check(std::time::Duration::from_secs(2)),
            Kind::Fixed => spec.publish_as("80/tcp", "0.0.0.0", free_port()),
            Kind::Kept => {
                spec.publish(80).health_check(std::time::Duration::from_secs(2)).restart_policy("unless-stopped")
            }
            Kind::Swarm => spec.publish(80).label("com.docker.swarm.service.id", "s1"),
            Kind::Off => spec.publish(80).label("remora.heal", "off"),
        };
        let container = spec.run().await;
        self.places.insert(container.name.clone(), (kind, Wanted::Well));
        container
    }

    /// What should be.
    pub fn want(&mut self, name: &str, wanted: Wanted) {
        self.places.get_mut(name).unwrap().1 = wanted;
    }

    /// What must never happen, whatever is still under way: what should not run does not, and what is foreign is what it was.
    pub async fn never(&self, engine: &Engine) -> Result<(), String> {
        for (name, (kind, wanted)) in &self.places {
            let now = engine.inspect_name(name).await;
            match (wanted, now) {
                (Wanted::Well, None) if kind.is_foreign() => return Err(format!("{name} is gone, and it is not ours")),
                (Wanted::Down(it), now) => {
                    let now = now.ok_or_else(|| format!("{name} is gone, and should only be down"))?;
                    if now["Id"] != it.id.as_str() || now["State"]["Running"] != false {
                        let (id, state) = (&now["Id"], &now["State"]["Status"]);
                        return Err(format!("{name} should be down, as {}; it is {state}, as {id}", it.id));
                    }
                }
                (Wanted::Gone, Some(now)) => return Err(format!("{name} was removed, and is back: {}", now["State"])),
                (Wanted::Well | Wanted::Gone, _) => {}
            }
        }
        Ok(())
    }

    /// The engine was stopped and its containers with it, and it is back: who does not run and has no restart policy that starts it.
    /// Nobody else does.
    pub async fn left_down(&self, engine: &Engine) -> Vec<Container> {
        let mut down = Vec::new();
        for (name, (kind, wanted)) in &self.places {
            if *wanted == Wanted::Well && *kind != Kind::Kept {
                let now = engine.inspect_name(name).await.unwrap_or_else(|| panic!("{name} is gone with the daemon"));
                let (state, id) = (&now["State"]["Running"], now["Id"].as_str().unwrap());
                assert_eq!(*state, false, "{name} runs although nobody starts it");
                down.push(Container { id: id.to_owned(), name: name.clone() });
            }
        }
        down
    }

    /// Places that are not what they should be, with what they are.
    pub async fn ill(&self, engine: &Engine) -> BTreeMap<String, String> {
        let mut ill = BTreeMap::new();
        for (name, (_, wanted)) in &self.places {
            if *wanted == Wanted::Well {
                match engine.inspect_name(name).await {
                    Some(now) if is_well(&now) => {}
                    Some(now) => drop(ill.insert(name.clone(), format!("{} {}", now["Id"], now["State"]))),
                    None => drop(ill.insert(name.clone(), "nobody has the name".to_owned())),
                }
            }
        }
        ill
    }

    /// All places that should be well are.
    pub async fn well(&self, engine: &Engine) -> Result<(), String> {
        let ill = self.ill(engine).await;
        if ill.is_empty() { Ok(()) } else { Err(format!("{ill:#?}")) }
    }

    /// Everything is as it should be, and nothing else is there.
    pub async fn right(&self, engine: &Engine) -> Result<(), String> {
        self.never(engine).await?;
        self.well(engine).await?;
        let there: BTreeSet<String> = engine.names(true).await.into_iter().collect();
        let known = self.places.iter().filter(|(_, (_, wanted))| *wanted != Wanted::Gone).map(|(name, _)| name.clone());
        let over: Vec<_> = there.difference(&known.collect()).cloned().collect();
        if over.is_empty() { Ok(()) } else { Err(format!("left over: {over:?}")) }
    }
}

/// It runs, and its HEALTHCHECK, if it has one, says that it is well.
pub fn is_well(document: &Value) -> bool {
    let state = &document["State"];
    state["Running"] == true
        && state["Paused"] == false
        && matches!(state["Health"]["Status"].as_str(), None | Some("healthy"))
}
