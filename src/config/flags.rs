//! The command line: our commands, and registrator's own form, flags and registry URI.
//!
//! The syntax is that of Go's `flag` package, which registrator uses: `-x` and `--x` are the same, a value follows after
//! `=` or as the next argument, a switch takes a value only after `=`. Unlike there, flags may also follow the URI or the
//! command: putting them there was a frequent mistake of registrator's users, and they were ignored without a word.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::iter::Peekable;
use std::time::Duration;

use super::build::DAY;
use super::consul::{Registry, is_registry, registry};
use super::errors::{ConfigError, Findings, shown_address};
use super::nearest::nearest;
use super::parse::{Given, duration, go_boolean, whole};
use super::table::{COMMANDS, CommandFlag, Effect, FLAGS, Flag, Takes};
use super::{Command, PauseScope};

/// The shortest and the longest pause of healing that ends by itself.
const PAUSE_LEAST: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the command line says.
#[derive(Default)]
pub(super) struct Arguments {
    /// What to do.
    pub(super) command: Command,
    /// Variable → what a flag sets it to.
    pub(super) overrides: BTreeMap<&'static str, Override>,
    /// Registrator's registry URI.
    pub(super) registry: Option<Registry>,
    /// What of it sets something, as it was given: those flags with their values, and the registry URI.
    pub(super) settings: Vec<String>,
}

/// A flag in the place of a variable.
pub(super) struct Override {
    /// `-resync`
    pub(super) flag: String,
    /// In the form of the variable: `30s` for `-resync 30`.
    pub(super) text: String,
}

/// Reads the command line without the program's name.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>, findings: &mut Findings) -> Arguments {
    let mut reader = Reader { arguments: Arguments::default(), words: Vec::new(), given: Vec::new(), findings };
    let mut args = args.into_iter().map(text).peekable();
    let mut only_words = false;
    while let Some(argument) = args.next() {
        match argument {
            Err(bytes) => reader.findings.error("argument", bytes, "text in UTF-8"),
            // Compose makes it of `${EXTRA:-}`.
            Ok(argument) if argument.is_empty() => {}
            Ok(argument) if argument == "--" && !only_words => only_words = true,
            Ok(argument) if argument.starts_with('-') && argument != "-" && !only_words => {
                reader.flag(&argument, &mut args);
            }
            Ok(argument) => reader.word(argument),
        }
    }
    reader.finish()
}

/// The text, or what to show in its place.
fn text(argument: OsString) -> Result<String, String> {
    argument.into_string().map_err(|bytes| format!("({} bytes that are not UTF-8)", bytes.len()))
}

/// A flag that belongs to a command.
struct GivenFlag {
    flag: CommandFlag,
    spelled: String,
    value: String,
}

struct Reader<'f> {
    arguments: Arguments,
    /// What is neither a flag nor a URI: the command and what it is about.
    words: Vec<String>,
    /// Flags that belong to a command, as they were spelled, with their values.
    given: Vec<GivenFlag>,
    findings: &'f mut Findings,
}

