//! The queue: who is next.
//!
//! Every tenant has a counter of the rows computed for it, and within a tenant every adapter has one;
//! next is the oldest request of the adapter with the lowest counter of the tenant with the lowest
//! counter (the virtual token counter of Sheng et al., *Fairness in Serving Large Language Models*,
//! OSDI 2024). Who comes back from a pause does not bring the credit of the time away: its counter is
//! lifted to the lowest of those that wait. A priority orders the requests of one tenant and
//! adapter, and nobody else's.

use super::SequenceId;
use crate::adapters::AdapterId;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

/// On whose behalf a request is served: requests of different tenants share the engine evenly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(pub [u8; 32]);

/// Where a request stands in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its tenant.
    pub tenant: Tenant,
    /// Its adapter; none for the base model.
    pub adapter: Option<AdapterId>,
    /// Higher goes before the tenant's other requests for the same adapter.
    pub priority: i8,
}

/// What is done with a request that is next, and with those behind it of the same tenant and adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is taken, and those behind it are looked at.
    Go,
    /// It is taken, and those behind it are not.
    One,
    /// Neither.
    Nothing,
}

/// The lowest counter of those that wait, or if nobody does, of those that are active; of each, whether
/// it waits, whether it is active, and its counter.
fn lowest(counters: impl Iterator<Item = (bool, bool, u64)>) -> u64 {
    let (mut waiting, mut active) = (None, None);
    for (waits, is_active, served) in counters {
        let least = |least: Option<u64>| Some(least.map_or(served, |l| l.min(served)));
        if waits {
            waiting = least(waiting);
        }
        if is_active {
            active = least(active);
        }
    }
    waiting.or(active).unwrap_or(0)
}

/// Waiting requests, by what was computed for whom.
#[derive(Debug, Default)]
pub struct FairQueue {
    tenants: HashMap<Tenant, TenantQueue>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct TenantQueue {
    served: u64,
    /// Requests that wait or run.
    active: usize,
    waiting: usize,
    adapters: HashMap<Option<AdapterId>, AdapterQueue>,
}

#[derive(Debug, Default)]
struct AdapterQueue {
    served: u64,
    active: usize,
    /// Tokens of each waiting request.
    waiting: BTreeMap<(Reverse<i8>, SequenceId), u64>,
}

impl TenantQueue {
    fn first(&self) -> Option<SequenceId> {
        let queues = self.adapters.values();
        queues.filter_map(AdapterQueue::first).min()
    }
}

impl AdapterQueue {
    fn first(&self) -> Option<SequenceId> {
        self.waiting.first_key_value().map(|((_, id), _)| *id)
    }
}

impl FairQueue {
    /// Waiting requests.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Requests of a tenant that wait or run.
    pub fn active(&self, tenant: Tenant) -> usize {
        self.tenants.get(&tenant).map_or(0, |t| t.active)
    }

    /// Adds a request that waits.
    pub fn push(&mut self, id: SequenceId, standing: Standing, tokens: usize) {
        let counters = self.tenants.values();
        let lowest = lowest(counters.map(|t| (t.waiting > 0, t.active > 0, t.served)));
        let tenant = self.tenants.entry(standing.tenant).or_default();
        if tenant.waiting == 0 {
            tenant.served = tenant.served.max(lowest);
        }
        tenant.active += 1;
        tenant.waiting += 1;
        let counters = tenant.adapters.values();
        let lowest =
            self::lowest(counters.map(|a| (!a.waiting.is_empty(), a.active > 0, a.served)));
        let adapter = tenant.adapters.entry(standing.adapter).or_default();
        if adapter.waiting.is_empty() {
            adapter.served = adapter.served.max(lowest);
        }
        adapter.active += 1;
        let key = (Reverse(standing.priority), id);
        adapter.waiting.insert(key, tokens as u64);
        self.waiting += 1;
    }

    /// Takes a request out of those that wait; it stays active until [`Self::end`].
    pub fn start(&mut self, id: SequenceId, standing: Standing) {
        let Some(tenant) = self.tenants.get_mut(&standing.tenant) else {
            return;
        };
        let adapter = tenant.adapters.get_mut(&standing.adapter);
        let key = (Reverse(standing.priority), id);
        if adapter.is_some_and(|a| a.waiting.remove(&key).is_some()) {
            tenant.waiting -= 1;
            self.waiting -= 1;
        }
    }

