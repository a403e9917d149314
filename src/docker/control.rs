//! The second narrow door to a Docker Engine: what changes something, and what has to be known for that. Only the
//! health-watcher holds it. The real engine and the fake of the tests pass the same conformance suite.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde_json::Value;

use super::container::{Container, ContainerId, Lens};
use super::inspect;
use super::port::DockerError;

/// Added to the time that a container may take to end: the engine answers when all of it is over, after SIGKILL, the end
/// of the process, and its networks.
pub const STOP_SLACK: Duration = Duration::from_secs(30);

/// Create, start, connect and remove touch disks, networks and volume drivers.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What healing does to containers, and what it has to know for that. Whoever calls and does not get an answer has to look
/// ([`Trouble::Unknown`]): the engine finishes what it has begun, whether or not anybody waits for it. Every call has a
/// time-out: that of a look is [`super::http::CALL_TIMEOUT`], that of a change [`CHANGE_TIMEOUT`], unless it says otherwise.
///
/// Where an id is asked for, a name does too, as for the engine; an id is what cannot be somebody else's tomorrow.
pub trait Control: Send + Sync + 'static {
    /// A container as the engine describes it, all of it. `GET /containers/{id}/json`.
    /// [`DockerError::NotFound`] when there is none.
    fn document(&self, id: &str) -> impl Future<Output = Result<Document, DockerError>> + Send;

    /// An image by its reference or id; `None` when the engine says that it has none. `GET /images/{reference}/json`.
    fn image(&self, reference: &str) -> impl Future<Output = Result<Option<Document>, DockerError>> + Send;

    /// A network by its name or id; `None` when the engine says that it has none. `GET /networks/{name}`.
    fn network(&self, name: &str) -> impl Future<Output = Result<Option<Document>, DockerError>> + Send;

    /// Whether there is a volume of this name. `GET /volumes/{name}`.
    fn volume_exists(&self, name: &str) -> impl Future<Output = Result<bool, DockerError>> + Send;

    /// Makes a container of this body, without starting it. `platform` is `os[/arch[/variant]]`; the engine's own when
    /// `None`. `POST /containers/create`. The name that is taken is [`Trouble::NameTaken`]; [`Trouble::Gone`] speaks of
    /// another container that the body names.
    fn create(
        &self,
        name: &str,
        body: &Value,
        platform: Option<&str>,
    ) -> impl Future<Output = Result<ContainerId, DockerError>> + Send;

    /// Connects a container to one more network; the body is the engine's (`Container`, `EndpointConfig`).
    /// `POST /networks/{network}/connect`. Of a container that does not run the engine believes every network, also one that
    /// is not there: its start then says [`Trouble::NetworkMissing`].
    fn connect(&self, network: &str, body: &Value) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Starts it; done already is done. `POST /containers/{id}/start`. A start that fails leaves no `die` event, and its
    /// reason in [`super::Life::error`].
    fn start(&self, id: &str) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Sends its stop signal, and SIGKILL after `timeout` (rounded up to whole seconds); done already is done. Answers when
    /// it has ended; time-out: `timeout` and [`STOP_SLACK`]. Its restart policy is off until its next start.
    /// `POST /containers/{id}/stop`.
    fn stop(&self, id: &str, timeout: Duration) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Stops it as [`Control::stop`] does, if it runs, and starts it. Time-out: `timeout`, [`STOP_SLACK`] and
    /// [`CHANGE_TIMEOUT`]. `POST /containers/{id}/restart`.
    fn restart(&self, id: &str, timeout: Duration) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Gives it another name. `POST /containers/{id}/rename`. The engine refuses the name that it has already
    /// ([`Trouble::Invalid`]), and any while the restart policy waits to start it again ([`Trouble::Busy`]).
    fn rename(&self, id: &str, new_name: &str) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Gives it another restart policy: `{"Name": …, "MaximumRetryCount": …}`. `POST /containers/{id}/update`.
    fn set_restart_policy(&self, id: &str, policy: &Value) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// Removes it, never its volumes; done already is done, and a removal under way is waited for (at most
    /// [`CHANGE_TIMEOUT`], again). Without `force` one that runs is [`Trouble::Busy`]. `DELETE /containers/{id}`.
    fn remove(&self, id: &str, force: bool) -> impl Future<Output = Result<(), DockerError>> + Send;

    /// The last lines of its log, at most 64 KiB of their end, control characters removed. `GET /containers/{id}/logs`. Not
    /// every log driver can be read.
    fn logs(&self, id: &str, lines: usize) -> impl Future<Output = Result<String, DockerError>> + Send;

    /// Whether anything was written to its own layer, which a replacement loses. `GET /containers/{id}/changes`.
    fn changes_exist(&self, id: &str) -> impl Future<Output = Result<bool, DockerError>> + Send;

    /// Every container with this label (`key` or `key=value`), stopped ones included. `GET /containers/json`.
    fn labelled(&self, label: &str) -> impl Future<Output = Result<Vec<ContainerId>, DockerError>> + Send;

    /// Runs a command in it and waits for its exit code. `POST /containers/{id}/exec`, `POST /exec/{exec}/start`,
    /// `GET /exec/{exec}/json`. [`DockerError::TimedOut`] when it still runs after `timeout`; it goes on then: the engine
    /// knows no way to end it.
    fn exec(
        &self,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> impl Future<Output = Result<i64, DockerError>> + Send;
}

