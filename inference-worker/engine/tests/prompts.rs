//! What is read of a prompt: log-probabilities of its tokens, embeddings, and a prompt for many answers.

mod common;

use common::*;
use openledger_engine::sampling::answer_seed;
use openledger_engine::{
    AdapterId, EmbedRequest, EngineHandle, EngineOptions, Event, FinishReason, Finished, Logprobs,
    Pooling, Request, SubmitError, Token, TokenStream,
};
use openledger_model::Adapter;

type Scores = Vec<Option<Logprobs>>;

/// Everything of a stream that ends well; scores come before any token.
fn collect(mut stream: TokenStream) -> (Option<Scores>, Vec<Token>, Finished) {
    let (mut scores, mut tokens) = (None, Vec::new());
    loop {
        match stream.blocking_next().expect("the engine runs") {
            Event::Prompt(found) => {
                assert!(scores.is_none() && tokens.is_empty());
                scores = Some(found);
            }
            Event::Token(token) => tokens.push(token),
            Event::Finished(end) => return (scores, tokens, end),
            other => panic!("{other:?}"),
        }
    }
}

fn scored(prompt: Vec<u32>, alternatives: usize, output: usize) -> Request {
    let mut request = Request::new(prompt, output);
    request.prompt_logprobs = Some(alternatives);
    request
}

fn scores_should_be_those_of_the_model(scores: &Scores, adapter: Option<&Adapter>, ids: &[u32]) {
    let config = config();
    let logits = plain_logits(&config, &weights(&config), adapter, ids);
    assert_eq!(scores.len(), ids.len());
    assert_eq!(scores[0], None);
    let rows = logits.chunks_exact(config.vocab_size);
    for (position, (row, score)) in rows.zip(&scores[1..]).enumerate() {
        let score = score.as_ref().expect("all but the first have one");
        let expected = log_softmax(row);
        let near =
            |found: f32, token: u32| (f64::from(found) - expected[token as usize]).abs() < 1e-3;
        assert!(near(score.chosen, ids[position + 1]), "position {position}");
        assert!(score.top.iter().all(|(token, value)| near(*value, *token)));
        assert!(score.top.windows(2).all(|w| w[0].1 >= w[1].1));
        let best = expected.iter().fold(f64::MIN, |m, v| m.max(*v));
        assert!((f64::from(score.top[0].1) - best).abs() < 1e-3);
    }
}

#[test]
fn a_prompts_log_probabilities_should_be_those_of_the_model_in_any_chunks_and_mix() {
    let config = config();
    let adapters = ragged_adapters(&config);
    // A vocabulary of 101: five rows of logits at a time, and prompts cut into chunks anyhow.
    let engine = engine(EngineOptions {
        max_step_rows: 33,
        max_running: 16,
        scored_bytes: 5 * 101 * 4,
        ..EngineOptions::default()
    });
    let ids: Vec<AdapterId> = adapters
        .iter()
        .map(|a| engine.load_adapter(a).unwrap())
        .collect();
    let gate = Gate::close(&engine);
    let asked: Vec<_> = (0..8usize)
        .map(|i| {
            let which = (i % 4).checked_sub(1);
            let mut request = scored(prompt(1 + 13 * i, i), 3, i % 3);
            request.adapter = which.map(|a| ids[a]);
            (which, engine.submit(request).unwrap())
        })
        .collect();
    gate.open();
    for (i, (which, stream)) in asked.into_iter().enumerate() {
        let (scores, tokens, end) = collect(stream);
        let adapter = which.map(|a: usize| &adapters[a]);
        scores_should_be_those_of_the_model(&scores.unwrap(), adapter, &prompt(1 + 13 * i, i));
        assert_eq!((tokens.len(), end.output_tokens), (i % 3, i % 3));
        assert_eq!(end.prompt_tokens, 1 + 13 * i);
        assert_eq!(end.reason, FinishReason::Length);
    }
    assert!(engine.stats().max_requests_in_step > 1);
}

#[test]
fn a_prompt_known_already_should_be_computed_again_for_its_log_probabilities() {
    let engine = engine(EngineOptions::default());
    let ids = prompt(70, 3);
    let plain = tokens(engine.submit(Request::new(ids.clone(), 4)).unwrap());
    let hits = engine.stats().prefix_hits;
    let (scores, answer, _) = collect(engine.submit(scored(ids.clone(), 1, 4)).unwrap());
    scores_should_be_those_of_the_model(&scores.unwrap(), None, &ids);
    assert_eq!(engine.stats().prefix_hits, hits, "nothing was skipped");
    assert!(answer.iter().map(|t| t.id).eq(plain));
    // And what it computed is there for others.
    tokens(engine.submit(Request::new(ids, 4)).unwrap());
    assert_eq!(engine.stats().prefix_hits, hits + 64);
}

