//! Stages as processes: what is found comes as lines of JSON, and whatever becomes of the process, the stages
//! after it are run.

use super::{Gpus, GRACE};
use anyhow::{anyhow, Context, Result};
use openledger_engine::backend::cuda::device::driver::Driver;
use openledger_engine::backend::cuda::device::Device;
use openledger_engine::backend::cuda::selftest::report::Finding;
use openledger_engine::backend::cuda::selftest::stages::{Plan, Stage};
use openledger_engine::backend::cuda::selftest::whole::{Ended, InProcess, Runner};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines of a process's errors that are kept.
const LAST_LINES: usize = 12;

/// A line from a stage's process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// Something was found.
    Found(Finding),
    /// The stage has ended.
    Ended {
        /// How.
        how: Ended,
        /// Lines of what was found: some may have been lost among what libraries print.
        findings: usize,
    },
}

/// Runs one stage here and says line by line what is found. Its process ends with it, without a look at what a
/// broken device does when it is closed, or when nobody is there any more to hear of it.
///
/// # Errors
/// When there is no such stage.
pub fn run_stage(
    plan: &Plan,
    name: &str,
    gpus: &Gpus,
    first: usize,
    folder: &Path,
) -> Result<ExitCode> {
    let mut stages = plan.stages().into_iter();
    let stage = stages.find(|stage| stage.name() == name);
    let stage = stage.with_context(|| format!("no stage {name}"))?;
    std::thread::spawn(|| {
        // The parent says nothing; its end of the pipe is closed when it dies.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::thread::spawn(|| {
            // A driver may not come to an end with what it clears up.
            std::thread::sleep(GRACE);
            std::process::abort();
        });
        std::process::exit(1);
    });
    let devices = open(gpus, &stage);
    let mut findings = 0;
    let how = match devices {
        Ok(devices) => {
            let mut runner = InProcess {
                devices: &devices,
                plan,
                folder,
            };
            let ended = runner.run(&stage, first, None, &mut |finding| {
                findings += 1;
                say(&Line::Found(finding));
            });
            std::mem::forget(devices);
            ended
        }
        Err(error) => Ended::Broken {
            part: None,
            reason: error.to_string(),
        },
    };
    say(&Line::Ended { how, findings });
    std::process::exit(0);
}

/// The devices that a stage takes.
fn open(gpus: &Gpus, stage: &Stage) -> Result<Vec<Arc<dyn Device>>> {
    let ordinals = gpus.ordinals()?;
    let count = if stage.is_ranked() { ordinals.len() } else { 1 };
    let open = |ordinal: &u32| {
        let device = Driver::open(*ordinal).map_err(|error| anyhow!("device {ordinal}: {error}"));
        Ok(Arc::new(device?) as Arc<dyn Device>)
    };
    ordinals.iter().take(count).map(open).collect()
}

/// Prints a line at once, whatever a library has printed before it; without a reader there is nothing left to
/// do.
fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    let json = serde_json::to_string(line).unwrap_or_default();
    let line = format!("\n{json}\n");
    let said = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    if said.is_err() {
        std::process::exit(1);
    }
}

/// What runs a stage from a part on, with a folder for its files.
type Start = Box<dyn Fn(&Stage, usize, &Path) -> Command>;

/// Runs stages as processes.
pub struct Processes {
    /// Makes the process of a stage that begins with a part.
    pub command: Start,
    /// How long nothing may be heard of one.
    pub silence: Duration,
    /// How long one that has said its last may take to end, and what it said to be read.
    pub grace: Duration,
}

