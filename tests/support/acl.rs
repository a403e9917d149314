//! Access control of a test's Consul: policies, tokens, and what the documentation says that a token needs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::consul::MANAGEMENT_TOKEN;
use super::http_client;

/// Whoever holds the keys of the Consul at this URL.
pub struct Acl {
    url: String,
}

impl Acl {
    /// Of a Consul with [`MANAGEMENT_TOKEN`].
    pub fn of(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    /// Makes a policy, or changes it.
    pub async fn policy(&self, name: &str, rules: &str) {
        self.try_policy(name, rules).await.unwrap();
    }

    async fn try_policy(&self, name: &str, rules: &str) -> Result<(), String> {
        let known = self.call("GET", &format!("/v1/acl/policy/name/{name}"), None).await.ok();
        let id = known.and_then(|policy| policy["ID"].as_str().map(str::to_owned));
        let path = id.map_or_else(|| "/v1/acl/policy".to_owned(), |id| format!("/v1/acl/policy/{id}"));
        self.call("PUT", &path, Some(json!({"Name": name, "Rules": rules}))).await.map(drop)
    }

    /// A token with this policy: accessor and secret.
    pub async fn token(&self, policy: &str) -> (String, String) {
        let made = self.call("PUT", "/v1/acl/token", Some(json!({"Policies": [{"Name": policy}]}))).await.unwrap();
        let text = |key: &str| made[key].as_str().unwrap().to_owned();
        (text("AccessorID"), text("SecretID"))
    }

    /// From now on this token is none.
    pub async fn revoke(&self, accessor: &str) {
        self.call("DELETE", &format!("/v1/acl/token/{accessor}"), None).await.unwrap();
    }

    /// Lets everybody look, without a token: the judge does.
    pub async fn let_everybody_look(&self) {
        self.try_let_everybody_look().await.unwrap();
    }

    /// The same, where Consul may not be ready yet.
    pub async fn try_let_everybody_look(&self) -> Result<(), String> {
        let rules = r#"node_prefix "" { policy = "read" } service_prefix "" { policy = "read" }
            agent_prefix "" { policy = "read" } operator = "read""#;
        self.try_policy("look", rules).await?;
        let anonymous = "00000000-0000-0000-0000-000000000002";
        let body = json!({"AccessorID": anonymous, "SecretID": "anonymous", "Policies": [{"Name": "look"}]});
        self.call("PUT", &format!("/v1/acl/token/{anonymous}"), Some(body)).await.map(drop)
    }

    async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = http_client(None).request(method, format!("{}{path}", self.url));
        let request = request.header("X-Consul-Token", MANAGEMENT_TOKEN).timeout(Duration::from_secs(10));
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{path}: {status} {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}"))
    }
}

/// The rules of the first policy on a page of `docs/`, a line each, for this node.
pub fn documented(page: &str, node: &str) -> Vec<String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page)).unwrap();
    let policy = page.split_once("```hcl\n").and_then(|(_, rest)| rest.split_once("\n```")).expect("a policy").0;
    let rule = |line: &str| line.split('#').next().unwrap().trim().replace("\"n1\"", &format!("\"{node}\""));
    policy.lines().map(rule).filter(|rule| !rule.is_empty()).collect()
}
