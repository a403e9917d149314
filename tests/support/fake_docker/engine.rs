//! What the fake answers: [`Engine`].

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use remora::docker::http::{CALL_TIMEOUT, PING_TIMEOUT};
use remora::docker::{Container, DockerError, Engine, EngineInfo, EventStream, EventTime, Listing};
use tokio::time::sleep;

use super::{Calls, FakeDocker, Mood, refused};

impl FakeDocker {
    /// Notes the call, and waits as the mood and the latency want it.
    pub(super) async fn begin(
        &self,
        call: &'static str,
        timeout: Duration,
        count: impl FnOnce(&mut Calls),
    ) -> Result<(), DockerError> {
        let (mood, latency) = {
            let mut shared = self.lock();
            count(&mut shared.calls);
            (shared.mood, shared.latency)
        };
        match mood {
            Mood::Up if latency.is_zero() => Ok(()),
            Mood::Up => self.in_time(call, timeout, latency).await,
            Mood::Refusing => Err(refused()),
            Mood::Frozen => {
                sleep(timeout).await;
                Err(DockerError::TimedOut { call, after: timeout })
            }
            Mood::Unwell => Err(DockerError::Refused { call, status: 503, message: "starting".to_owned() }),
        }
    }

    pub(super) async fn in_time(
        &self,
        call: &'static str,
        timeout: Duration,
        latency: Duration,
    ) -> Result<(), DockerError> {
        sleep(latency.min(timeout)).await;
        let broken = self.lock().mood == Mood::Refusing;
        if broken {
            return Err(refused());
        }
        if latency >= timeout { Err(DockerError::TimedOut { call, after: timeout }) } else { Ok(()) }
    }
}

impl Engine for FakeDocker {
    async fn ping(&self) -> Result<(), DockerError> {
        self.begin("GET /_ping", PING_TIMEOUT, |calls| calls.ping += 1).await
    }

    async fn info(&self) -> Result<EngineInfo, DockerError> {
        self.begin("GET /info", CALL_TIMEOUT, |calls| calls.info += 1).await?;
        let mut shared = self.lock();
        Ok(EngineInfo {
            id: shared.engine_id.clone(),
            name: "n1".to_owned(),
            version: "20.10.24".to_owned(),
            api_version: "1.41".to_owned(),
            system_time: Some(EventTime(shared.stamp())),
            swarm_address: None,
        })
    }

    async fn list(&self) -> Result<Listing, DockerError> {
        let (listing, slower) = {
            let shared = self.lock();
            (shared.old_list.clone().unwrap_or_else(|| shared.listing()), shared.list_latency)
        };
        let call = "GET /containers/json";
        self.begin(call, CALL_TIMEOUT, |calls| calls.list += 1).await?;
        if !slower.is_zero() {
            self.in_time(call, CALL_TIMEOUT, slower).await?;
        }
        Ok(listing)
    }

    async fn inspect(&self, id: &str) -> Result<Container, DockerError> {
        let call = "GET /containers/{id}/json";
        let (found, stuck) = {
            let shared = self.lock();
            let found = shared.look(id);
            let stuck = found.as_ref().is_ok_and(|container| shared.stuck.contains(&container.id));
            (found, stuck)
        };
        self.begin(call, CALL_TIMEOUT, |calls| calls.inspect += 1).await?;
        if stuck {
            sleep(CALL_TIMEOUT).await;
            return Err(DockerError::TimedOut { call, after: CALL_TIMEOUT });
        }
        found
    }

    fn events(&self, since: Option<EventTime>) -> EventStream {
        let engine = self.clone();
        let connecting = async move {
            // The time in which the headers of the answer have to come.
            let connected = engine.begin("GET /events", CALL_TIMEOUT, |calls| calls.streams += 1).await;
            match connected {
                Ok(()) => engine.lock().listen(since),
                Err(error) => stream::once(async move { Err(error) }).boxed(),
            }
        };
        connecting.flatten_stream().boxed()
    }
}
