//! The checks that keys ask for. Their host is always the instance's own address: a label must not make Consul's agent
//! send requests to somebody else.

use std::sync::Arc;
use std::time::Duration;

use arcstr::ArcStr;

use super::address::Place;
use super::keys;
use super::metadata::{Entry, Metadata};
use super::notes::Notes;
use super::ports::Ways;
use super::probes;
use super::values::{FOREVER, boolean, duration, head, one_line, quoted};
use crate::config::Publish;
use crate::consul::{Check, CheckKind, CheckTls, Probe, Status};
use crate::docker::{ContainerId, Port, Protocol};

/// At most so many checks per service besides the one of Docker: each is a probe that Consul's agent runs.
pub(super) const MOST: usize = 16;

/// Longest notes, in bytes.
const LONGEST_NOTES: usize = 1024;

/// registrator's interval.
const INTERVAL: Duration = Duration::from_secs(10);

/// Consul raises shorter intervals to this.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Consul raises shorter times to this.
const SHORTEST_DEREGISTER_AFTER: Duration = Duration::from_secs(60);

/// The service whose checks are read.
pub(super) struct Subject<'a> {
    /// Its id.
    pub service_id: &'a str,
    /// Its port inside the container.
    pub port: Option<Port>,
    /// Where it is reached.
    pub place: &'a Place,
    /// The container.
    pub container: &'a ContainerId,
    /// The keys.
    pub metadata: &'a Metadata<'a>,
    /// How its other ports are reached.
    pub ways: &'a Ways<'a>,
    /// The operator's settings.
    pub publish: &'a Publish,
}

/// The status that a check, or a container whose health is not known yet, begins with; `None`: not set.
pub(super) fn initial_status(metadata: &Metadata<'_>, port: Option<Port>, notes: &mut Notes) -> Option<Status> {
    read_status(&metadata.get("check_initial_status", port)?, notes)
}

fn read_status(entry: &Entry<'_>, notes: &mut Notes) -> Option<Status> {
    let status = Status::parse(entry.value);
    if status.is_none() {
        let expected = "expected passing, warning or critical";
        notes.warn(entry.key, format!("{} is not understood and left out: {expected}", quoted(entry.value)));
    }
    status
}

/// The checks of a service besides that of Docker, and which keys asked for them.
pub(super) fn checks(subject: &Subject<'_>, notes: &mut Notes) -> (Vec<Check>, Vec<String>) {
    let mut checks = Vec::new();
    let mut reasons = Vec::new();
    for (name, ways) in subject.metadata.checks(subject.port) {
        let mut ways = ways.into_iter();
        let Some((method, entry)) = ways.next() else { continue };
        for (_, other) in ways {
            notes.warn(other.key, format!("is left out: check {} is a {method} check already", quoted(name)));
        }
        if checks.len() >= MOST {
            notes.warn(entry.key, format!("is left out: a service has at most {MOST} checks"));
            continue;
        }
        let mut one = One { subject, name, method, entry, notes };
        if let Some(check) = one.read() {
            reasons.push(entry.to_string());
            checks.push(check);
        }
    }
    (checks, reasons)
}

/// One check on its way from keys to a definition.
struct One<'a, 's> {
    subject: &'a Subject<'s>,
    name: &'a str,
    method: &'static str,
    entry: Entry<'s>,
    notes: &'a mut Notes,
}

