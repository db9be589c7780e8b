//! The engine as its users see it.

mod common;

use common::*;
use openledger_engine::{
    AdapterError, AdapterId, EngineOptions, Event, FinishReason, Request, Sampling, StepError,
    SubmitError,
};
use openledger_model::Targets;
use std::time::Duration;

#[test]
fn two_adapters_and_the_base_should_share_one_forward_pass() {
    let engine = engine(EngineOptions::default());
    let config = config();
    let ids: Vec<AdapterId> = ragged_adapters(&config)
        .iter()
        .map(|a| engine.load_adapter(a).unwrap())
        .inspect(|id| engine.pin_adapter(*id).unwrap())
        .collect();
    let uses = [Some(ids[0]), Some(ids[1]), None];
    let gate = Gate::close(&engine);
    let streams: Vec<_> = uses
        .iter()
        .map(|adapter| {
            let mut request = Request::new(prompt(9, 1), 12);
            request.adapter = *adapter;
            engine.submit(request).unwrap()
        })
        .collect();
    gate.open();
    let mut answers = Vec::new();
    for stream in streams {
        let (tokens, end) = stream.blocking_collect().unwrap();
        let widest = end.unwrap().widest_step;
        assert_eq!(
            (
                widest.requests,
                widest.distinct_adapters,
                widest.base_requests
            ),
            (3, 2, 1)
        );
        answers.push(tokens);
    }
    assert!(answers[0] != answers[1] && answers[1] != answers[2] && answers[0] != answers[2]);
    let stats = engine.stats();
    assert_eq!(stats.max_distinct_adapters_in_step, 2);
    let shared = |s: &&openledger_engine::StepRecord| s.requests == 3 && s.base_requests == 1;
    assert_eq!(stats.recent_steps.iter().filter(shared).count(), 12);
}

#[test]
fn requests_within_the_batch_window_should_share_their_steps() {
    let engine = engine(EngineOptions {
        batch_window: Duration::from_secs(1),
        ..EngineOptions::default()
    });
    let streams = [1, 2].map(|i| engine.submit(Request::new(prompt(4, i), 3)).unwrap());
    for stream in streams {
        let (_, end) = stream.blocking_collect().unwrap();
        assert_eq!(end.unwrap().widest_step.requests, 2);
    }
    assert_eq!(engine.stats().steps, 3);
}

#[test]
fn a_dropped_stream_should_free_its_pages() {
    let engine = engine(EngineOptions {
        arena_pages: Some(10),
        ..EngineOptions::default()
    });
    let mut endless = Request::new(prompt(4, 1), 156);
    let resume = pause_at(&mut endless, 40);
    let mut stream = engine.submit(endless).unwrap();
    for _ in 0..40 {
        assert!(matches!(stream.blocking_next(), Some(Event::Token(_))));
    }
    drop(stream);
    // This one needs every page.
    let behind = engine.submit(Request::new(prompt(4, 2), 156)).unwrap();
    resume.send(()).unwrap();
    assert_eq!(tokens(behind).len(), 156);
    let stats = engine.stats();
    assert_eq!((stats.cancelled, stats.finished), (1, 1));
    assert_eq!((stats.output_tokens, stats.preemptions), (40 + 156, 0));
    assert_eq!(
        (stats.kv_pages_used, stats.running, stats.waiting),
        (0, 0, 0)
    );
}

#[test]
fn an_adapter_should_serve_its_requests_to_the_end_when_replaced() {
    let engine = engine(EngineOptions::default());
    let config = config();
    let old = adapter(&config, 4, Targets::AllLinear, 1);
    let new = adapter(&config, 8, Targets::AllLinear, 2);
    let pool = engine.adapters();
    let old_id = engine.load_adapter(&old).unwrap();
    pool.swap_alias("assistant", None, old_id).unwrap();
    let request = |id| {
        let mut request = Request::new(prompt(6, 3), 150);
        request.adapter = Some(id);
        request
    };
    let reference = tokens(engine.submit(request(old_id)).unwrap());

    let mut asked = request(old_id);
    let resume = pause_at(&mut asked, 1);
    let mut running = engine.submit(asked).unwrap();
    assert!(matches!(running.blocking_next(), Some(Event::Token(_))));
    let new_id = engine.load_adapter(&new).unwrap();
    assert_eq!(
        pool.swap_alias("assistant", None, new_id),
        Err(AdapterError::AliasChanged {
            current: Some(old_id)
        })
    );
    pool.swap_alias("assistant", Some(old_id), new_id).unwrap();
    assert!(engine.unload_adapter(old_id));
    assert_eq!(pool.resolve("assistant"), Some(new_id));
    resume.send(()).unwrap();
    let (rest, end) = running.blocking_collect().unwrap();
    assert_eq!(end.unwrap().output_tokens, 150);
    assert!(rest.iter().map(|t| t.id).eq(reference[1..].iter().copied()));

    assert_eq!(
        engine.submit(request(old_id)).unwrap_err(),
        SubmitError::UnknownAdapter(old_id)
    );
    assert_ne!(tokens(engine.submit(request(new_id)).unwrap()), reference);
    // Its bytes are free again but for the one that is left, in host memory and on the device.
    let bytes = adapter_bytes(&config, &new);
    assert_eq!(pool.usage(), (1, bytes));
    let stats = engine.stats();
    assert_eq!((stats.device_adapters, stats.device_bytes), (1, bytes));
    assert_eq!(stats.adapter_pages, slab_pages(&config, &new) as usize);
    assert!(engine.unload_adapter(new_id));
    assert_eq!(pool.usage(), (0, 0));
    assert_eq!(pool.resolve("assistant"), None);
}

