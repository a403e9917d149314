//! The two texts that are made from the table: `--help` and `docs/configuration.md`.

use std::fmt::Write as _;

use super::table::{COMMANDS, Effect, FLAGS, Flag, Group, SETTINGS, Takes, flag_of};

/// Columns of `--help`: what a terminal shows without breaking lines.
const WIDTH: usize = 100;
/// Where the meanings begin: behind the longest name, `explain <container> [--json]`.
const COLUMN: usize = 33;

/// The text of `remora --help`.
#[must_use]
pub fn help_text() -> String {
    let mut text = String::from(
        "remora: keeps the ports and the health of every Docker container true in Consul\n\n\
         Usage:\n  remora [command] [options]\n  remora [registrator's options] consul://host:port\n\n\
         Commands:\n",
    );
    for (usage, meaning) in COMMANDS {
        entry(&mut text, usage, meaning);
    }
    text.push_str("\nOptions (-x and --x are the same; they win over the environment):\n");
    for flag in FLAGS {
        let dashes = if matches!(flag.effect, Effect::Command(..)) && flag.name.len() > 1 { "--" } else { "-" };
        let spelled = format!("{dashes}{}{}", flag.name, argument(flag));
        let meaning = match flag.effect {
            Effect::Sets(variable) => format!("{variable}={}", if flag.takes == Takes::Nothing { "true" } else { "…" }),
            Effect::SetsSeconds(variable) => format!("{variable}, in seconds"),
            Effect::Nothing(instead) => format!("no effect: {instead}"),
            Effect::Command(_, meaning) => meaning.to_owned(),
        };
        entry(&mut text, &spelled, &meaning);
    }
    entry(&mut text, "consul://host:port", "Consul's address; wins over CONSUL_HTTP_ADDR; also");
    entry(&mut text, "", "consul-tls://host:port, consul-unix:///path/of/socket");
    for group in Group::ALL {
        push(&mut text, format_args!("\n{} (environment):\n", group.title()));
        for setting in SETTINGS.iter().filter(|setting| setting.group == group) {
            let meaning = match setting.default {
                "" => format!("{} [{}]", setting.meaning, setting.values),
                default => format!("{} [{}; default: {default}]", setting.meaning, setting.values),
            };
            // The quotes of the Markdown say nothing in a terminal.
            let meaning = meaning.replace('`', "");
            entry(&mut text, setting.variable, &meaning);
        }
    }
    text.push_str("\nExit status: 0; 1 when something failed; 64 when the configuration cannot be used.\n");
    text
}

/// Writing to a string cannot fail.
fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _infallible = text.write_fmt(arguments);
}

fn argument(flag: &Flag) -> &'static str {
    match flag.takes {
        Takes::Nothing => "",
        Takes::Text => " <text>",
        Takes::Number => " <number>",
    }
}

