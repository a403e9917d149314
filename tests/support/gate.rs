//! Stands between Remora and the engine (unix socket) or Consul (TCP), and understands HTTP: lets single requests wait, answers them
//! itself, and counts them. What only cuts or delays bytes is in `proxy`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

/// What becomes of a request.
pub enum Act {
    Pass,
    /// It is passed on after so long.
    After(Duration),
    /// It is not passed on: this status is the answer, as of a server that has no time (`Retry-After: 5`).
    Answer(u16),
}

type Rule = Box<dyn Fn(&str) -> Act + Send>;

/// A gate that stands until it is dropped.
pub struct Gate {
    address: Address,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
    /// Keeps the folder of the unix socket.
    _folder: Option<tempfile::TempDir>,
}

struct Shared {
    rule: Mutex<Rule>,
    requests: AtomicUsize,
}

#[derive(Clone)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Gate {
    /// In front of a unix socket, on a unix socket.
    pub fn unix(target: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self::start(Address::Unix(path), Address::Unix(target.to_owned()), Listener::Unix(listener), Some(folder))
    }

    /// In front of a TCP address, on a free port of this other one.
    pub async fn tcp(own: std::net::IpAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind((own, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        Self::start(address, Address::Tcp(target), Listener::Tcp(listener), None)
    }

    /// Where it is, as `DOCKER_HOST` or `CONSUL_HTTP_ADDR`.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix://{}", path.display()),
            Address::Tcp(address) => format!("http://{address}"),
        }
    }

    /// From now on this decides, by the first line of the request (`GET /v1/agent/services?…`).
    pub fn rule(&self, rule: impl Fn(&str) -> Act + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// How many requests have come so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    fn start(address: Address, target: Address, listener: Listener, folder: Option<tempfile::TempDir>) -> Self {
        let shared = Arc::new(Shared { rule: Mutex::new(Box::new(|_| Act::Pass)), requests: AtomicUsize::new(0) });
        let inner = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            // Ends with this task, and all connections with it.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    client = listener.accept() => drop(connections.spawn(connection(client, target.clone(), Arc::clone(&inner)))),
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self { address, shared, task, _folder: folder }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> Box<dyn Stream> {
        match self {
            Self::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
            Self::Tcp(listener) => {
                let stream = listener.accept().await.unwrap().0;
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
        }
    }
}

impl Address {
    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }
}

/// A connection of a client is one to the server; where that one cannot be had the client's is closed.
async fn connection(client: Box<dyn Stream>, target: Address, shared: Arc<Shared>) {
    let Ok(server) = target.connect().await else { return };
    let Ok((sender, passing)) = hyper::client::conn::http1::handshake(TokioIo::new(server)).await else { return };
    let sender = Arc::new(tokio::sync::Mutex::new(sender));
    let service = service_fn(|request: Request<Incoming>| {
        let (sender, shared) = (Arc::clone(&sender), Arc::clone(&shared));
        async move {
            shared.requests.fetch_add(1, Ordering::Relaxed);
            let act = (shared.rule.lock().unwrap())(&format!("{} {}", request.method(), request.uri()));
            match act {
                Act::Pass => {}
                Act::After(delay) => tokio::time::sleep(delay).await,
                Act::Answer(status) => return Ok(refusal(status)),
            }
            let answer = sender.lock().await.send_request(request).await?;
            Ok::<_, hyper::Error>(answer.map(BodyExt::boxed))
        }
    });
    let mut serving = pin!(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service));
    let mut passing = pin!(passing);
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = passing.as_mut() => {}
    }
    // The server has closed it: so is the client's, when it has got what is on its way.
    serving.as_mut().graceful_shutdown();
    drop(serving.await);
}

fn refusal(status: u16) -> Response<BoxBody<Bytes, hyper::Error>> {
    let body = Full::new(Bytes::from_static(b"not now")).map_err(|never| match never {}).boxed();
    Response::builder().status(status).header("Retry-After", "5").body(body).unwrap()
}
