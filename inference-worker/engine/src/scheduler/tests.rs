use super::queue::Tenant;
use super::*;
use crate::memory::prefix::BlockNames;
use crate::memory::GiveWay;
use proptest::prelude::*;

fn scheduler(step_rows: usize, running: usize, pages: u32) -> Scheduler {
    let limits = Limits {
        step_rows,
        running,
        scored_rows: 4,
        context_pages: 4.min(pages as usize),
        step_adapter_pages: None,
    };
    Scheduler::new(limits, pages)
}

/// A prompt that nobody else begins like.
fn arrival(tokens: usize) -> Arrival {
    Arrival {
        tokens,
        ..Arrival::default()
    }
}

fn adapter(n: u8) -> AdapterId {
    AdapterId([n; 32])
}

fn with_adapter(tokens: usize, n: u8) -> Arrival {
    let standing = Standing {
        adapter: Some(adapter(n)),
        ..Standing::default()
    };
    Arrival {
        standing,
        ..arrival(tokens)
    }
}

/// A plan with every adapter there.
fn plan(scheduler: &mut Scheduler) -> Plan {
    scheduler.plan(|_| Gate::Open)
}

fn ids(plan: &Plan) -> Vec<SequenceId> {
    plan.chunks.iter().map(|c| c.id).collect()
}

/// Computes a planned step and draws a token for each complete chunk.
fn compute(scheduler: &mut Scheduler, plan: &Plan) -> Vec<SequenceId> {
    scheduler.commit(plan);
    let complete: Vec<SequenceId> = plan
        .chunks
        .iter()
        .filter(|c| c.complete)
        .map(|c| c.id)
        .collect();
    for id in &complete {
        scheduler.append(*id, None);
    }
    complete
}

#[test]
fn one_step_should_mix_decode_rows_with_a_prefill_chunk() {
    let mut s = scheduler(10, 4, 100);
    s.enqueue(1, arrival(3));
    let first = plan(&mut s);
    compute(&mut s, &first);
    s.enqueue(2, arrival(30));
    let step = plan(&mut s);
    let expected = [
        Chunk {
            id: 1,
            start: 3,
            rows: 1,
            complete: true,
        },
        Chunk {
            id: 2,
            start: 0,
            rows: 9,
            complete: false,
        },
    ];
    assert_eq!(step.chunks, expected);
}

#[test]
fn a_long_prompt_at_the_head_should_not_be_overtaken() {
    let mut s = scheduler(64, 8, 4);
    s.enqueue(1, arrival(2 * PAGE_TOKENS));
    let step = plan(&mut s);
    compute(&mut s, &step);
    s.enqueue(2, arrival(3 * PAGE_TOKENS));
    s.enqueue(3, arrival(1));
    let step = plan(&mut s);
    assert_eq!(ids(&step), [1]);
    s.remove(1);
    let step = plan(&mut s);
    assert_eq!(step.chunks.first().map(|c| c.id), Some(2));
}

#[test]
fn a_cancelled_sequence_should_give_its_pages_back_at_once() {
    let mut s = scheduler(64, 8, 8);
    s.enqueue(1, arrival(4 * PAGE_TOKENS));
    let step = plan(&mut s);
    compute(&mut s, &step);
    assert_eq!(s.memory().used_blocks(), 4);
    s.remove(1);
    assert_eq!((s.memory().used_blocks(), s.running()), (0, 0));
}

#[test]
fn the_youngest_should_give_way_when_a_page_is_missing() {
    let mut s = scheduler(64, 8, 3);
    s.enqueue(1, arrival(PAGE_TOKENS));
    let step = plan(&mut s);
    compute(&mut s, &step);
    // The first sequence now needs a second page; the second takes the last one before it.
    s.enqueue(2, arrival(1));
    s.limits.running = 8;
    let step = plan(&mut s);
    assert!(step.preempted.is_empty());
    compute(&mut s, &step);
    for _ in 0..PAGE_TOKENS {
        let step = plan(&mut s);
        compute(&mut s, &step);
    }
    assert_eq!(s.table(1).len(), 3);
    assert_eq!((s.running(), s.waiting()), (1, 1));
}

