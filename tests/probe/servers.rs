//! Small servers on free ports of this host, each with one habit.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use h2::server::SendResponse;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The certificate of [`acceptor`]: for `probe.test` and 127.0.0.1, signed by itself.
pub const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probe/testdata/server.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probe/testdata/server.key");

/// Serves every connection with this.
pub async fn serve<F>(each: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(each(stream));
        }
    });
    address
}

/// An address where nobody listens.
pub async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Takes connections and never says a word.
pub async fn silent() -> SocketAddr {
    serve(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await
}

/// Reads a little, sends this, and then goes on as it is told.
pub async fn raw(answer: &'static [u8], then: Then) -> SocketAddr {
    serve(move |mut stream| async move {
        let _read = stream.read(&mut [0; 1024]).await;
        let _sent = stream.write_all(answer).await;
        match then {
            Then::Reset => {
                let _set = stream.set_zero_linger();
            }
            Then::Flood => while stream.write_all(&[b'x'; 4096]).await.is_ok() {},
            Then::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
        }
    })
    .await
}

/// What comes after an answer.
#[derive(Clone, Copy)]
pub enum Then {
    Reset,
    Flood,
    Hang,
}

/// TLS with the certificate of `testdata/`.
pub fn acceptor(alpn: &[&str]) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers HTTP with what it was asked: method, path, some headers, body. `/status/<code>` answers with that code.
pub async fn echo<S>(stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| async move {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let header = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let text = format!(
            "{} {} host={} agent={} x={} body={}",
            head.method,
            head.uri,
            header("host"),
            header("user-agent"),
            header("x"),
            String::from_utf8_lossy(&body)
        );
        let code = head.uri.path().strip_prefix("/status/").map_or(200, |code| code.parse().unwrap());
        let answer = Response::builder().status(code).header("location", "http://127.0.0.1:1/");
        Ok::<_, Infallible>(answer.body(Full::new(Bytes::from(text))).unwrap())
    });
    let _client_left = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// gRPC's health service: by the name that is asked for.
pub async fn health<S>(stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let path = request.uri().path().to_owned();
        let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let mut body = request.into_body();
        let mut asked = Vec::new();
        // The connection has to be driven for the data to come.
        tokio::select! {
            () = async { while let Some(Ok(data)) = body.data().await { asked.extend_from_slice(&data); } } => {}
            _ = std::future::poll_fn(|context| connection.poll_closed(context)) => return,
        }
        if path == "/grpc.health.v1.Health/Check" {
            answer_health(&mut respond, asked.get(7..).unwrap_or_default(), &authority);
        }
    }
}

fn answer_health(respond: &mut SendResponse<Bytes>, service: &[u8], authority: &str) {
    let head =
        |builder: hyper::http::response::Builder| builder.header("content-type", "application/grpc").body(()).unwrap();
    let status: &[u8] = match service {
        b"" | b"up" => &[0, 0, 0, 0, 2, 8, 1],
        b"down" => &[0, 0, 0, 0, 2, 8, 2],
        b"empty" => &[0, 0, 0, 0, 0],
        b"authority" if authority == "probe.test" => &[0, 0, 0, 0, 2, 8, 1],
        b"broken" => {
            let mut stream = respond.send_response(head(Response::builder()), false).unwrap();
            stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false).unwrap();
            stream.send_trailers(trailers("14")).unwrap();
            return;
        }
        b"plain" => {
            respond.send_response(Response::builder().status(503).body(()).unwrap(), true).unwrap();
            return;
        }
        b"silent" => return,
        // Trailers only.
        _ => {
            let refusal = Response::builder().header("grpc-status", "5").header("grpc-message", "unknown%20service");
            respond.send_response(head(refusal), true).unwrap();
            return;
        }
    };
    let mut stream = respond.send_response(head(Response::builder()), false).unwrap();
    stream.send_data(Bytes::copy_from_slice(status), false).unwrap();
    stream.send_trailers(trailers("0")).unwrap();
}

fn trailers(status: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    trailers
}
