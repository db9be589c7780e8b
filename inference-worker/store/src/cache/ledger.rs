//! What a bounded cache holds, and what gives way: the accounting, without what is counted.

use openledger_primitives::Digest;
use std::collections::{BTreeMap, HashMap};

/// Objects with their sizes, bytes promised to downloads, and an order of last use.
///
/// Bytes kept and bytes promised together never exceed the bound. What somebody uses does not give way;
/// of the rest, what was used longest ago goes first.
#[derive(Debug)]
pub struct Ledger {
    bound: u64,
    kept: u64,
    /// Of `kept`, what nobody uses.
    idle: u64,
    promised: u64,
    clock: u64,
    entries: HashMap<Digest, Entry>,
    /// Entries that nobody uses, by last use.
    order: BTreeMap<u64, Digest>,
}

#[derive(Debug)]
struct Entry {
    /// Tells it from one of the same name that was here before.
    serial: u64,
    bytes: u64,
    users: usize,
    last: u64,
}

/// Whether there is room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is, and it is promised.
    Promised,
    /// There is when this one is gone.
    Without(Digest),
    /// Not while so much is in use.
    Later,
    /// Never: it is more than the bound.
    Never,
}

impl Ledger {
    /// An empty ledger of at most `bound` bytes.
    pub fn new(bound: u64) -> Self {
        Ledger {
            bound,
            kept: 0,
            idle: 0,
            promised: 0,
            clock: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// The bound, bytes.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// Bytes kept.
    pub fn bytes(&self) -> u64 {
        self.kept
    }

    /// Objects kept.
    pub fn objects(&self) -> usize {
        self.entries.len()
    }

    /// Enters an object that is there already, used later than all entered before it.
    pub fn found(&mut self, digest: Digest, bytes: u64) {
        self.forget(&digest);
        self.clock += 1;
        let last = self.clock;
        let entry = Entry {
            serial: last,
            bytes,
            users: 0,
            last,
        };
        self.entries.insert(digest, entry);
        self.order.insert(last, digest);
        self.kept = self.kept.saturating_add(bytes);
        self.idle = self.idle.saturating_add(bytes);
    }

    /// The object to remove first while more is kept than the bound allows.
    pub fn excess(&self) -> Option<Digest> {
        let over = self.kept.saturating_add(self.promised) > self.bound;
        over.then(|| self.oldest()).flatten()
    }

    /// One more user; the serial number to let go with, none when the object is not here.
    pub fn acquire(&mut self, digest: &Digest) -> Option<u64> {
        let entry = self.entries.get_mut(digest)?;
        if entry.users == 0 {
            self.order.remove(&entry.last);
            self.idle -= entry.bytes;
        }
        entry.users += 1;
        Some(entry.serial)
    }

    /// One user less; the object was used just now.
    pub fn release(&mut self, digest: &Digest, serial: u64) {
        let entry = self.entries.get_mut(digest);
        let Some(entry) = entry.filter(|entry| entry.serial == serial && entry.users > 0) else {
            return;
        };
        entry.users -= 1;
        if entry.users == 0 {
            self.clock += 1;
            entry.last = self.clock;
            self.order.insert(entry.last, *digest);
            self.idle += entry.bytes;
        }
    }

    /// Promises `bytes`, or says what stands in the way.
    pub fn promise(&mut self, bytes: u64) -> Room {
        if bytes > self.bound {
            return Room::Never;
        }
        let in_use = (self.kept - self.idle).saturating_add(self.promised);
        if in_use.saturating_add(bytes) > self.bound {
            return Room::Later;
        }
        let all = self.kept.saturating_add(self.promised);
        if all.saturating_add(bytes) <= self.bound {
            self.promised += bytes;
            return Room::Promised;
        }
        self.oldest().map_or(Room::Later, Room::Without)
    }

    /// Takes a promise back.
    pub fn withdraw(&mut self, bytes: u64) {
        self.promised = self.promised.saturating_sub(bytes);
    }

    /// Enters an object whose bytes were promised, unless a reader has entered it already.
    pub fn keep(&mut self, digest: Digest, bytes: u64) {
        self.withdraw(bytes);
        if !self.entries.contains_key(&digest) {
            self.found(digest, bytes);
        }
    }

    /// Removes an object; `None` when it is not here.
    pub fn forget(&mut self, digest: &Digest) -> Option<u64> {
        let entry = self.entries.remove(digest)?;
        self.kept -= entry.bytes;
        if entry.users == 0 {
            self.order.remove(&entry.last);
            self.idle -= entry.bytes;
        }
        Some(entry.bytes)
    }

    fn oldest(&self) -> Option<Digest> {
        self.order.first_key_value().map(|(_, digest)| *digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Fetch(u8, u64),
        Finish,
        Fail,
        Use(u8),
        Let(u8),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..12, 0u64..60).prop_map(|(name, bytes)| Step::Fetch(name, bytes)),
            Just(Step::Finish),
            Just(Step::Fail),
            (0u8..12).prop_map(Step::Use),
            (0u8..12).prop_map(Step::Let),
            (0u8..12).prop_map(Step::Remove),
        ]
    }

    /// The same by lists that are searched from end to end.
    #[derive(Default)]
    struct Plain {
        /// Name, bytes, users; the longest unused first.
        kept: Vec<(u8, u64, usize)>,
        promised: Vec<(u8, u64)>,
    }

    const BOUND: u64 = 100;

    impl Plain {
        fn bytes(&self) -> u64 {
            self.kept.iter().map(|(_, bytes, _)| bytes).sum()
        }

        fn promised(&self) -> u64 {
            self.promised.iter().map(|(_, bytes)| bytes).sum()
        }

        fn take(&mut self, name: u8) -> Option<(u8, u64, usize)> {
            let at = self.kept.iter().position(|one| one.0 == name)?;
            Some(self.kept.remove(at))
        }
    }

    proptest! {
        #[test]
        fn the_ledger_should_agree_with_plain_lists_and_keep_its_bound(
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let (mut ledger, mut plain) = (Ledger::new(BOUND), Plain::default());
            let digest = |name: u8| [name; 32];
            let mut serials = HashMap::new();
            for step in steps {
                match step {
                    Step::Fetch(name, bytes) => {
                        let known = plain.kept.iter().any(|one| one.0 == name)
                            || plain.promised.iter().any(|one| one.0 == name);
                        if known {
                            continue;
                        }
                        let mut evicted = Vec::new();
                        let room = loop {
                            match ledger.promise(bytes) {
                                Room::Without(victim) => {
                                    ledger.forget(&victim);
                                    evicted.push(victim);
                                }
                                room => break room,
                            }
                        };
                        let in_use: u64 = plain.kept.iter()
                            .filter(|one| one.2 > 0).map(|one| one.1).sum();
                        let expected = if bytes > BOUND {
                            Room::Never
                        } else if in_use + plain.promised() + bytes > BOUND {
                            Room::Later
                        } else {
                            Room::Promised
                        };
                        prop_assert_eq!(room, expected);
                        let mut gone = Vec::new();
                        if expected == Room::Promised {
                            while plain.bytes() + plain.promised() + bytes > BOUND {
                                let at = plain.kept.iter().position(|one| one.2 == 0).unwrap();
                                gone.push(digest(plain.kept.remove(at).0));
                            }
                            plain.promised.push((name, bytes));
                        }
                        prop_assert_eq!(evicted, gone);
                    }
                    Step::Finish => {
                        if let Some((name, bytes)) = plain.promised.pop() {
                            ledger.keep(digest(name), bytes);
                            plain.kept.push((name, bytes, 0));
                        }
                    }
                    Step::Fail => {
                        if let Some((_, bytes)) = plain.promised.pop() {
                            ledger.withdraw(bytes);
                        }
                    }
                    Step::Use(name) => {
                        let here = plain.kept.iter_mut().find(|one| one.0 == name);
                        let serial = ledger.acquire(&digest(name));
                        prop_assert_eq!(serial.is_some(), here.is_some());
                        if let (Some(one), Some(serial)) = (here, serial) {
                            one.2 += 1;
                            serials.insert(name, serial);
                        }
                    }
                    Step::Let(name) => {
                        if plain.kept.iter().any(|one| one.0 == name && one.2 > 0) {
                            ledger.release(&digest(name), serials[&name]);
                            let mut one = plain.take(name).unwrap();
                            one.2 -= 1;
                            plain.kept.push(one);
                        }
                    }
                    Step::Remove(name) => {
                        let bytes = plain.take(name).map(|one| one.1);
                        prop_assert_eq!(ledger.forget(&digest(name)), bytes);
                    }
                }
                prop_assert_eq!(ledger.bytes(), plain.bytes());
                prop_assert_eq!(ledger.objects(), plain.kept.len());
                prop_assert!(ledger.bytes() + ledger.promised <= BOUND);
                prop_assert_eq!(ledger.promised, plain.promised());
            }
        }
    }

    #[test]
    fn letting_go_of_what_was_removed_should_not_touch_what_has_its_name_now() {
        let mut ledger = Ledger::new(10);
        ledger.found([1; 32], 5);
        let old = ledger.acquire(&[1; 32]).unwrap();
        ledger.forget(&[1; 32]);
        ledger.found([1; 32], 5);
        let new = ledger.acquire(&[1; 32]).unwrap();
        ledger.release(&[1; 32], old);
        assert_eq!(ledger.promise(6), Room::Later);
        ledger.release(&[1; 32], new);
        ledger.release(&[1; 32], new);
        assert_eq!(ledger.promise(6), Room::Without([1; 32]));
    }

    #[test]
    fn a_bound_that_was_lowered_should_take_the_longest_unused_first() {
        let mut ledger = Ledger::new(10);
        for name in 0..4 {
            ledger.found([name; 32], 5);
        }
        let mut gone = Vec::new();
        while let Some(victim) = ledger.excess() {
            ledger.forget(&victim);
            gone.push(victim[0]);
        }
        assert_eq!((gone, ledger.bytes()), (vec![0, 1], 10));
    }
}
