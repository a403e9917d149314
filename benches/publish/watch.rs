//! When is an instance visible in the catalog, when is it gone. The same eyes for both contenders.

use std::time::{Duration, SystemTime};

use crate::support::http_client;

/// Name of the service of every container of the benchmark.
pub const SERVICE: &str = "bench";

/// A blocking query that is always waiting, as the load balancers that use a catalog do it: it tells a change as soon as the
/// catalog has it, without asking so often that it would be a load of its own.
pub struct Watch {
    http: reqwest::Client,
    url: String,
    index: String,
    answer: String,
}

impl Watch {
    /// Knows what is in the catalog now.
    pub async fn start(consul: &str) -> Self {
        let url = format!("{consul}/v1/health/service/{SERVICE}?wait=60s");
        let mut watch = Self { http: http_client(None), url, index: "0".to_owned(), answer: String::new() };
        watch.next().await;
        watch
    }

    /// Waits until the instance is there (or not), and tells when that was heard.
    pub async fn until(&mut self, id: &str, there: bool) -> SystemTime {
        // With the quotes, so that no id is the beginning of another one.
        let quoted = format!("\"{id}\"");
        while self.answer.contains(&quoted) != there {
            self.next().await;
        }
        SystemTime::now()
    }

    async fn next(&mut self) {
        let request = self.http.get(format!("{}&index={}", self.url, self.index)).timeout(Duration::from_secs(90));
        let answer = request.send().await.unwrap();
        answer.headers()["X-Consul-Index"].to_str().unwrap().clone_into(&mut self.index);
        self.answer = answer.text().await.unwrap();
    }
}

/// Asks every 10 ms until so many instances are there: a blocking query would be woken, and would read everything, once per
/// registration.
pub async fn until_count(consul: &str, count: usize) {
    let http = http_client(None);
    loop {
        let answer = http.get(format!("{consul}/v1/catalog/service/{SERVICE}")).send().await.unwrap();
        if answer.text().await.unwrap().matches("\"ServiceID\"").count() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
