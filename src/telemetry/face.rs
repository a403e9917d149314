//! What the agent shows of itself: two plain values, kept up to date by the two loops, and what follows from them. The
//! HTTP server and the agent's own check in Consul read them; nobody waits for a loop.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::logs::clean;
use super::metrics::Metrics;
use super::reports::ReportTaker;

/// A loop that has not worked for so long is stuck. Both tick at least every 10 s; calls give up within 30 s.
pub const STALE: Duration = Duration::from_secs(60);

/// Bytes of the output of the agent's own check: Consul keeps 4 KiB, its UI shows a few lines.
const MAX_OUTPUT: usize = 2048;

/// Failing services that the output names; the log and `/metrics` know about all.
const MAX_NAMED: usize = 5;

/// Characters of one reason.
const MAX_REASON: usize = 200;

/// What the loop that observes Docker knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerView {
    /// The event stream is followed; before that begins, at the start: Docker answers.
    pub connected: bool,
    /// The engine's version; empty before the first contact.
    pub version: String,
    /// The API version in use.
    pub api: String,
    /// What is wrong, in one stable sentence: no counters, no times.
    pub trouble: Option<String>,
    /// When the loop last worked.
    pub last_tick: Instant,
}

impl DockerView {
    /// Before the first contact.
    #[must_use]
    pub fn starting(now: Instant) -> Self {
        Self { connected: false, version: String::new(), api: String::new(), trouble: None, last_tick: now }
    }
}

/// What the loop that keeps Consul right knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulView {
    /// Consul answered the last call.
    pub reachable: bool,
    /// Everything was right at least once since the start.
    pub synced: bool,
    /// How many services are kept there.
    pub services: usize,
    /// How many wait for a write or another attempt.
    pub pending: usize,
    /// Services that Consul refuses, by id: the first of them.
    pub failing: Vec<Failing>,
    /// How many there are altogether.
    pub failing_count: usize,
    /// What is wrong with Consul as a whole, in one stable sentence.
    pub trouble: Option<String>,
    /// When the loop last worked.
    pub last_tick: Instant,
}

/// A service that Consul refuses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failing {
    /// Its id.
    pub id: String,
    /// Consul's reason.
    pub reason: String,
}

impl ConsulView {
    /// Before the first contact.
    #[must_use]
    pub fn starting(now: Instant) -> Self {
        Self {
            reachable: false,
            synced: false,
            services: 0,
            pending: 0,
            failing: Vec::new(),
            failing_count: 0,
            trouble: None,
            last_tick: now,
        }
    }
}

/// Asks whoever knows how healing stands; with `true` for JSON. `Err`: nobody can say, and why.
pub type StatusText = Arc<dyn Fn(bool) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> + Send + Sync>;

/// Everything that the agent shows. Cheap to clone.
#[derive(Clone)]
pub struct Face {
    metrics: Arc<Metrics>,
    docker: watch::Receiver<DockerView>,
    consul: watch::Receiver<ConsulView>,
    hosts: Arc<[String]>,
    status: Option<StatusText>,
    reports: Option<ReportTaker>,
}

impl std::fmt::Debug for Face {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Face").field("docker", &self.docker).field("consul", &self.consul).finish_non_exhaustive()
    }
}

impl Face {
    /// The loops keep the other ends of the two channels.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        docker: watch::Receiver<DockerView>,
        consul: watch::Receiver<ConsulView>,
    ) -> Self {
        Self { metrics, docker, consul, hosts: Arc::from([]), status: None, reports: None }
    }

    /// Further host names that the HTTP server answers to ([`super::host`]): the node's own, for example.
    #[must_use]
    pub fn with_hosts(self, hosts: impl IntoIterator<Item = String>) -> Self {
        Self { hosts: hosts.into_iter().collect(), ..self }
    }

    /// What answers `/status` and `/status.json`.
    #[must_use]
    pub fn with_status(self, status: StatusText) -> Self {
        Self { status: Some(status), ..self }
    }

    /// What takes the reports of services about their TTL checks; only in catalog mode.
    #[must_use]
    pub fn with_reports(self, reports: ReportTaker) -> Self {
        Self { reports: Some(reports), ..self }
    }

    /// What takes reports, if anything does.
    #[must_use]
    pub const fn reports(&self) -> Option<&ReportTaker> {
        self.reports.as_ref()
    }

    /// How healing stands, as text or as JSON; `None`: there is no health-watcher here.
    pub async fn status(&self, json: bool) -> Option<Result<String, String>> {
        let status = self.status.as_ref()?;
        Some(status(json).await)
    }

    /// The names of [`Face::with_hosts`].
    #[must_use]
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether both loops are alive: restarting the process would help if not.
    ///
    /// # Errors
    /// Which loop is not, and since when.
    pub fn healthy(&self, now: Instant) -> Result<(), String> {
        let loops = [
            ("Docker", self.docker.borrow().last_tick, self.docker.has_changed().is_err()),
            ("Consul", self.consul.borrow().last_tick, self.consul.has_changed().is_err()),
        ];
        for (name, last_tick, ended) in loops {
            let silent = now.saturating_duration_since(last_tick);
            if ended {
                return Err(format!("the {name} loop has ended"));
            }
            if silent > STALE {
                return Err(format!("the {name} loop has not worked for {} s", silent.as_secs()));
            }
        }
        Ok(())
    }

    /// Whether what Consul says is what Docker says.
    ///
    /// # Errors
    /// Everything that is missing.
    pub fn ready(&self) -> Result<(), String> {
        let (docker, consul) = (self.docker.borrow(), self.consul.borrow());
        let reasons = [
            (!docker.connected).then(|| docker_away(&docker)),
            (!consul.reachable).then(|| consul_away(&consul)),
            (!consul.synced).then(|| "the first synchronisation is not done".to_owned()),
        ];
        let reasons: Vec<String> = reasons.into_iter().flatten().collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
    }

    /// [`summary`] of the two values as they are now.
    #[must_use]
    pub fn summary(&self) -> (Standing, String) {
        summary(&self.docker.borrow(), &self.consul.borrow())
    }
}