proptest! {
    #[test]
    fn every_sequence_should_finish_in_any_mix(
        pages in 4u32..20,
        step_rows in 9usize..60,
        prompts in prop::collection::vec((1usize..40, 1usize..24), 1..40),
        cancel in prop::collection::vec(0usize..200, 0..5),
    ) {
        let mut s = scheduler(step_rows, 8, pages);
        let mut left: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for (i, (prompt, output)) in prompts.iter().enumerate() {
            s.enqueue(i as u64, arrival(*prompt));
            left.insert(i as u64, (*prompt, *output));
        }
        let mut oldest_waited = 0;
        for step in 0..20_000 {
            if cancel.contains(&step) {
                if let Some(id) = left.keys().nth(step % left.len().max(1)).copied() {
                    left.remove(&id);
                    s.remove(id);
                }
            }
            if left.is_empty() {
                break;
            }
            let step = plan(&mut s);
            let rows: usize = step.chunks.iter().map(|c| c.rows).sum();
            prop_assert!(rows > 0 && rows <= step_rows);
            prop_assert!(s.running() <= 8);
            let oldest = left.keys().next().copied();
            let served = step.chunks.iter().any(|c| Some(c.id) == oldest);
            prop_assert!(!step.preempted.iter().any(|id| Some(*id) == oldest));
            oldest_waited = if served { 0 } else { oldest_waited + 1 };
            prop_assert!(oldest_waited == 0, "the oldest is in every step");
            let mut held: Vec<u32> = Vec::new();
            for chunk in &step.chunks {
                let table = s.table(chunk.id);
                prop_assert!(table.len() * PAGE_TOKENS >= chunk.start + chunk.rows);
                held.extend(table);
            }
            held.sort_unstable();
            let distinct = held.len();
            held.dedup();
            prop_assert_eq!(held.len(), distinct, "a page has one owner");
            prop_assert!(s.memory().used_blocks() >= distinct);
            for id in compute(&mut s, &step) {
                let entry = left.get_mut(&id).expect("a live sequence");
                entry.1 -= 1;
                if entry.1 == 0 {
                    left.remove(&id);
                    s.remove(id);
                }
            }
        }
        prop_assert!(left.is_empty(), "unfinished: {left:?}");
        prop_assert_eq!(s.memory().used_blocks(), 0);
        prop_assert_eq!((s.running(), s.waiting()), (0, 0));
    }
}

#[test]
fn who_waits_for_an_adapter_should_let_others_go_first_but_not_who_waits_for_room() {
    let mut s = scheduler(64, 8, 20);
    for n in [1, 2] {
        assert!(s.reserve(adapter(n), 1, 1, None).is_some());
    }
    s.enqueue(1, with_adapter(4, 1));
    s.enqueue(2, with_adapter(4, 2));
    s.enqueue(3, arrival(4));
    let loading = |id| {
        if id == adapter(1) {
            Gate::Loading
        } else {
            Gate::Open
        }
    };
    assert_eq!(ids(&s.plan(loading)), [2, 3]);
    s.enqueue(4, arrival(4));
    let full = |id| {
        if id == adapter(1) {
            Gate::Full
        } else {
            Gate::Open
        }
    };
    let step = s.plan(full);
    assert!(
        !ids(&step).contains(&4),
        "nobody goes before who waits for room"
    );
    s.remove(1);
    assert!(ids(&s.plan(full)).contains(&4));
}

