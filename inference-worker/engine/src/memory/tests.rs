mod loads;

use super::*;
use crate::kv::{pages_for, BlockTable, PAGE_TOKENS};
use proptest::prelude::*;

fn id(n: u8) -> AdapterId {
    AdapterId([n; 32])
}

fn name(n: u8) -> BlockHash {
    [n; 32]
}

/// A table of `tokens` tokens whose full blocks are named from `first` on.
fn named_table(memory: &mut Memory, tokens: usize, first: u8) -> BlockTable {
    let mut table = BlockTable::default();
    assert!(memory.grow(&mut table, tokens, GiveWay::Unused));
    for block in 0..tokens / PAGE_TOKENS {
        memory.name(&table, block, name(first + block as u8));
    }
    table
}

#[test]
fn blocks_should_be_found_again_and_shared_until_their_room_is_needed() {
    let mut memory = Memory::new(4);
    let mut first = named_table(&mut memory, 2 * PAGE_TOKENS + 3, 1);
    let pages = first.pages().to_vec();
    memory.release(&mut first);
    assert_eq!((memory.free(), memory.cached_blocks()), (2, 2));
    // Two that begin alike share the pages.
    let names = [name(1), name(2), name(3)];
    assert_eq!(memory.known(&names), (2, 2));
    let (mut a, mut b) = (BlockTable::default(), BlockTable::default());
    memory.begin(&mut a, &names);
    memory.begin(&mut b, &names[..1]);
    assert_eq!(a.pages(), &pages[..2]);
    assert_eq!(b.pages(), &pages[..1]);
    assert_eq!((memory.used_blocks(), memory.cached_blocks()), (2, 0));
    memory.release(&mut a);
    assert_eq!((memory.used_blocks(), memory.cached_blocks()), (1, 1));
    // Three pages are wanted: two are free, the one that nobody uses gives way, the shared one stays.
    let mut wide = BlockTable::default();
    assert!(!memory.grow(&mut wide, 4 * PAGE_TOKENS, GiveWay::Unused));
    assert!(memory.grow(&mut wide, 3 * PAGE_TOKENS, GiveWay::Unused));
    assert_eq!(memory.known(&names), (1, 0));
    assert_eq!(memory.blocks_evicted(), 1);
}

#[test]
fn of_blocks_of_equal_worth_the_deepest_should_give_way_first() {
    let mut memory = Memory::new(3);
    let mut table = named_table(&mut memory, 3 * PAGE_TOKENS, 1);
    memory.release(&mut table);
    let mut other = BlockTable::default();
    assert!(memory.grow(&mut other, 2 * PAGE_TOKENS, GiveWay::Unused));
    assert_eq!(memory.known(&[name(1), name(2), name(3)]).0, 1);
}

#[test]
fn the_adapter_that_is_least_worth_should_give_way() {
    let mut memory = Memory::new(6);
    for (n, cost) in [(1, 4_000), (2, 1_000), (3, 9_000)] {
        assert!(memory.reserve(id(n), 2, cost, GiveWay::Unused).is_some());
        memory.copied(id(n));
    }
    assert!(memory.reserve(id(4), 2, 5_000, GiveWay::Unused).is_some());
    assert_eq!(memory.take_evicted(), [id(2)]);
    memory.copied(id(4));
    // Cheap and lately used outlives dear and long unused only for a while: the clock moves on.
    assert!(memory.reserve(id(5), 2, 1_000, GiveWay::Unused).is_some());
    assert_eq!(memory.take_evicted(), [id(1)]);
}

#[test]
fn adapters_in_use_pinned_or_on_their_way_should_stay() {
    let mut memory = Memory::new(8);
    for n in 1..=4 {
        assert!(memory.reserve(id(n), 2, 1_000, GiveWay::Unused).is_some());
    }
    // All four are being copied.
    assert_eq!(memory.reserve(id(9), 1, 1, GiveWay::Awaited), None);
    (1..=4).for_each(|n| memory.copied(id(n)));
    memory.add_running(id(1));
    memory.pin(id(2), true);
    memory.add_waiting(id(3));
    memory.add_running(id(4));
    assert_eq!(memory.available(GiveWay::Unused), 0);
    assert_eq!(memory.reserve(id(9), 1, 1, GiveWay::Unused), None);
    assert_eq!(memory.available(GiveWay::Awaited), 2);
    assert!(memory.reserve(id(9), 2, 1, GiveWay::Awaited).is_some());
    assert_eq!(memory.take_evicted(), [id(3)]);
    assert!(!memory.drop_slab(id(1)), "in use");
    memory.remove_running(id(1));
    assert!(memory.drop_slab(id(1)));
    assert_eq!(memory.free(), 2);
}

