//! Every key of a container with its meaning: the source of the tables in `docs/labels.md`. The tests prove that the page
//! says what this table says, and that this table names exactly what the rules read.

use super::{filters, keys, network, ports};

/// One key.
struct Row {
    /// As a user writes it, without `SERVICE_` and without a port: `CHECK_HTTP`; a label of Remora in full.
    key: &'static str,
    /// What may stand there.
    value: &'static str,
    /// What it means.
    meaning: &'static str,
}

const fn row(key: &'static str, value: &'static str, meaning: &'static str) -> Row {
    Row { key, value, meaning }
}

/// The tables in the order of the page; the name stands in the marker around each.
const TABLES: [(&str, &[Row]); 4] = [
    (
        "services",
        &[
            row(
                "NAME",
                "name",
                "Name of the service. Default: the image's name without registry, path, tag and digest. With several \
                 registered ports `-<port>` is added, unless the key names the port.",
            ),
            row(
                "ID",
                "id",
                "Id of the registration instead of `<host>:<container>:<port>`. With several registered ports `-<port>` is \
                 added, unless the key names the port. `:udp` and `:sctp` are added for those protocols.",
            ),
            row(
                "ALIAS",
                "list of names",
                "Further names: the port is registered once more under each, with the id `<id>:<alias>`. At most 16.",
            ),
            row(
                "TAGS",
                "list",
                "Tags. Those of the container, of the port, of `REMORA_TAGS` and of the protocol (`udp`, `sctp`) are put \
                 together in this order, without doubles (`REMORA_PORT_TAGS=replace`: the port's instead of the container's).",
            ),
            row(
                "IGNORE",
                "boolean",
                "`true`: not registered. `SERVICE_80_IGNORE=false` keeps one port of an ignored container.",
            ),
            row(
                "ENABLE_TAG_OVERRIDE",
                "boolean",
                "`true`: others may change the tags in the catalog, and Remora leaves what they wrote.",
            ),
            row("WEIGHTS_PASSING", "1 to 65535", "DNS weight of the instance while it is passing. Default 1."),
            row("WEIGHTS_WARNING", "1 to 65535", "DNS weight of the instance while it is warning. Default 1."),
            row("WEIGHT", "1 to 65535", "Short for `WEIGHTS_PASSING`."),
        ],
    ),
    (
        "checks",
        &[
            row("CHECK_HTTP", "path", "GET `http://<address>:<port><path>`. The host is always the service's own."),
            row("CHECK_HTTPS", "path", "The same with TLS."),
            row("CHECK_TCP", "boolean", "`true`: a TCP connection is opened."),
            row(
                "CHECK_GRPC",
                "`true` or a service",
                "The gRPC health service is asked, for the named gRPC service if one is given.",
            ),
            row(
                "CHECK_TTL",
                "duration",
                "Critical unless the service itself reports to Consul within this time, to the CheckID `service:<id>`.",
            ),
            row(
                "CHECK_SCRIPT",
                "command",
                "The Consul agent runs this program. `$SERVICE_IP` and `$SERVICE_PORT` are replaced; quotes hold words \
                 together. There is no shell: for `|`, `&&`, `;` and `>` write `sh -c '…'`. Refused unless the operator sets \
                 `REMORA_ALLOW_SCRIPT_CHECKS=true`.",
            ),
            row(
                "CHECK_CMD",
                "command",
                "registrator's `check-cmd` of the image progrium/consul. Refused like `CHECK_SCRIPT`.",
            ),
            row(
                "CHECK_DOCKER",
                "command",
                "The Consul agent runs this inside the container, without a shell. Refused like `CHECK_SCRIPT`. Its CheckID ends \
                 in `:exec`.",
            ),
        ],
    ),
    (
        "settings",
        &[
            row("CHECK_INTERVAL", "duration", "Time between probes. Default `10s`, at least `1s`."),
            row("CHECK_TIMEOUT", "duration", "Time a probe may take. Default: Consul's own (10 s)."),
            row(
                "CHECK_INITIAL_STATUS",
                "`passing`, `warning`, `critical`",
                "Status before the first verdict; also that of the Docker check while the container's health is `starting`. \
                 Default `critical`.",
            ),
            row(
                "CHECK_DEREGISTER_AFTER",
                "duration",
                "Consul removes the service when the check has been critical for so long. At least `1m`. Default: never.",
            ),
            row("CHECK_METHOD", "method", "HTTP method. Default `GET`."),
            row(
                "CHECK_HEADER",
                "JSON object",
                r#"Headers of an HTTP probe: `{"Accept": "text/plain", "X-A": ["1", "2"]}`."#,
            ),
            row("CHECK_BODY", "text", "Body of an HTTP probe."),
            row("CHECK_TLS_SKIP_VERIFY", "boolean", "`true`: the certificate is not verified (HTTPS, gRPC with TLS)."),
            row("CHECK_TLS_SERVER_NAME", "host name", "Name to ask for and to verify (HTTPS, gRPC with TLS)."),
            row(
                "CHECK_USE_TLS",
                "boolean",
                "`true`: gRPC with TLS. registrator's `CHECK_GRPC_USE_TLS` is the same for one check.",
            ),
            row(
                "CHECK_PORT",
                "port",
                "Another port of the same container to knock at; published ports are followed to the host.",
            ),
            row("CHECK_NOTES", "text", "Notes of the check in Consul's UI. Default: which key asked for it."),
            row(
                "CHECK_SUCCESS_BEFORE_PASSING",
                "0 to 1000",
                "Passing only after so many passing probes in a row. Default 0.",
            ),
            row(
                "CHECK_FAILURES_BEFORE_CRITICAL",
                "0 to 1000",
                "Critical only after so many failed probes in a row. Default 0.",
            ),
            row("CHECK_SHELL", "path", "Shell for `CHECK_DOCKER`."),
        ],
    ),
    (
        "labels",
        &[
            row(
                filters::ENABLE,
                "boolean",
                "`false`: not published. `true`: published although `REMORA_INCLUDE` does not name it, or `REMORA_EXPLICIT` asks \
                 for a name. `REMORA_EXCLUDE` always wins.",
            ),
            row(
                network::NETWORK,
                "network",
                "Where the container's own address is registered: the network whose address it is; `*` stands for any characters, and a Compose \
                 network may be named without its project. If none matches, nothing is registered, and that is told.",
            ),
            row(
                ports::PORTS,
                "list of ports",
                "Ports that the image does not declare: `8080, 53/udp, 7000-7010`. For host networks, for `REMORA_INTERNAL`, and \
                 for containers that share the network of another.",
            ),
            row(
                ports::PORTLESS,
                "boolean",
                "`true`: one service without a port (port 0, id `<host>:<container>:0`) at the host's address, or the \
                 container's with `REMORA_INTERNAL`. Its ports are not looked at.",
            ),
        ],
    ),
];