    /// Forgets a request, waiting or started.
    pub fn end(&mut self, id: SequenceId, standing: Standing) {
        self.start(id, standing);
        if let Some(tenant) = self.tenants.get_mut(&standing.tenant) {
            tenant.active = tenant.active.saturating_sub(1);
            if let Some(adapter) = tenant.adapters.get_mut(&standing.adapter) {
                adapter.active = adapter.active.saturating_sub(1);
            }
            // What an adapter had more than the least matters as long as others wait.
            let counters = tenant.adapters.values();
            let floor = lowest(counters.map(|a| (!a.waiting.is_empty(), a.active > 0, a.served)));
            tenant
                .adapters
                .retain(|_, a| a.active > 0 || a.served > floor);
            if tenant.active == 0 {
                tenant.adapters.clear();
            }
        }
        // What somebody had more than the least matters as long as anybody competes.
        let active = self.tenants.values().filter(|t| t.active > 0);
        match active.map(|t| t.served).min() {
            None => self.tenants.clear(),
            Some(lowest) => self
                .tenants
                .retain(|_, t| t.active > 0 || t.served > lowest),
        }
    }

    /// Counts rows that were computed for a request.
    pub fn charge(&mut self, standing: Standing, rows: usize) {
        if let Some(tenant) = self.tenants.get_mut(&standing.tenant) {
            tenant.served += rows as u64;
            if let Some(adapter) = tenant.adapters.get_mut(&standing.adapter) {
                adapter.served += rows as u64;
            }
        }
    }

