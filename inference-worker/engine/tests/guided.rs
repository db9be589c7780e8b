//! Answers that are held to a constraint.

mod common;

use common::*;
use openledger_engine::{
    ConstraintError, EngineOptions, FinishReason, Request, StepError, TokenConstraint, TokenMask,
};
use std::sync::mpsc::{channel, Receiver, Sender};

/// The token that ends an answer in these tests.
const END: u32 = 100;

/// Allows after `n` tokens those that are `n` modulo 7; from `ends_from` on also the end; is finished
/// after `complete_at`.
struct Sevens {
    accepted: Vec<u32>,
    ends_from: usize,
    complete_at: usize,
}

impl Sevens {
    fn new(ends_from: usize, complete_at: usize) -> Self {
        Self {
            accepted: Vec::new(),
            ends_from,
            complete_at,
        }
    }
}

impl TokenConstraint for Sevens {
    fn mask(&mut self, out: &mut TokenMask) -> Result<(), ConstraintError> {
        assert!(out.is_empty());
        let next = (self.accepted.len() % 7) as u32;
        (0..14).for_each(|i| out.allow(next + 7 * i));
        if self.accepted.len() >= self.ends_from {
            out.clear();
            out.allow(END);
        }
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        assert_eq!(token as usize % 7, self.accepted.len() % 7);
        self.accepted.push(token);
        Ok(())
    }

    fn is_finished(&self) -> bool {
        self.accepted.len() >= self.complete_at
    }
}

fn guided(i: usize, output: usize, constraint: impl TokenConstraint + 'static) -> Request {
    let mut request = sampled(prompt(30 + i, i), output, i as u8);
    request.stop_tokens = vec![END];
    request.logprobs = Some(0);
    request.constraint = Some(Box::new(constraint));
    request
}

#[test]
fn a_constrained_answer_should_have_only_what_may_follow_and_end_where_it_may() {
    let engine = engine(EngineOptions::default());
    let ends = [
        // (may end from, is complete at, limit): what happens, and after how many tokens.
        ((4, 99, 20), FinishReason::StopToken(END), 4),
        ((99, 5, 20), FinishReason::Constraint, 5),
        ((99, 99, 6), FinishReason::Length, 6),
        // Complete by the last token that there is room for.
        ((99, 6, 6), FinishReason::Constraint, 6),
        ((0, 99, 6), FinishReason::StopToken(END), 0),
        ((99, 0, 6), FinishReason::Constraint, 0),
    ];
    let gate = Gate::close(&engine);
    let streams: Vec<_> = ends
        .iter()
        .enumerate()
        .map(|(i, ((from, at, limit), _, _))| {
            let request = guided(i, *limit, Sevens::new(*from, *at));
            engine.submit(request).unwrap()
        })
        .collect();
    gate.open();
    for (i, (stream, (_, reason, count))) in streams.into_iter().zip(ends).enumerate() {
        let (tokens, end) = stream.blocking_collect().unwrap();
        assert_eq!(end.unwrap().reason, reason, "{i}");
        assert_eq!(tokens.len(), count, "{i}");
        let sevens = |(n, t): (usize, &u32)| *t as usize % 7 == n % 7;
        let ids: Vec<u32> = tokens.iter().map(|t| t.id).collect();
        assert!(ids.iter().enumerate().all(sevens), "{i}: {ids:?}");
        // Log-probabilities are the model's own, whatever may follow.
        let mut all = prompt(30 + i, i);
        all.extend(&ids);
        let config = config();
        let logits = plain_logits(&config, &weights(&config), None, &all);
        let rows = logits.chunks_exact(config.vocab_size).skip(29 + i);
        for (token, row) in tokens.iter().zip(rows) {
            let expected = log_softmax(row)[token.id as usize];
            let found = token.logprobs.as_ref().unwrap().chosen;
            assert!((f64::from(found) - expected).abs() < 1e-3);
        }
    }
    assert_eq!(engine.stats().kv_pages_used, 0);
}

/// Says when it is asked for a mask, and waits until it may answer.
struct Held {
    inner: Sevens,
    asked: Sender<()>,
    go_on: Receiver<()>,
}