/// How the agent stands, in the words of its own check in Consul.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All is well.
    Passing,
    /// It works, but somebody should look.
    Warning,
    /// It does not do its work.
    Critical,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// Status and output of the agent's own check in Consul. Equal as long as the agent stands the same: no times and no
/// counters, not even of containers, since every new output is a write to the catalog, minutes later and for nobody. Numbers
/// are among the metrics.
#[must_use]
pub fn summary(docker: &DockerView, consul: &ConsulView) -> (Standing, String) {
    let mut status = Standing::Passing;
    let mut parts = Vec::new();
    if docker.connected {
        parts.push(format!("Docker {} (API {}).", bounded(&docker.version), bounded(&docker.api)));
        if let Some(trouble) = &docker.trouble {
            status = status.max(Standing::Warning);
            parts.push(sentence(trouble));
        }
    } else {
        status = Standing::Critical;
        parts.push(sentence(&docker_away(docker)));
    }
    if !consul.reachable {
        status = Standing::Critical;
        parts.push(sentence(&consul_away(consul)));
    } else if let Some(trouble) = &consul.trouble {
        status = status.max(Standing::Warning);
        parts.push(sentence(trouble));
    }
    if consul.synced {
        let kept = if docker.connected {
            "What runs there is published."
        } else {
            "What is published is as it was last seen."
        };
        parts.push(kept.to_owned());
    } else {
        status = status.max(Standing::Warning);
        parts.push("The first synchronisation is not done.".to_owned());
    }
    if consul.failing_count > 0 {
        status = status.max(Standing::Warning);
        parts.push(refused(consul));
    }
    (status, cut(&parts.join(" "), MAX_OUTPUT))
}

