//! `remora healthcheck`: asks the agent on this host whether it is alive. The image's HEALTHCHECK.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::output::{complain, print};
use crate::config::Config;

/// The server answers from memory; the image's HEALTHCHECK gives the whole process three seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than `/healthz` ever says.
const ANSWER: u64 = 4096;

pub(super) async fn run(config: Config) -> ExitCode {
    let Some(at) = config.http else {
        complain("REMORA_HTTP_ADDR=off: there is nothing to ask; set it to an address such as 127.0.0.1:7979");
        return ExitCode::FAILURE;
    };
    match timeout(PATIENCE, ask(from_here(at))).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => {
            print("alive\n");
            ExitCode::SUCCESS
        }
        Ok(Ok(answer)) => {
            let reason = answer.split_once("\r\n\r\n").map_or("no readable answer", |(_, body)| body.trim());
            complain(&format!("not alive: {reason}"));
            ExitCode::FAILURE
        }
        Ok(Err(error)) => {
            complain(&format!("no agent answers at {at} (REMORA_HTTP_ADDR): {error}"));
            ExitCode::FAILURE
        }
        Err(_) => {
            complain(&format!("the agent at {at} (REMORA_HTTP_ADDR) did not answer within {PATIENCE:?}"));
            ExitCode::FAILURE
        }
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

async fn ask(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