impl<'s> One<'_, 's> {
    fn read(&mut self) -> Option<Check> {
        let kind = match self.method {
            "http" | "https" => self.http()?,
            "tcp" => self.tcp()?,
            "grpc" => self.grpc()?,
            "ttl" => CheckKind::Ttl { ttl: self.ttl()? },
            _ => self.script()?,
        };
        let title = self.title(&kind);
        let is_active = !matches!(kind, CheckKind::Ttl { .. });
        Some(Check {
            id: self.id().into(),
            name: head(&one_line(&title), 255).into(),
            notes: self.notes_text(&kind).into(),
            status: self
                .setting("initial_status")
                .and_then(|entry| read_status(&entry, self.notes))
                .unwrap_or(Status::Critical),
            output: ArcStr::new(),
            deregister_after: self.deregister_after(),
            success_before_passing: if is_active { self.number("success_before_passing") } else { 0 },
            failures_before_critical: if is_active { self.number("failures_before_critical") } else { 0 },
            kind: Arc::new(kind),
        })
    }

    /// Each different from every other of the service: names differ, and no name is `docker`, `exec` or `ttl` but by its
    /// method.
    fn id(&self) -> String {
        let service_id = self.subject.service_id;
        match self.name {
            // A service reports under the id that Consul gave registrator's check, and knows no other.
            "ttl" => format!("service:{service_id}"),
            // `:docker` is the id of the check that Docker feeds.
            "docker" => format!("{service_id}:{}", keys::DOCKER_METHOD),
            name => format!("{service_id}:{name}"),
        }
    }

    /// A setting: this check's own before the one for all checks. An empty one of its own takes the one for all away.
    fn setting(&self, setting: &str) -> Option<Entry<'s>> {
        let find = |option: &str| self.subject.metadata.most_specific(option, self.subject.port);
        let (name, method) = (self.name, self.method);
        find(&format!("check_{name}_{setting}"))
            .or_else(|| find(&format!("check_{name}_{method}_{setting}")))
            .or_else(|| find(&format!("check_{setting}")))
            .filter(|entry| !entry.is_empty())
    }

    fn http(&mut self) -> Option<CheckKind> {
        let path = match probes::path(self.entry.value) {
            Ok(path) => path,
            Err(wrong) => return self.refuse(wrong),
        };
        let scheme = self.method;
        let address = self.address()?;
        let method = self.setting("method").and_then(|entry| probes::method(&entry, self.notes));
        let headers = self.setting("header").map(|entry| probes::headers(&entry, self.notes)).unwrap_or_default();
        let body = self.setting("body").and_then(|entry| probes::body(&entry, self.notes));
        let tls = if scheme == "https" { self.tls() } else { CheckTls::default() };
        Some(CheckKind::Http {
            url: format!("{scheme}://{address}{path}"),
            method,
            headers,
            body,
            probe: self.probe(),
            tls,
        })
    }

    fn tcp(&mut self) -> Option<CheckKind> {
        if !self.yes(self.entry)? {
            return None;
        }
        Some(CheckKind::Tcp { address: self.address()?, probe: self.probe() })
    }

    fn grpc(&mut self) -> Option<CheckKind> {
        let target = match boolean(self.entry.value, false) {
            Some(yes) if !yes && !self.subject.publish.loose_booleans => return None,
            Some(_) => self.address()?,
            None => match probes::grpc_service(self.entry.value) {
                Ok(service) => format!("{}/{service}", self.address()?),
                Err(wrong) => return self.refuse(wrong),
            },
        };
        let use_tls = self.setting("use_tls").and_then(|entry| self.yes(entry)).unwrap_or(false);
        let tls = if use_tls { self.tls() } else { CheckTls::default() };
        Some(CheckKind::Grpc { target, use_tls, probe: self.probe(), tls })
    }

    fn ttl(&mut self) -> Option<Duration> {
        match duration(self.entry.value).filter(|ttl| *ttl >= SHORTEST_INTERVAL) {
            Some(ttl) => Some(ttl),
            None => self.refuse("expected a duration of at least 1s, such as 30s"),
        }
    }

    fn script(&mut self) -> Option<CheckKind> {
        if !self.subject.publish.allow_script_checks {
            return self.refuse("it would run a program on the Consul host; the operator can allow that with REMORA_ALLOW_SCRIPT_CHECKS");
        }
        let spot = &self.subject.place.spot;
        let args = match probes::arguments(self.entry.value, &spot.address, self.subject.place.port) {
            Ok(args) => args,
            Err(wrong) => return self.refuse(wrong),
        };
        if probes::has_shell_syntax(self.entry.value) {
            let text = "no shell is run: |, &&, ;, > and the like are passed to the program as they are; where a shell is \
                        meant, write sh -c '…'";
            self.notes.warn(self.entry.key, text);
        }
        let (args, container, shell) = match self.method {
            "docker" => {
                let shell = self.setting("shell").map(|entry| one_line(head(entry.value, 255)));
                (args, Some(self.subject.container.as_str().to_owned()), shell)
            }
            // As registrator writes it: a program of the progrium/consul image.
            "cmd" => {
                let port = self.subject.port.map_or(0, |port| port.number);
                let program = ["check-cmd".to_owned(), self.subject.container.short().to_owned(), port.to_string()];
                (program.into_iter().chain(args).collect(), None, None)
            }
            _ => (args, None, None),
        };
        Some(CheckKind::Script { args, container, shell, probe: self.probe() })
    }

    /// Says why the whole check is left out. Its value is not shown: a script may hold a secret.
    fn refuse<T>(&mut self, why: &str) -> Option<T> {
        self.notes.warn(self.entry.key, format!("the check is left out: {why}"));
        None
    }

    /// Where the check knocks: the instance's address, with its port or another one of the same container.
    fn address(&mut self) -> Option<String> {
        let place = self.subject.place;
        let port = match self.setting("port") {
            None if place.port == 0 => {
                return self.refuse("the service has no port; say which with SERVICE_CHECK_PORT");
            }
            None => place.port,
            Some(entry) => match entry.value.trim().parse().ok().filter(|&number| number != 0) {
                None => {
                    let text = format!(
                        "{} is not understood: expected a port of the container, 1 to 65535",
                        quoted(entry.value)
                    );
                    self.notes.warn(entry.key, text);
                    return self.refuse("its port is not understood");
                }
                Some(number) => match self.subject.ways.beside(place, number) {
                    Some(port) => port,
                    None => return self.refuse(&format!("port {number} is not reached at {}", place.spot.address)),
                },
            },
        };
        if let Some(other) = self.subject.port.filter(|port| port.protocol != Protocol::Tcp) {
            let text = format!("knocks with TCP, also for {other}: name the port in the key if that is not meant");
            self.notes.tell(self.entry.key, text);
        }
        Some(place.spot.address.with_port(port))
    }

    fn tls(&mut self) -> CheckTls {
        let skip_verify = self.setting("tls_skip_verify").and_then(|entry| self.yes(entry)).unwrap_or(false);
        let server_name = self.setting("tls_server_name").and_then(|entry| probes::server_name(&entry, self.notes));
        CheckTls { server_name, skip_verify }
    }

    fn probe(&mut self) -> Probe {
        let interval = self.time("interval").unwrap_or(INTERVAL).max(SHORTEST_INTERVAL);
        Probe { interval, timeout: self.time("timeout") }
    }

    fn deregister_after(&mut self) -> Option<Duration> {
        Some(self.time("deregister_after")?.max(SHORTEST_DEREGISTER_AFTER))
    }

    /// A duration that is not zero.
    fn time(&mut self, setting: &str) -> Option<Duration> {
        let entry = self.setting(setting)?;
        let time = duration(entry.value).filter(|time| !time.is_zero()).map(|time| time.min(FOREVER));
        if time.is_none() {
            let text = format!(
                "{} is not understood and left out: expected a duration such as 15s or 1m30s",
                quoted(entry.value)
            );
            self.notes.warn(entry.key, text);
        }
        time
    }

    fn number(&mut self, setting: &str) -> u32 {
        /// Consul counts probes; beyond this a check would take weeks to change its mind.
        const MOST: u32 = 1000;
        let Some(entry) = self.setting(setting) else { return 0 };
        entry.value.trim().parse::<u32>().ok().filter(|number| *number <= MOST).unwrap_or_else(|| {
            let text = format!("{} is not understood and left out: expected 0 to {MOST}", quoted(entry.value));
            self.notes.warn(entry.key, text);
            0
        })
    }

    /// A boolean; `None` (told) if it is none.
    fn yes(&mut self, entry: Entry<'_>) -> Option<bool> {
        let word = boolean(entry.value, self.subject.publish.loose_booleans);
        if word.is_none() {
            self.notes.warn(entry.key, format!("{} is left out: expected true or false", quoted(entry.value)));
        }
        word
    }

    fn title(&self, kind: &CheckKind) -> String {
        let what = match kind {
            CheckKind::Ttl { .. } => "TTL: the service reports itself".to_owned(),
            CheckKind::Http { url, method, .. } => {
                let method = method.as_deref().unwrap_or("GET");
                // A query may hold what belongs in no title.
                let url = url.split(['?', '#']).next().unwrap_or_default();
                format!("{method} {url}")
            }
            CheckKind::Tcp { address, .. } => format!("TCP {address}"),
            CheckKind::Grpc { target, .. } => format!("gRPC {target}"),
            CheckKind::Script { .. } => "script".to_owned(),
        };
        if self.name == self.method { what } else { format!("{}: {what}", self.name) }
    }

    fn notes_text(&self, kind: &CheckKind) -> String {
        if let Some(entry) = self.setting("notes") {
            return head(&one_line(entry.value), LONGEST_NOTES).to_owned();
        }
        let rhythm = match kind {
            CheckKind::Ttl { ttl } => format!("critical without a report for {}", humantime::format_duration(*ttl)),
            CheckKind::Http { probe, .. }
            | CheckKind::Tcp { probe, .. }
            | CheckKind::Grpc { probe, .. }
            | CheckKind::Script { probe, .. } => format!("every {}", humantime::format_duration(probe.interval)),
        };
        head(&format!("Asked for by {}; {rhythm}.", self.entry), LONGEST_NOTES).to_owned()
    }
}
