//! A peer that says what an input makes it say: a server on a unix socket in the same process. The real clients speak to it, so
//! that everything between the bytes on the wire and the value that comes out takes part.
//!
//! An input is a line that names the call, and the answers to its requests, with a line `%%` before each. An answer is a line with
//! the status and a few headers (`200 index=7 filtered`), and its body.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

/// What is said to one request.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

pub struct Peer {
    pub runtime: Runtime,
    pub socket: PathBuf,
    script: Arc<Mutex<VecDeque<Answer>>>,
}

impl Peer {
    /// `name` tells the peers of one process apart.
    pub fn new(name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let thread = format!("{:?}", std::thread::current().id()).replace(|c: char| !c.is_ascii_digit(), "");
        let socket = std::env::temp_dir().join(format!("remora-fuzz-{name}-{}-{thread}.sock", std::process::id()));
        let script = Arc::new(Mutex::new(VecDeque::new()));
        let listener = runtime.block_on(async { UnixListener::bind(&socket) }).unwrap();
        let answers = Arc::clone(&script);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers)));
            }
        });
        Self { runtime, socket, script }
    }

    /// From now on it says these.
    pub fn says(&self, answers: &[Answer]) {
        *self.script.lock().unwrap() = answers.iter().cloned().collect();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.socket);
    }
}

/// Reads an input.
pub fn read(data: &[u8]) -> (String, Vec<Answer>) {
    let mut parts = split(data, b"\n%%\n").into_iter();
    let call = String::from_utf8_lossy(parts.next().unwrap_or_default()).trim().to_owned();
    let answers = parts.take(16).map(|part| {
        let (head, body) = match part.iter().position(|&byte| byte == b'\n') {
            Some(at) => (&part[..at], &part[at + 1..]),
            None => (part, &[][..]),
        };
        let head = String::from_utf8_lossy(head);
        let mut words = head.split(' ');
        let status = words.next().and_then(|word| word.parse().ok()).filter(|status| (200..600).contains(status));
        let plain = |value: &&str| value.len() <= 100 && value.bytes().all(|byte| byte.is_ascii_graphic());
        let headers = words.filter(plain).filter_map(|word| match word.split_once('=') {
            Some(("index", value)) => Some(format!("X-Consul-Index: {value}\r\n")),
            Some(("hash", value)) => Some(format!("X-Consul-ContentHash: {value}\r\n")),
            None if word == "filtered" => Some("X-Consul-Results-Filtered-By-ACLs: true\r\n".to_owned()),
            _ => None,
        });
        Answer { status: status.unwrap_or(200), headers: headers.collect(), body: body.to_vec() }
    });
    (call, answers.collect())
}

fn split<'a>(data: &'a [u8], mark: &[u8]) -> Vec<&'a [u8]> {
    let (mut parts, mut rest) = (Vec::new(), data);
    while let Some(at) = rest.windows(mark.len()).position(|window| window == mark) {
        parts.push(&rest[..at]);
        rest = &rest[at + mark.len()..];
    }
    parts.push(rest);
    parts
}

/// One connection. Requests are read whole and not looked at.
async fn serve(mut stream: UnixStream, script: Arc<Mutex<VecDeque<Answer>>>) {
    let mut held = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = held.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !more(&mut stream, &mut held).await {
                return;
            }
        };
        let text = String::from_utf8_lossy(&held[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        while held.len() < head + length.unwrap_or(0) {
            if !more(&mut stream, &mut held).await {
                return;
            }
        }
        held.drain(..head + length.unwrap_or(0));
        let answer = script.lock().unwrap().pop_front();
        let answer =
            answer.unwrap_or(Answer { status: 500, headers: String::new(), body: b"No cluster leader".to_vec() });
        let bare = matches!(answer.status, 204 | 205 | 304);
        let length = if bare { 0 } else { answer.body.len() };
        let status = answer.status;
        let mut bytes =
            format!("HTTP/1.1 {status} X\r\n{}Content-Length: {length}\r\n\r\n", answer.headers).into_bytes();
        bytes.extend_from_slice(&answer.body[..length]);
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn more(stream: &mut UnixStream, held: &mut Vec<u8>) -> bool {
    stream.read_buf(held).await.is_ok_and(|count| count > 0)
}
