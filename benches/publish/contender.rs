//! Remora, the floor, or registrator as a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::floor;
use crate::support::docker::Engine;
use crate::support::remora::{ADDRESS, Remora};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// The bare client.
    Floor,
    /// The program.
    Remora,
    /// What it takes the place of, where `REGISTRATOR_BIN` says where that is. It has no filter: the engine should run nothing else.
    Registrator,
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
    Registrator(Child),
}

impl Contender {
    /// Those that can be had, in the order in which they take turns.
    pub fn all(way: Way) -> Vec<Self> {
        let mut all = vec![Self::Floor, Self::Remora];
        // It knows no other way.
        if way == Way::Agent && registrator().is_some() {
            all.push(Self::Registrator);
        }
        all
    }

    /// First part of its service ids.
    pub fn node(self) -> String {
        match self {
            Self::Floor => floor::NODE.to_owned(),
            Self::Remora => "remora-bench".to_owned(),
            Self::Registrator => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned(),
        }
    }

    /// Starts it, without waiting for anything.
    pub fn spawn(self, way: Way, engine: &Engine, consul: &str) -> Running {
        match self {
            Self::Floor => Running::Floor(spawn_floor(way, engine.socket(), consul, engine.run())),
            Self::Remora => Running::Remora(Box::new(spawn_remora(way, engine, consul))),
            Self::Registrator => Running::Registrator(spawn_registrator(engine.socket(), consul)),
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
            Self::Registrator(child) => {
                let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
                while let Some(line) = lines.next_line().await.unwrap() {
                    if line.contains("Listening for Docker events") {
                        // Whatever else it says must not fill the pipe.
                        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                        return;
                    }
                }
                panic!("registrator ended by itself");
            }
        }
    }

    /// Ends it; what it registered stays.
    pub async fn stop(self) {
        match self {
            Self::Floor(mut child) | Self::Registrator(mut child) => child.kill().await.unwrap(),
            Self::Remora(mut remora) => assert!(remora.terminate().await.success()),
        }
    }
}

/// Remora as an operator would run it: with the log at its default level.
pub fn spawn_remora(way: Way, engine: &Engine, consul: &str) -> Remora {
    let mut remora = Remora::new(engine.socket(), consul, engine.run(), &Contender::Remora.node());
    // As it runs unless it is told otherwise.
    remora.set("REMORA_HEAL", "on");
    remora.set("REMORA_LOG", "info");
    remora.set("REMORA_CONSUL_MODE", way.word());
    remora.spawn();
    remora
}

/// Its path, if it was given.
pub fn registrator() -> Option<PathBuf> {
    std::env::var_os("REGISTRATOR_BIN").map(PathBuf::from)
}

fn spawn_registrator(socket: &Path, consul: &str) -> Child {
    Command::new(registrator().unwrap())
        .args(["-ip", ADDRESS, &consul.replace("http://", "consul://")])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
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
