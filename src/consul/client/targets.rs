//! All addresses with their connections, made anew when a file of TLS changes.
//!
//! Certificates are replaced while we run: authorities change, and a client's certificate lives for days. The files are looked at
//! every few seconds, and at once when the two sides do not agree in TLS. New files that cannot be used (half written, or a key
//! that belongs to another certificate) leave the connections as they are; that is told once, and they are tried again when they
//! change again. Connections that are open stay open; new ones are made with the new files.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::setup::ClientError;
use super::stamp::{Stamps, variables};
use super::target::Target;
use crate::config::{self, ConsulAddress, ConsulTls};

/// Between two looks at the files; an authority is exchanged with more patience than that.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What the connections are made of.
pub(super) struct Plan {
    first: ConsulAddress,
    others: Vec<ConsulAddress>,
    tls: ConsulTls,
}

impl Plan {
    pub(super) fn of(config: &config::Consul) -> Self {
        Self { first: config.address.clone(), others: config.others.clone(), tls: config.tls.clone() }
    }

    /// The files matter only with TLS.
    fn has_files(&self) -> bool {
        matches!(self.first, ConsulAddress::Url { tls: true, .. }) && !variables(&self.tls).is_empty()
    }
}

/// One [`Target`] for each address.
pub(super) struct Set {
    first: Target,
    others: Vec<Target>,
}

impl Set {
    fn new(plan: &Plan) -> Result<Self, Vec<ClientError>> {
        let mut errors = Vec::new();
        let first = Target::new(&plan.first, &plan.tls, None, &mut errors);
        let Some(first) = first.filter(|_| errors.is_empty()) else { return Err(errors) };
        let mut others = Vec::new();
        for address in &plan.others {
            // The name of the setting stands in the URL of each: only clients of their own lead it to different hosts. Otherwise
            // one is enough, which is half a megabyte.
            let shared = plan.tls.server_name.is_none().then(|| first.http.clone());
            match Target::new(address, &plan.tls, shared, &mut errors) {
                Some(target) => others.push(target),
                None => return Err(errors),
            }
        }
        Ok(Self { first, others })
    }

    /// The one with this number.
    pub(super) fn target(&self, at: usize) -> &Target {
        at.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first)
    }
}

/// See the module's header.
pub(super) struct Targets {
    plan: Plan,
    set: RwLock<Arc<Set>>,
    /// `None`: there are no files that could change.
    files: Option<Mutex<Files>>,
}

struct Files {
    /// Of those that are in use.
    used: Stamps,
    /// Of those that could not be used.
    unusable: Option<Stamps>,
    looked: Instant,
}

impl Targets {
    pub(super) fn new(plan: Plan) -> Result<Self, Vec<ClientError>> {
        let used = plan.has_files().then(|| Stamps::of(&plan.tls));
        let set = RwLock::new(Arc::new(Set::new(&plan)?));
        let files = used.map(|used| Mutex::new(Files { used, unusable: None, looked: Instant::now() }));
        Ok(Self { plan, set, files })
    }

    /// Those to use now.
    pub(super) async fn current(self: &Arc<Self>, now: Instant) -> Arc<Set> {
        if self.files.as_ref().is_some_and(|files| is_due(files, now)) {
            self.look().await;
        }
        self.set()
    }

    /// Others than these, with which the two sides did not agree in TLS; `None`: the files have not changed.
    pub(super) async fn instead_of(self: &Arc<Self>, failed: &Arc<Set>) -> Option<Arc<Set>> {
        let newer = |set: &Arc<Set>| !Arc::ptr_eq(set, failed);
        if let Some(set) = Some(self.set()).filter(newer) {
            return Some(set);
        }
        self.look().await;
        Some(self.set()).filter(newer)
    }

    fn set(&self) -> Arc<Set> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the files, and makes the connections anew of changed ones. No lock is held while files are read: of two calls
    /// that do it at the same time the first one to end counts.
    async fn look(self: &Arc<Self>) {
        let Some(files) = &self.files else { return };
        let found = Stamps::of(&self.plan.tls);
        if !is_new(files, &found) {
            return;
        }
        let this = Arc::clone(self);
        // Authorities by the hundred take milliseconds. A panic in there changes nothing here, and a caller that goes away does
        // not stop it.
        let _panicked = tokio::task::spawn_blocking(move || this.renew(found)).await;
    }

    fn renew(&self, found: Stamps) {
        let Some(files) = &self.files else { return };
        let made = Set::new(&self.plan).map(Arc::new);
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.used == found || files.unusable.as_ref() == Some(&found) {
            return;
        }
        match made {
            Ok(set) => {
                *self.set.write().unwrap_or_else(PoisonError::into_inner) = set;
                files.used = found;
                files.unusable = None;
                drop(files);
                let variables = variables(&self.plan.tls).join(", ");
                tracing::info!(event = "consul_tls_reloaded", variables, "the files of {variables} have changed");
            }
            Err(errors) => {
                files.unusable = Some(found);
                drop(files);
                for error in errors {
                    let variable = error.variable().unwrap_or_else(|| variables(&self.plan.tls).join(", "));
                    tracing::warn!(
                        event = "consul_tls_unusable", variable, reason = %error,
                        "files of TLS have changed and cannot be used; the last ones stay in use: {error}"
                    );
                }
            }
        }
    }
}

/// Whether it is time for a look, which is then the caller's.
fn is_due(files: &Mutex<Files>, now: Instant) -> bool {
    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
    let due = now.saturating_duration_since(files.looked) >= LOOK_EVERY;
    if due {
        files.looked = now;
    }
    due
}

fn is_new(files: &Mutex<Files>, found: &Stamps) -> bool {
    let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
    if files.used == *found {
        // Whoever has put the old ones back and fails again is told again.
        files.unusable = None;
        return false;
    }
    files.unusable.as_ref() != Some(found)
}