#[test]
fn what_a_prompt_begins_with_should_be_computed_once() {
    let mut s = scheduler(128, 8, 20);
    let tokens: Vec<u32> = (0..40).collect();
    let arrive = |s: &mut Scheduler, id, tokens: &[u32]| {
        let blocks = BlockNames::new(None, &[0; 32]).extend(tokens);
        s.enqueue(
            id,
            Arrival {
                blocks,
                ..arrival(tokens.len())
            },
        );
    };
    arrive(&mut s, 1, &tokens);
    let step = plan(&mut s);
    assert_eq!(step.prefix, (40, 0));
    compute(&mut s, &step);
    // Beside the first, and after it.
    arrive(&mut s, 2, &tokens[..38]);
    let step = plan(&mut s);
    let second = step.chunks.iter().find(|c| c.id == 2).expect("admitted");
    assert_eq!((second.start, second.rows), (32, 6));
    assert_eq!(s.table(2)[..2], s.table(1)[..2]);
    compute(&mut s, &step);
    s.remove(1);
    s.remove(2);
    // The last token is computed in any case: its logits are wanted.
    arrive(&mut s, 3, &tokens[..32]);
    let step = plan(&mut s);
    assert_eq!((step.chunks[0].start, step.chunks[0].rows), (16, 16));
    compute(&mut s, &step);
    let mut other = tokens;
    other[5] = 99;
    arrive(&mut s, 4, &other);
    let step = plan(&mut s);
    let fourth = step.chunks.iter().find(|c| c.id == 4).expect("admitted");
    assert_eq!(fourth.start, 0);
}

#[test]
fn names_of_later_blocks_should_not_stand_in_the_places_of_forgotten_ones() {
    // Two pages for each of two prompts, and one in hand.
    let mut s = scheduler(64, 4, 5);
    let (first, second) = ([1; 32], [2; 32]);
    let with = |blocks: Vec<BlockHash>, tokens| Arrival {
        blocks,
        ..arrival(tokens)
    };
    s.enqueue(1, arrival(20));
    s.enqueue(2, with(vec![first], 20));
    let step = plan(&mut s);
    assert_eq!(compute(&mut s, &step), [1, 2]);
    s.forget_prefixes();
    for tokens in 22..=33 {
        let step = plan(&mut s);
        s.commit(&step);
        s.append(1, None);
        s.append(2, (tokens == 32).then_some(second));
    }
    // The second is computed again from its beginning.
    assert_eq!(plan(&mut s).preempted, [2]);
    s.remove(1);
    let step = plan(&mut s);
    assert_eq!(compute(&mut s, &step), [2]);
    s.remove(2);
    // No page holds a prompt that begins with that block.
    s.enqueue(3, with(vec![second], 17));
    assert_eq!(plan(&mut s).prefix, (17, 0));
}

#[test]
fn rows_whose_logits_are_wanted_should_not_be_reused_and_be_few_in_a_step() {
    let mut s = scheduler(64, 4, 20);
    let blocks = BlockNames::new(None, &[0; 32]).extend(&[7; 40]);
    let wanted = |positions, scored| Arrival {
        tokens: 40,
        blocks: blocks.clone(),
        wanted: Wanted { positions, scored },
        ..Arrival::default()
    };
    s.enqueue(1, wanted(0..0, false));
    let step = plan(&mut s);
    compute(&mut s, &step);
    s.remove(1);
    // From position 20 on: the block before is reused, then four rows whose logits are wanted.
    s.enqueue(2, wanted(20..39, true));
    let chunk = |id, start, rows, complete| Chunk {
        id,
        start,
        rows,
        complete,
    };
    let step = plan(&mut s);
    assert_eq!(step.chunks, [chunk(2, 16, 8, false)]);
    compute(&mut s, &step);
    // The next has to wait for logits, not for hidden states.
    s.enqueue(3, wanted(0..39, true));
    s.enqueue(4, wanted(0..40, false));
    let step = plan(&mut s);
    assert_eq!(step.chunks, [chunk(2, 24, 4, false), chunk(4, 0, 40, true)]);
    compute(&mut s, &step);
    s.remove(4);
    for start in [28, 32] {
        let step = plan(&mut s);
        assert_eq!(step.chunks, [chunk(2, start, 4, false)]);
        compute(&mut s, &step);
    }
    // Three rows with logits and the last without.
    let step = plan(&mut s);
    assert_eq!(step.chunks, [chunk(2, 36, 4, true), chunk(3, 0, 1, false)]);
}