impl Reader<'_> {
    fn word(&mut self, word: String) {
        if !is_registry(&word) {
            self.words.push(word);
            return;
        }
        let found = registry(&word);
        self.arguments.settings.push(word);
        if self.arguments.registry.is_some() {
            self.findings.error("registry", "", "one registry URI, not several");
        } else {
            self.arguments.registry = self.findings.take(found);
        }
    }

    /// Reads one flag and, if it takes one and none is attached, its value from the arguments that follow.
    fn flag(&mut self, argument: &str, rest: &mut Peekable<impl Iterator<Item = Result<String, String>>>) {
        let body = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')).unwrap_or(argument);
        let (name, attached) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        let spelled = format!("{}{name}", if argument.starts_with("--") { "--" } else { "-" });
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            if attached.is_none() {
                // Most likely its value: nothing good would come of reading that as a command.
                rest.next_if(|next| next.as_ref().is_ok_and(|next| !next.starts_with('-') && !is_registry(next)));
            }
            return self.unknown_flag(&spelled, name);
        };
        let sets = matches!(flag.effect, Effect::Sets(_) | Effect::SetsSeconds(_));
        if sets {
            self.arguments.settings.push(argument.to_owned());
        }
        let value = match (flag.takes, attached) {
            (_, Some(value)) => value.to_owned(),
            (Takes::Nothing, None) => "true".to_owned(),
            (Takes::Text | Takes::Number, None) => match rest.next() {
                Some(Ok(value)) => {
                    self.arguments.settings.extend(sets.then(|| value.clone()));
                    value
                }
                Some(Err(bytes)) => return self.findings.error(&spelled, bytes, "text in UTF-8"),
                None => return self.findings.error(&spelled, "", "a value behind it"),
            },
        };
        if let Err(error) = self.apply(flag, &spelled, &value) {
            self.findings.take::<()>(Err(error));
        }
    }

    fn unknown_flag(&mut self, spelled: &str, name: &str) {
        let hint = nearest(name, FLAGS.iter().map(|flag| flag.name))
            .map_or("; see remora --help".to_owned(), |known| format!("; did you mean -{known}?"));
        self.findings.error(&shown_address(spelled), "", format!("a flag that Remora or registrator knows{hint}"));
    }

    fn apply(&mut self, flag: &'static Flag, spelled: &str, value: &str) -> Result<(), ConfigError> {
        let given = Given { name: spelled, text: value };
        // The type is judged also where the value has no effect: a flag that got another one's value is a mistake.
        let (on, number) = match flag.takes {
            Takes::Nothing => (go_boolean(given)?, 0),
            Takes::Number => (true, whole(given, i64::MIN, i64::MAX).map_err(|_| given.wrong("a whole number"))?),
            Takes::Text => (true, 0),
        };
        match flag.effect {
            Effect::Sets(variable) => {
                let text = if flag.takes == Takes::Nothing { on.to_string() } else { value.to_owned() };
                self.set(variable, spelled, text);
            }
            // With registrator a longer time than the bound of the variable was a way to say "hardly ever", and no mistake.
            Effect::SetsSeconds(variable) if u64::try_from(number).is_ok_and(|number| number > DAY.as_secs()) => {
                let most = DAY.as_secs();
                self.findings.warn(format!(
                    "{spelled} {number} is read as {most}: Remora looks at everything at least once a day"
                ));
                self.set(variable, spelled, format!("{most}s"));
            }
            Effect::SetsSeconds(variable) if number > 0 => {
                self.set(variable, spelled, format!("{number}s"));
            }
            Effect::SetsSeconds(variable) => self.findings.warn(format!(
                "{spelled} {number} has no effect: Remora always looks again after a while; see {variable}"
            )),
            Effect::Nothing(instead) => {
                self.findings.warn(format!("{spelled} has no effect: {instead}"));
            }
            Effect::Command(flag, _) if on => {
                self.given.push(GivenFlag { flag, spelled: spelled.to_owned(), value: value.to_owned() });
            }
            Effect::Command(..) => {}
        }
        Ok(())
    }

    /// The last one wins, as in Go; an empty one (`-ip "$IP"` without that variable) takes an earlier one back.
    fn set(&mut self, variable: &'static str, spelled: &str, text: String) {
        if text.trim().is_empty() {
            self.arguments.overrides.remove(variable);
        } else {
            let entry = Override { flag: spelled.to_owned(), text };
            self.arguments.overrides.insert(variable, entry);
        }
    }

    fn has(&self, flag: CommandFlag) -> bool {
        self.given.iter().any(|given| given.flag == flag)
    }

    /// The container that a command is about.
    fn container(&mut self, command: &str, word: Option<String>) -> String {
        word.unwrap_or_else(|| {
            let expected = format!("the id or the name of a container: remora {command} web");
            self.findings.error(command, "", expected);
            String::new()
        })
    }

    /// Where healing is to stand still or to go on: without a word about it, on this node.
    fn scope(&mut self, words: &mut impl Iterator<Item = String>) -> PauseScope {
        match (self.has(CommandFlag::Node), self.has(CommandFlag::Cluster)) {
            (true, true) => {
                self.findings.error("--node", "", "either --node or --cluster, not both");
                PauseScope::Node
            }
            (false, true) => PauseScope::Cluster,
            (true, false) => PauseScope::Node,
            (false, false) => words.next().map_or(PauseScope::Node, PauseScope::Container),
        }
    }

    /// `--for`.
    fn span(&mut self) -> Option<Duration> {
        let GivenFlag { spelled, value, .. } = self.given.iter().rev().find(|given| given.flag == CommandFlag::For)?;
        let given = Given { name: spelled, text: value };
        let span = duration(given, PAUSE_LEAST, PAUSE_MOST, "such as 30m");
        self.findings.take(span)
    }

    /// Puts the command together from its words and its flags.
    fn finish(mut self) -> Arguments {
        let mut words = std::mem::take(&mut self.words).into_iter();
        let word = words.next();
        let (json, dry_run) = (self.has(CommandFlag::Json), self.has(CommandFlag::DryRun));
        let mut belongs: &[CommandFlag] = &[];
        self.arguments.command = match word.as_deref() {
            Some("help") => Command::Help,
            _ if self.has(CommandFlag::Help) => Command::Help,
            Some("version") => Command::Version,
            _ if self.has(CommandFlag::Version) => Command::Version,
            None | Some("run") => Command::Run,
            Some("healthcheck") => Command::Healthcheck,
            Some("check-config") => Command::CheckConfig,
            Some("doctor") => Command::Doctor,
            Some("explain") => {
                belongs = &[CommandFlag::Json];
                Command::Explain { container: self.container("explain", words.next()), json }
            }
            Some("status") => {
                belongs = &[CommandFlag::Json];
                Command::Status { json }
            }
            Some("heal") => Command::Heal { container: self.container("heal", words.next()) },
            Some("release") => Command::Release { container: self.container("release", words.next()) },
            Some("pause") => {
                belongs = &[CommandFlag::For, CommandFlag::Node, CommandFlag::Cluster];
                let scope = self.scope(&mut words);
                // The rest is why, with or without quotes.
                let reason = words.by_ref().collect::<Vec<_>>().join(" ");
                Command::Pause { scope, span: self.span(), reason }
            }
            Some("resume") => {
                belongs = &[CommandFlag::Node, CommandFlag::Cluster];
                Command::Resume { scope: self.scope(&mut words) }
            }
            Some("sync") => {
                belongs = &[CommandFlag::Once, CommandFlag::DryRun];
                Command::Sync { dry_run }
            }
            Some(other) => {
                let known: Vec<&str> = COMMANDS.iter().filter_map(|(usage, _)| usage.split(' ').next()).collect();
                let expected = nearest(other, known.iter().copied()).map_or_else(
                    || format!("one of {}, or a registry URI such as consul://host:8500", known.join(", ")),
                    |known| format!("a command that Remora knows; did you mean {known}?"),
                );
                self.findings.error("command", shown_address(other), expected);
                // One mistake, one message: what follows belongs to a command that nobody knows.
                return self.arguments;
            }
        };
        for word in words {
            self.findings.error("argument", shown_address(&word), "nothing behind the command");
        }
        for GivenFlag { flag, spelled, .. } in &self.given {
            if !belongs.contains(flag) && !matches!(flag, CommandFlag::Help | CommandFlag::Version) {
                let owner = match flag {
                    CommandFlag::Json => "explain or status",
                    CommandFlag::For => "pause",
                    CommandFlag::Node | CommandFlag::Cluster => "pause or resume",
                    _ => "sync",
                };
                self.findings.error(spelled, "", format!("the command {owner}, to which it belongs"));
            }
        }
        self.arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments and the warnings, or the errors.
    fn parsed(line: &[&str]) -> Result<(Arguments, Vec<String>), Vec<String>> {
        let mut findings = Findings::default();
        let arguments = parse(line.iter().map(OsString::from), &mut findings);
        match findings.finish() {
            Ok(warnings) => Ok((arguments, warnings)),
            Err(errors) => Err(errors.0.iter().map(ToString::to_string).collect()),
        }
    }

    fn command(line: &[&str]) -> Command {
        parsed(line).map(|(arguments, _)| arguments.command).unwrap()
    }

    fn overrides(line: &[&str]) -> Vec<(&'static str, String)> {
        let overrides = parsed(line).map(|(arguments, _)| arguments.overrides).unwrap();
        overrides.into_iter().map(|(variable, given)| (variable, given.text)).collect()
    }

    fn errors(line: &[&str]) -> Vec<String> {
        parsed(line).map(|_| ()).unwrap_err()
    }

    #[test]
    fn every_command_is_understood() {
        for (line, expected) in [
            (&[][..], Command::Run),
            (&["run"], Command::Run),
            (&["healthcheck"], Command::Healthcheck),
            (&["check-config"], Command::CheckConfig),
            (&["doctor"], Command::Doctor),
            (&["explain", "web"], Command::Explain { container: "web".to_owned(), json: false }),
            (&["--json", "explain", "help"], Command::Explain { container: "help".to_owned(), json: true }),
            (&["sync"], Command::Sync { dry_run: false }),
            (&["sync", "--once", "--dry-run"], Command::Sync { dry_run: true }),
            (&["sync", "-dry-run=false"], Command::Sync { dry_run: false }),
            (&["status"], Command::Status { json: false }),
            (&["status", "--json"], Command::Status { json: true }),
            (&["heal", "web"], Command::Heal { container: "web".to_owned() }),
            (&["release", "web"], Command::Release { container: "web".to_owned() }),
            (&["resume"], Command::Resume { scope: PauseScope::Node }),
            (&["resume", "web"], Command::Resume { scope: PauseScope::Container("web".to_owned()) }),
            (&["resume", "--cluster"], Command::Resume { scope: PauseScope::Cluster }),
            (&["help"], Command::Help),
            (&["version"], Command::Version),
            (&["-version"], Command::Version),
            (&["-internal", "doctor", "consul://c:8500"], Command::Doctor),
        ] {
            assert_eq!(command(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_pause_has_a_place_an_end_and_a_reason() {
        let pause = |scope, minutes: Option<u64>, reason: &str| Command::Pause {
            scope,
            span: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
            reason: reason.to_owned(),
        };
        let web = PauseScope::Container("web".to_owned());
        for (line, expected) in [
            (&["pause"][..], pause(PauseScope::Node, None, "")),
            (&["pause", "web"], pause(web.clone(), None, "")),
            (&["pause", "web", "--for", "30m", "being", "mended"], pause(web, Some(30), "being mended")),
            (&["pause", "--node", "being mended"], pause(PauseScope::Node, None, "being mended")),
            (&["pause", "--cluster", "--for=2h", "move"], pause(PauseScope::Cluster, Some(120), "move")),
        ] {
            assert_eq!(command(line), expected, "{line:?}");
        }
        assert_eq!(
            errors(&["pause", "--node", "--cluster"]),
            ["--node: expected either --node or --cluster, not both"]
        );
        for span in ["30", "0s", "2years", "soon"] {
            assert!(errors(&["pause", "--for", span])[0].starts_with(&format!("--for={span}: expected a duration")));
        }
        assert_eq!(errors(&["resume", "--for=1m"]), ["--for: expected the command pause, to which it belongs"]);
        assert_eq!(
            errors(&["doctor", "--node"]),
            ["--node: expected the command pause or resume, to which it belongs"]
        );
        assert_eq!(errors(&["resume", "web", "db"]), ["argument=db: expected nothing behind the command"]);
        assert_eq!(errors(&["heal"]), ["heal: expected the id or the name of a container: remora heal web"]);
    }

    #[test]
    fn every_command_of_the_table_is_a_command() {
        for (usage, _) in COMMANDS {
            let words: Vec<&str> = usage.split(' ').filter(|word| !word.starts_with('[')).collect();
            assert!(parsed(&words).is_ok(), "{usage}");
        }
    }

    #[test]
    fn help_wins_over_the_version_and_both_over_everything_else() {
        for line in [&["--help"][..], &["-h"], &["run", "-h"], &["explain", "--help"], &["-version", "--help"]] {
            let mut findings = Findings::default();
            assert_eq!(parse(line.iter().map(OsString::from), &mut findings).command, Command::Help, "{line:?}");
        }
        let mut findings = Findings::default();
        let line = ["-ip", "--help", "--version", "-nonsense=1"];
        assert_eq!(parse(line.iter().map(OsString::from), &mut findings).command, Command::Version);
    }

    #[test]
    fn registrators_own_command_line_is_understood() {
        let (arguments, warnings) =
            parsed(&["-internal", "-cleanup", "-resync", "30", "-ip=192.0.2.1", "consul://host:8500"]).unwrap();
        assert_eq!(arguments.command, Command::Run);
        assert!(arguments.registry.is_some());
        let set: Vec<_> = arguments.overrides.iter().map(|(name, given)| (*name, given.text.as_str())).collect();
        assert_eq!(set, [("REMORA_ADDRESS", "192.0.2.1"), ("REMORA_INTERNAL", "true"), ("REMORA_RESYNC", "30s")]);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with("-cleanup has no effect: Remora always removes what it registered"),
            "{warnings:?}"
        );
    }

    #[test]
    fn the_syntax_is_that_of_gos_flags() {
        assert_eq!(overrides(&["--internal"]), [("REMORA_INTERNAL", "true".to_owned())]);
        assert_eq!(overrides(&["-internal=F"]), [("REMORA_INTERNAL", "false".to_owned())]);
        assert_eq!(overrides(&["-tags", "-a"]), [("REMORA_TAGS", "-a".to_owned())]);
        assert_eq!(overrides(&["-tags=a=b", "-tags", "c"]), [("REMORA_TAGS", "c".to_owned())]);
        assert_eq!(overrides(&["-ip", ""]), []);
        assert_eq!(
            errors(&["-internal", "false"]),
            ["command=false: expected one of run, healthcheck, check-config, \
            explain, sync, doctor, status, heal, release, pause, resume, help, version, or a registry URI such as consul://host:8500"]
        );
        assert_eq!(errors(&["-ip"]), ["-ip: expected a value behind it"]);
        assert_eq!(errors(&["-internal=yes"]), ["-internal=yes: expected true or false (also 1, 0, t, f)"]);
        assert!(errors(&["---internal"])[0].starts_with("---internal: expected a flag"));
    }

    #[test]
    fn flags_behind_the_uri_count() {
        assert_eq!(overrides(&["consul://c:8500", "-internal"]), [("REMORA_INTERNAL", "true".to_owned())]);
    }

    #[test]
    fn flags_without_a_meaning_are_told_but_their_values_are_still_judged() {
        let line =
            ["-ttl", "60", "-ttl-refresh=30", "-retry-attempts", "-1", "-retry-interval", "2000", "-resync", "0"];
        let (arguments, warnings) = parsed(&line).unwrap();
        assert!(arguments.overrides.is_empty());
        assert_eq!(warnings.len(), 5);
        assert!(warnings.iter().all(|warning| warning.contains("has no effect")), "{warnings:?}");
        assert_eq!(errors(&["-ttl", "abc"]), ["-ttl=abc: expected a whole number"]);
        assert_eq!(errors(&["-resync", "30s"]), ["-resync=30s: expected a whole number"]);
    }

    #[test]
    fn a_resync_of_more_than_a_day_is_one_of_a_day_and_told() {
        for seconds in ["86401", "604800", "9223372036854775807"] {
            let (arguments, warnings) = parsed(&["-resync", seconds]).unwrap();
            assert_eq!(arguments.overrides["REMORA_RESYNC"].text, "86400s");
            assert!(warnings[0].starts_with(&format!("-resync {seconds} is read as 86400")), "{warnings:?}");
        }
        assert!(parsed(&["-resync=86400"]).unwrap().1.is_empty());
    }

    #[test]
    fn unknown_flags_and_commands_are_told_with_the_nearest_known_one_and_without_a_value() {
        assert_eq!(
            errors(&["-intrenal"]),
            ["-intrenal: expected a flag that Remora or registrator knows; did you mean -internal?"]
        );
        assert_eq!(
            errors(&["helthcheck"]),
            ["command=helthcheck: expected a command that Remora knows; did you mean healthcheck?"]
        );
        for line in [&["-token", "hunter2"][..], &["--token=hunter2"]] {
            assert_eq!(errors(line).len(), 1);
            assert!(!errors(line)[0].contains("hunter2"));
        }
    }

    #[test]
    fn what_is_too_much_or_too_little_is_told() {
        assert_eq!(errors(&["explain"]), ["explain: expected the id or the name of a container: remora explain web"]);
        assert_eq!(errors(&["doctor", "web"]), ["argument=web: expected nothing behind the command"]);
        assert_eq!(errors(&["--json"]), ["--json: expected the command explain or status, to which it belongs"]);
        assert_eq!(
            errors(&["explain", "web", "--dry-run"]),
            ["--dry-run: expected the command sync, to which it belongs"]
        );
        assert_eq!(errors(&["consul://a:1", "consul://b:1"]), ["registry: expected one registry URI, not several"]);
    }
}
