//! Saturation with adapters loaded, replaced, unloaded and evicted, and clients that cancel: no token of
//! another adapter, no request stuck, nothing left at the end; and more requests than there is room for.
//!
//! The first runs for some seconds; `OPENLEDGER_SOAK_SECONDS=600` makes it ten minutes.

mod common;

use common::*;
use openledger_engine::{
    AdapterId, EngineHandle, EngineOptions, Event, FolderSource, Request, SubmitError, Tenant,
};
use openledger_model::{Adapter, Targets};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ADAPTERS: usize = 32;
const PROMPTS: usize = 4;
const OUTPUT: usize = 24;
const CLIENTS: usize = 12;

struct Scene {
    engine: EngineHandle,
    adapters: Vec<(AdapterId, PathBuf)>,
    /// Tokens by adapter, the base last, and prompt: the signature of each.
    expected: Vec<Vec<Vec<u32>>>,
    over: AtomicBool,
    whole: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

impl Scene {
    fn request(&self, which: usize, prompt: usize, tenant: u8) -> Request {
        let mut request = asked(prompt);
        request.adapter = self.adapters.get(which).map(|(id, _)| *id);
        request.tenant = Tenant([tenant; 32]);
        request.cache_salt = [tenant; 32];
        request
    }

    fn register(&self, which: usize) {
        let (id, path) = &self.adapters[which];
        let source = Arc::new(FolderSource(path.clone()));
        self.engine.register_adapter(*id, source).unwrap();
    }