#[test]
fn a_paused_sequence_should_keep_its_pages_and_take_no_part() {
    let mut s = scheduler(64, 4, 20);
    s.enqueue(1, arrival(20));
    s.enqueue(2, arrival(20));
    let step = plan(&mut s);
    compute(&mut s, &step);
    s.pause(1, true);
    let step = plan(&mut s);
    assert_eq!(ids(&step), [2]);
    compute(&mut s, &step);
    assert_eq!(s.table(1).len(), 2);
    s.pause(1, false);
    assert_eq!(ids(&plan(&mut s)), [1, 2]);
}

#[test]
fn a_step_should_read_no_more_adapters_than_its_bound_and_leave_nobody_out_for_long() {
    let limits = Limits {
        step_rows: 64,
        running: 8,
        scored_rows: 4,
        context_pages: 4,
        step_adapter_pages: Some(4),
    };
    let mut s = Scheduler::new(limits, 60);
    for n in 1..=6 {
        assert!(s.reserve(adapter(n), 2, 1, None).is_some());
        s.memory_mut().copied(adapter(n));
        s.enqueue(u64::from(n), with_adapter(3, n));
    }
    let mut stepped: HashMap<SequenceId, usize> = HashMap::new();
    for _ in 0..30 {
        let step = plan(&mut s);
        assert!((1..=2).contains(&step.chunks.len()), "{step:?}");
        for id in compute(&mut s, &step) {
            *stepped.entry(id).or_default() += 1;
        }
    }
    assert_eq!(stepped.len(), 6);
    assert!(stepped.values().all(|n| *n >= 4), "{stepped:?}");
}

/// What a sequence of the property below still has to do.
struct Left {
    adapter: Option<u8>,
    output: usize,
    /// Positions whose outputs are wanted and were not given.
    missing: Range<usize>,
    /// Of these, those whose logits are.
    scored: Range<usize>,
}