impl TokenConstraint for Held {
    fn mask(&mut self, out: &mut TokenMask) -> Result<(), ConstraintError> {
        // Errors mean that the test is over.
        let _ = self.asked.send(());
        let _ = self.go_on.recv();
        self.inner.mask(out)
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.inner.accept(token)
    }

    fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }
}

fn held(i: usize, output: usize) -> (Request, Receiver<()>, Sender<()>) {
    let (asked, is_asked) = channel();
    let (let_go, go_on) = channel();
    let inner = Sevens::new(99, 99);
    let constraint = Held {
        inner,
        asked,
        go_on,
    };
    (guided(i, output, constraint), is_asked, let_go)
}

#[test]
fn a_slow_constraint_should_hold_up_nobody_else() {
    let engine = engine(EngineOptions::default());
    let expected = tokens(engine.submit(guided(1, 4, Sevens::new(99, 99))).unwrap());
    let (request, asked, let_go) = held(1, 4);
    let slow = engine.submit(request).unwrap();
    for _ in 0..4 {
        asked.recv().unwrap();
        // It is being computed all the while that others are served from beginning to end.
        for i in 2..5 {
            assert_eq!(
                tokens(engine.submit(sampled(prompt(20, i), 9, 1)).unwrap()).len(),
                9
            );
        }
        let_go.send(()).unwrap();
    }
    assert_eq!(tokens(slow), expected);
}

#[test]
fn displaced_and_cancelled_answers_should_keep_or_lose_their_constraints() {
    let engine = engine(EngineOptions {
        arena_pages: Some(14),
        max_running: 8,
        max_step_rows: 64,
        ..EngineOptions::default()
    });
    let alone: Vec<Vec<u32>> = (0..5)
        .map(|i| tokens(engine.submit(guided(i, 60, Sevens::new(99, 99))).unwrap()))
        .collect();
    let (cancelled, asked, let_go) = held(7, 4);
    let cancelled = engine.submit(cancelled).unwrap();
    asked.recv().unwrap();
    drop(cancelled);
    let streams: Vec<_> = (0..5)
        .map(|i| engine.submit(guided(i, 60, Sevens::new(99, 99))).unwrap())
        .collect();
    for (stream, alone) in streams.into_iter().zip(alone) {
        assert_eq!(tokens(stream), alone);
    }
    let_go.send(()).unwrap();
    let stats = engine.stats();
    assert!(stats.preemptions > 0);
    assert_eq!(
        (stats.cancelled, stats.kv_pages_used, stats.running),
        (1, 0, 0)
    );
}

/// Fails in one of its ways after three tokens.
struct Failing(Sevens, fn(&mut TokenMask) -> Result<(), ConstraintError>);

impl TokenConstraint for Failing {
    fn mask(&mut self, out: &mut TokenMask) -> Result<(), ConstraintError> {
        if self.0.accepted.len() == 3 {
            return self.1(out);
        }
        self.0.mask(out)
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.0.accept(token)
    }

    fn is_finished(&self) -> bool {
        false
    }
}

#[test]
fn a_constraint_that_cannot_go_on_should_fail_its_own_request_only() {
    type Way = fn(&mut TokenMask) -> Result<(), ConstraintError>;
    let stuck = |reason: &str| StepError::Constraint(reason.to_owned());
    let ways: [(Way, StepError); 4] = [
        (
            |_| Err(ConstraintError::Stuck("too much work".to_owned())),
            stuck("too much work"),
        ),
        (
            |_| Err(ConstraintError::Busy("no memory".to_owned())),
            StepError::ConstraintBusy("no memory".to_owned()),
        ),
        (|_| panic!("deliberate"), stuck("it panicked")),
        (|_| Ok(()), stuck("no token may follow")),
    ];
    let engine = engine(EngineOptions::default());
    let other = engine.submit(Request::new(prompt(5, 1), 60)).unwrap();
    for (way, reason) in ways {
        let request = guided(1, 9, Failing(Sevens::new(99, 99), way));
        let (tokens, end) = engine.submit(request).unwrap().blocking_collect().unwrap();
        assert_eq!(tokens.len(), 3);
        assert_eq!(end, Err(reason));
    }
    assert_eq!(tokens(other).len(), 60);
}
