//! The closed sets of label values. A label value is never a text from outside: every new value is a new series that
//! Prometheus keeps for as long as it keeps anything.

use std::fmt::Write as _;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// An enum whose variants are label values.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value: all series exist from the start, so that a rate is right from its first increment.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label's value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                encoder.write_str(self.as_str())
            }
        }
    };
}

labels! {
    /// How a check of a service is asked.
    ProbeKind {
        /// A request over HTTP or HTTPS.
        Http = "http",
        /// A TCP connection.
        Tcp = "tcp",
        /// gRPC's health service.
        Grpc = "grpc",
        /// The service reports by itself.
        Ttl = "ttl",
    }
}

labels! {
    /// What came of it.
    ProbeOutcome {
        /// All is well.
        Passing = "passing",
        /// It asks for fewer requests.
        Warning = "warning",
        /// Not well, or not to be reached.
        Critical = "critical",
        /// No answer, or no report, in time.
        TimedOut = "timed_out",
    }
}

labels! {
    /// What Docker said happened.
    EventAction {
        /// A container was made.
        Create = "create",
        /// Its process started.
        Start = "start",
        /// Its process ended.
        Die = "die",
        /// It was sent a signal.
        Kill = "kill",
        /// It was stopped on request.
        Stop = "stop",
        /// It was frozen.
        Pause = "pause",
        /// It was thawed.
        Unpause = "unpause",
        /// Its HEALTHCHECK came to another verdict.
        HealthStatus = "health_status",
        /// It got another name.
        Rename = "rename",
        /// Its limits or restart policy changed.
        Update = "update",
        /// It ran out of memory.
        Oom = "oom",
        /// It was restarted on request.
        Restart = "restart",
        /// It was removed.
        Destroy = "destroy",
        /// It joined a network.
        Connect = "connect",
        /// It left a network.
        Disconnect = "disconnect",
        /// Any other word.
        Other = "other",
    }
}

impl EventAction {
    /// The value for Docker's own word; what follows a colon or a space is not part of it.
    #[must_use]
    pub fn of(word: &str) -> Self {
        let word = word.split([':', ' ']).next().unwrap_or_default();
        Self::ALL.iter().copied().find(|action| action.as_str() == word).unwrap_or(Self::Other)
    }
}

labels! {
    /// A call to Docker.
    DockerCall {
        /// `GET /info`, `GET /version`.
        Info = "info",
        /// `GET /containers/json`.
        List = "list",
        /// `GET /containers/{id}/json`.
        Inspect = "inspect",
        /// `GET /events`, until the stream ended.
        Events = "events",
    }
}

labels! {
    /// A call to Consul.
    ConsulCall {
        /// Everything that is registered.
        Read = "read",
        /// Register a service.
        Register = "register",
        /// Deregister a service.
        Deregister = "deregister",
        /// Report a check.
        UpdateCheck = "update_check",
        /// Remove a check.
        RemoveCheck = "remove_check",
        /// Wait for a change; takes as long as nothing happens.
        Changed = "changed",
        /// What the agent says about itself, for the address to advertise.
        AgentSelf = "self",
    }
}

labels! {
    /// How a call or a write ended.
    Outcome {
        /// As it should.
        Ok = "ok",
        /// What it is about does not exist.
        NotFound = "not_found",
        /// The peer could not be reached, or the connection broke.
        Unreachable = "unreachable",
        /// No answer in time.
        TimedOut = "timed_out",
        /// The peer has trouble of its own (5xx, 429).
        Unwell = "unwell",
        /// Rights are missing.
        Denied = "denied",
        /// The peer does not accept this item.
        Rejected = "rejected",
        /// The answer cannot be read.
        Unreadable = "unreadable",
    }
}

labels! {
    /// What a write to Consul does.
    WriteOp {
        /// Registers a service, or changes its definition.
        Register = "register",
        /// Deregisters a service.
        Deregister = "deregister",
        /// Sets status and output of a check.
        Check = "check",
        /// Removes a check.
        Uncheck = "uncheck",
    }
}