proptest! {
    #[test]
    fn every_sequence_should_finish_with_its_adapter_in_any_mix(
        pages in 8u32..24,
        requests in prop::collection::vec(
            (1usize..40, 1usize..24, prop::option::of(0u8..6), 0u8..3, -1i8..2),
            1..40,
        ),
        delays in prop::collection::vec(0u32..5, 6),
        bound in prop::option::of(0usize..8),
        shared in 0usize..40,
    ) {
        let limits = Limits {
            step_rows: 33,
            running: 8,
            scored_rows: 3,
            context_pages: 4,
            step_adapter_pages: bound,
        };
        let mut s = Scheduler::new(limits, pages);
        let mut left: BTreeMap<SequenceId, Left> = BTreeMap::new();
        for (i, (prompt, output, which, tenant, priority)) in requests.into_iter().enumerate() {
            let id = i as u64;
            let standing = Standing {
                tenant: Tenant([tenant; 32]),
                adapter: which.map(adapter),
                priority,
            };
            // Prompts begin alike up to `shared` tokens.
            let tokens: Vec<u32> = (0..prompt)
                .map(|t| if t < shared { 7 } else { id as u32 })
                .collect();
            let blocks = BlockNames::new(standing.adapter, &[0; 32]).extend(&tokens);
            // Of each third prompt all logits are wanted, of others all rows or none.
            let wanted = Wanted {
                positions: if id % 3 == 2 { 0..0 } else { 0..prompt - 1 },
                scored: id.is_multiple_of(3),
            };
            let scored = if wanted.scored { 0..prompt - 1 } else { 0..0 };
            let missing = wanted.positions.clone();
            s.enqueue(id, Arrival { tokens: prompt, blocks, standing, wanted });
            left.insert(id, Left { adapter: which, output, missing, scored });
        }
        // Adapters take 1 to 4 pages and some rounds to arrive.
        let size = |n: u8| u32::from(n % 4) + 1;
        let mut arriving: HashMap<u8, u32> = HashMap::new();
        let mut reading: HashMap<u8, u32> = (0..6).map(|n| (n, delays[usize::from(n)])).collect();
        for round in 0..20_000usize {
            if left.is_empty() {
                break;
            }
            arriving.retain(|n, rounds| {
                let done = *rounds == 0;
                if done {
                    s.memory_mut().copied(adapter(*n));
                } else {
                    *rounds -= 1;
                }
                !done
            });
            // Pins come and go; they leave room for an adapter and a context.
            if round % 7 == 3 {
                let n = round as u8 % 6;
                let may = !arriving.contains_key(&n) && s.memory().may_pin(adapter(n), 4);
                if may && s.memory().pages_of(adapter(n)) > 0 {
                    s.memory_mut().pin(adapter(n), true);
                }
            } else if round % 7 == 6 {
                (0..6).for_each(|n| s.memory_mut().pin(adapter(n), false));
            }
            let mut full = Vec::new();
            let mut ahead = None;
            for (id, wanted) in s.upcoming(4) {
                let n = wanted.0[0];
                if s.memory().pages_of(wanted) > 0 {
                    s.hold_adapter(id);
                    ahead = ahead.or(Some(wanted));
                } else if let Some(rounds) = reading.get_mut(&n).filter(|rounds| **rounds > 0) {
                    // Its file is being read.
                    *rounds -= 1;
                } else if full.is_empty() {
                    match s.reserve(wanted, size(n), 1_000, ahead) {
                        Some(_) => {
                            arriving.insert(n, delays[usize::from(n)]);
                            reading.insert(n, delays[usize::from(n)] * 2);
                            s.hold_adapter(id);
                            ahead = ahead.or(Some(wanted));
                        }
                        None => full.push(wanted),
                    }
                }
            }
            let present: Vec<AdapterId> = (0..6)
                .filter(|n| s.memory().pages_of(adapter(*n)) > 0 && !arriving.contains_key(n))
                .map(adapter)
                .collect();
            let first = s.running.values().next().map(|s| s.id);
            let step = s.plan(|id| {
                if full.contains(&id) {
                    Gate::Full
                } else if present.contains(&id) {
                    Gate::Open
                } else {
                    Gate::Loading
                }
            });
            let rows: usize = step.chunks.iter().map(|c| c.rows).sum();
            prop_assert!(rows <= 33);
            let mut scored = 0;
            for chunk in &step.chunks {
                let entry = left.get_mut(&chunk.id).expect("a live sequence");
                let end = chunk.start + chunk.rows;
                scored += entry.scored.end.min(end).saturating_sub(entry.scored.start.max(chunk.start));
                entry.scored.start = entry.scored.start.max(end).min(entry.scored.end);
                if !entry.missing.is_empty() {
                    prop_assert!(chunk.start <= entry.missing.start, "a wanted row was skipped");
                }
                entry.missing.start = entry.missing.start.max(end).min(entry.missing.end);
            }
            prop_assert!(scored <= 3, "{scored} rows of logits");
            let coming = !arriving.is_empty() || reading.values().any(|rounds| *rounds > 0);
            let pinned = s.memory().pinned_pages() > 0;
            prop_assert!(rows > 0 || coming || pinned, "nothing runs and nothing comes");
            if let Some(first) = first {
                prop_assert!(ids(&step).contains(&first), "the first admitted moves on");
            }
            for chunk in &step.chunks {
                prop_assert!(s.table(chunk.id).len() * PAGE_TOKENS >= chunk.start + chunk.rows);
                if let Some(n) = left[&chunk.id].adapter {
                    prop_assert!(s.memory().pages_of(adapter(n)) > 0, "computed without adapter");
                    prop_assert!(!arriving.contains_key(&n), "computed before it arrived");
                }
            }
            for id in compute(&mut s, &step) {
                let entry = left.get_mut(&id).expect("a live sequence");
                entry.output -= 1;
                if entry.output == 0 {
                    prop_assert!(entry.missing.is_empty() && entry.scored.is_empty());
                    left.remove(&id);
                    s.remove(id);
                }
            }
        }
        (0..6).for_each(|n| s.memory_mut().pin(adapter(n), false));
        prop_assert!(left.is_empty(), "unfinished: {:?}", left.keys());
        prop_assert_eq!(s.memory().used_blocks(), 0);
        prop_assert_eq!((s.running(), s.waiting()), (0, 0));
        prop_assert!(s.queue.is_empty());
        prop_assert_eq!(s.memory().available(GiveWay::Unused), pages as usize, "nothing is held");
    }
}
