//! What a Consul agent says about itself, its cluster and our rights: for the default address, for `remora doctor`.

use std::net::IpAddr;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::client::{Call, Client};
use super::error::ConsulError;
use super::wire::{SelfAnswer, decode, encode};

/// An agent about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Its node name in the catalog.
    pub node_name: String,
    /// Its version: `1.8.7`.
    pub version: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The address that it advertises to its cluster.
    pub advertise: Option<IpAddr>,
    /// Whether it is one of the servers.
    pub server: bool,
}

/// Consul refuses to answer for more rights than this in one call.
const RIGHTS_AT_ONCE: usize = 64;

/// One right of an ACL policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Right {
    /// `service`, `node`, `agent`, `session`, `key`.
    pub resource: String,
    /// Which of them, by exact name: `web`, the node's name.
    pub segment: String,
    /// `read` or `write`.
    pub access: String,
    /// Whether our token has it.
    #[serde(default, rename = "Allow", skip_serializing)]
    pub allowed: bool,
}

impl Right {
    /// A right to be asked for with [`Client::rights`].
    #[must_use]
    pub fn new(resource: &str, segment: &str, access: &str) -> Self {
        Self { resource: resource.to_owned(), segment: segment.to_owned(), access: access.to_owned(), allowed: false }
    }

    /// Whether both speak of one right, whoever has it.
    fn is_about_the_same(&self, other: &Self) -> bool {
        (&self.resource, &self.segment, &self.access) == (&other.resource, &other.segment, &other.access)
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}: {}", self.resource, self.segment, self.access)
    }
}

impl Client {
    /// What the agent says about itself. `GET /v1/agent/self`; needs `agent:read`.
    ///
    /// # Errors
    /// [`ConsulError`]; without the right [`ConsulError::Forbidden`].
    pub async fn agent_self(&self) -> Result<AgentFacts, ConsulError> {
        let name = "GET /v1/agent/self";
        let answer = self.call(Call::get(name, &["v1", "agent", "self"])).await?;
        let SelfAnswer { config, member } = decode(name, &answer.body)?;
        Ok(AgentFacts {
            advertise: member.address(),
            node_name: config.node_name,
            version: config.version,
            datacenter: config.datacenter,
            server: config.server,
        })
    }

    /// The address of the cluster's leader, or `None` when it has none at the moment. `GET /v1/status/leader`; needs no
    /// right.
    ///
    /// # Errors
    /// [`ConsulError`]; an agent that sees no server is [`ConsulError::Unwell`].
    pub async fn leader(&self) -> Result<Option<String>, ConsulError> {
        let name = "GET /v1/status/leader";
        let answer = self.call(Call::get(name, &["v1", "status", "leader"])).await?;
        let leader: Option<String> = decode(name, &answer.body)?;
        Ok(leader.filter(|leader| !leader.is_empty()))
    }

    /// Which of these rights our token has, in the same order, however many; `None` when ACLs are switched off and all is allowed.
    ///
    /// `POST /v1/internal/acl/authorize`, which Consul's own UI asks since 1.8; it answers for any token, the anonymous one
    /// included. It is not a documented API: an error here says nothing about the rights.
    ///
    /// # Errors
    /// [`ConsulError`]; an unknown token is [`ConsulError::Forbidden`].
    pub async fn rights(&self, asked: &[Right]) -> Result<Option<Vec<Right>>, ConsulError> {
        let mut rights = Vec::with_capacity(asked.len());
        for some in asked.chunks(RIGHTS_AT_ONCE) {
            match self.some_rights(some).await? {
                Some(found) => rights.extend(found),
                None => return Ok(None),
            }
        }
        Ok(Some(rights))
    }

    async fn some_rights(&self, asked: &[Right]) -> Result<Option<Vec<Right>>, ConsulError> {
        let name = "POST /v1/internal/acl/authorize";
        let path = ["v1", "internal", "acl", "authorize"];
        let call = Call { method: Method::POST, ..Call::put(name, &path, Some(encode(name, &asked)?)) };
        match self.call(call).await {
            Ok(answer) => {
                let found: Option<Vec<Right>> = decode(name, &answer.body)?;
                let found = found.unwrap_or_default();
                let same = |(one, other): (&Right, &Right)| one.is_about_the_same(other);
                // A right that is not answered for would read as one that the token has.
                if found.len() != asked.len() || !found.iter().zip(asked).all(same) {
                    let reason = "it is about other rights than those that were asked for".to_owned();
                    return Err(ConsulError::Unreadable { call: name, reason });
                }
                Ok(Some(found))
            }
            // 401 on every version; the text is what tells it from a proxy's refusal.
            Err(ConsulError::Forbidden { message, .. }) if message.contains("ACL support disabled") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the list of services is shortened because our token may not see all of them: `None` when Consul does not
    /// say (before 1.11, or with the anonymous token). `GET /v1/agent/services`.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn services_filtered(&self) -> Result<Option<bool>, ConsulError> {
        let answer = self.call(Call::get("GET /v1/agent/services", &["v1", "agent", "services"])).await?;
        let header = answer.headers.get("x-consul-results-filtered-by-acls");
        Ok(header.map(|value| value.as_bytes().eq_ignore_ascii_case(b"true")))
    }
}