labels! {
    /// How Consul differed from what it was last made to be, without a change in Docker.
    Drift {
        /// A service was gone.
        Missing = "missing",
        /// Consul removed a service whose check was critical for too long, as its definition asks.
        Reaped = "reaped",
        /// A service was not as registered.
        Changed = "changed",
        /// A check of ours was gone.
        MissingCheck = "missing_check",
        /// A check of ours had another status or output.
        ChangedCheck = "changed_check",
        /// One of our services had a check that nobody asked for.
        ForeignCheck = "foreign_check",
    }
}

labels! {
    /// How a full look at Docker ended.
    ResyncOutcome {
        /// It could be believed.
        Ok = "ok",
        /// It failed.
        Failed = "failed",
    }
}

labels! {
    /// What was done to heal a container.
    HealAction {
        /// A clone took its place.
        Replace = "replace",
        /// It was restarted.
        Restart = "restart",
        /// It was started.
        Start = "start",
        /// It was stopped.
        Stop = "stop",
    }
}

labels! {
    /// How an attempt to heal a container ended.
    HealOutcome {
        /// It works again.
        Healed = "healed",
        /// It does not.
        NoBetter = "no-better",
        /// Trying again cannot help.
        Hopeless = "hopeless",
        /// There was nothing to do any more.
        Cancelled = "cancelled",
        /// It has to be taken up again.
        Interrupted = "interrupted",
    }
}

labels! {
    /// Why a container was healed.
    HealCause {
        /// Its HEALTHCHECK failed.
        Unhealthy = "unhealthy",
        /// Its HEALTHCHECK came to no verdict.
        StuckStarting = "stuck-starting",
        /// It ended.
        Died = "died",
        /// Docker started it over and over.
        CrashLoop = "crash-loop",
        /// Docker could not start it.
        StartFailed = "start-failed",
        /// A check of its service was critical.
        Critical = "critical",
        /// The container whose namespace it shares was replaced or restarted.
        Orphaned = "orphaned",
        /// An operator asked for it.
        Asked = "asked",
    }
}

labels! {
    /// What stood against healing a container.
    HealBrake {
        /// The agent had not been up, or connected, for long enough.
        Holdoff = "holdoff",
        /// An operator paused healing.
        Paused = "paused",
        /// Another operation was under way.
        Busy = "busy",
        /// The node's budget was used up.
        NodeBudget = "node-budget",
        /// Too many failed at once.
        Correlated = "correlated",
        /// It was too early after the last attempt.
        Backoff = "backoff",
        /// It was in quarantine.
        Quarantine = "quarantine",
        /// Too few of its service were left.
        Service = "service",
        /// Other nodes had all slots.
        Cluster = "cluster",
        /// Consul was away.
        WithoutConsul = "without-consul",
    }
}

labels! {
    /// What became of a message to the webhook.
    WebhookOutcome {
        /// It was taken.
        Sent = "sent",
        /// It was refused, or nobody answered.
        Failed = "failed",
        /// The same was sent a short time ago.
        Repeated = "repeated",
        /// There were too many in a short time; their number was sent instead.
        Limited = "limited",
    }
}

labels! {
    /// What the leader knows of a node.
    NodeState {
        /// Its agent is there.
        Present = "present",
        /// Its agent has not been heard of, and it is not marked (yet).
        Vanished = "vanished",
        /// It is marked critical.
        Gone = "gone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_docker_has_a_value_from_the_closed_set() {
        assert_eq!(EventAction::of("start"), EventAction::Start);
        assert_eq!(EventAction::of("health_status: unhealthy"), EventAction::HealthStatus);
        assert_eq!(EventAction::of("exec_create: /bin/sh -c secret"), EventAction::Other);
        assert_eq!(EventAction::of(""), EventAction::Other);
    }
}
