//! Adapters on their way: who asked for them waits, and nobody else.

mod common;

use common::sources::*;
use common::*;
use openledger_engine::{AdapterError, AdapterId, EngineOptions, StepError, SubmitError, Tenant};
use openledger_model::{Adapter, Targets};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn an_adapter_on_its_way_should_hold_up_nobody_else() {
    let config = config();
    let (slow, quick) = (
        adapter(&config, 4, Targets::AllLinear, 1),
        adapter(&config, 4, Targets::AllLinear, 2),
    );
    let engine = engine(EngineOptions::default());
    let (source, leave) = Counted::waiting(&slow);
    engine.register_adapter(id(&slow), source).unwrap();
    register(&engine, &quick);
    let waiting = engine.submit(asking(Some(id(&slow)), 1, 5)).unwrap();
    let same = engine.submit(asking(Some(id(&slow)), 2, 5)).unwrap();
    for adapter in [None, Some(id(&quick))] {
        let stream = engine.submit(asking(adapter, 2, 5)).unwrap();
        assert_eq!(tokens(stream).len(), 5);
    }
    let stats = engine.stats();
    assert_eq!((stats.finished, stats.waiting), (2, 2));
    leave.send(()).unwrap();
    assert_eq!(tokens(waiting).len(), 5);
    assert_eq!(tokens(same).len(), 5);
    // Two requests, one read.
    assert_eq!(engine.stats().tiers.reads, 2);
}

#[test]
fn files_that_do_not_come_should_hold_up_no_thread_that_reads_others() {
    let config = config();
    let engine = engine(EngineOptions {
        load_threads: 1,
        ..EngineOptions::default()
    });
    let far: Vec<_> = (0..3)
        .map(|seed| {
            let adapter = adapter(&config, 4, Targets::AllLinear, seed);
            let source = Arc::new(Remote {
                near: Counted::new(&adapter),
                asked: Mutex::default(),
            });
            engine
                .register_adapter(id(&adapter), source.clone())
                .unwrap();
            let stream = engine.submit(asking(Some(id(&adapter)), 0, 3)).unwrap();
            (source, stream)
        })
        .collect();
    // All three are on their way at once, and the one thread reads what is here.
    while far.iter().any(|(s, _)| s.asked.lock().unwrap().is_empty()) {
        std::thread::yield_now();
    }
    let near = adapter(&config, 4, Targets::AllLinear, 9);
    register(&engine, &near);
    tokens(engine.submit(asking(Some(id(&near)), 0, 3)).unwrap());
    let mut far = far.into_iter();
    let mut next = || {
        let (source, stream) = far.next().expect("three");
        let brought = source.asked.lock().unwrap().remove(0);
        (source, brought, stream)
    };
    let (source, brought, stream) = next();
    assert_eq!(source.near.reads.load(Ordering::SeqCst), 0);
    brought.tell(Ok(()));
    assert_eq!(tokens(stream).len(), 3);
    // What does not come fails who asked for it, and so does what is given up without a word.
    let (source, brought, stream) = next();
    brought.tell(Err("the store cannot be reached".to_owned()));
    let error = stream.blocking_collect().unwrap().1.unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert_eq!(source.near.reads.load(Ordering::SeqCst), 0);
    let (_, brought, stream) = next();
    drop(brought);
    assert!(stream.blocking_collect().unwrap().1.is_err());
}