    /// Asks until it is over; some answers are dropped on their way.
    fn ask(&self, tenant: u8) {
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(tenant));
        while !self.over.load(Ordering::Relaxed) {
            let which = rng.random_range(0..=ADAPTERS);
            let prompt = rng.random_range(0..PROMPTS);
            let wanted = if rng.random_bool(0.3) {
                rng.random_range(0..OUTPUT)
            } else {
                usize::MAX
            };
            let mut stream = match self.engine.submit(self.request(which, prompt, tenant)) {
                Ok(stream) => stream,
                Err(SubmitError::UnknownAdapter(_)) => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let expected = &self.expected[which][prompt];
            let mut got = 0;
            while got < wanted {
                match stream.blocking_next().expect("the engine runs") {
                    Event::Token(token) => {
                        assert_eq!(token.id, expected[got], "adapter {which}, token {got}");
                        got += 1;
                    }
                    Event::Finished(end) => {
                        assert_eq!((got, end.output_tokens), (OUTPUT, OUTPUT));
                        self.whole.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    other => panic!("adapter {which}: {other:?}"),
                }
            }
            if got < OUTPUT {
                self.cancelled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Unloads adapters under load and registers them again, and pins one now and then.
    fn operate(&self) {
        let mut rng = ChaCha8Rng::seed_from_u64(99);
        while !self.over.load(Ordering::Relaxed) {
            let which = rng.random_range(0..ADAPTERS);
            let id = self.adapters[which].0;
            match rng.random_range(0..4) {
                0 => {
                    if self.engine.pin_adapter(id).is_ok() {
                        std::thread::sleep(Duration::from_millis(5));
                        self.engine.unpin_adapter(id);
                    }
                }
                1 => {
                    let _ = self.engine.prefetch_adapter(id);
                }
                _ => {
                    assert!(self.engine.unload_adapter(id));
                    std::thread::sleep(Duration::from_millis(2));
                    self.register(which);
                }
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

fn asked(prompt_number: usize) -> Request {
    Request::new(prompt(5 + 13 * prompt_number, prompt_number), OUTPUT)
}

fn scene(folder: &Path) -> Scene {
    let config = config();
    let loaded: Vec<Adapter> = (0..ADAPTERS)
        .map(|n| adapter(&config, 1 + n % 6, Targets::AllLinear, n as u64))
        .collect();
    let pages = slab_pages(&config, &loaded[5]);
    let all = engine(EngineOptions {
        arena_pages: Some(200 + ADAPTERS as u32 * pages),
        ..EngineOptions::default()
    });
    let ids: Vec<Option<AdapterId>> = loaded
        .iter()
        .map(|a| Some(all.load_adapter(a).unwrap()))
        .chain([None])
        .collect();
    let expected: Vec<Vec<Vec<u32>>> = ids
        .iter()
        .map(|id| {
            let answer = |prompt| {
                let mut request = asked(prompt);
                request.adapter = *id;
                tokens(all.submit(request).unwrap())
            };
            (0..PROMPTS).map(answer).collect()
        })
        .collect();
    for (n, one) in expected.iter().enumerate() {
        assert!(!expected[..n].contains(one), "each has its own signature");
    }
    let adapters = loaded
        .iter()
        .enumerate()
        .map(|(n, adapter)| {
            let path = folder.join(n.to_string());
            adapter.save(&path).unwrap();
            (AdapterId(adapter.digest), path)
        })
        .collect();
    let scene = Scene {
        engine: engine(EngineOptions {
            // A quarter of the adapters, and fewer pages than the clients' answers need.
            arena_pages: Some(24 + 8 * pages),
            host_bytes: 12 * pages as usize * all.stats().page_bytes,
            max_running: 8,
            max_step_rows: 40,
            ..EngineOptions::default()
        }),
        adapters,
        expected,
        over: AtomicBool::new(false),
        whole: AtomicU64::new(0),
        cancelled: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    };
    (0..ADAPTERS).for_each(|n| scene.register(n));
    scene
}

#[test]
fn sixty_four_requests_should_finish_with_the_tokens_of_each_alone_when_a_third_fits() {
    let (len, output) = (20, 44);
    let config = config();
    let adapters = ragged_adapters(&config);
    let slabs: u32 = adapters.iter().map(|a| slab_pages(&config, a)).sum();
    // 64 requests of 64 tokens need 256 pages: three times as many as the adapters leave.
    let tight = engine(EngineOptions {
        arena_pages: Some(85 + slabs),
        max_step_rows: 96,
        ..EngineOptions::default()
    });
    let roomy = engine(EngineOptions {
        arena_pages: Some(10 + slabs),
        ..EngineOptions::default()
    });
    let ids: Vec<AdapterId> = adapters
        .iter()
        .map(|a| {
            roomy.load_adapter(a).unwrap();
            tight.load_adapter(a).unwrap()
        })
        .collect();
    let request = |i: usize| {
        let mut request = sampled(prompt(len, i), output, i as u8);
        request.adapter = (i % 4).checked_sub(1).map(|a| ids[a]);
        request
    };
    let gate = Gate::close(&tight);
    let streams: Vec<_> = (0..64).map(|i| tight.submit(request(i)).unwrap()).collect();
    gate.open();
    let together: Vec<_> = streams
        .into_iter()
        .map(|s| s.blocking_collect().unwrap())
        .collect();
    let stats = tight.stats();
    assert!(
        stats.preemptions > 0,
        "more was admitted than could be held"
    );
    assert!(stats.max_requests_in_step > 16);
    assert_eq!(stats.max_distinct_adapters_in_step, 3);
    for (i, (tokens, end)) in together.into_iter().enumerate() {
        let (alone, alone_end) = roomy
            .submit(request(i))
            .unwrap()
            .blocking_collect()
            .unwrap();
        assert_eq!(tokens, alone, "request {i}");
        let (end, alone_end) = (end.unwrap(), alone_end.unwrap());
        assert_eq!(end.output_tokens, output);
        assert_eq!(end.fingerprint, alone_end.fingerprint);
        assert_eq!(alone_end.widest_step.requests, 1);
    }
    let stats = tight.stats();
    // The gate is one more request, of two tokens in and one out.
    assert_eq!((stats.finished, stats.kv_pages_used), (65, 0));
    assert_eq!(stats.output_tokens, 64 * output as u64 + 1);
    assert_eq!(stats.prompt_tokens, 64 * len as u64 + 2);
}

#[test]
fn under_saturation_every_token_should_be_of_its_own_adapter_and_nothing_be_left() {
    let seconds = std::env::var("OPENLEDGER_SOAK_SECONDS");
    let seconds = seconds.map_or(4, |s| s.parse().expect("whole seconds"));
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(folder.path());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS as u8)
            .map(|tenant| {
                scope.spawn({
                    let scene = &scene;
                    move || scene.ask(tenant)
                })
            })
            .collect();
        let operator = scope.spawn(|| scene.operate());
        let until = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < until && !clients.iter().any(|c| c.is_finished()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        scene.over.store(true, Ordering::Relaxed);
        operator.join().expect("the operator");
        for client in clients {
            client.join().expect("a client");
        }
    });
    let stats = scene.engine.stats();
    println!(
        "{} answers whole, {} cancelled, {} refused; {:?}",
        scene.whole.load(Ordering::Relaxed),
        scene.cancelled.load(Ordering::Relaxed),
        scene.refused.load(Ordering::Relaxed),
        stats.tiers
    );
    assert!(scene.whole.load(Ordering::Relaxed) > 0);
    assert!(stats.tiers.device_evictions > 0 && stats.tiers.host_evictions > 0);
    assert_eq!(stats.failed, 0);
    for (id, _) in &scene.adapters {
        assert!(scene.engine.unload_adapter(*id));
    }
    // The last reads and copies end, and then nothing is left of any adapter.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let stats = scene.engine.stats();
        let left = (
            stats.running + stats.waiting,
            stats.kv_pages_used,
            stats.adapter_pages,
            stats.device_bytes,
            stats.host_bytes,
            stats.adapters,
        );
        if left == (0, 0, 0, 0, 0, 0) {
            break;
        }
        assert!(Instant::now() < until, "left: {left:?}");
        // The loop looks around when something comes.
        let base = scene.engine.submit(scene.request(ADAPTERS, 0, 0)).unwrap();
        assert_eq!(tokens(base), scene.expected[ADAPTERS][0]);
    }
}
