//! What a run tells those who watch it: a bar in a terminal, or one JSON object per line.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins, or goes on from a checkpoint.
    Start {
        /// What is trained.
        what: String,
        /// Steps of the whole run.
        steps: usize,
        /// Steps already done.
        done: usize,
        /// Values that are trained.
        parameters: usize,
    },
    /// A step was done.
    Step {
        /// Its number, from 1.
        step: usize,
        /// Steps of the whole run.
        steps: usize,
        /// Training loss, nats per token, of this step.
        loss: f64,
        /// Learning rate of this step.
        rate: f64,
        /// Norm of the gradient before clipping.
        norm: f64,
        /// Tokens per second since the run began or went on.
        tokens_per_second: f64,
        /// Seconds left at this speed.
        seconds_left: f64,
    },
    /// The held-out part was evaluated.
    HeldOut {
        /// After this many steps.
        step: usize,
        /// Nats per token.
        loss: f64,
        /// e to the loss.
        perplexity: f64,
    },
    /// A checkpoint was written.
    Saved {
        /// After this many steps.
        step: usize,
        /// Where.
        path: String,
    },
    /// The run is over.
    Done {
        /// Steps done.
        steps: usize,
        /// Seconds of this process.
        seconds: f64,
        /// Why it ended.
        reason: String,
    },
}

/// Receives events.
pub trait Progress: Send + Sync {
    /// Called for every event, from the training thread.
    fn on(&self, event: &Event);
}

/// Ignores everything.
pub struct Silent;

impl Progress for Silent {
    fn on(&self, _: &Event) {}
}

/// Writes one JSON object per line.
pub struct JsonLines<W: Write + Send>(Mutex<W>);

impl<W: Write + Send> JsonLines<W> {
    /// Writes to `sink`; a sink that fails is not written to any more than the terminal is waited for.
    pub fn new(sink: W) -> Self {
        Self(Mutex::new(sink))
    }
}

impl<W: Write + Send> Progress for JsonLines<W> {
    fn on(&self, event: &Event) {
        if let (Ok(mut sink), Ok(line)) = (self.0.lock(), serde_json::to_string(event)) {
            if let Err(error) = writeln!(sink, "{line}").and_then(|()| sink.flush()) {
                tracing::debug!(%error, "progress line lost");
            }
        }
    }
}

/// A progress bar on standard error.
pub struct Terminal {
    bar: ProgressBar,
    held_out: Mutex<String>,
}

impl Default for Terminal {
    fn default() -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:>16} {bar:30} {pos}/{len} steps, {elapsed} spent, {msg}",
        );
        let bar = ProgressBar::new(0);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self {
            bar,
            held_out: Mutex::default(),
        }
    }
}

impl Progress for Terminal {
    fn on(&self, event: &Event) {
        match event {
            Event::Start {
                what, steps, done, ..
            } => {
                self.bar.set_length(*steps as u64);
                self.bar.set_position(*done as u64);
                self.bar.set_prefix(what.clone());
            }
            Event::Step {
                step,
                loss,
                tokens_per_second,
                seconds_left,
                ..
            } => {
                self.bar.set_position(*step as u64);
                let held = self.held_out.lock().map(|h| h.clone()).unwrap_or_default();
                self.bar.set_message(format!(
                    "{seconds_left:.0} s left, loss {loss:.3}{held}, {tokens_per_second:.0} tokens/s"
                ));
            }
            Event::HeldOut { perplexity, .. } => {
                if let Ok(mut held) = self.held_out.lock() {
                    *held = format!(", held-out perplexity {perplexity:.2}");
                }
            }
            Event::Saved { .. } => {}
            Event::Done { reason, .. } => self.bar.finish_with_message(reason.clone()),
        }
    }
}

/// Asks a run to stop after the step it is at; clones share one flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks; a signal handler may call this.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