#[test]
fn a_pool_without_room_should_refuse_and_stay_as_it_was() {
    let config = config();
    let small = adapter(&config, 2, Targets::AllLinear, 1);
    let large = adapter(&config, 20, Targets::AllLinear, 2);
    let engine = engine(EngineOptions {
        host_bytes: 100_000,
        ..EngineOptions::default()
    });
    let id = engine.load_adapter(&small).unwrap();
    let before = engine.adapters().usage();
    let refused = engine.load_adapter(&large);
    assert!(matches!(refused, Err(AdapterError::PoolFull { .. })));
    assert_eq!(engine.adapters().usage(), before);
    assert_eq!(engine.load_adapter(&small), Ok(id));
    assert_eq!(engine.adapters().usage(), before);
}

#[test]
fn what_cannot_be_served_should_be_refused_with_the_reason() {
    let engine = engine(EngineOptions {
        max_context: Some(64),
        ..EngineOptions::default()
    });
    let unknown = AdapterId([9; 32]);
    let refused = |change: &dyn Fn(&mut Request)| {
        let mut request = Request::new(prompt(4, 1), 4);
        change(&mut request);
        engine.submit(request).unwrap_err()
    };
    assert_eq!(
        refused(&|r| r.prompt = prompt(64, 1)),
        SubmitError::PromptTooLong {
            prompt: 64,
            context: 64
        }
    );
    assert_eq!(refused(&|r| r.prompt.clear()), SubmitError::EmptyPrompt);
    assert_eq!(
        refused(&|r| r.prompt[2] = 101),
        SubmitError::UnknownToken {
            token: 101,
            vocabulary: 101
        }
    );
    assert_eq!(
        refused(&|r| r.adapter = Some(unknown)),
        SubmitError::UnknownAdapter(unknown)
    );
    assert_eq!(refused(&|r| r.max_new_tokens = 0), SubmitError::NoNewTokens);
    assert!(matches!(
        refused(&|r| r.sampling.top_p = 0.0),
        SubmitError::Sampling(_)
    ));
    assert_eq!(engine.stats().steps, 0);
    // The longest prompt that fits has room for one token, however many are asked for.
    let stream = engine
        .submit(Request::new(prompt(63, 1), usize::MAX))
        .unwrap();
    let (tokens, end) = stream.blocking_collect().unwrap();
    let end = end.unwrap();
    assert_eq!(tokens.len(), 1);
    assert_eq!(end.reason, FinishReason::Length);
}

#[test]
fn a_full_queue_should_refuse_and_take_more_once_an_answer_ends() {
    let engine = engine(EngineOptions {
        max_requests: 2,
        ..EngineOptions::default()
    });
    let gate = Gate::close(&engine);
    let second = engine.submit(Request::new(prompt(4, 2), 1)).unwrap();
    assert_eq!(
        engine.submit(Request::new(prompt(4, 3), 1)).unwrap_err(),
        SubmitError::QueueFull {
            limit: 2,
            own: false,
            retry_after: Duration::from_secs(1)
        }
    );
    gate.open();
    assert_eq!(tokens(second).len(), 1);
    assert_eq!(
        tokens(engine.submit(Request::new(prompt(4, 3), 1)).unwrap()).len(),
        1
    );
}

#[test]
fn stop_tokens_and_stop_checks_should_end_the_answer() {
    let engine = engine(EngineOptions::default());
    let whole = tokens(engine.submit(Request::new(prompt(5, 4), 40)).unwrap());
    let at = 17;
    let first = whole.iter().position(|t| *t == whole[at]).unwrap();

    let mut request = Request::new(prompt(5, 4), 40);
    request.stop_tokens = vec![whole[at]];
    let (found, end) = engine.submit(request).unwrap().blocking_collect().unwrap();
    let end = end.unwrap();
    assert_eq!(end.reason, FinishReason::StopToken(whole[at]));
    assert_eq!((found.len(), end.output_tokens), (first, first));

    let mut request = Request::new(prompt(5, 4), 40);
    let last = whole[at];
    request.stop = Some(Box::new(move |output| output.ends_with(&[last])));
    let (found, end) = engine.submit(request).unwrap().blocking_collect().unwrap();
    assert_eq!(end.unwrap().reason, FinishReason::StopCheck);
    assert!(found
        .iter()
        .map(|t| t.id)
        .eq(whole[..=first].iter().copied()));
}