impl Runner for Processes {
    fn run(
        &mut self,
        stage: &Stage,
        first: usize,
        limit: Option<Duration>,
        found: &mut dyn FnMut(Finding),
    ) -> Ended {
        let deadline = limit.map(|limit| Instant::now() + limit);
        // Removed here: a process that is ended cannot.
        let folder = match tempfile::tempdir() {
            Ok(folder) => folder,
            Err(error) => {
                let reason = format!("no folder for its files: {error}");
                return Ended::Broken { part: None, reason };
            }
        };
        let mut command = (self.command)(stage, first, folder.path());
        // Nothing is written to it: it tells the process that this one is there.
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let reason = format!("its process does not start: {error}");
                return Ended::Broken { part: None, reason };
            }
        };
        let lines = lines_of(child.stdout.take());
        let errors = passed_on(lines_of(child.stderr.take()));
        let (mut part, mut heard) = (None, 0);
        let how = loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = left.map_or(self.silence, |left| left.min(self.silence));
            let text = match lines.recv_timeout(wait) {
                Ok(text) => text,
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.end_by_itself(&mut child);
                    let words = self.last_words(&errors);
                    let reason = format!("its process ended: {status}{words}");
                    return Ended::Broken { part, reason };
                }
                Err(RecvTimeoutError::Timeout) => {
                    let stopped = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    self.end(&mut child);
                    if stopped {
                        return Ended::Stopped;
                    }
                    let silence = self.silence.as_secs();
                    let words = self.last_words(&errors);
                    let reason = format!("nothing was heard of it for {silence} s: stopped{words}");
                    return Ended::Broken { part, reason };
                }
            };
            match serde_json::from_str(&text) {
                Ok(Line::Found(finding)) => {
                    if let Finding::Begins { part: number, .. } = &finding {
                        part = Some(*number);
                    }
                    heard += 1;
                    found(finding);
                }
                Ok(Line::Ended { how, findings }) if heard == findings => break how,
                Ok(Line::Ended { how, findings }) => break incomplete(how, heard, findings),
                Err(_) if text.is_empty() => {}
                // Libraries say things where they should not.
                Err(_) => eprintln!("{text}"),
            }
        };
        // What a driver does when its process ends says nothing of the stage.
        self.end_by_itself(&mut child);
        how
    }
}

/// How a stage ended of which not all was heard that it found.
fn incomplete(how: Ended, heard: usize, findings: usize) -> Ended {
    let lost = format!("{heard} of {findings} things that it found could be read");
    match how {
        Ended::Broken { part, reason } => Ended::Broken {
            part,
            reason: format!("{reason}; {lost}"),
        },
        Ended::Done | Ended::Stopped => Ended::Broken {
            part: None,
            reason: lost,
        },
    }
}

impl Processes {
    /// The last lines that a process wrote as errors. Something that it started may hold them open: what
    /// comes within the grace is taken.
    fn last_words(&self, errors: &Receiver<String>) -> String {
        let until = Instant::now() + self.grace;
        let mut last = VecDeque::new();
        while let Ok(line) = errors.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
            if Instant::now() >= until {
                break;
            }
        }
        last.iter().map(|line| format!("\n    {line}")).collect()
    }

    /// Ends a process. One that a device holds on to is left to itself.
    fn end(&self, child: &mut Child) {
        let _ = child.kill();
        let _ = self.waited(child);
    }

    /// Waits for a process to end by itself, and says how.
    fn end_by_itself(&self, child: &mut Child) -> String {
        match self.waited(child) {
            Some(status) => status,
            None => {
                self.end(child);
                "it did not come to its end".to_owned()
            }
        }
    }

    fn waited(&self, child: &mut Child) -> Option<String> {
        let until = Instant::now() + self.grace;
        while Instant::now() < until {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Some(error.to_string()),
            }
        }
        None
    }
}

/// The lines that come, until there are no more.
fn lines_of(from: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let Some(from) = from else {
            return;
        };
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while matches!(reader.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if send.send(text).is_err() {
                return;
            }
        }
    });
    lines
}