fn refused(consul: &ConsulView) -> String {
    let mut text = format!("{} refused by Consul:", plural(consul.failing_count, "service"));
    for failing in consul.failing.iter().take(MAX_NAMED) {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\n{}: {}", bounded(&failing.id), bounded(&failing.reason));
    }
    let more = consul.failing_count.saturating_sub(consul.failing.len().min(MAX_NAMED));
    if more > 0 {
        let _infallible = write!(text, "\nand {more} more");
    }
    text
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn docker_away(docker: &DockerView) -> String {
    match docker.trouble.as_deref() {
        None => "Docker is not connected".to_owned(),
        // Docker's errors are whole sentences about Docker.
        Some(reason) if reason.starts_with("Docker") => bounded(reason),
        Some(reason) => format!("Docker is not connected: {}", bounded(reason)),
    }
}

/// The reason alone: "Consul refuses …" is not to be told as "cannot be reached".
fn consul_away(consul: &ConsulView) -> String {
    consul.trouble.as_deref().map_or_else(|| "nothing was read from Consul yet".to_owned(), bounded)
}

fn sentence(text: &str) -> String {
    let text = clean(text);
    if text.ends_with('.') { text.into_owned() } else { format!("{text}.") }
}

/// A text from outside: one line of bounded length.
fn bounded(text: &str) -> String {
    clean(text).chars().take(MAX_REASON).collect()
}

/// At most so many bytes, ending with a whole character.
fn cut(text: &str, limit: usize) -> String {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docker() -> DockerView {
        DockerView {
            connected: true,
            version: "20.10.24".to_owned(),
            api: "1.41".to_owned(),
            ..DockerView::starting(Instant::now())
        }
    }

    fn consul() -> ConsulView {
        ConsulView { reachable: true, synced: true, services: 1, ..ConsulView::starting(Instant::now()) }
    }

    fn face(docker: DockerView, consul: ConsulView) -> (watch::Sender<DockerView>, watch::Sender<ConsulView>, Face) {
        let (docker_loop, docker) = watch::channel(docker);
        let (consul_loop, consul) = watch::channel(consul);
        (docker_loop, consul_loop, Face::new(Arc::new(Metrics::new()), docker, consul))
    }

    #[test]
    fn all_is_well() {
        assert_eq!(
            summary(&docker(), &consul()),
            (Standing::Passing, "Docker 20.10.24 (API 1.41). What runs there is published.".to_owned())
        );
    }

    #[test]
    fn the_summary_is_the_same_at_every_tick_and_however_many_containers_there_are() {
        let later = Instant::now() + Duration::from_secs(3600);
        let before = summary(&docker(), &consul());
        let after = summary(
            &DockerView { last_tick: later, ..docker() },
            &ConsulView { last_tick: later, pending: 9, services: 2, ..consul() },
        );
        assert_eq!(before, after);
    }

    #[test]
    fn refused_services_are_a_warning_that_names_them() {
        let mut consul = consul();
        let failing = |n| Failing { id: format!("n:web-{n:02}:80"), reason: "no\nright".into() };
        consul.failing = (0..20).map(failing).collect();
        consul.failing_count = 60;
        let (status, output) = summary(&docker(), &consul);
        assert_eq!(status, Standing::Warning);
        assert!(output.contains("60 services refused by Consul:\nn:web-00:80: no right\n"), "{output}");
        assert!(output.ends_with("\nand 55 more"), "{output}");
    }

    #[test]
    fn a_docker_that_is_away_is_critical_with_its_reason() {
        let docker = DockerView { connected: false, trouble: Some("connection refused".into()), ..docker() };
        assert_eq!(
            summary(&docker, &consul()),
            (
                Standing::Critical,
                "Docker is not connected: connection refused. What is published is as it was last seen.".to_owned()
            )
        );
    }

    #[test]
    fn before_the_first_synchronisation_it_is_not_passing() {
        let consul = ConsulView { synced: false, ..consul() };
        assert_eq!(summary(&docker(), &consul).0, Standing::Warning);
    }

    #[test]
    fn an_output_is_bounded_and_ends_with_a_whole_character() {
        let docker = DockerView { trouble: Some("é".repeat(5000)), ..docker() };
        let (_, output) = summary(&docker, &consul());
        assert!(output.len() <= MAX_OUTPUT && output.len() > MAX_OUTPUT - 4, "{}", output.len());
    }

    #[test]
    fn ready_needs_docker_consul_and_a_first_synchronisation() {
        let not_ready = |docker, consul| face(docker, consul).2.ready().unwrap_err();
        let away = DockerView { connected: false, trouble: Some("no socket".into()), ..docker() };
        assert_eq!(not_ready(away, consul()), "Docker is not connected: no socket");
        let unread = ConsulView { reachable: false, ..consul() };
        assert_eq!(not_ready(docker(), unread), "nothing was read from Consul yet");
        let unsynced = ConsulView { synced: false, ..consul() };
        assert_eq!(not_ready(docker(), unsynced), "the first synchronisation is not done");
        assert_eq!(face(docker(), consul()).2.ready(), Ok(()));
    }

    #[test]
    fn every_reason_is_told_once_and_in_its_own_words() {
        let docker_trouble = "Docker cannot be reached at unix:///x: No such file or directory";
        let away = DockerView { connected: false, trouble: Some(docker_trouble.into()), ..docker() };
        let refused = "Consul refuses GET /v1/agent/services: Permission denied";
        let refused = ConsulView { reachable: false, synced: false, trouble: Some(refused.into()), ..consul() };
        assert_eq!(
            face(away.clone(), refused.clone()).2.ready().unwrap_err(),
            "Docker cannot be reached at unix:///x: No such file or directory; Consul refuses GET /v1/agent/services: \
             Permission denied; the first synchronisation is not done"
        );
        assert_eq!(
            summary(&away, &refused).1,
            "Docker cannot be reached at unix:///x: No such file or directory. Consul refuses GET /v1/agent/services: \
             Permission denied. The first synchronisation is not done."
        );
    }

    #[test]
    fn healthy_needs_both_loops_to_have_worked_within_a_minute() {
        let (docker_loop, _consul_loop, face) = face(docker(), consul());
        let now = Instant::now();
        assert_eq!(face.healthy(now + Duration::from_secs(59)), Ok(()));
        assert_eq!(
            face.healthy(now + Duration::from_secs(62)).unwrap_err().split(" for ").next(),
            Some("the Docker loop has not worked")
        );
        docker_loop.send_modify(|view| view.last_tick = now + Duration::from_secs(60));
        assert!(face.healthy(now + Duration::from_secs(62)).unwrap_err().starts_with("the Consul loop has not worked"));
        drop(docker_loop);
        assert_eq!(face.healthy(now).unwrap_err(), "the Docker loop has ended");
    }
}