#[test]
fn blocks_in_use_should_move_when_room_is_there_but_in_pieces() {
    let mut memory = Memory::new(4);
    let mut tables: Vec<BlockTable> = (0..4)
        .map(|n| named_table(&mut memory, PAGE_TOKENS, n * 10))
        .collect();
    // Free pages 1 and 3, with pages 0 and 2 in use between them.
    for n in [1, 3] {
        memory.release(&mut tables[n]);
    }
    let mut filler = BlockTable::default();
    assert!(memory.grow(&mut filler, 2 * PAGE_TOKENS, GiveWay::Unused));
    memory.release(&mut filler);
    assert_eq!(memory.free(), 2);
    let reserved = memory
        .reserve(id(1), 2, 1, GiveWay::Unused)
        .expect("room for two");
    let [(from, to)] = reserved.moves[..] else {
        panic!("one block is in the way: {reserved:?}");
    };
    assert!(reserved.pages.contains(&from) && !reserved.pages.contains(&to));
    // The block is known at its new place.
    let moved = if tables[0].pages() == [from] { 0 } else { 20 };
    let mut again = BlockTable::default();
    memory.begin(&mut again, &[name(moved)]);
    assert_eq!(again.pages(), [to]);
}

#[derive(Clone, Debug)]
enum Act {
    Grow(usize, usize, GiveWay),
    Name(usize, u8),
    Begin(usize, u8),
    Release(usize),
    Reserve(u8, u32, u64, GiveWay),
    Copied(u8),
    Run(u8),
    Rest(u8),
    Pin(u8, bool),
    Wait(u8),
    Ask(u8),
    Drop(u8),
    Forget,
}