#[test]
fn log_probabilities_should_survive_being_displaced() {
    let engine = engine(EngineOptions {
        arena_pages: Some(14),
        max_step_rows: 64,
        max_running: 8,
        scored_bytes: 7 * 101 * 4,
        ..EngineOptions::default()
    });
    let gate = Gate::close(&engine);
    let request = |i: usize| scored(prompt(40 + i, i), 2, 60);
    let streams: Vec<_> = (0..6).map(|i| engine.submit(request(i)).unwrap()).collect();
    gate.open();
    for (i, stream) in streams.into_iter().enumerate() {
        let (scores, tokens, _) = collect(stream);
        scores_should_be_those_of_the_model(&scores.unwrap(), None, &prompt(40 + i, i));
        assert_eq!(tokens.len(), 60);
    }
    assert!(engine.stats().preemptions > 0);
}

#[test]
fn a_prompt_as_long_as_the_context_should_be_read_if_nothing_is_drawn() {
    let engine = engine(EngineOptions::default());
    let ids = prompt(160, 1);
    let (scores, tokens, _) = collect(engine.submit(scored(ids.clone(), 1, 0)).unwrap());
    assert_eq!((scores.unwrap().len(), tokens.len()), (160, 0));
    let refused = engine.submit(scored(ids, 1, 1)).unwrap_err();
    assert!(matches!(refused, SubmitError::PromptTooLong { .. }));
    let refused = engine.submit(scored(prompt(161, 1), 1, 0)).unwrap_err();
    assert!(matches!(refused, SubmitError::PromptTooLong { .. }));
    let refused = engine.submit(scored(prompt(4, 1), 21, 0)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "21 alternatives were asked for; at most 20 are given"
    );
    let refused = engine.submit(Request::new(prompt(4, 1), 0)).unwrap_err();
    assert_eq!(refused, SubmitError::NoNewTokens);
}

/// The normalised state of the last token or the mean of all, by the backend alone.
fn expected_embedding(adapter: Option<&Adapter>, ids: &[u32], pooling: Pooling) -> Vec<f32> {
    let config = config();
    let adapters: Vec<Adapter> = adapter.into_iter().cloned().collect();
    let (mut backend, loaded) = backend(&config, weights(&config), 10, &adapters);
    let states = hidden(&mut *backend, loaded.first(), ids);
    let rows = states.chunks_exact(config.hidden_size);
    let mut sum = vec![0.0f64; config.hidden_size];
    let skipped = match pooling {
        Pooling::Last => ids.len() - 1,
        Pooling::Mean => 0,
    };
    for row in rows.skip(skipped) {
        sum.iter_mut()
            .zip(row)
            .for_each(|(s, v)| *s += f64::from(*v));
    }
    let length = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
    sum.iter().map(|v| (v / length) as f32).collect()
}

#[test]
fn embeddings_should_be_the_pooled_states_and_share_steps_with_answers() {
    let config = config();
    let adapters = ragged_adapters(&config);
    let engine = engine(EngineOptions {
        max_step_rows: 40,
        max_running: 16,
        ..EngineOptions::default()
    });
    let id = engine.load_adapter(&adapters[0]).unwrap();
    engine.pin_adapter(id).unwrap();
    let gate = Gate::close(&engine);
    let answer = engine.submit(Request::new(prompt(9, 1), 30)).unwrap();
    let mut asked = Vec::new();
    for (i, pooling) in [Pooling::Last, Pooling::Mean].into_iter().enumerate() {
        for adapter in [None, Some(id)] {
            let mut request = EmbedRequest::new(prompt(50 + i, i));
            request.pooling = pooling;
            request.adapter = adapter;
            asked.push((request.clone(), engine.embed(request).unwrap()));
        }
    }
    gate.open();
    let mut found: Vec<Vec<f32>> = Vec::new();
    for (request, pending) in asked {
        let vector = pending.blocking_wait().unwrap().unwrap();
        let adapter = request.adapter.map(|_| &adapters[0]);
        let expected = expected_embedding(adapter, &request.input, request.pooling);
        assert!(difference(&vector, &expected) < 1e-6);
        let length: f32 = vector.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5);
        assert!(found.iter().all(|other| difference(other, &vector) > 0.05));
        found.push(vector);
    }
    let stats = engine.stats();
    assert!(stats.max_requests_in_step >= 3 && stats.max_distinct_adapters_in_step == 1);
    assert_eq!(tokens(answer).len(), 30);
    assert_eq!(engine.stats().kv_pages_used, 0);
}

