//! Stands between one agent and the engine, counts the calls that change something, and stops the agent at one of them.
//!
//! Unlike `support::proxy` it knows where a request ends, so that it can say "Docker has all of it, and nobody has heard the
//! answer", and it holds the agent there until the test has killed it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// At which call the agent comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// At none.
    Never,
    /// Docker has the whole request of this number (from 1) and works on it; the answer never comes.
    During(usize),
    /// The answer to it has come; nothing that is asked afterwards gets through.
    After(usize),
}

/// What all connections of a tap share.
struct Shared {
    cut: Cut,
    /// First lines of the requests that change something.
    calls: Mutex<Vec<String>>,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    calls: usize,
    /// The cut is reached: nothing passes any more.
    closed: bool,
}

/// See the module's header. Closed with the value.
pub struct Tap {
    path: PathBuf,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Tap {
    /// A tap in front of this engine.
    pub fn start(engine: &Path, cut: Cut) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Shared { cut, calls: Mutex::default(), progress: watch::Sender::default() });
        let task = tokio::spawn(serve(listener, engine.to_owned(), Arc::clone(&shared)));
        Self { path, shared, task, _folder: folder }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The calls so far that changed something.
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Waits for the first call that changes something.
    pub async fn begun(&self, within: Duration) {
        self.wait("the agent begins", within, |progress| progress.calls > 0).await;
    }

    /// Waits until the agent stands where it is to be killed.
    pub async fn reached(&self, within: Duration) {
        self.wait("the agent comes to its end", within, |progress| progress.closed).await;
    }

    async fn wait(&self, what: &str, within: Duration, good: impl FnMut(&Progress) -> bool) {
        let mut progress = self.shared.progress.subscribe();
        let waited = tokio::time::timeout(within, progress.wait_for(good)).await.is_ok();
        assert!(waited, "{what}: not within {within:?} at {:?}; calls: {:#?}", self.shared.cut, self.calls());
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// A request begins; its number if it changes something.
    fn request(&self, head: &str) -> Option<usize> {
        let line = head.lines().next().unwrap_or_default();
        // At its start the agent asks what it may do, about a container that does not exist.
        if line.starts_with("GET ") || line.starts_with("HEAD ") || line.contains(&"0".repeat(64)) {
            return None;
        }
        let mut calls = self.calls.lock().unwrap();
        calls.push(line.trim_end_matches(" HTTP/1.1").to_owned());
        let number = calls.len();
        self.progress.send_modify(|progress| progress.calls = number);
        Some(number)
    }

    fn close(&self) {
        self.progress.send_modify(|progress| progress.closed = true);
    }

    fn is_closed(&self) -> bool {
        self.progress.borrow().closed
    }
}

async fn serve(listener: UnixListener, engine: PathBuf, shared: Arc<Shared>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let client = listener.accept().await.unwrap().0;
        let (engine, shared) = (engine.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let Ok(server) = UnixStream::connect(&engine).await else { return };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            // The number of the request that is being answered, if it changes something.
            let current = Mutex::new(None);
            tokio::select! {
                // Whoever hangs up first ends the connection: a killed agent's calls are cut off on Docker's side, too.
                () = requests(from_client, to_server, &shared, &current) => {}
                () = answers(from_server, to_client, &shared, &current) => {}
            }
        });
    }
}

/// One request after the other, each as a whole. (Nothing that the agent asks takes over its connection.)
async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    current: &Mutex<Option<usize>>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some((head, length)) = whole_request(&buffer) else {
            match client.read_buf(&mut buffer).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        if shared.is_closed() {
            // Until the agent is killed, and its end of the connection is closed.
            while matches!(client.read_buf(&mut buffer).await, Ok(1..)) {}
            return;
        }
        let number = shared.request(&head);
        *current.lock().unwrap() = number;
        let request: Vec<u8> = buffer.drain(..length).collect();
        if server.write_all(&request).await.is_err() {
            return;
        }
        if let (Some(number), Cut::During(last)) = (number, shared.cut)
            && number == last
        {
            shared.close();
        }
    }
}

async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    current: &Mutex<Option<usize>>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = server.read(&mut buffer).await {
        let number = *current.lock().unwrap();
        let is_last = number.is_some_and(|number| shared.cut == Cut::After(number));
        if is_last {
            // Before the answer: what the agent asks next is already too late.
            shared.close();
        } else if shared.is_closed() {
            std::future::pending::<()>().await;
        }
        if client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// The head and the length of the request at the beginning of these bytes, once all of it is there.
fn whole_request(bytes: &[u8]) -> Option<(String, usize)> {
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |wanted: &str| {
        let pairs = head.lines().filter_map(|line| line.split_once(':'));
        pairs.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned()).next()
    };
    assert!(header("transfer-encoding").is_none(), "a request in chunks: {head}");
    let length = end + header("content-length").map_or(0, |text| text.parse().unwrap());
    (bytes.len() >= length).then_some((head, length))
}