#[test]
fn an_adapter_that_cannot_be_read_should_fail_its_own_requests_and_be_tried_again() {
    let config = config();
    let (good, other) = (
        adapter(&config, 4, Targets::AllLinear, 1),
        adapter(&config, 4, Targets::AllLinear, 2),
    );
    let engine = engine(EngineOptions::default());
    let failed = |asked: AdapterId| {
        let stream = engine.submit(asking(Some(asked), 1, 5)).unwrap();
        stream
            .blocking_collect()
            .unwrap()
            .1
            .unwrap_err()
            .to_string()
    };
    // What the source gives is not what was registered.
    let source = Counted::new(&other);
    engine.register_adapter(id(&good), source.clone()).unwrap();
    let error = failed(id(&good));
    assert!(error.contains("changed since it was loaded"), "{error}");
    failed(id(&good));
    assert_eq!(source.reads.load(Ordering::SeqCst), 2);
    for (panics, seed, expected) in [(false, 3, "truncated"), (true, 4, "panicked")] {
        let missing = AdapterId([seed; 32]);
        engine
            .register_adapter(missing, Arc::new(Broken(panics)))
            .unwrap();
        let error = failed(missing);
        assert!(error.contains(expected), "{error}");
    }
    let base = engine.submit(asking(None, 1, 5)).unwrap();
    assert_eq!(tokens(base).len(), 5);
    let stats = engine.stats();
    assert_eq!((stats.failed, stats.tiers.failures), (4, 4));
    assert_eq!((stats.kv_pages_used, stats.device_adapters), (0, 0));
    // Too large for the device, which is known once it is read.
    let wide = adapter(&config, 300, Targets::AllLinear, 5);
    let small = common::engine(EngineOptions {
        arena_pages: Some(20),
        ..EngineOptions::default()
    });
    register(&small, &wide);
    let stream = small.submit(asking(Some(id(&wide)), 1, 5)).unwrap();
    let error = stream.blocking_collect().unwrap().1.unwrap_err();
    assert!(matches!(error, StepError::Adapter(_)), "{error}");
    assert!(matches!(
        small.load_adapter(&wide),
        Err(AdapterError::TooLarge { .. })
    ));
}

#[test]
fn a_request_should_fail_when_it_was_not_begun_in_time() {
    let config = config();
    let slow = adapter(&config, 4, Targets::AllLinear, 1);
    let engine = engine(EngineOptions::default());
    let (source, leave) = Counted::waiting(&slow);
    engine.register_adapter(id(&slow), source).unwrap();
    let mut late = asking(Some(id(&slow)), 1, 5);
    late.start_by = Some(Instant::now() + Duration::from_millis(30));
    let stream = engine.submit(late).unwrap();
    let error = stream.blocking_collect().unwrap().1.unwrap_err();
    assert_eq!(error, StepError::Expired);
    leave.send(()).unwrap();
    // One that has begun goes on for as long as it takes.
    let mut request = asking(None, 2, 30);
    request.start_by = Some(Instant::now() + Duration::from_secs(3600));
    assert_eq!(tokens(engine.submit(request).unwrap()).len(), 30);
}

#[test]
fn a_cancelled_request_should_let_go_of_the_adapter_that_it_waited_for() {
    let config = config();
    let slow = adapter(&config, 4, Targets::AllLinear, 1);
    let engine = engine(EngineOptions::default());
    let (source, leave) = Counted::waiting(&slow);
    engine.register_adapter(id(&slow), source).unwrap();
    drop(engine.submit(asking(Some(id(&slow)), 1, 5)).unwrap());
    // Nobody asks any more, and it is no longer registered: nothing of it stays.
    assert!(engine.unload_adapter(id(&slow)));
    leave.send(()).unwrap();
    assert_eq!(
        engine.submit(asking(Some(id(&slow)), 1, 5)).unwrap_err(),
        SubmitError::UnknownAdapter(id(&slow))
    );
    for salt in 0..20 {
        let base = engine.submit(asking(None, salt, 2)).unwrap();
        assert_eq!(tokens(base).len(), 2);
    }
    let stats = engine.stats();
    assert_eq!(stats.cancelled, 1);
    assert_eq!(
        (stats.adapters, stats.device_adapters, stats.adapter_pages),
        (0, 0, 0)
    );
}

