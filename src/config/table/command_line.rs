//! Every flag and every command.

/// A flag of the command line, without its dashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Its name, in the case that counts.
    pub name: &'static str,
    /// What follows it.
    pub takes: Takes,
    /// What it does.
    pub effect: Effect,
}

/// What follows a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=true` and `=false`.
    Nothing,
    /// A text.
    Text,
    /// A whole number.
    Number,
}

/// What a flag does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The same as the variable, and wins over it.
    Sets(&'static str),
    /// The same as the variable, counted in seconds; 0 leaves the variable or its default in force.
    SetsSeconds(&'static str),
    /// Nothing any more; what Remora does instead.
    Nothing(&'static str),
    /// It belongs to a command, or is one.
    Command(CommandFlag, &'static str),
}

/// Flags that belong to a command, or are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandFlag {
    /// `explain --json`, `status --json`
    Json,
    /// `pause --for`
    For,
    /// `pause --node`, `resume --node`
    Node,
    /// `pause --cluster`, `resume --cluster`
    Cluster,
    /// `sync --once`
    Once,
    /// `sync --dry-run`
    DryRun,
    /// `--help`
    Help,
    /// `--version`
    Version,
}

const fn flag(name: &'static str, takes: Takes, effect: Effect) -> Flag {
    Flag { name, takes, effect }
}

/// Every flag: registrator's, then our own.
pub const FLAGS: &[Flag] = &[
    flag("ip", Takes::Text, Effect::Sets("REMORA_ADDRESS")),
    flag("internal", Takes::Nothing, Effect::Sets("REMORA_INTERNAL")),
    flag("explicit", Takes::Nothing, Effect::Sets("REMORA_EXPLICIT")),
    flag("useIpFromLabel", Takes::Text, Effect::Sets("REMORA_USE_IP_FROM_LABEL")),
    flag("tags", Takes::Text, Effect::Sets("REMORA_TAGS")),
    flag("deregister", Takes::Text, Effect::Sets("REMORA_DEREGISTER")),
    flag("resync", Takes::Number, Effect::SetsSeconds("REMORA_RESYNC")),
    flag(
        "cleanup",
        Takes::Nothing,
        Effect::Nothing(
            "Remora always removes what it registered itself and what is gone; what registrator left it only takes over",
        ),
    ),
    flag(
        "ttl",
        Takes::Number,
        Effect::Nothing("it never had one with Consul; see REMORA_HEALTH_TTL for checks that expire"),
    ),
    flag("ttl-refresh", Takes::Number, Effect::Nothing("Remora refreshes by itself whatever expires")),
    flag("retry-attempts", Takes::Number, Effect::Nothing("Remora waits for Docker and Consul as long as it takes")),
    flag(
        "retry-interval",
        Takes::Number,
        Effect::Nothing("the pauses between Remora's tries begin short and grow up to a limit"),
    ),
    flag("json", Takes::Nothing, Effect::Command(CommandFlag::Json, "explain, status: print JSON")),
    flag("for", Takes::Text, Effect::Command(CommandFlag::For, "pause: ends by itself after so long, such as 30m")),
    flag("node", Takes::Nothing, Effect::Command(CommandFlag::Node, "pause, resume: the whole node")),
    flag("cluster", Takes::Nothing, Effect::Command(CommandFlag::Cluster, "pause, resume: every node")),
    flag("once", Takes::Nothing, Effect::Command(CommandFlag::Once, "sync: end after one round, as it does anyway")),
    flag("dry-run", Takes::Nothing, Effect::Command(CommandFlag::DryRun, "sync: only print what would be done")),
    flag("help", Takes::Nothing, Effect::Command(CommandFlag::Help, "print how to use it")),
    flag("h", Takes::Nothing, Effect::Command(CommandFlag::Help, "the same as --help")),
    flag("version", Takes::Nothing, Effect::Command(CommandFlag::Version, "print the version")),
];

/// The commands: what to type, and what it does.
pub const COMMANDS: &[(&str, &str)] = &[
    ("run", "publish until stopped; what happens without a command"),
    ("healthcheck", "ask the agent running on this host whether it is alive; exit 0 or 1"),
    ("check-config", "print the settings in force, without secrets; exit 0 or 64"),
    ("explain <container> [--json]", "what is registered for a container, and which label or rule is the reason"),
    ("sync --once [--dry-run]", "make Consul right once and end; or only print the difference"),
    ("doctor", "look at everything that Remora depends on, and say what is missing"),
    (
        "status [--json]",
        "how healing stands on this host; exit 0, 1 without an agent, 2 when something is paused or given up",
    ),
    ("heal <container>", "replace a container now, whatever it looks like"),
    ("release <container>", "forget its failed attempts: end its quarantine"),
    (
        "pause [<container>] [reason]",
        "no healing of a container, on this node (--node, also without a container) or everywhere (--cluster); --for=30m: for so long",
    ),
    ("resume [<container>]", "healing goes on, where pause had stopped it"),
    ("help", "print how to use it"),
    ("version", "the version"),
];

/// Registrator's flag for a variable.
#[must_use]
pub fn flag_of(variable: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| match flag.effect {
        Effect::Sets(sets) | Effect::SetsSeconds(sets) => sets == variable,
        Effect::Nothing(_) | Effect::Command(..) => false,
    })
}
