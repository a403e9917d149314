//! Stands between Remora and the engine (unix socket) or Consul (TCP), and fails on command.
//!
//! It forwards bytes; it understands HTTP only so far that it can note the first line of every request.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: Address,
    state: watch::Sender<State>,
    noted: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
    /// Keeps the folder of the unix socket.
    _folder: Option<tempfile::TempDir>,
}

#[derive(Clone)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// What happens to the connections; they are numbered in the order in which they came.
#[derive(Clone, Default)]
struct State {
    /// Nobody is let in.
    refused: bool,
    /// Everybody is let in, nothing is forwarded.
    frozen: bool,
    /// Connections with a smaller number are closed.
    cut_below: u64,
    /// Connections with a smaller number stay open and are silent for ever.
    stranded_below: u64,
    /// Each chunk waits for so long.
    delay: Duration,
    /// Number of the next connection.
    next: u64,
}

impl Proxy {
    /// In front of a unix socket, on a unix socket.
    pub async fn unix(target: &Path) -> Self {
        // In the system's own folder: a unix socket's path has room for 107 bytes.
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("docker.sock"));
        Self::start(address, Address::Unix(target.to_owned()), Some(folder)).await
    }

    /// In front of a TCP port of the loopback interface, on another one.
    pub async fn tcp(target_port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, super::free_port()));
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, target_port));
        Self::start(Address::Tcp(address), Address::Tcp(target), None).await
    }

    /// The unix socket.
    pub fn path(&self) -> &Path {
        match &self.address {
            Address::Unix(path) => path,
            Address::Tcp(_) => panic!("this proxy listens on TCP"),
        }
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        match &self.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => panic!("this proxy listens on a unix socket"),
        }
    }

    /// Closes every connection that is open now; new ones are welcome.
    pub async fn cut_all(&self) {
        self.state.send_modify(|state| state.cut_below = state.next);
        // The connections are closed when their tasks run, and the other side must hear of it.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Closes every connection and lets nobody in (the socket file is gone, the port refuses), or ends that.
    pub async fn refuse(&self, refused: bool) {
        self.state.send_modify(|state| {
            state.refused = refused;
            state.cut_below = state.next;
        });
        // The listener goes or comes when its task runs.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Half-open: connections stay, new ones are accepted, nothing passes; what came in meanwhile passes at the end.
    pub fn freeze(&self, frozen: bool) {
        self.state.send_modify(|state| state.frozen = frozen);
    }

    /// Every connection that is open now stays open and never carries a byte again; new ones work.
    pub fn strand(&self) {
        self.state.send_modify(|state| state.stranded_below = state.next);
    }

    /// Every chunk of bytes, in both directions, is held for so long.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// How many connections have come so far.
    pub fn connections(&self) -> u64 {
        self.state.borrow().next
    }

    /// Takes the first lines (`PUT /v1/agent/service/register`) of the requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.noted.lock().unwrap())
    }

    /// The requests since the last call that write.
    pub fn writes(&self) -> Vec<String> {
        self.requests().into_iter().filter(|it| !it.starts_with("GET ") && !it.starts_with("HEAD ")).collect()
    }

    async fn start(address: Address, target: Address, folder: Option<tempfile::TempDir>) -> Self {
        let (state, observed) = watch::channel(State::default());
        let noted = Arc::<Mutex<Vec<String>>>::default();
        let listener = Listener::open(&address).await;
        let serving = serve(listener, address.clone(), target, state.clone(), observed, Arc::clone(&noted));
        Self { address, state, noted, task: tokio::spawn(serving), _folder: folder }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

impl Listener {
    async fn open(address: &Address) -> Self {
        match address {
            Address::Unix(path) => {
                drop(std::fs::remove_file(path));
                Self::Unix(UnixListener::bind(path).unwrap())
            }
            Address::Tcp(address) => Self::Tcp(TcpListener::bind(address).await.unwrap()),
        }
    }

    async fn accept(&self) -> (Reader, Writer) {
        match self {
            Self::Unix(listener) => split(listener.accept().await.unwrap().0.into_split()),
            Self::Tcp(listener) => {
                let stream = listener.accept().await.unwrap().0;
                stream.set_nodelay(true).unwrap();
                split(stream.into_split())
            }
        }
    }
}

impl Address {
    async fn connect(&self) -> std::io::Result<(Reader, Writer)> {
        Ok(match self {
            Self::Unix(path) => split(UnixStream::connect(path).await?.into_split()),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                split(stream.into_split())
            }
        })
    }
}

fn split(
    (reader, writer): (impl AsyncRead + Send + Unpin + 'static, impl AsyncWrite + Send + Unpin + 'static),
) -> (Reader, Writer) {
    (Box::new(reader), Box::new(writer))
}

async fn serve(
    listener: Listener,
    address: Address,
    target: Address,
    state: watch::Sender<State>,
    mut observed: watch::Receiver<State>,
    noted: Arc<Mutex<Vec<String>>>,
) {
    let mut listener = Some(listener);
    // Ends with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        if observed.borrow().refused {
            if let Address::Unix(path) = &address {
                drop(std::fs::remove_file(path));
            }
            listener = None;
            observed.wait_for(|state| !state.refused).await.unwrap();
        }
        let open = match &listener {
            Some(open) => open,
            None => listener.insert(Listener::open(&address).await),
        };
        tokio::select! {
            client = open.accept() => {
                let number = state.borrow().next;
                state.send_modify(|state| state.next += 1);
                connections.spawn(connection(client, target.clone(), number, state.subscribe(), Arc::clone(&noted)));
            }
            () = async { drop(observed.wait_for(|state| state.refused).await) } => {}
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(
    (from_client, to_client): (Reader, Writer),
    target: Address,
    number: u64,
    mut state: watch::Receiver<State>,
    noted: Arc<Mutex<Vec<String>>>,
) {
    let mut cut = state.clone();
    let forwarding = async {
        passable(&mut state, number).await;
        let Ok((from_server, to_server)) = target.connect().await else { return };
        // True when the next bytes of the client begin a request: HTTP/1.1 clients wait for the answer of the last one.
        let fresh = Mutex::new(true);
        let request = pump(from_client, to_server, state.clone(), number, |bytes| {
            if std::mem::replace(&mut *fresh.lock().unwrap(), false) {
                let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
                let text = String::from_utf8_lossy(line);
                noted.lock().unwrap().push(text.trim_end_matches(" HTTP/1.1").to_owned());
            }
        });
        let answer = pump(from_server, to_client, state.clone(), number, |_| *fresh.lock().unwrap() = true);
        tokio::join!(request, answer);
    };
    tokio::select! {
        () = forwarding => {}
        _ = cut.wait_for(|state| state.cut_below > number) => {}
    }
}

/// Waits while the connection may not carry anything; for ever if it is stranded.
async fn passable(state: &mut watch::Receiver<State>, number: u64) {
    // An error means that the proxy is being dropped, and this task with it.
    drop(state.wait_for(|state| !state.frozen && state.stranded_below <= number).await);
}

async fn pump(
    mut reader: Reader,
    mut writer: Writer,
    mut state: watch::Receiver<State>,
    number: u64,
    mut seen: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        passable(&mut state, number).await;
        let delay = state.borrow().delay;
        tokio::time::sleep(delay).await;
        seen(&buffer[..length]);
        if writer.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    passable(&mut state, number).await;
    drop(writer.shutdown().await);
}
