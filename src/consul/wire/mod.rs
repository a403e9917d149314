//! Requests and answers as JSON. Knows the model; pure.
//!
//! * `request`: what is sent. Consul 1.8 answers 400 to any field that it does not know, so nothing is sent that is not
//!   set. The one field newer than 1.8 is `TLSServerName` of a check (1.9), and only a label asks for it.
//! * `answer`: what comes back. Go writes `null` for every empty list and map; fields come and go between versions. Only
//!   what is read must make sense, and an entry that does not is left out by itself.
//! * `store`: both for keys, sessions and the catalog, where nothing is left out.
//! * `txn`: both for transactions; `catalog`: one node of the catalog, row by row.
//! * `members`: both for nodes that look after each other.

mod answer;
mod catalog;
mod members;
mod request;
mod store;
mod txn;

pub(super) use answer::{SelfAnswer, decode, service, snapshot};
pub(super) use catalog::{
    NodeServices, Rows, check_indexes, node_checks, node_services, register_body, service_indexes,
};
pub(super) use members::{NodeSessionBody, member_checks, node_of, node_rows};
pub(super) use request::{ServiceBody, UpdateBody, encode, go_duration};
pub(super) use store::{SessionAnswer, SessionBody, count, entries_of_kv, instances};
pub(super) use txn::{OpsBody, node_look, refusals, size_of, written};
