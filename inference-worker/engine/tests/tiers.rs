//! More adapters than fit: on the device, in host memory, on disk.

mod common;

use common::sources::*;
use common::*;
use openledger_engine::{
    AdapterError, AdapterId, EngineOptions, Event, FolderSource, Request, SubmitError, Tenant,
};
use openledger_model::{Adapter, Targets};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn many_times_more_adapters_than_fit_should_all_answer_as_they_would_alone() {
    const ADAPTERS: usize = 40;
    let config = config();
    let folder = tempfile::tempdir().unwrap();
    let adapters: Vec<Adapter> = (0..ADAPTERS)
        .map(|n| adapter(&config, 1 + n % 9, Targets::AllLinear, n as u64))
        .collect();
    let pages = slab_pages(&config, &adapters[0]);
    let bytes = adapter_bytes(&config, &adapters[0]);
    let all = engine(EngineOptions {
        arena_pages: Some(100 + ADAPTERS as u32 * pages),
        ..EngineOptions::default()
    });
    let few = engine(EngineOptions {
        arena_pages: Some(40 + 4 * pages),
        host_bytes: 9 * bytes,
        max_running: 8,
        max_step_rows: 64,
        ..EngineOptions::default()
    });
    for (n, adapter) in adapters.iter().enumerate() {
        let path = folder.path().join(n.to_string());
        adapter.save(&path).unwrap();
        few.register_adapter(id(adapter), Arc::new(FolderSource(path)))
            .unwrap();
        all.load_adapter(adapter).unwrap();
    }
    let request = |i: usize| {
        // Some adapters are asked for often, others once; and the base.
        let which = [i % ADAPTERS, i % 3, ADAPTERS][i % 3];
        let mut request = asking(adapters.get(which).map(id), i, 4 + i % 9);
        request.tenant = Tenant([(i % 5) as u8; 32]);
        request
    };
    let streams: Vec<_> = (0..150).map(|i| few.submit(request(i)).unwrap()).collect();
    for (i, stream) in streams.into_iter().enumerate() {
        let (found, end) = stream.blocking_collect().unwrap();
        let (expected, alone) = all.submit(request(i)).unwrap().blocking_collect().unwrap();
        assert_eq!(found, expected, "request {i}");
        assert_eq!(end.unwrap().fingerprint, alone.unwrap().fingerprint);
    }
    let stats = few.stats();
    assert_eq!(
        (stats.finished, stats.failed, stats.adapters),
        (150, 0, ADAPTERS)
    );
    assert!(stats.tiers.device_evictions > 20, "{:?}", stats.tiers);
    assert!(stats.tiers.host_evictions > 0, "{:?}", stats.tiers);
    assert!(stats.tiers.device_hits > 0, "{:?}", stats.tiers);
    assert!(stats.host_bytes <= 9 * bytes);
    assert_eq!(stats.kv_pages_used, 0);
    let pages_used = stats.adapter_pages + stats.kv_pages_cached;
    assert!(pages_used <= stats.pages_total);
    assert!(stats.device_bytes <= stats.adapter_pages * stats.page_bytes);
}