#[test]
fn a_stop_check_that_panics_should_fail_its_own_request_only() {
    let engine = engine(EngineOptions::default());
    let mut request = Request::new(prompt(5, 4), 40);
    request.stop = Some(Box::new(|_| panic!("deliberate")));
    let (_, end) = engine.submit(request).unwrap().blocking_collect().unwrap();
    assert_eq!(end, Err(StepError::StopCheck));
    assert_eq!(
        tokens(engine.submit(Request::new(prompt(5, 4), 3)).unwrap()).len(),
        3
    );
    assert_eq!(engine.stats().failed, 1);
}

#[test]
fn log_probabilities_should_be_those_of_the_model() {
    let engine = engine(EngineOptions::default());
    let mut request = Request::new(prompt(5, 6), 8);
    request.logprobs = Some(20);
    let (found, _) = engine.submit(request).unwrap().blocking_collect().unwrap();
    let mut ids = prompt(5, 6);
    ids.extend(found.iter().map(|t| t.id));
    let config = config();
    let logits = plain_logits(&config, &weights(&config), None, &ids);
    for (token, row) in found.into_iter().zip(logits.chunks_exact(101).skip(4)) {
        let logprobs = token.logprobs.unwrap();
        assert_eq!(logprobs.top[0], (token.id, logprobs.chosen));
        assert_eq!(logprobs.top.len(), 20);
        let expected = log_softmax(row);
        for (id, value) in logprobs.top {
            assert!((f64::from(value) - expected[id as usize]).abs() < 1e-3);
        }
    }
}

#[test]
fn the_seed_alone_should_decide_a_sampled_answer() {
    let engine = engine(EngineOptions::default());
    let request = |seed| {
        let mut request = sampled(prompt(5, 8), 30, seed);
        request.sampling = Sampling {
            temperature: 0.9,
            top_p: 0.95,
            top_k: 50,
            ..Sampling::GREEDY
        };
        request
    };
    let gate = Gate::close(&engine);
    let streams = [1, 2, 1].map(|seed| engine.submit(request(seed)).unwrap());
    gate.open();
    let [a, b, c] = streams.map(tokens);
    assert_eq!(a, c);
    assert_ne!(a, b);
}

#[test]
fn an_answer_should_not_depend_on_the_number_of_threads() {
    let answers = [1, 3].map(|threads| {
        let engine = engine(EngineOptions {
            threads: Some(threads),
            ..EngineOptions::default()
        });
        let stream = engine.submit(sampled(prompt(30, 8), 100, 5)).unwrap();
        let (tokens, end) = stream.blocking_collect().unwrap();
        (tokens, end.unwrap().fingerprint)
    });
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_stopped_engine_should_refuse_and_end_its_streams() {
    let engine = engine(EngineOptions::default());
    let mut stream = engine.submit(Request::new(prompt(4, 1), 150)).unwrap();
    assert!(matches!(stream.blocking_next(), Some(Event::Token(_))));
    engine.shutdown();
    assert!(stream.blocking_collect().is_none() || engine.stats().finished == 1);
    assert_eq!(
        engine.submit(Request::new(prompt(4, 1), 1)).unwrap_err(),
        SubmitError::Stopped
    );
}

#[test]
fn options_without_a_meaning_should_be_refused() {
    let config = config();
    for options in [
        EngineOptions {
            threads: Some(0),
            ..EngineOptions::default()
        },
        EngineOptions {
            arena_pages: Some(0),
            ..EngineOptions::default()
        },
        EngineOptions {
            max_step_rows: 64,
            ..EngineOptions::default()
        },
    ] {
        assert!(openledger_engine::Engine::start(&config, weights(&config), options).is_err());
    }
}

#[test]
fn weights_that_do_not_fit_should_be_refused_by_name() {
    let config = config();
    let mut wrong = weights(&config);
    wrong.layers[1].up = wrong.layers[1].q.clone();
    let error = openledger_engine::Engine::start(&config, wrong, EngineOptions::default())
        .err()
        .unwrap();
    assert!(error.to_string().contains("layer 1 mlp.up_proj"), "{error}");
}

#[tokio::test]
async fn a_stream_should_be_readable_from_an_async_task() {
    let engine = engine(EngineOptions::default());
    let mut stream = engine.submit(Request::new(prompt(4, 1), 5)).unwrap();
    let mut count = 0;
    while let Some(event) = stream.next().await {
        match event {
            Event::Token(_) => count += 1,
            Event::Finished(end) => assert_eq!((end.output_tokens, count), (5, 5)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(count, 5);
}
