//! Brings adapters up a tier, beside the engine's loop: threads that read files, and one that copies to
//! the device.

use super::image::AdapterImage;
use super::registry::Registered;
use super::slab::DeviceAdapter;
use super::source::{Brought, Origin};
use super::AdapterId;
use crate::backend::Copier;
use crate::error::StepError;
use crate::serve::Command;
use openledger_model::ModelConfig;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What became of bringing an adapter's files.
pub(crate) struct Near {
    pub id: AdapterId,
    /// How long it took.
    pub result: Result<Duration, String>,
}

/// What became of reading an adapter.
pub(crate) struct Fetched {
    pub id: AdapterId,
    pub image: Result<Arc<AdapterImage>, String>,
    /// The tier that it came from.
    pub tier: &'static str,
    pub took: Duration,
}

/// What became of copying an adapter.
pub(crate) struct Copied {
    pub id: AdapterId,
    pub result: Result<(), StepError>,
    pub took: Duration,
}

/// An adapter to read.
struct Fetch {
    adapter: Arc<Registered>,
    /// How long its files took to come within reach.
    waited: Duration,
}

struct Copy {
    image: Arc<AdapterImage>,
    adapter: Arc<DeviceAdapter>,
}

/// The threads; they end when this is dropped.
pub(crate) struct Loader {
    fetches: Sender<Fetch>,
    copies: Sender<Copy>,
    done: Sender<Command>,
}

impl Loader {
    /// Starts `threads` threads that read, and the one that copies; results go to `done`.
    pub fn start(
        config: &ModelConfig,
        copier: Arc<dyn Copier>,
        threads: usize,
        done: &Sender<Command>,
    ) -> std::io::Result<Self> {
        let (fetches, waiting) = mpsc::channel::<Fetch>();
        let waiting = Arc::new(Mutex::new(waiting));
        for n in 0..threads {
            let (config, waiting, done) = (config.clone(), Arc::clone(&waiting), done.clone());
            let copier = Arc::clone(&copier);
            std::thread::Builder::new()
                .name(format!("adapter-read-{n}"))
                .spawn(move || read_all(&config, &*copier, &waiting, &done))?;
        }
        let (copies, waiting) = mpsc::channel::<Copy>();
        let (done, near) = (done.clone(), done.clone());
        std::thread::Builder::new()
            .name("adapter-copy".to_owned())
            .spawn(move || {
                for Copy { image, adapter } in waiting {
                    let copied = copy(&*copier, &image, &adapter, &done);
                    if done.send(Command::Copied(copied)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            fetches,
            copies,
            done: near,
        })
    }

    /// Has an adapter's files brought to where they can be read; nobody here waits for that.
    pub fn bring(&self, adapter: &Registered) {
        let (id, done, started) = (adapter.id, self.done.clone(), Instant::now());
        let brought = Brought::new(move |result| {
            let result = result.map(|()| started.elapsed());
            // An error means that the engine is gone.
            let _ = done.send(Command::Near(Near { id, result }));
        });
        match &adapter.origin {
            Origin::Held(_) => brought.tell(Ok(())),
            Origin::Source(source) => {
                // A source is somebody else's code. What it drops tells that it failed.
                let _ = catch_unwind(AssertUnwindSafe(|| source.bring(brought)));
            }
        }
    }

    /// Reads an adapter into host memory, whose files took so long to come within reach.
    pub fn fetch(&self, adapter: Arc<Registered>, waited: Duration) {
        // An error means that the threads are gone, and with them the engine.
        let _ = self.fetches.send(Fetch { adapter, waited });
    }

    /// Copies an adapter to the device.
    pub fn copy(&self, image: Arc<AdapterImage>, adapter: Arc<DeviceAdapter>) {
        let _ = self.copies.send(Copy { image, adapter });
    }
}

fn read_all(
    config: &ModelConfig,
    copier: &dyn Copier,
    waiting: &Mutex<Receiver<Fetch>>,
    done: &Sender<Command>,
) {
    loop {
        let next = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(Fetch { adapter, waited }) = next else {
            return;
        };
        let started = Instant::now();
        let (image, tier) = match &adapter.origin {
            Origin::Held(image) => (Ok(Arc::clone(image)), "host"),
            Origin::Source(source) => {
                // A source is somebody else's code: its panic is this adapter's failure.
                let image = catch_unwind(AssertUnwindSafe(|| {
                    let read = source.read(config)?;
                    if read.digest != adapter.id.0 {
                        return Err("its files were changed since it was loaded".to_owned());
                    }
                    copier.lay_out(&read).map_err(|e| e.to_string())
                }));
                let image = image.unwrap_or_else(|_| Err("reading it panicked".to_owned()));
                let tier = catch_unwind(AssertUnwindSafe(|| source.tier()));
                (image.map(Arc::new), tier.unwrap_or("disk"))
            }
        };
        let fetched = Fetched {
            id: adapter.id,
            image,
            tier,
            // What it would take to have it again.
            took: waited + started.elapsed(),
        };
        if done.send(Command::Fetched(fetched)).is_err() {
            return;
        }
    }
}

fn copy(
    copier: &dyn Copier,
    image: &AdapterImage,
    adapter: &DeviceAdapter,
    done: &Sender<Command>,
) -> Copied {
    let started = Instant::now();
    let layers = image.table().layers();
    let mut result = Ok(());
    for layer in 0..layers {
        // Who waits for the layer must hear of it, whatever happens.
        let copied = AssertUnwindSafe(|| copier.copy_layer(image, &adapter.pages, layer));
        result = catch_unwind(copied)
            .unwrap_or_else(|_| Err(StepError::Backend("copying an adapter panicked".to_owned())));
        if let Err(error) = &result {
            adapter.fail(error.to_string());
            break;
        }
        adapter.arrive(layer + 1);
        if layer + 1 == layers.div_ceil(2) {
            // The loop may be waiting for just this; see `DeviceAdapter::may_begin`.
            let _ = done.send(Command::Arrived);
        }
    }
    Copied {
        id: adapter.id(),
        result,
        took: started.elapsed(),
    }
}
