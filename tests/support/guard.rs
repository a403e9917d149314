//! A filtering proxy in front of the engine's socket: lets through what its rules name, answers 403 to everything else as such
//! proxies do, and notes both. And the rules that `docs/security.md` names.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// A call that may pass: `GET /containers/{id}/json`. `{…}` stands for one part of a path, `{reference}` for several.
#[derive(Debug, Clone)]
pub struct Rule {
    /// As it is written.
    pub text: String,
    method: String,
    path: regex_lite::Regex,
}

impl Rule {
    /// Reads one.
    pub fn new(text: &str) -> Self {
        let (method, path) = text.split_once(' ').unwrap_or_else(|| panic!("{text}: a method and a path are expected"));
        let parts = path.split('/').map(|part| match part {
            "{reference}" => ".+".to_owned(),
            part if part.starts_with('{') && part.ends_with('}') => "[^/]+".to_owned(),
            part => regex_lite::escape(part),
        });
        let pattern = format!("^{}$", parts.collect::<Vec<_>>().join("/"));
        Self { text: text.to_owned(), method: method.to_owned(), path: regex_lite::Regex::new(&pattern).unwrap() }
    }

    fn covers(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path.is_match(path)
    }
}

/// The calls of one of the tables of `docs/security.md`.
pub fn documented(tier: &str) -> Vec<Rule> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let (begin, end) = (format!("<!-- table: {tier} -->"), format!("<!-- end: {tier} -->"));
    let table = page.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).expect("the table").0;
    let calls = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    calls.map(|(call, _)| Rule::new(call)).collect()
}

#[derive(Default)]
struct Shared {
    rules: Vec<Rule>,
    /// Answered with an error that repeats the request.
    echoed: Option<Rule>,
    /// What was let through, with the rule.
    passed: Vec<(String, String)>,
    refused: Vec<String>,
}

/// The proxy; gone with the value.
pub struct Guard {
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
    task: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Guard {
    /// In front of this socket.
    pub fn start(engine: &Path, rules: &[Rule]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Arc::new(Mutex::new(Shared { rules: rules.to_vec(), ..Shared::default() }));
        let task = tokio::spawn(serve(listener, engine.to_owned(), Arc::clone(&shared)));
        Self { path, shared, task, _folder: folder }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Other rules from now on.
    pub fn allow(&self, rules: &[Rule]) {
        self.shared.lock().unwrap().rules = rules.to_vec();
    }

    /// From now on this call fails with an error that repeats the whole request, as error pages of some gateways do.
    pub fn echo(&self, call: &str) {
        self.shared.lock().unwrap().echoed = Some(Rule::new(call));
    }

    /// Takes what was refused since the last call.
    pub fn refused(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().unwrap().refused)
    }

    /// Takes what has passed since the last call: the request, and the rule that it passed by.
    pub fn passed(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.shared.lock().unwrap().passed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Body = Either<Incoming, Full<Bytes>>;

async fn serve(listener: UnixListener, engine: PathBuf, shared: Arc<Mutex<Shared>>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let client = listener.accept().await.unwrap().0;
        let (engine, shared) = (engine.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &engine, &shared));
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    engine: &Path,
    shared: &Mutex<Shared>,
) -> Result<Response<Body>, Infallible> {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let line = format!("{method} {}", request.uri());
    let (allowed, echoed) = {
        let mut shared = shared.lock().unwrap();
        let echoed = shared.echoed.as_ref().is_some_and(|rule| rule.covers(&method, &path));
        let rule = shared.rules.iter().find(|rule| rule.covers(&method, &path)).map(|rule| rule.text.clone());
        match &rule {
            Some(rule) => shared.passed.push((line, rule.clone())),
            None => shared.refused.push(line),
        }
        (rule.is_some(), echoed)
    };
    let page = |status: u16, text: &str| {
        let body = Full::new(Bytes::copy_from_slice(text.as_bytes()));
        Response::builder().status(status).body(Either::Right(body)).unwrap()
    };
    if echoed {
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let sent: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        // Only the beginning of an error is ever shown: what matters comes first.
        let message = format!("cannot serve {method} {path} {} {} {sent}", sent["Env"], sent["Cmd"]);
        return Ok(page(500, &serde_json::json!({"message": message}).to_string()));
    }
    if !allowed {
        return Ok(page(403, "<html><body><h1>403 Forbidden</h1></body></html>"));
    }
    let Ok(stream) = UnixStream::connect(engine).await else { return Ok(page(503, "no engine")) };
    let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
        return Ok(page(502, "no HTTP"));
    };
    // Ends with the answer's body.
    tokio::spawn(connection);
    Ok(match sender.send_request(request).await {
        Ok(response) => response.map(Either::Left),
        Err(_) => page(502, "no answer"),
    })
}