#[test]
fn a_pinned_adapter_should_stay_whatever_else_is_asked() {
    let config = config();
    let adapters: Vec<Adapter> = (0..8)
        .map(|n| adapter(&config, 4, Targets::AllLinear, n))
        .collect();
    let pages = slab_pages(&config, &adapters[0]);
    let engine = engine(EngineOptions {
        arena_pages: Some(10 + 3 * pages),
        host_bytes: 0,
        ..EngineOptions::default()
    });
    let sources: Vec<_> = adapters.iter().map(|a| register(&engine, a)).collect();
    engine.pin_adapter(id(&adapters[0])).unwrap();
    for round in 0..3 {
        for adapter in &adapters {
            let stream = engine.submit(asking(Some(id(adapter)), round, 3)).unwrap();
            assert_eq!(tokens(stream).len(), 3);
        }
    }
    let reads: Vec<usize> = sources
        .iter()
        .map(|s| s.reads.load(Ordering::SeqCst))
        .collect();
    assert_eq!(reads[0], 1);
    // Two of the seven others fit beside it, whichever are worth most: of 21 requests few can hit.
    assert!(reads[1..].iter().sum::<usize>() >= 14, "{reads:?}");
    // A second one would take more than half of what a context leaves.
    assert!(matches!(
        engine.pin_adapter(id(&adapters[1])),
        Err(AdapterError::PinnedFull { .. })
    ));
    let unknown = AdapterId([77; 32]);
    assert_eq!(
        engine.pin_adapter(unknown),
        Err(AdapterError::Unknown(unknown))
    );
    engine.unpin_adapter(id(&adapters[0]));
    engine.pin_adapter(id(&adapters[1])).unwrap();
    // What it is worth depends on how long its copy took; with the others all at once it gives way
    // sooner or later.
    let gave_way = (0..10_000).any(|round| {
        let asked = adapters[1..]
            .iter()
            .map(|a| engine.submit(asking(Some(id(a)), round, 3)).unwrap());
        let streams: Vec<_> = asked.collect();
        for stream in streams {
            assert_eq!(tokens(stream).len(), 3);
        }
        let stream = engine.submit(asking(Some(id(&adapters[0])), round, 3));
        assert_eq!(tokens(stream.unwrap()).len(), 3);
        sources[0].reads.load(Ordering::SeqCst) > 1
    });
    assert!(gave_way, "it stays although it is pinned no more");
}

#[test]
fn a_tenant_with_few_requests_should_not_wait_behind_one_with_many() {
    let engine = engine(EngineOptions {
        max_running: 1,
        ..EngineOptions::default()
    });
    let gate = Gate::close(&engine);
    let order = Arc::new(Mutex::new(Vec::new()));
    let submit = |tenant: u8, salt: usize| {
        let mut request = asking(None, salt, 3);
        request.tenant = Tenant([tenant; 32]);
        let order = Arc::clone(&order);
        request.stop = Some(Box::new(move |output| {
            if output.len() == 3 {
                order.lock().unwrap().push(tenant);
            }
            false
        }));
        engine.submit(request).unwrap()
    };
    let mut streams: Vec<_> = (0..8).map(|salt| submit(1, salt)).collect();
    streams.push(submit(2, 8));
    streams.push(submit(2, 9));
    gate.open();
    streams
        .into_iter()
        .for_each(|s| assert_eq!(tokens(s).len(), 3));
    assert_eq!(order.lock().unwrap()[..4], [1, 2, 1, 2]);
}

#[test]
fn a_tenant_should_not_fill_the_queue_of_all() {
    let engine = engine(EngineOptions {
        max_tenant_requests: 2,
        ..EngineOptions::default()
    });
    let gate = Gate::close(&engine);
    let submit = |tenant: u8| {
        let mut request = asking(None, 1, 1);
        request.tenant = Tenant([tenant; 32]);
        engine.submit(request)
    };
    let held = [submit(1).unwrap(), submit(1).unwrap()];
    assert!(matches!(
        submit(1).unwrap_err(),
        SubmitError::QueueFull {
            limit: 2,
            own: true,
            ..
        }
    ));
    let other = submit(2).unwrap();
    gate.open();
    held.into_iter()
        .for_each(|s| assert_eq!(tokens(s).len(), 1));
    assert_eq!(tokens(other).len(), 1);
}

#[test]
fn what_was_computed_before_should_be_reused_with_the_same_bits() {
    let config = config();
    let adapters: Vec<Adapter> = (0..2)
        .map(|n| adapter(&config, 4, Targets::AllLinear, n))
        .collect();
    let engine = engine(EngineOptions::default());
    for adapter in &adapters {
        engine.load_adapter(adapter).unwrap();
    }
    let ask = |adapter: Option<usize>, salt: u8, len: usize| {
        let mut request = Request::new(prompt(len, 1), 8);
        request.adapter = adapter.map(|a| id(&adapters[a]));
        request.cache_salt = [salt; 32];
        let before = engine.stats().prefix_hits;
        let (tokens, end) = engine.submit(request).unwrap().blocking_collect().unwrap();
        let hits = engine.stats().prefix_hits - before;
        (tokens, end.unwrap().fingerprint, hits)
    };
    let first = ask(Some(0), 0, 100);
    assert_eq!(first.2, 0);
    let again = ask(Some(0), 0, 100);
    assert_eq!(again.2, 96);
    assert_eq!((&again.0, again.1), (&first.0, first.1));
    // Neither another adapter nor the base nor another salt meets what is not theirs.
    assert_eq!(ask(Some(1), 0, 100).2, 0);
    assert_eq!(ask(None, 0, 100).2, 0);
    let salted = ask(Some(0), 1, 100);
    assert_eq!(salted.2, 0);
    assert_eq!(salted.0, first.0);
    // The answer's own blocks are found too, by a conversation that goes on.
    let mut longer = Request::new(prompt(100, 1), 8);
    longer.prompt.extend(first.0.iter().map(|t| t.id));
    longer.prompt.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    longer.adapter = Some(id(&adapters[0]));
    let before = engine.stats().prefix_hits;
    assert_eq!(tokens(engine.submit(longer).unwrap()).len(), 8);
    assert_eq!(engine.stats().prefix_hits - before, 96);
    assert!(matches!(
        engine
            .submit(Request::new(vec![1], 1))
            .unwrap()
            .blocking_next(),
        Some(Event::Token(_))
    ));
}

