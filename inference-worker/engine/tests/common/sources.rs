//! Where the adapters of tests come from: sources that count, wait, fail or are far away.

use super::prompt;
use openledger_engine::{AdapterId, AdapterSource, Brought, EngineHandle, Request};
use openledger_model::{Adapter, ModelConfig};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};

/// Counts how often it is read, and waits for leave if it has to.
pub struct Counted {
    adapter: Adapter,
    pub reads: AtomicUsize,
    leave: Option<Mutex<mpsc::Receiver<()>>>,
}

impl Counted {
    pub fn new(adapter: &Adapter) -> Arc<Self> {
        Arc::new(Self {
            adapter: adapter.clone(),
            reads: AtomicUsize::new(0),
            leave: None,
        })
    }

    /// Reads go on when the sender is used or dropped.
    pub fn waiting(adapter: &Adapter) -> (Arc<Self>, mpsc::Sender<()>) {
        let (sender, leave) = mpsc::channel();
        let source = Self {
            adapter: adapter.clone(),
            reads: AtomicUsize::new(0),
            leave: Some(Mutex::new(leave)),
        };
        (Arc::new(source), sender)
    }
}

impl AdapterSource for Counted {
    fn read(&self, _: &ModelConfig) -> Result<Adapter, String> {
        if let Some(leave) = &self.leave {
            let _ = leave.lock().unwrap().recv();
        }
        self.reads.fetch_add(1, Ordering::SeqCst);
        Ok(self.adapter.clone())
    }

    fn tier(&self) -> &'static str {
        "disk"
    }
}

/// Fails, or panics.
pub struct Broken(pub bool);

impl AdapterSource for Broken {
    fn read(&self, _: &ModelConfig) -> Result<Adapter, String> {
        assert!(!self.0, "deliberate");
        Err("the file is truncated".to_owned())
    }

    fn tier(&self) -> &'static str {
        "disk"
    }
}

/// Its files are elsewhere until the test says otherwise.
pub struct Remote {
    pub near: Arc<Counted>,
    pub asked: Mutex<Vec<Brought>>,
}

impl AdapterSource for Remote {
    fn read(&self, config: &ModelConfig) -> Result<Adapter, String> {
        self.near.read(config)
    }

    fn bring(&self, brought: Brought) {
        self.asked.lock().unwrap().push(brought);
    }

    fn tier(&self) -> &'static str {
        "store"
    }
}

pub fn id(adapter: &Adapter) -> AdapterId {
    AdapterId(adapter.digest)
}

pub fn register(engine: &EngineHandle, adapter: &Adapter) -> Arc<Counted> {
    let source = Counted::new(adapter);
    engine
        .register_adapter(id(adapter), source.clone())
        .unwrap();
    source
}

pub fn asking(adapter: Option<AdapterId>, salt: usize, output: usize) -> Request {
    let mut request = Request::new(prompt(6, salt), output);
    request.adapter = adapter;
    request
}
