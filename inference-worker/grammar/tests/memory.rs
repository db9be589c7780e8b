//! What forms hold in memory, as the allocator counts it.

mod common;

use common::*;
use openledger_engine::{TokenConstraint, TokenMask};
use openledger_grammar::{Form, GrammarConstraint, GrammarError, Grammars};
use serde_json::json;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// Sound as the system's own allocator is, which it hands everything to.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// Patterns of which a lexer has very many states, few of which are the same.
fn hostile(at: usize) -> Form {
    let pattern = format!("[ -~]*[ab{at}][ -~]{{12,14}}");
    Form::JsonSchema(json!({ "type": "string", "pattern": pattern, "maxLength": 9_000 }))
}

/// Goes on as whoever asks could make the model go on, by biases; how many tokens, and why no more.
fn go_on(constraint: &mut GrammarConstraint, steps: usize, seed: u64) -> (usize, Option<String>) {
    let mut mask = TokenMask::new(byte_level().vocab_size());
    let mut state = seed;
    for step in 0..steps {
        mask.clear();
        if let Err(error) = constraint.mask(&mut mask) {
            return (step, Some(error.to_string()));
        }
        let allowed: Vec<u32> = (1..mask.vocabulary() as u32)
            .filter(|t| mask.allows(*t))
            .collect();
        if allowed.is_empty() || constraint.is_finished() {
            return (step, None);
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        let token = allowed[(state >> 33) as usize % allowed.len()];
        if let Err(error) = constraint.accept(token) {
            return (step, Some(error.to_string()));
        }
    }
    (steps, None)
}

#[test]
fn hostile_forms_should_hold_no_more_than_there_is_for_all_forms() {
    const MEMORY: usize = 16 << 20;
    let tokenizer = byte_level();
    let grammars = Grammars::new(&tokenizer, tokenizer.vocab_size()).unwrap();
    let grammars = grammars.with_memory(MEMORY);
    let mut honest = grammars.compile(&Form::JsonObject, &[END]).unwrap();
    let before = held();
    let mut forms = Vec::new();
    let refused = loop {
        match grammars.compile(&hostile(forms.len()), &[END]) {
            Ok(form) => forms.push(form),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, GrammarError::NoMemory), "{refused}");
    // Those under way take the other half, and then one after the other has to end.
    let mut ended = 0;
    for (seed, form) in forms.iter_mut().enumerate() {
        let (_, why) = go_on(form, 1_500, seed as u64);
        ended += usize::from(why.is_some_and(|why| why.contains("memory")));
    }
    let more = held() - before;
    println!(
        "{} forms, of which {ended} had to end, hold {more} bytes",
        forms.len()
    );
    assert!(ended > 0);
    // The last mask of each may have gone beyond its share before it was told.
    assert!(more < MEMORY + MEMORY / 2, "{more}");
    // A small form goes on whatever others hold.
    let (_, why) = go_on(&mut honest, 40, 1);
    assert_eq!(why, None);
    drop(forms);
    assert!(grammars.compile(&hostile(0), &[END]).is_ok());
}
