//! Somebody who uses the service all the time.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How often it asks.
const EVERY: Duration = Duration::from_millis(10);

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_millis(200);

/// A client of one port, asking every 10 ms whatever became of the request before, until it is dropped.
pub struct Client {
    /// When each request that was answered was sent.
    answered: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Client {
    /// Begins to ask.
    pub fn of(port: u16) -> Self {
        let answered = Arc::<Mutex<Vec<Instant>>>::default();
        let noted = Arc::clone(&answered);
        let task = tokio::spawn(async move {
            let mut tick = interval(EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let sent = Instant::now();
                    if get(port).await {
                        noted.lock().unwrap().push(sent);
                    }
                });
            }
        });
        Self { answered, task }
    }

    /// The longest time between two requests, one sent right after the other, that were answered.
    pub fn longest_gap(&self) -> Duration {
        let mut sent = self.answered.lock().unwrap().clone();
        sent.sort();
        sent.windows(2).map(|pair| pair[1] - pair[0]).max().expect("a client that was answered")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the web server at this port of the loopback answers properly.
pub async fn get(port: u16) -> bool {
    let asking = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.") && answer.ends_with(b"well\n"))
    };
    matches!(timeout(PATIENCE, asking).await, Ok(Ok(true)))
}
