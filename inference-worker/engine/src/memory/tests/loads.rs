//! What stays under loads of several kinds.

use super::*;

const BLOCKS: usize = 4;

/// Requests one after the other, and what each meets.
struct Load {
    memory: Memory,
    next: u32,
}

/// What a request met.
struct Met {
    /// Whether its adapter was there.
    adapter: bool,
    /// Blocks of its prompt that were.
    blocks: usize,
}

fn named(n: u32) -> [u8; 32] {
    let mut name = [0; 32];
    name[..4].copy_from_slice(&n.to_le_bytes());
    name
}

impl Load {
    /// A block costs as much to compute as sixteen pages of an adapter to copy.
    fn new(pages: u32) -> Self {
        let mut memory = Memory::new(pages);
        memory.set_row_cost(1_000);
        Self { memory, next: 0 }
    }

    /// Asks with an adapter of four pages and a prompt of `BLOCKS` blocks; of either, `None` is one that
    /// nobody asked for before.
    fn ask(&mut self, adapter: Option<u32>, prompt: Option<u32>) -> Met {
        self.next += 1;
        let unique = 1_000_000 + self.next * 100;
        let adapter = AdapterId(named(adapter.unwrap_or(unique)));
        let prompt = prompt.map_or(unique, |p| p * 100);
        let names: Vec<_> = (0..BLOCKS as u32).map(|b| named(prompt + b)).collect();
        let memory = &mut self.memory;
        let met = Met {
            adapter: memory.pages_of(adapter) > 0,
            blocks: memory.known(&names).0,
        };
        if !met.adapter {
            let reserved = memory.reserve(adapter, 4, 4_000, GiveWay::Unused);
            assert!(reserved.expect("room").moves.is_empty());
            memory.copied(adapter);
        }
        memory.add_running(adapter);
        memory.ask_slab(adapter);
        let mut table = BlockTable::default();
        memory.begin(&mut table, &names);
        memory.ask_blocks(&table, met.blocks);
        assert!(memory.grow(&mut table, BLOCKS * PAGE_TOKENS, GiveWay::Unused));
        for (block, name) in names.iter().enumerate() {
            memory.name(&table, block, *name);
        }
        memory.release(&mut table);
        memory.remove_running(adapter);
        met
    }

    /// Adapters and prompts that nobody asks for again.
    fn scan(&mut self, requests: u32) {
        for _ in 0..requests {
            self.ask(None, None);
        }
    }

    /// Unique prompts for four adapters in turn: how many of the adapters had to be copied.
    fn unique_prompts(&mut self, requests: u32) -> usize {
        let missed = (0..requests).filter(|n| !self.ask(Some(n % 4), None).adapter);
        missed.count()
    }

    /// Five prompts in turn, each time with an adapter that nobody asked for: how many of their blocks had
    /// to be computed.
    fn unique_adapters(&mut self, requests: u32) -> usize {
        let missed = (0..requests).map(|n| BLOCKS - self.ask(None, Some(n % 5)).blocks);
        missed.sum()
    }
}

#[test]
fn unique_prompts_should_not_push_out_adapters_in_circulation() {
    let mut load = Load::new(32);
    load.unique_prompts(40);
    assert_eq!(load.unique_prompts(400), 0);
}

#[test]
fn adapters_asked_for_once_should_not_push_out_those_in_circulation() {
    let mut load = Load::new(32);
    let mut missed = 0;
    for n in 0..600 {
        // Eight that nobody asks for again between two askings for the same.
        let adapter = (n % 3 == 0).then_some(n / 3 % 4);
        let met = load.ask(adapter, None);
        missed += usize::from(n >= 300 && adapter.is_some() && !met.adapter);
    }
    assert_eq!(missed, 0);
}

#[test]
fn prompts_that_return_should_stay_among_those_that_do_not() {
    let mut load = Load::new(32);
    let mut missed = 0;
    for n in 0..600 {
        // More blocks of others between two askings than the arena has pages.
        let prompt = (n % 10 == 0).then_some(1);
        let met = load.ask(Some(0), prompt);
        if n >= 100 && prompt.is_some() {
            missed += BLOCKS - met.blocks;
        }
    }
    assert_eq!(missed, 0);
}

#[test]
fn what_stays_should_follow_the_load() {
    let mut load = Load::new(32);
    for _ in 0..3 {
        load.unique_prompts(100);
        assert_eq!(load.unique_prompts(100), 0);
        load.unique_adapters(100);
        assert_eq!(load.unique_adapters(100), 0);
    }
}

#[test]
fn what_was_asked_for_twice_should_outlive_what_was_not() {
    let mut load = Load::new(512);
    load.scan(400);
    load.ask(Some(1), Some(1));
    load.ask(Some(1), Some(1));
    load.ask(Some(2), Some(2));
    // Three times what the arena holds.
    load.scan(200);
    let once = load.ask(Some(2), Some(2));
    assert_eq!((once.adapter, once.blocks), (false, 0));
    let twice = load.ask(Some(1), Some(1));
    assert_eq!((twice.adapter, twice.blocks), (true, BLOCKS));
}

#[test]
fn what_is_found_should_be_told_apart_from_what_gives_way() {
    let mut load = Load::new(32);
    load.scan(60);
    for n in 0..200 {
        // Each adapter and each prompt twice, and never again.
        load.ask(Some(n), Some(n));
        load.ask(Some(n), Some(n));
    }
    let Memory {
        block_reuse: blocks,
        slab_reuse: slabs,
        ..
    } = load.memory;
    let shares = [blocks.probability(false), slabs.probability(false)];
    assert!(shares.iter().all(|share| *share > 0.8), "{shares:?}");
    let shares = [blocks.probability(true), slabs.probability(true)];
    assert!(shares.iter().all(|share| *share < 0.2), "{shares:?}");
}

#[test]
fn what_is_brought_or_taken_up_again_without_being_asked_for_should_say_nothing() {
    let mut load = Load::new(32);
    let shares = |memory: &mut Memory| {
        memory.rank();
        let (blocks, slabs) = (&memory.block_reuse, &memory.slab_reuse);
        [false, true].map(|again| (blocks.probability(again), slabs.probability(again)))
    };
    for n in 0..60 {
        // Brought ahead, and in the way of the next; more than are remembered.
        let adapter = AdapterId(named(5_000_000 + n));
        load.memory.reserve(adapter, 4, 4_000, GiveWay::Unused);
        load.memory.copied(adapter);
    }
    assert_eq!(shares(&mut load.memory), [(1.0, 1.0); 2]);
    load.scan(60);
    load.ask(None, Some(1));
    let before = shares(&mut load.memory);
    let names: Vec<_> = (0..BLOCKS as u32).map(|b| named(100 + b)).collect();
    for _ in 0..60 {
        // Displaced, and taken up again.
        let mut table = BlockTable::default();
        load.memory.begin(&mut table, &names);
        assert_eq!(table.len(), BLOCKS);
        load.memory.release(&mut table);
    }
    assert_eq!(shares(&mut load.memory), before);
}
