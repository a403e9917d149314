//! Remora or the floor as a process.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::floor;
use crate::support::docker::Engine;
use crate::support::remora::Remora;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// The bare client.
    Floor,
    /// The program.
    Remora,
}

/// Where the two register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With the Consul agent of this node.
    Agent,
    /// On a node of their own in the cluster's catalog.
    Catalog,
}

impl Way {
    /// As in `REMORA_CONSUL_MODE`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Catalog => "catalog",
        }
    }
}

/// A contender that runs; ends with the value.
pub enum Running {
    Floor(Child),
    Remora(Box<Remora>),
}

impl Contender {
    /// Both, in the order in which they take turns.
    pub const BOTH: [Self; 2] = [Self::Floor, Self::Remora];

    /// First part of its service ids.
    pub fn node(self) -> &'static str {
        match self {
            Self::Floor => floor::NODE,
            Self::Remora => "remora-bench",
        }
    }

    /// Starts it, without waiting for anything.
    pub fn spawn(self, way: Way, engine: &Engine, consul: &str) -> Running {
        match self {
            Self::Floor => Running::Floor(spawn_floor(way, engine.socket(), consul, engine.run())),
            Self::Remora => Running::Remora(Box::new(spawn_remora(way, engine, consul))),
        }
    }
}

impl Running {
    /// Waits until everything that ran at its start is registered.
    pub async fn ready(&mut self) {
        match self {
            Self::Floor(child) => {
                let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap();
                assert_eq!(line.as_deref(), Some(floor::READY));
            }
            Self::Remora(remora) => remora.ready().await,
        }
    }

    /// Ends it; what it registered stays.
    pub async fn stop(self) {
        match self {
            Self::Floor(mut child) => child.kill().await.unwrap(),
            Self::Remora(mut remora) => assert!(remora.terminate().await.success()),
        }
    }
}

/// Remora as an operator would run it: with the log at its default level.
pub fn spawn_remora(way: Way, engine: &Engine, consul: &str) -> Remora {
    let mut remora = Remora::new(engine.socket(), consul, engine.run(), Contender::Remora.node());
    // As it runs unless it is told otherwise.
    remora.set("REMORA_HEAL", "on");
    remora.set("REMORA_LOG", "info");
    remora.set("REMORA_CONSUL_MODE", way.word());
    remora.spawn();
    remora
}

fn spawn_floor(way: Way, socket: &Path, consul: &str, run: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg(floor::ARGUMENT)
        .arg(socket)
        .args([consul, run, way.word()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