#[test]
fn an_adapter_brought_ahead_should_be_there_when_it_is_asked_for_and_push_nobody_out() {
    let config = config();
    let adapters: Vec<Adapter> = (0..5)
        .map(|n| adapter(&config, 16, Targets::AllLinear, n))
        .collect();
    let pages = slab_pages(&config, &adapters[0]);
    // None fits into what one context needs.
    assert!(pages > 10);
    let engine = engine(EngineOptions {
        arena_pages: Some(10 + 3 * pages),
        // In the order in which they are asked for.
        load_threads: 1,
        ..EngineOptions::default()
    });
    for adapter in &adapters {
        register(&engine, adapter);
        engine.prefetch_adapter(id(adapter)).unwrap();
    }
    let started = Instant::now();
    while engine.stats().tiers.copies < 3 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "they never came"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let stream = engine.submit(asking(Some(id(&adapters[1])), 1, 3)).unwrap();
    assert_eq!(tokens(stream).len(), 3);
    let tiers = engine.stats().tiers;
    assert_eq!((tiers.device_hits, tiers.device_evictions), (1, 0));
    // A fourth has room where the device lays adapters out in less.
    assert!(engine.stats().device_adapters >= 3);
}

#[test]
fn a_pin_should_end_when_its_adapter_is_unloaded_or_unpinned_before_it_came() {
    let config = config();
    let slow = adapter(&config, 4, Targets::AllLinear, 1);
    for unload in [true, false] {
        let engine = engine(EngineOptions::default());
        let (source, leave) = Counted::waiting(&slow);
        engine.register_adapter(id(&slow), source).unwrap();
        let pinning = std::thread::spawn({
            let engine = engine.clone();
            let id = id(&slow);
            move || engine.pin_adapter(id)
        });
        while !pinning.is_finished() {
            if unload {
                engine.unload_adapter(id(&slow));
            } else {
                engine.unpin_adapter(id(&slow));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(
            pinning.join().unwrap(),
            Err(AdapterError::Unknown(id(&slow)))
        );
        // Its read may never have begun.
        let _ = leave.send(());
        let base = engine.submit(asking(None, 1, 5)).unwrap();
        assert_eq!(tokens(base).len(), 5);
    }
}

#[test]
fn a_pin_that_would_leave_too_little_should_be_refused_before_anybody_gives_way() {
    let config = config();
    let (small, large) = (
        adapter(&config, 4, Targets::AllLinear, 1),
        adapter(&config, 60, Targets::AllLinear, 2),
    );
    let pages = slab_pages(&config, &large);
    let engine = engine(EngineOptions {
        arena_pages: Some(10 + pages + pages / 2),
        ..EngineOptions::default()
    });
    register(&engine, &small);
    register(&engine, &large);
    let stream = engine.submit(asking(Some(id(&small)), 1, 2)).unwrap();
    assert_eq!(tokens(stream).len(), 2);
    assert!(matches!(
        engine.pin_adapter(id(&large)),
        Err(AdapterError::PinnedFull { .. })
    ));
    assert_eq!(engine.stats().tiers.device_evictions, 0);
    // It is served all the same.
    let stream = engine.submit(asking(Some(id(&large)), 1, 2)).unwrap();
    assert_eq!(tokens(stream).len(), 2);
}