fn way() -> impl Strategy<Value = GiveWay> {
    prop_oneof![
        Just(GiveWay::Nothing),
        Just(GiveWay::Unused),
        Just(GiveWay::Awaited)
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let table = 0usize..5;
    let adapter = 0u8..6;
    prop_oneof![
        (table.clone(), 0usize..120, way()).prop_map(|(t, n, w)| Act::Grow(t, n, w)),
        (table.clone(), 0u8..4).prop_map(|(t, n)| Act::Name(t, n)),
        (table.clone(), 0u8..4).prop_map(|(t, n)| Act::Begin(t, n)),
        table.prop_map(Act::Release),
        (adapter.clone(), 1u32..6, 1u64..100_000, way())
            .prop_map(|(a, p, c, w)| Act::Reserve(a, p, c, w)),
        adapter.clone().prop_map(Act::Wait),
        adapter.clone().prop_map(Act::Ask),
        Just(Act::Forget),
        adapter.clone().prop_map(Act::Copied),
        adapter.clone().prop_map(Act::Run),
        adapter.clone().prop_map(Act::Rest),
        (adapter.clone(), any::<bool>()).prop_map(|(a, p)| Act::Pin(a, p)),
        adapter.prop_map(Act::Drop),
    ]
}

proptest! {
    #[test]
    fn every_page_should_have_one_owner_over_any_history(
        total in 0u32..24,
        acts in prop::collection::vec(act(), 0..120),
    ) {
        let mut memory = Memory::new(total);
        let mut tables: Vec<BlockTable> = (0..5).map(|_| BlockTable::default()).collect();
        let mut running: HashMap<AdapterId, u32> = HashMap::new();
        for act in acts {
            match act {
                Act::Grow(t, tokens, way) => {
                    let missing = pages_for(tokens).saturating_sub(tables[t].len());
                    let available = memory.available(way);
                    let held = tables[t].len();
                    let grown = memory.grow(&mut tables[t], tokens, way);
                    prop_assert_eq!(grown, missing <= available);
                    prop_assert_eq!(tables[t].len(), held + if grown { missing } else { 0 });
                }
                Act::Name(t, n) => {
                    for block in 0..tables[t].len() {
                        memory.name(&tables[t], block, name(n * 8 + block as u8));
                    }
                }
                Act::Begin(t, n) if tables[t].is_empty() => {
                    let names: Vec<_> = (0..3).map(|b| name(n * 8 + b)).collect();
                    let known = memory.known(&names).0;
                    memory.begin(&mut tables[t], &names);
                    prop_assert_eq!(tables[t].len(), known);
                    if n % 2 == 0 {
                        memory.ask_blocks(&tables[t], known);
                    }
                }
                Act::Begin(..) => {}
                Act::Release(t) => memory.release(&mut tables[t]),
                Act::Reserve(a, pages, cost, way) => {
                    let reserved = memory.reserve(id(a), pages, cost, way);
                    for (from, to) in reserved.iter().flat_map(|r| &r.moves) {
                        tables.iter_mut().for_each(|t| t.replace(*from, *to));
                    }
                    if let Some(reserved) = reserved {
                        prop_assert_eq!(reserved.pages.len() as u32, pages);
                        let used = tables.iter().flat_map(|t| t.pages());
                        prop_assert!(!used.clone().any(|p| reserved.pages.contains(p)));
                    }
                }
                Act::Copied(a) => memory.copied(id(a)),
                Act::Run(a) if memory.pages_of(id(a)) > 0 => {
                    memory.add_running(id(a));
                    *running.entry(id(a)).or_default() += 1;
                }
                Act::Rest(a) if running.get(&id(a)).is_some_and(|n| *n > 0) => {
                    memory.remove_running(id(a));
                    *running.entry(id(a)).or_default() -= 1;
                }
                Act::Run(_) | Act::Rest(_) => {}
                Act::Pin(a, pinned) => memory.pin(id(a), pinned),
                Act::Ask(a) => memory.ask_slab(id(a)),
                Act::Wait(a) => memory.add_waiting(id(a)),
                Act::Forget => memory.forget_names(),
                Act::Drop(a) => {
                    let in_use = running.get(&id(a)).is_some_and(|n| *n > 0);
                    prop_assert!(!(memory.drop_slab(id(a)) && in_use));
                }
            }
            for gone in memory.take_evicted() {
                prop_assert_eq!(running.get(&gone).copied().unwrap_or(0), 0);
            }
            check(&memory, &tables)?;
        }
        tables.iter_mut().for_each(|t| memory.release(t));
        prop_assert_eq!(memory.used_blocks(), 0);
    }
}

/// Counts what the memory knows against the tables and against itself.
fn check(memory: &Memory, tables: &[BlockTable]) -> Result<(), TestCaseError> {
    let mut users: HashMap<u32, u32> = HashMap::new();
    for page in tables.iter().flat_map(|t| t.pages()) {
        *users.entry(*page).or_default() += 1;
    }
    let (mut free, mut used, mut cached, mut slabs) = (0, 0, 0, 0);
    for (page, state) in memory.pages.iter().enumerate() {
        let page = page as u32;
        match state {
            Page::Free => free += 1,
            Page::Slab(id) => {
                slabs += 1;
                prop_assert!(memory.slabs[id].pages.contains(&page));
            }
            Page::Block(block) => {
                prop_assert_eq!(block.users, users.get(&page).copied().unwrap_or(0));
                if block.users == 0 {
                    cached += 1;
                    prop_assert!(block.name.is_some());
                } else {
                    used += 1;
                }
                if let Some(name) = block.name {
                    prop_assert_eq!(memory.named.get(&name), Some(&page));
                }
            }
        }
        if !matches!(state, Page::Block(_)) {
            prop_assert!(!users.contains_key(&page), "a table lists what is no block");
        }
    }
    prop_assert_eq!(
        (free, used, cached, slabs),
        (
            memory.free(),
            memory.used_blocks(),
            memory.cached_blocks(),
            memory.slab_pages()
        )
    );
    let named = memory
        .pages
        .iter()
        .filter(|p| matches!(p, Page::Block(b) if b.name.is_some()));
    prop_assert_eq!(named.count(), memory.named.len());
    for (worth, _, page) in &memory.unused {
        let Page::Block(block) = &memory.pages[*page as usize] else {
            panic!("what may give way is no block");
        };
        let cost = memory.row_cost * PAGE_TOKENS as u64;
        let share = memory.block_reuse.probability(block.asked_again);
        prop_assert_eq!(block.users, 0);
        prop_assert_eq!(
            (block.worth, *worth),
            (*worth, super::worth::worth(block.used, cost, share))
        );
    }
    for (worth, id) in &memory.idle {
        let slab = &memory.slabs[id];
        let cost = slab.cost / slab.pages.len() as u64;
        let share = memory.slab_reuse.probability(slab.asked_again);
        prop_assert_eq!(
            (slab.worth, *worth),
            (*worth, super::worth::worth(slab.used, cost, share))
        );
    }
    let idle = memory.slabs.values();
    let idle = idle.filter(|s| s.may_give_way(GiveWay::Unused));
    prop_assert_eq!(idle.count(), memory.idle.len());
    // Who was asked for and is there is no ghost. (That ghosts are bounded is asserted where they are listed.)
    let mut blocks = memory.block_reuse.ghosts().names();
    prop_assert!(!blocks.any(|name| memory.named.contains_key(name)));
    let mut slabs = memory.slab_reuse.ghosts().names();
    prop_assert!(!slabs.any(|id| memory.slabs.get(id).is_some_and(|s| s.asked)));
    Ok(())
}