#[test]
fn a_mean_should_not_depend_on_chunks_displacement_or_known_prefixes() {
    let mean = |engine: &EngineHandle, i: usize| {
        let mut request = EmbedRequest::new(prompt(60, i));
        request.pooling = Pooling::Mean;
        engine.embed(request).unwrap()
    };
    let roomy = engine(EngineOptions::default());
    let tight = engine(EngineOptions {
        arena_pages: Some(14),
        max_step_rows: 24,
        max_running: 16,
        ..EngineOptions::default()
    });
    let gate = Gate::close(&tight);
    // Those who draw need more and more pages.
    let answers: Vec<_> = (0..3)
        .map(|i| tight.submit(Request::new(prompt(20, i), 80)).unwrap())
        .collect();
    let pending: Vec<_> = (0..6).map(|i| mean(&tight, i % 3)).collect();
    gate.open();
    for (i, pending) in pending.into_iter().enumerate() {
        let alone = mean(&roomy, i % 3).blocking_wait().unwrap().unwrap();
        assert_eq!(pending.blocking_wait().unwrap().unwrap(), alone);
    }
    answers
        .into_iter()
        .for_each(|a| assert_eq!(tokens(a).len(), 80));
}

#[test]
fn embeddings_should_be_refused_and_cancelled_like_answers() {
    let engine = engine(EngineOptions {
        max_requests: 2,
        ..EngineOptions::default()
    });
    let refused = |request| engine.embed(request).unwrap_err();
    assert_eq!(refused(EmbedRequest::new(vec![])), SubmitError::EmptyPrompt);
    let unknown = refused(EmbedRequest::new(vec![101]));
    assert!(matches!(unknown, SubmitError::UnknownToken { .. }));
    let mut elsewhere = EmbedRequest::new(vec![1]);
    elsewhere.adapter = Some(AdapterId([9; 32]));
    assert!(matches!(refused(elsewhere), SubmitError::UnknownAdapter(_)));
    let gate = Gate::close(&engine);
    let pending = engine.embed(EmbedRequest::new(prompt(20, 1))).unwrap();
    let full = refused(EmbedRequest::new(prompt(20, 2)));
    assert!(matches!(full, SubmitError::QueueFull { .. }));
    drop(pending);
    gate.open();
    // The place of the one that was dropped comes back, and its pages.
    let found = loop {
        if let Ok(pending) = engine.embed(EmbedRequest::new(prompt(20, 2))) {
            break pending.blocking_wait().unwrap().unwrap();
        }
        std::thread::yield_now();
    };
    assert_eq!(found.len(), config().hidden_size);
    assert_eq!(engine.stats().cancelled, 1);
    assert_eq!(engine.stats().kv_pages_used, 0);
}

#[test]
fn several_answers_should_compute_their_prompt_once() {
    let engine = engine(EngineOptions::default());
    let ids = prompt(70, 5);
    let request = |i: u32| {
        let mut request = sampled(ids.clone(), 12, 0);
        request.seed = answer_seed(&[3; 32], i);
        request
    };
    let alone: Vec<Vec<u32>> = (0..5)
        .map(|i| {
            let mut request = request(i);
            request.cache_salt = [i as u8 + 1; 32];
            tokens(engine.submit(request).unwrap())
        })
        .collect();
    assert!((1..5).all(|i| alone[i] != alone[0]));
    let before = engine.stats();
    let streams = engine.submit_many((0..5).map(request).collect()).unwrap();
    assert_eq!(streams.len(), 5);
    for (stream, alone) in streams.into_iter().zip(&alone) {
        assert_eq!(&tokens(stream), alone);
    }
    let after = engine.stats();
    // All full pages of the prompt but the first one's.
    assert_eq!(after.prefix_hits - before.prefix_hits, 4 * 64);
    assert_eq!(after.prefix_queries - before.prefix_queries, 5 * 70);
    assert_eq!(after.kv_pages_used, 0);
    let refused = engine.submit_many(vec![request(0), Request::new(vec![], 3)]);
    assert_eq!(refused.unwrap_err(), SubmitError::EmptyPrompt);
}

#[test]
fn answers_should_not_wait_for_one_that_was_dropped() {
    let engine = engine(EngineOptions::default());
    let gate = Gate::close(&engine);
    let request = |i: u8| sampled(prompt(70, 6), 6, i);
    let mut streams = engine.submit_many((0..4).map(request).collect()).unwrap();
    drop(streams.remove(2));
    drop(streams.remove(0));
    gate.open();
    for stream in streams {
        assert_eq!(tokens(stream).len(), 6);
    }
    let stats = engine.stats();
    assert_eq!((stats.cancelled, stats.waiting, stats.running), (2, 0, 0));
    assert_eq!(
        stats.prefix_hits, 64,
        "the second computed it for the fourth"
    );
}
