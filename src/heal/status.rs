//! One screen that says how healing stands: what `remora status` prints, and `GET /status` answers.
//!
//! The watcher draws the picture when somebody asks for it: at rest there is none, and it costs nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::tell::Told;
use crate::telemetry::{StatusText, clean};

/// Questions that wait: whoever asks gets an answer of a moment ago, or none.
const ASKS: usize = 4;

/// The watcher answers between two events; what takes longer is stuck, or has not begun.
const PATIENCE: Duration = Duration::from_secs(1);

/// How healing stands on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: String,
    /// `REMORA_HEAL`: on, observe.
    pub mode: String,
    /// Healing is paused on the whole node, and why.
    pub paused: Option<String>,
    /// Nothing is done for so many seconds more, after a start or a return.
    pub holdoff_seconds: u64,
    /// Docker's events are followed, and every container was looked at.
    pub docker: bool,
    /// Consul answers.
    pub consul: bool,
    /// What the node's budget allows.
    pub budget: Allowance,
    /// What is being done.
    pub operation: Option<UnderWay>,
    /// Every container, by name.
    pub containers: Vec<Row>,
    /// The last twenty pieces of news, oldest first.
    pub news: Vec<Told>,
}

/// The node's budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Operations that may begin now.
    pub left: usize,
    /// Of so many, a third of the setting while Consul is away.
    pub of: usize,
    /// In so many seconds.
    pub window_seconds: u64,
}

/// An operation under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    /// The place.
    pub name: String,
    /// Why.
    pub cause: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its short id.
    pub container: String,
    /// Its image, as it was asked for.
    pub image: String,
    /// `running/healthy`, `exited (1)`.
    pub state: String,
    /// `on`, `observe`, `off`.
    pub policy: String,
    /// Why it is `off`.
    pub why: Option<String>,
    /// Healing is paused for this container, and why.
    pub paused: Option<String>,
    /// What would be done.
    pub strategy: String,
    /// What is wrong with it, in words.
    pub diagnosis: String,
    /// Attempts that still count.
    pub attempts: usize,
    /// It is thought over again then at the latest, RFC 3339: a back-off, a brake or a quarantine ends, or it is watched.
    pub next_at: Option<String>,
    /// Nothing more is done for a while.
    pub quarantine: Option<Confined>,
    /// How many containers had this place before, by Remora's hand.
    pub generation: u32,
    /// When Remora put it in this place, RFC 3339.
    pub healed: Option<String>,
}

/// A quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    /// One more attempt is made then, RFC 3339.
    pub until: String,
    /// How many in a row this is, from 1.
    pub level: u32,
    /// Why.
    pub reason: String,
}

impl Status {
    /// Whether somebody should look: something is in quarantine, or healing is paused, here or for a container.
    #[must_use]
    pub fn needs_somebody(&self) -> bool {
        self.paused.is_some() || self.containers.iter().any(|row| row.quarantine.is_some() || row.paused.is_some())
    }

    /// As JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // There is nothing in it that has no JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// As text, in columns.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let consul = if self.consul { "Consul answers" } else { "Consul is away" };
        let Allowance { left, of, window_seconds } = self.budget;
        let window = humantime::format_duration(Duration::from_secs(window_seconds));
        line(
            &mut text,
            &format!("{}: healing is {}; {consul}; {left} of {of} operations left in {window}", self.node, self.mode),
        );
        if !self.docker {
            line(&mut text, "Docker is away, or not every container was looked at yet: nothing is decided");
        }
        if let Some(paused) = &self.paused {
            line(&mut text, paused);
        }
        if self.holdoff_seconds > 0 {
            line(
                &mut text,
                &format!("nothing is done for {} s more: the agent or Docker has just come", self.holdoff_seconds),
            );
        }
        if let Some(UnderWay { name, cause, since }) = &self.operation {
            line(&mut text, &format!("under way: {name} ({cause}), since {since}"));
        }
        text.push('\n');
        self.rows(&mut text);
        if !self.news.is_empty() {
            text.push_str("\nlast news\n");
        }
        for Told { time, event, text: news } in &self.news {
            line(&mut text, &format!("{time}  {event:<14}  {news}"));
        }
        text
    }

    fn rows(&self, text: &mut String) {
        const TITLES: [&str; 8] = ["NAME", "CONTAINER", "STATE", "HEAL", "STRATEGY", "TRIES", "GEN", "DIAGNOSIS"];
        if self.containers.is_empty() {
            return line(text, "no containers");
        }
        let cells = |row: &Row| {
            let Row { name, container, state, policy, strategy, diagnosis, attempts, generation, .. } = row;
            let (attempts, generation) = (attempts.to_string(), generation.to_string());
            [name, container, state, policy, strategy, &attempts, &generation, diagnosis]
                .map(|cell| clean(cell).into_owned())
        };
        let table: Vec<[String; 8]> =
            std::iter::once(TITLES.map(str::to_owned)).chain(self.containers.iter().map(cells)).collect();
        let mut widths = [0; 8];
        for row in &table {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let notes = std::iter::once(Vec::new()).chain(self.containers.iter().map(Row::notes));
        for (row, notes) in table.iter().zip(notes) {
            let mut columns = String::new();
            for (cell, width) in row.iter().zip(widths) {
                // Writing to a String cannot fail.
                let _infallible = write!(columns, "{cell:width$}  ");
            }
            line(text, columns.trim_end());
            for note in notes {
                line(text, &format!("  {note}"));
            }
        }
    }
}