    /// The requests that are next, at most `limit`, as if each were charged its tokens when taken.
    /// `take` says of each whether it is one of them, and whether others of its tenant for the same
    /// adapter are to be looked at.
    pub fn next(
        &self,
        limit: usize,
        mut take: impl FnMut(Option<AdapterId>) -> Take,
    ) -> Vec<SequenceId> {
        let mut order = Vec::new();
        if self.waiting == 0 {
            return order;
        }
        type Line<'a> = std::iter::Peekable<
            std::collections::btree_map::Iter<'a, (Reverse<i8>, SequenceId), u64>,
        >;
        struct Lines<'a> {
            /// By counter, then arrival, so that nobody gains by the choice of an id.
            heads: BinaryHeap<Reverse<(u64, SequenceId, usize)>>,
            lines: Vec<(Option<AdapterId>, Line<'a>)>,
        }
        let mut opened: HashMap<Tenant, Lines<'_>> = HashMap::new();
        let mut heads: BinaryHeap<Reverse<(u64, SequenceId, Tenant)>> = self
            .tenants
            .iter()
            .filter_map(|(id, t)| Some(Reverse((t.served, t.first()?, *id))))
            .collect();
        while order.len() < limit {
            let Some(Reverse((served, _, id))) = heads.pop() else {
                break;
            };
            let Some(tenant) = self.tenants.get(&id) else {
                continue;
            };
            let lines = opened.entry(id).or_insert_with(|| {
                let mut lines = Lines {
                    heads: BinaryHeap::new(),
                    lines: Vec::new(),
                };
                for (adapter, queue) in &tenant.adapters {
                    if let Some(first) = queue.first() {
                        let head = (queue.served, first, lines.lines.len());
                        lines.heads.push(Reverse(head));
                        lines
                            .lines
                            .push((*adapter, queue.waiting.iter().peekable()));
                    }
                }
                lines
            });
            let Some(Reverse((adapter_served, _, line))) = lines.heads.pop() else {
                continue;
            };
            let Some((adapter, line_of)) = lines.lines.get_mut(line) else {
                continue;
            };
            let Some(((_, next), tokens)) = line_of.next() else {
                continue;
            };
            let taken = take(*adapter);
            let tokens = if taken == Take::Nothing { 0 } else { *tokens };
            if taken != Take::Nothing {
                order.push(*next);
            }
            if taken == Take::Go {
                if let Some(((_, after), _)) = line_of.peek() {
                    let head = (adapter_served + tokens, *after, line);
                    lines.heads.push(Reverse(head));
                }
            }
            if let Some(Reverse((_, first, _))) = lines.heads.peek() {
                heads.push(Reverse((served + tokens, *first, id)));
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(tenant: u8, adapter: Option<u8>, priority: i8) -> Standing {
        Standing {
            tenant: Tenant([tenant; 32]),
            adapter: adapter.map(|a| AdapterId([a; 32])),
            priority,
        }
    }

    #[test]
    fn a_tenant_with_many_requests_should_take_turns_with_one_that_has_few() {
        let mut queue = FairQueue::default();
        for id in 0..6 {
            queue.push(id, standing(1, None, 0), 10);
        }
        queue.push(6, standing(2, None, 0), 10);
        queue.push(7, standing(2, None, 0), 10);
        assert_eq!(queue.next(5, |_| Take::Go), [0, 6, 1, 7, 2]);
        assert_eq!(queue.len(), 8);
    }

    #[test]
    fn adapters_of_a_tenant_should_take_turns() {
        let mut queue = FairQueue::default();
        for id in 0..4 {
            queue.push(id, standing(1, Some(1), 0), 10);
        }
        queue.push(4, standing(1, Some(2), 0), 10);
        queue.push(5, standing(1, None, 0), 10);
        assert_eq!(queue.next(4, |_| Take::Go), [0, 4, 5, 1]);
    }

    #[test]
    fn a_priority_should_order_its_own_tenants_requests_only() {
        let mut queue = FairQueue::default();
        queue.push(0, standing(1, None, 0), 10);
        queue.push(1, standing(1, None, 0), 10);
        queue.push(2, standing(2, None, 0), 10);
        queue.push(3, standing(1, None, 100), 10);
        assert_eq!(queue.next(4, |_| Take::Go), [2, 3, 0, 1]);
        queue.charge(standing(2, None, 0), 9);
        assert_eq!(queue.next(4, |_| Take::Go), [3, 2, 0, 1]);
    }

    #[test]
    fn what_was_computed_should_count_and_a_pause_should_bring_no_credit() {
        let mut queue = FairQueue::default();
        let (busy, idle) = (standing(1, None, 0), standing(2, None, 0));
        queue.push(0, busy, 10);
        queue.start(0, busy);
        queue.charge(busy, 1_000);
        queue.push(1, busy, 10);
        // Had the pause been saved up, the next hundred would all be the newcomer's.
        for id in 2..5 {
            queue.push(id, idle, 10);
        }
        assert_eq!(queue.next(4, |_| Take::Go), [1, 2, 3, 4]);
        queue.charge(idle, 500);
        assert_eq!(queue.next(4, |_| Take::Go)[0], 1);
    }

    #[test]
    fn who_was_served_more_should_not_gain_by_leaving_for_a_moment() {
        let mut queue = FairQueue::default();
        let (greedy, other) = (standing(1, None, 0), standing(2, None, 0));
        queue.push(0, greedy, 10);
        queue.push(1, other, 10);
        queue.start(0, greedy);
        queue.charge(greedy, 100);
        queue.end(0, greedy);
        queue.push(2, greedy, 10);
        queue.push(3, other, 10);
        assert_eq!(queue.next(3, |_| Take::Go), [1, 3, 2]);
        // With nobody left there is nothing to remember.
        for (id, whose) in [(1, other), (2, greedy), (3, other)] {
            queue.end(id, whose);
        }
        assert!(queue.is_empty() && queue.tenants.is_empty());
    }

    #[test]
    fn those_who_wait_for_one_adapter_should_hide_nobody_behind_them() {
        let mut queue = FairQueue::default();
        for id in 0..200 {
            queue.push(id, standing(1, Some(7), 0), 10);
        }
        queue.push(200, standing(1, None, 0), 10);
        queue.push(201, standing(2, Some(7), 0), 10);
        queue.push(202, standing(2, Some(8), 0), 10);
        let slow = Some(AdapterId([7; 32]));
        let admissible = queue.next(4, |a| if a == slow { Take::Nothing } else { Take::Go });
        assert_eq!(admissible, [200, 202]);
        // One of each line, for what is to be brought.
        assert_eq!(queue.next(4, |_| Take::One), [0, 201, 200, 202]);
    }

    #[test]
    fn one_long_answer_should_bring_no_credit_for_others() {
        let mut queue = FairQueue::default();
        let (long, busy) = (standing(1, None, 0), standing(2, None, 0));
        queue.push(0, long, 10);
        queue.start(0, long);
        queue.charge(long, 10);
        for id in 1..4 {
            queue.push(id, busy, 10);
        }
        queue.charge(busy, 1_000);
        // Its one request runs on while the other tenant is served; then it sends many.
        for id in 4..8 {
            queue.push(id, long, 10);
        }
        let order = queue.next(4, |_| Take::Go);
        assert!(order.contains(&1) || order.contains(&2), "{order:?}");
    }
}
