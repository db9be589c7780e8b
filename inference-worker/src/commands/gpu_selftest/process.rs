//! Stages as processes: what is found comes as lines of JSON, and whatever becomes of the process, the stages
//! after it are run.

use super::Gpus;
use anyhow::{anyhow, Context, Result};
use openledger_engine::backend::cuda::device::driver::Driver;
use openledger_engine::backend::cuda::device::Device;
use openledger_engine::backend::cuda::selftest::report::Finding;
use openledger_engine::backend::cuda::selftest::stages::{Plan, Stage};
use openledger_engine::backend::cuda::selftest::whole::{Ended, InProcess, Runner};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines of a process's errors that are kept.
const LAST_LINES: usize = 12;

/// How long a process that has said its last may take to end.
const GRACE: Duration = Duration::from_secs(10);

/// A line from a stage's process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// Something was found.
    Found(Finding),
    /// The stage has ended.
    Ended(Ended),
}

/// Runs one stage here and says line by line what is found.
///
/// # Errors
/// When there is no such stage.
pub fn run_stage(plan: &Plan, name: &str, gpus: &Gpus, first: usize) -> Result<ExitCode> {
    let mut stages = plan.stages().into_iter();
    let stage = stages.find(|stage| stage.name() == name);
    let stage = stage.with_context(|| format!("no stage {name}"))?;
    let folder = tempfile::tempdir().context("a folder for the test's files")?;
    let devices = open(gpus, &stage);
    let ended = match devices {
        Ok(devices) => {
            let mut runner = InProcess {
                devices: &devices,
                plan,
                folder: folder.path(),
            };
            let ended = runner.run(&stage, first, None, &mut |finding| {
                say(&Line::Found(finding));
            });
            // What a broken device does when it is closed is of no interest any more.
            std::mem::forget(devices);
            ended
        }
        Err(error) => Ended::Broken {
            part: None,
            reason: error.to_string(),
        },
    };
    say(&Line::Ended(ended));
    Ok(ExitCode::SUCCESS)
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

/// Prints a line at once; without a reader there is nothing left to do.
fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    let json = serde_json::to_string(line).unwrap_or_default();
    if writeln!(out, "{json}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// What runs a stage from a part on.
type Start = Box<dyn Fn(&Stage, usize) -> Command>;

/// Runs stages as processes.
pub struct Processes {
    /// Makes the process of a stage that begins with a part.
    pub command: Start,
    /// How long nothing may be heard of one.
    pub silence: Duration,
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
        let mut command = (self.command)(stage, first);
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let reason = format!("its process does not start: {error}");
                return Ended::Broken { part: None, reason };
            }
        };
        let lines = lines_of(child.stdout.take());
        let errors = last_errors(child.stderr.take());
        let mut part = None;
        let mut ended = None;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let wait = left.map_or(self.silence, |left| left.min(self.silence));
            let text = match lines.recv_timeout(wait) {
                Ok(text) => text,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    end(&mut child);
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Ended::Stopped;
                    }
                    let silence = self.silence.as_secs();
                    let reason = format!("nothing was heard of it for {silence} s: stopped");
                    return Ended::Broken { part, reason };
                }
            };
            match serde_json::from_str(&text) {
                Ok(Line::Found(finding)) => {
                    if let Finding::Begins { part: number, .. } = &finding {
                        part = Some(*number);
                    }
                    found(finding);
                }
                Ok(Line::Ended(how)) => ended = Some(how),
                // Libraries say things where they should not.
                Err(_) => eprintln!("{text}"),
            }
        }
        let status = end_by_itself(&mut child);
        // Something that the process started may hold its errors open; what it said itself is there.
        let errors = if ended.is_none() {
            joined(errors)
        } else {
            String::new()
        };
        ended.unwrap_or_else(|| Ended::Broken {
            part,
            reason: format!("its process ended: {status}{errors}"),
        })
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

/// Passes lines on to this process's errors, and gives the last of them in the end.
fn last_errors(from: Option<impl Read + Send + 'static>) -> JoinHandle<VecDeque<String>> {
    let lines = lines_of(from);
    std::thread::spawn(move || {
        let mut last = VecDeque::new();
        for line in lines {
            eprintln!("{line}");
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        last
    })
}

fn joined(errors: JoinHandle<VecDeque<String>>) -> String {
    let lines = errors.join().unwrap_or_default();
    lines.iter().map(|line| format!("\n    {line}")).collect()
}

/// Ends a process. One that a device holds on to is left to itself.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = waited(child);
}

/// Waits for a process to end by itself, and says how.
fn end_by_itself(child: &mut Child) -> String {
    match waited(child) {
        Some(status) => status,
        None => {
            end(child);
            "it did not come to its end".to_owned()
        }
    }
}

fn waited(child: &mut Child) -> Option<String> {
    let until = Instant::now() + GRACE;
    while Instant::now() < until {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.to_string()),
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_engine::backend::cuda::selftest::report::{Figure, Section};

    /// Runs a script as a stage, and gives what was found and how it ended.
    fn script(text: &str, limit: Option<Duration>) -> (Vec<Finding>, Ended) {
        let text = text.to_owned();
        let mut runner = Processes {
            command: Box::new(move |_, first| {
                let mut command = Command::new("sh");
                command.arg("-c").arg(&text).env("FIRST", first.to_string());
                command
            }),
            silence: Duration::from_secs(if limit.is_some() { 60 } else { 5 }),
        };
        let mut found = Vec::new();
        let ended = runner.run(&Stage::Compile, 3, limit, &mut |finding| {
            found.push(finding);
        });
        (found, ended)
    }

    fn line(line: &Line) -> String {
        format!("echo '{}'\n", serde_json::to_string(line).unwrap())
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
            + "echo 'NCCL version 2.30.7'\n"
            + &line(&Line::Found(Finding::Figure(figure)))
            + &line(&Line::Found(Finding::failure(
                Section::Kernels,
                "gemm",
                "wrong",
            )))
            + &line(&Line::Ended(ended.clone()))
            + "[ $FIRST = 3 ]";
        let (found, how) = script(&text, Some(Duration::from_secs(60)));
        assert_eq!(how, ended);
        assert_eq!(found.len(), 3);
        assert!(matches!(&found[1], Finding::Figure(f) if f.achieved == 1.5 && f.unit == "tok/s"));
        assert!(matches!(&found[2], Finding::Outcome(Section::Kernels, o) if !o.passed));
    }

    #[test]
    fn a_process_that_crashes_should_be_told_apart_with_its_part_and_its_last_words() {
        let text = begins(7) + "echo 'an illegal instruction' >&2\nkill -SEGV $$";
        let (_, ended) = script(&text, Some(Duration::from_secs(60)));
        let Ended::Broken { part, reason } = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(part, Some(7));
        assert!(reason.contains("signal: 11"), "{reason}");
        assert!(reason.contains("an illegal instruction"), "{reason}");
        // Nor does a status of success stand for an end that was never said.
        let (_, ended) = script("exit 0", Some(Duration::from_secs(60)));
        assert!(
            matches!(ended, Ended::Broken { part: None, .. }),
            "{ended:?}"
        );
    }

    #[test]
    fn a_process_that_hangs_should_be_ended() {
        let text = begins(2) + "exec sleep 600";
        let (found, ended) = script(&text, None);
        assert_eq!(found.len(), 1);
        let Ended::Broken { part, reason } = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(part, Some(2));
        assert!(reason.contains("nothing was heard of it"), "{reason}");
        let (_, ended) = script(&text, Some(Duration::from_millis(300)));
        assert_eq!(ended, Ended::Stopped);
    }
}