impl Row {
    /// What has no room in a column.
    fn notes(&self) -> Vec<String> {
        let quarantine = self.quarantine.as_ref().map(|Confined { until, level, reason }| {
            format!("given up until {until} (level {level}): {reason}; `remora release {}` ends it", self.name)
        });
        quarantine.into_iter().chain(self.paused.clone()).collect()
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(&clean(line));
    text.push('\n');
}

/// What the watcher is asked through.
pub type Asked = mpsc::Receiver<oneshot::Sender<Status>>;

/// Asks the watcher. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Asking(mpsc::Sender<oneshot::Sender<Status>>);

impl Asking {
    /// Both ends. They may be made before there is a watcher: until then nobody answers.
    #[must_use]
    pub fn new() -> (Self, Asked) {
        let (asks, asked) = mpsc::channel(ASKS);
        (Self(asks), asked)
    }

    /// How healing stands now; `None`: the watcher does not answer.
    pub async fn status(&self) -> Option<Status> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(answer).ok()?;
        timeout(PATIENCE, answered).await.ok()?.ok()
    }

    /// For the HTTP server.
    #[must_use]
    pub fn into_text(self) -> StatusText {
        Arc::new(move |json| {
            let asking = self.clone();
            Box::pin(async move {
                match asking.status().await {
                    Some(status) if json => Ok(status.json()),
                    Some(status) => Ok(status.text()),
                    None => {
                        Err("the health-watcher does not answer: it begins when Docker has answered once".to_owned())
                    }
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: &str, policy: &str, diagnosis: &str) -> Row {
        Row {
            name: name.to_owned(),
            container: "0123456789ab".to_owned(),
            image: "app:1".to_owned(),
            state: state.to_owned(),
            policy: policy.to_owned(),
            why: None,
            paused: None,
            strategy: "replace".to_owned(),
            diagnosis: diagnosis.to_owned(),
            attempts: 0,
            next_at: None,
            quarantine: None,
            generation: 0,
            healed: None,
        }
    }

    fn status() -> Status {
        let confined = Confined {
            until: "2026-11-26T08:00:00Z".to_owned(),
            level: 2,
            reason: "3 attempts did not help".to_owned(),
        };
        let (db, shop) = (
            row("db", "exited (137)", "on", "died: exit code 137\u{1b}[m"),
            row("shop_web_1", "running/healthy", "on", "well"),
        );
        Status {
            node: "n1".to_owned(),
            mode: "on".to_owned(),
            paused: None,
            holdoff_seconds: 0,
            docker: true,
            consul: true,
            budget: Allowance { left: 4, of: 6, window_seconds: 600 },
            operation: Some(UnderWay {
                name: "db".to_owned(),
                cause: "died".to_owned(),
                since: "2026-11-26T07:00:00Z".to_owned(),
            }),
            containers: vec![
                Row { attempts: 3, quarantine: Some(confined), ..db },
                row("remora", "running", "off", "it is Remora itself"),
                Row { generation: 2, paused: Some("healing is paused for this container: repair".to_owned()), ..shop },
            ],
            news: vec![Told {
                time: "2026-11-26T07:00:00.000Z".to_owned(),
                event: "healed".to_owned(),
                text: "web was unhealthy: replaced".to_owned(),
            }],
        }
    }

    #[test]
    fn the_picture_is_one_screen_in_columns() {
        let expected = "\
n1: healing is on; Consul answers; 4 of 6 operations left in 10m
under way: db (died), since 2026-11-26T07:00:00Z

NAME        CONTAINER     STATE            HEAL  STRATEGY  TRIES  GEN  DIAGNOSIS
db          0123456789ab  exited (137)     on    replace   3      0    died: exit code 137\u{fffd}[m
  given up until 2026-11-26T08:00:00Z (level 2): 3 attempts did not help; `remora release db` ends it
remora      0123456789ab  running          off   replace   0      0    it is Remora itself
shop_web_1  0123456789ab  running/healthy  on    replace   0      2    well
  healing is paused for this container: repair

last news
2026-11-26T07:00:00.000Z  healed          web was unhealthy: replaced
";
        assert_eq!(status().text(), expected);
    }

    #[test]
    fn what_stands_in_the_way_is_in_the_first_lines() {
        let status = Status {
            paused: Some("healing is paused everywhere: deploy".to_owned()),
            holdoff_seconds: 42,
            docker: false,
            consul: false,
            operation: None,
            containers: Vec::new(),
            news: Vec::new(),
            ..status()
        };
        let expected = "\
n1: healing is on; Consul is away; 4 of 6 operations left in 10m
Docker is away, or not every container was looked at yet: nothing is decided
healing is paused everywhere: deploy
nothing is done for 42 s more: the agent or Docker has just come

no containers
";
        assert_eq!(status.text(), expected);
    }

    #[test]
    fn json_is_read_again_and_says_whether_somebody_should_look() {
        let mut status = status();
        assert_eq!(serde_json::from_str::<Status>(&status.json()).unwrap(), status);
        assert!(status.needs_somebody());
        status.containers.retain(|row| row.name == "remora");
        assert!(!status.needs_somebody());
        status.paused = Some(String::new());
        assert!(status.needs_somebody());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watcher_that_does_not_answer_is_told_as_that() {
        let (asking, mut asked) = Asking::new();
        let text = asking.clone().into_text();
        assert!(text(false).await.unwrap_err().contains("does not answer"));
        let watcher = async {
            // The first question is too old by now.
            while let Some(answer) = asked.recv().await {
                if answer.send(status()).is_ok() {
                    return;
                }
            }
        };
        let (answer, ()) = tokio::join!(text(true), watcher);
        assert_eq!(answer, Ok(status().json()));
        drop(asked);
        assert_eq!(asking.status().await, None);
    }
}