/// A whole document of the engine, as it is. It holds secrets: nothing ever prints it.
#[derive(Clone, PartialEq)]
pub struct Document(Value);

impl Document {
    /// Takes what the engine said.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self(value)
    }

    /// All of it.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The full id; empty if it has none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text("Id")
    }

    /// The name without its leading slash; empty if it has none (images).
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("Name").trim_start_matches('/')
    }

    /// What is at this place (`/State/StartedAt`); null if nothing is.
    #[must_use]
    pub fn at(&self, place: &str) -> &Value {
        self.0.pointer(place).unwrap_or(&Value::Null)
    }

    /// The value of a container's label; empty if it does not have it.
    #[must_use]
    pub fn label(&self, key: &str) -> &str {
        self.at("/Config/Labels").get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The snapshot that an inspect would have given, when this is a container's.
    pub fn container(&self, lens: &Lens) -> Result<Container, DockerError> {
        inspect::read(self.0.to_string().as_bytes(), lens)
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({} {})", self.name(), self.id())
    }
}

/// What an error of a change means to whoever wanted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such container (any more).
    Gone,
    /// Another container has the name; its id, when the engine's words tell it.
    NameTaken(Option<ContainerId>),
    /// Somebody has the port of the host. Passes when whoever has it goes.
    PortTaken,
    /// Another container has the fixed address in the network. Passes when that one goes.
    AddressTaken,
    /// There is no such image here.
    ImageMissing,
    /// What is to be mounted is not there.
    MountMissing,
    /// There is no such network (any more).
    NetworkMissing,
    /// It will be refused again: the request, or what it is about, is at fault.
    Invalid,
    /// Something is in the way that passes: a removal in progress, the restart policy's wait, a container that runs (or does
    /// not) and should not (or should).
    Busy,
    /// Nobody knows whether it was done: look.
    Unknown,
    /// The engine has trouble of its own, and this was not done, or not all of it: look, and try again later.
    Unwell,
}

/// Reads an error of a change. The engine's status codes are not enough: a port that is taken is a 500, an address a 403, a
/// name a 409 as is a removal under way, and a restart policy's wait a 404.
#[must_use]
pub fn classify(error: &DockerError) -> Trouble {
    let (status, message) = match error {
        DockerError::NotFound(_) => return Trouble::Gone,
        // An answer that cannot be read is an answer: to something that may have been done.
        DockerError::Unreachable { .. } | DockerError::TimedOut { .. } | DockerError::Unreadable { .. } => {
            return Trouble::Unknown;
        }
        DockerError::Refused { status, message, .. } => (*status, message.as_str()),
    };
    let words = message.to_lowercase();
    let says = |what: &[&str]| what.iter().any(|what| words.contains(what));
    if says(&["no such container"]) {
        return Trouble::Gone;
    }
    if status == 409 && says(&["is already in use by container"]) {
        return Trouble::NameTaken(holder(message));
    }
    // The whole phrases of a mapped port first: `bind: address already in use` holds the words of a taken address.
    if says(&[
        "port is already allocated",
        "bind: address already in use",
        "failed to bind host port",
        "ports are not available",
    ]) {
        return Trouble::PortTaken;
    }
    if says(&["address already in use"]) {
        return Trouble::AddressTaken;
    }
    if says(&["no such image"]) {
        return Trouble::ImageMissing;
    }
    if says(&["bind source path does not exist", "no such volume", "error while mounting volume"]) {
        return Trouble::MountMissing;
    }
    // Newer engines say first what they were about: `failed to set up container networking: network web not found`.
    let last = words.rsplit(": ").next().unwrap_or_default();
    if status == 404 && last.starts_with("network ") && last.ends_with("not found") {
        return Trouble::NetworkMissing;
    }
    match status {
        // Of the sandbox: its restart policy waits.
        404 if words.starts_with("sandbox ") => Trouble::Busy,
        409 if says(&["restart policy cannot be updated"]) => Trouble::Invalid,
        409 | 423 => Trouble::Busy,
        408 | 429 | 500.. => Trouble::Unwell,
        _ => Trouble::Invalid,
    }
}

/// The id in `… is already in use by container "<id>". …`; some engines write it without the quotes.
fn holder(message: &str) -> Option<ContainerId> {
    let (_, rest) = message.split_once("by container ")?;
    let id: String = rest.trim_start_matches('"').chars().take_while(char::is_ascii_hexdigit).collect();
    (id.len() == 64).then(|| ContainerId::new(id))
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