/// The lines, each printed as an error of this process first.
fn passed_on(lines: Receiver<String>) -> Receiver<String> {
    let (send, passed) = channel();
    std::thread::spawn(move || {
        for line in lines {
            eprintln!("{line}");
            // They are printed whether anybody waits for them or not.
            let _ = send.send(line);
        }
    });
    passed
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_engine::backend::cuda::selftest::report::{Figure, Section};

    /// Runs a script as a stage, and gives what was found and how it ended.
    fn script(text: &str, limit: Option<Duration>) -> (Vec<Finding>, Ended) {
        let text = text.to_owned();
        let mut runner = Processes {
            command: Box::new(move |_, first, folder| {
                let mut command = Command::new("sh");
                command.arg("-c").arg(&text).env("FIRST", first.to_string());
                command.env("FOLDER", folder);
                command
            }),
            silence: Duration::from_secs(if limit.is_some() { 60 } else { 3 }),
            grace: Duration::from_secs(2),
        };
        let mut found = Vec::new();
        let ended = runner.run(&Stage::Compile, 3, limit, &mut |finding| {
            found.push(finding);
        });
        (found, ended)
    }

    fn line(line: &Line) -> String {
        format!(
            "printf '\\n%s\\n' '{}'\n",
            serde_json::to_string(line).unwrap()
        )
    }

    fn ends(how: Ended, findings: usize) -> String {
        line(&Line::Ended { how, findings })
    }

    fn begins(part: usize) -> String {
        let name = "a part".to_owned();
        line(&Line::Found(Finding::Begins { part, name }))
    }

    #[test]
    fn what_a_process_finds_should_come_line_by_line_with_how_it_ended() {
        let figure = Figure::plain("decode", 1.5, "tok/s");
        let ended = Ended::Broken {
            part: Some(4),
            reason: "an illegal address".to_owned(),
        };
        let text = begins(4)
            + "printf 'NCCL version 2.30.7'\n"
            + &line(&Line::Found(Finding::Figure(figure)))
            + &line(&Line::Found(Finding::failure(
                Section::Kernels,
                "gemm",
                "wrong",
            )))
            + "[ $FIRST = 3 ] || exit\n"
            + &ends(ended.clone(), 3);
        let (found, how) = script(&text, Some(Duration::from_secs(60)));
        assert_eq!(how, ended);
        assert_eq!(found.len(), 3);
        assert!(matches!(&found[1], Finding::Figure(f) if f.achieved == 1.5 && f.unit == "tok/s"));
        assert!(matches!(&found[2], Finding::Outcome(Section::Kernels, o) if !o.passed));
    }

    #[test]
    fn a_stage_that_has_ended_should_be_done_however_long_its_process_takes() {
        let text = begins(0) + &ends(Ended::Done, 1) + "exec sleep 30";
        let begin = Instant::now();
        let (found, ended) = script(&text, None);
        assert_eq!((found.len(), ended), (1, Ended::Done));
        // The process was not waited for to its end.
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn what_was_found_and_cannot_be_read_should_be_missed() {
        let text = begins(0) + "printf '{\"found\":{\"outcome\n'\n" + &ends(Ended::Done, 2);
        let (_, ended) = script(&text, None);
        let Ended::Broken { part: None, reason } = ended else {
            panic!("{ended:?}");
        };
        assert!(reason.starts_with("1 of 2 things"), "{reason}");
    }

    #[test]
    fn the_folder_of_a_process_should_go_with_it_however_it_ends() {
        let told = r#"echo "at $FOLDER" >&2; [ -d "$FOLDER" ] && touch "$FOLDER/file""#;
        let (_, ended) = script(&format!("{told}\nkill -KILL $$"), None);
        let Ended::Broken { reason, .. } = ended else {
            panic!("{ended:?}");
        };
        let (_, folder) = reason.rsplit_once("at ").unwrap();
        assert!(folder.starts_with('/'), "{reason}");
        assert!(!Path::new(folder).exists(), "{reason}");
    }

    #[test]
    fn a_process_that_crashes_should_be_told_apart_with_its_part_and_its_last_words() {
        // What it has started holds its errors open.
        let text =
            begins(7) + "echo 'an illegal instruction' >&2\nsleep 30 >/dev/null &\nkill -SEGV $$";
        let begin = Instant::now();
        let (_, ended) = script(&text, Some(Duration::from_secs(60)));
        let Ended::Broken { part, reason } = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(part, Some(7));
        assert!(reason.contains("signal: 11"), "{reason}");
        assert!(reason.contains("an illegal instruction"), "{reason}");
        assert!(begin.elapsed() < Duration::from_secs(30));
        // Nor does a status of success stand for an end that was never said.
        let (_, ended) = script("exit 0", Some(Duration::from_secs(60)));
        assert!(
            matches!(ended, Ended::Broken { part: None, .. }),
            "{ended:?}"
        );
    }

    #[test]
    fn a_process_that_hangs_should_be_ended() {
        let text = begins(2) + "echo 'waiting for the device' >&2\nexec sleep 600";
        let (found, ended) = script(&text, None);
        assert_eq!(found.len(), 1);
        let Ended::Broken { part, reason } = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(part, Some(2));
        assert!(reason.contains("nothing was heard of it"), "{reason}");
        assert!(reason.contains("waiting for the device"), "{reason}");
        let (_, ended) = script(&text, Some(Duration::from_millis(300)));
        assert_eq!(ended, Ended::Stopped);
    }
}