/// A name, and its meaning in a column beside it.
fn entry(text: &mut String, name: &str, meaning: &str) {
    let mut line = format!("  {name:<width$} ", width = COLUMN - 3);
    let mut fresh = true;
    for word in meaning.split_whitespace() {
        if !fresh && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(COLUMN);
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

/// The text of `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(INTRODUCTION);
    for group in Group::ALL {
        push(&mut text, format_args!("\n## {}\n\n", group.title()));
        text.push_str("| Variable | Flag | Default | Values | Meaning |\n|---|---|---|---|---|\n");
        for setting in SETTINGS.iter().filter(|setting| setting.group == group) {
            let flag = flag_of(setting.variable).map_or(String::new(), |flag| format!("`-{}`", flag.name));
            let default = if setting.default.is_empty() { String::new() } else { code(setting.default) };
            push(
                &mut text,
                format_args!(
                    "| `{}` | {flag} | {default} | {} | {} |\n",
                    setting.variable, setting.values, setting.meaning
                ),
            );
        }
    }
    text.push_str(COMMAND_LINE);
    text.push_str("| Command | Meaning |\n|---|---|\n");
    for (usage, meaning) in COMMANDS {
        push(&mut text, format_args!("| `remora {usage}` | {meaning} |\n"));
    }
    text.push_str(REGISTRATOR);
    text.push_str("| Flag | What it does |\n|---|---|\n");
    for flag in FLAGS {
        let meaning = match flag.effect {
            Effect::Sets(variable) => format!("the same as `{variable}`"),
            Effect::SetsSeconds(variable) => format!(
                "the same as `{variable}`, in seconds; `0` leaves it as it is, more than a day is read as a day"
            ),
            Effect::Nothing(instead) => format!("accepted without an effect: {instead}"),
            Effect::Command(..) => continue,
        };
        push(&mut text, format_args!("| `-{}{}` | {meaning} |\n", flag.name, argument(flag)));
    }
    text.push_str(REGISTRIES);
    text
}

/// A default that is a value stands as code, one that is a phrase as text.
fn code(default: &str) -> String {
    if default.contains(' ') { default.to_owned() } else { format!("`{default}`") }
}

const INTRODUCTION: &str = "\
# Configuration of the agent

<!-- Made from src/config/table.rs by `UPDATE_DOCS=1 cargo test docs`; do not edit it here. -->

Remora is configured by environment variables. How a single container is published is decided by [its labels](labels.md), and how
it is healed, if that is switched on, by [others](healing.md#strategies-and-labels).

- An empty variable counts as not set. Blanks at the ends of a value are cut off.
- Switches of `REMORA_*` take `true`, `false`, `1`, `0`, `yes`, `no`, `on`, `off`; those of `CONSUL_*` what Consul takes:
  `true`, `false`, `1`, `0`, `t`, `f`.
- Durations have a unit: `30s`, `1m30s`. Lists are divided by commas; `\\,` is a comma within an item.
- `remora check-config` prints the settings in force, without secrets. When something is wrong, Remora ends with status 64
  and tells everything that is, at once. A `REMORA_*` variable that it does not know is a warning with the nearest name
  that it knows.
";

const COMMAND_LINE: &str = "
## Command line

`remora [command] [options]`. Options win over variables. `-x` and `--x` are the same; a value follows after `=` or as the
next argument; a switch is set by its name alone, or by `-x=true` and `-x=false`.

";

const REGISTRATOR: &str = "
### Registrator's command line

`remora -internal -cleanup -resync 30 consul://host:8500` does what registrator would. The flags may also follow the URI,
and go with every command.

";

const REGISTRIES: &str = "
The registry URI is `consul://host:port`, `consul-tls://host:port` or `consul-unix:///path/of/socket`, and wins over
`CONSUL_HTTP_ADDR`; without a host, that variable counts, or its default. Registrator's other registries (`consulkv`, `etcd`,
`skydns2`, `zookeeper`) are refused: Remora speaks to Consul's service catalog only.
";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn docs_configuration_md_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, markdown()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == markdown(),
            "docs/configuration.md is older than src/config/table.rs; to renew it: UPDATE_DOCS=1 cargo test docs"
        );
    }

    #[test]
    fn help_names_every_variable_flag_and_command_in_lines_that_fit() {
        let help = help_text();
        for setting in SETTINGS {
            assert!(help.contains(&format!("\n  {} ", setting.variable)), "{}", setting.variable);
        }
        for flag in FLAGS {
            assert!(help.contains(&format!("-{}", flag.name)), "{}", flag.name);
        }
        for (usage, _) in COMMANDS {
            assert!(help.contains(&format!("\n  {usage} ")), "{usage}");
        }
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn no_cell_of_a_table_breaks_the_table() {
        for setting in SETTINGS {
            for cell in [setting.default, setting.values, setting.meaning] {
                assert!(!cell.contains(['|', '\n']), "{}", setting.variable);
            }
        }
    }
}