#[test]
fn an_adapter_unloaded_while_it_is_read_should_answer_who_had_asked_for_it() {
    let config = config();
    let slow = adapter(&config, 4, Targets::AllLinear, 1);
    let engine = engine(EngineOptions::default());
    register(&engine, &slow);
    let expected = tokens(engine.submit(asking(Some(id(&slow)), 1, 5)).unwrap());
    assert!(engine.unload_adapter(id(&slow)));
    let (source, leave) = Counted::waiting(&slow);
    engine.register_adapter(id(&slow), source.clone()).unwrap();
    let mut request = asking(Some(id(&slow)), 1, 5);
    request.cache_salt = [1; 32];
    // An engine that never comes to it fails it, instead of holding up the test.
    request.start_by = Some(Instant::now() + Duration::from_secs(30));
    let asked = engine.submit(request).unwrap();
    assert!(engine.unload_adapter(id(&slow)));
    // It knows of that before the read ends.
    assert_eq!(tokens(engine.submit(asking(None, 2, 2)).unwrap()).len(), 2);
    drop(leave);
    assert_eq!(tokens(asked), expected);
    assert_eq!(source.reads.load(Ordering::SeqCst), 1);
    for salt in 3..20 {
        let base = engine.submit(asking(None, salt, 2)).unwrap();
        assert_eq!(tokens(base).len(), 2);
    }
    let stats = engine.stats();
    assert_eq!(
        (stats.device_adapters, stats.adapter_pages, stats.host_bytes),
        (0, 0, 0)
    );
}

#[test]
fn however_many_wait_for_one_adapter_others_should_be_served() {
    let config = config();
    let (slow, quick) = (
        adapter(&config, 4, Targets::AllLinear, 1),
        adapter(&config, 4, Targets::AllLinear, 2),
    );
    let engine = engine(EngineOptions::default());
    let (source, leave) = Counted::waiting(&slow);
    engine.register_adapter(id(&slow), source).unwrap();
    register(&engine, &quick);
    let waiting: Vec<_> = (0..300)
        .map(|salt| engine.submit(asking(Some(id(&slow)), salt, 2)).unwrap())
        .collect();
    for salt in 0..40 {
        let mut request = asking([None, Some(id(&quick))][salt % 2], salt, 40);
        request.tenant = Tenant([9; 32]);
        assert_eq!(tokens(engine.submit(request).unwrap()).len(), 40);
    }
    leave.send(()).unwrap();
    for stream in waiting {
        assert_eq!(tokens(stream).len(), 2);
    }
}

#[test]
fn who_waits_for_a_file_should_not_keep_room_from_who_is_behind() {
    let config = config();
    let adapters: Vec<Adapter> = (0..4)
        .map(|n| adapter(&config, 4, Targets::AllLinear, n))
        .collect();
    let pages = slab_pages(&config, &adapters[0]);
    let engine = engine(EngineOptions {
        arena_pages: Some(10 + 2 * pages),
        ..EngineOptions::default()
    });
    let (source, leave) = Counted::waiting(&adapters[0]);
    engine.register_adapter(id(&adapters[0]), source).unwrap();
    for adapter in &adapters[1..] {
        register(&engine, adapter);
    }
    // Two fill the device; the third needs room while the first in the queue has no file yet.
    for adapter in &adapters[1..3] {
        let stream = engine.submit(asking(Some(id(adapter)), 1, 2)).unwrap();
        assert_eq!(tokens(stream).len(), 2);
    }
    let gate = Gate::close(&engine);
    let first = engine.submit(asking(Some(id(&adapters[0])), 1, 2)).unwrap();
    let others: Vec<_> = [3, 1, 2, 1, 2]
        .iter()
        .map(|n| {
            engine
                .submit(asking(Some(id(&adapters[*n])), 2, 20))
                .unwrap()
        })
        .collect();
    gate.open();
    for stream in others {
        assert_eq!(tokens(stream).len(), 20);
    }
    leave.send(()).unwrap();
    assert_eq!(tokens(first).len(), 2);
}
