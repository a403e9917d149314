//! stub
#![allow(missing_docs)]
use std::time::Duration;
use tokio::time::Instant;
#[derive(Debug, Clone)]
pub struct DockerView {
    pub connected: bool,
    pub version: String,
    pub api: String,
    pub containers: usize,
    pub trouble: Option<String>,
    pub last_tick: Instant,
}
#[derive(Debug, Clone, PartialEq)]
pub struct Failing {
    pub id: String,
    pub reason: String,
}
#[derive(Debug, Clone)]
pub struct ConsulView {
    pub reachable: bool,
    pub synced: bool,
    pub services: usize,
    pub pending: usize,
    pub failing: Vec<Failing>,
    pub trouble: Option<String>,
    pub last_tick: Instant,
}
pub struct Metrics;
impl Metrics {
    pub fn event(&self, _: &str) {}
    pub fn resync(&self, _: bool) {}
    pub fn docker_connected(&self, _: bool) {}
    pub fn stream_restart(&self) {}
    pub fn containers(&self, _: usize) {}
    pub fn lag(&self, _: Duration) {}
    pub fn consul_reachable(&self, _: bool) {}
    pub fn drift(&self, _: usize, _: usize) {}
    pub fn write(&self, _: &'static str, _: bool) {}
    pub fn registrations(&self, _: usize, _: usize, _: usize) {}
}

pub fn summary(_: &DockerView, _: &ConsulView) -> (crate::consul::Status, String) {
    (crate::consul::Status::Passing, String::new())
}