fn markdown(rows: &[Row], is_service_key: bool) -> String {
    let mut text = "| Key | Value | Meaning |\n|---|---|---|\n".to_owned();
    for Row { key, value, meaning } in rows {
        let prefix = if is_service_key { keys::PREFIX } else { "" };
        text = format!("{text}| `{prefix}{key}` | {value} | {meaning} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn keys_of(table: &str) -> BTreeSet<String> {
        let rows = TABLES.iter().find(|(name, _)| *name == table).unwrap().1;
        rows.iter().map(|row| row.key.to_ascii_lowercase()).collect()
    }

    fn set(words: &[&str], prefix: &str) -> BTreeSet<String> {
        words.iter().map(|word| format!("{prefix}{word}")).collect()
    }

    #[test]
    fn the_tables_name_exactly_the_keys_that_the_rules_read() {
        assert_eq!(keys_of("services"), set(&keys::CONTROL, ""));
        assert_eq!(keys_of("checks"), set(&keys::METHODS, keys::CHECK));
        assert_eq!(keys_of("settings"), set(&keys::SETTINGS, keys::CHECK));
    }

    /// `UPDATE_DOCS=1 cargo test --lib docs_labels_md` writes the tables into the page.
    #[test]
    fn docs_labels_md_says_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/labels.md");
        let written = std::fs::read_to_string(&path).unwrap();
        let mut expected = written.clone();
        for (name, rows) in TABLES {
            let (begin, end) = (format!("<!-- table: {name} -->\n"), format!("<!-- end: {name} -->"));
            let (before, rest) = expected.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
            let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("no {end}"));
            expected = format!("{before}{begin}{}{end}{after}", markdown(rows, name != "labels"));
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(
            written == expected,
            "docs/labels.md is behind the table; UPDATE_DOCS=1 cargo test --lib docs_labels_md mends it"
        );
    }
}
