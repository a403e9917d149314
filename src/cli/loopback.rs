//! Asking the agent on this host, by its small HTTP server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The server answers from memory; the image's HEALTHCHECK gives the whole process three seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the agent answered.
pub(super) struct Answer {
    /// Status 200.
    pub(super) good: bool,
    /// Its body, at most as long as it was asked for.
    pub(super) body: String,
}

/// `GET` from the agent at `REMORA_HTTP_ADDR`; at most `limit` bytes are read. `Err`: why there is no answer, in a sentence.
pub(super) async fn get(http: Option<SocketAddr>, path: &str, limit: u64) -> Result<Answer, String> {
    let Some(at) = http else {
        return Err(
            "REMORA_HTTP_ADDR=off: there is nothing to ask; set it to an address such as 127.0.0.1:7979".to_owned()
        );
    };
    match timeout(PATIENCE, ask(from_here(at), path, limit)).await {
        Ok(Ok(answer)) => {
            let body = answer.split_once("\r\n\r\n").map_or("no readable answer", |(_, body)| body);
            Ok(Answer { good: answer.starts_with("HTTP/1.1 200"), body: body.to_owned() })
        }
        Ok(Err(error)) => Err(format!("no agent answers at {at} (REMORA_HTTP_ADDR): {error}")),
        Err(_) => Err(format!("the agent at {at} (REMORA_HTTP_ADDR) did not answer within {PATIENCE:?}")),
    }
}

/// An agent that listens on every address is asked on loopback.
fn from_here(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, at.port())
}

async fn ask(at: SocketAddr, path: &str, limit: u64) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(limit).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
