//! What a thing in the arena is worth: what it costs to bring back, times how likely it is asked for again.
//!
//! GreedyDual-Size (Cao and Irani, USITS 1997) gives way by cost per size, aged by what gave way since the
//! last use. By itself it takes for granted that everything is asked for again, and a stream of prompts
//! that never return drives out adapters that do. As in GreedyDual-Size-Frequency (Cherkasova, HP Labs
//! 1998) the cost is therefore weighed by use; the weight is not a count, but the probability that was
//! observed (as in LHD: Beckmann, Chen and Cidon, NSDI 2018) in two classes as in 2Q (Johnson and Shasha,
//! VLDB 1994): things asked for once, and things asked for again.
//!
//! Each asking opens a trial. It succeeds when the thing is asked for again, and fails when the thing
//! gives way. If it is asked for while it is still remembered ([`Ghosts`]), the trial succeeded after all:
//! without this a class once held to be worthless would give way at once, and never show that it is not.

use super::ghosts::Ghosts;
use std::hash::Hash;

/// Worth of things in the arena, in nanoseconds per page.
pub type Worth = u64;

/// The worth of what costs `cost` nanoseconds per page and is asked for again with this probability.
/// More than the clock, so that the clock moves on whatever gives way.
pub fn worth(clock: Worth, cost: u64, probability: f64) -> Worth {
    clock + ((cost as f64 * probability) as u64).max(1)
}

/// How likely things of one kind are asked for again.
#[derive(Debug)]
pub struct Reuse<K> {
    /// Of those asked for once, and of those asked for again.
    shares: [Share; 2],
    ghosts: Ghosts<K>,
    /// Pages of trials after which a trial counts 1/e.
    window: f64,
    /// Pages of trials that ended since shares last came into force.
    ended: f64,
}

/// The trials of a class, in pages, the older the less.
#[derive(Debug)]
struct Share {
    succeeded: f64,
    ended: f64,
    in_force: f64,
}

impl<K: Copy + Eq + Hash> Reuse<K> {
    /// For an arena of so many pages; as long as nothing is known, everything counts in full.
    pub fn new(pages: u32) -> Self {
        // A turnover of the arena is long enough to tell, and short enough to follow the load.
        let window = (f64::from(pages) / 4.0).max(16.0);
        let share = || Share {
            succeeded: window / 4.0,
            ended: window / 4.0,
            in_force: 1.0,
        };
        Self {
            shares: [share(), share()],
            ghosts: Ghosts::new(pages as usize),
            window,
            ended: 0.0,
        }
    }

    /// The probability in force that a thing is asked for again, which was asked for again before or not.
    pub fn probability(&self, asked_again: bool) -> f64 {
        self.shares[usize::from(asked_again)].in_force
    }

    /// Records that a thing was asked for while it was there.
    pub fn found(&mut self, pages: usize, asked_again: bool) {
        self.end(pages, asked_again, true);
    }

    /// Records that a thing gave way.
    pub fn gave_way(&mut self, name: K, pages: usize, asked_again: bool) {
        self.end(pages, asked_again, false);
        self.ghosts.add(name, pages, asked_again);
    }

    /// Records that a thing was asked for that was not there, and says whether that is for the second time
    /// as far as is known.
    pub fn came(&mut self, name: &K) -> bool {
        let Some((pages, asked_again)) = self.ghosts.take(name) else {
            return false;
        };
        let share = &mut self.shares[usize::from(asked_again)];
        share.succeeded = (share.succeeded + pages as f64).min(share.ended);
        true
    }

    fn end(&mut self, pages: usize, asked_again: bool, succeeded: bool) {
        let pages = pages as f64;
        let kept = (-pages / self.window).exp();
        let share = &mut self.shares[usize::from(asked_again)];
        share.ended = share.ended * kept + pages;
        share.succeeded = share.succeeded * kept + if succeeded { pages } else { 0.0 };
        self.ended += pages;
    }

    /// Brings the shares observed into force, at most once in a fourth of a window so that ranking all
    /// things anew costs little for each. `true` when one changed.
    pub fn revise(&mut self) -> bool {
        if self.ended < self.window / 4.0 {
            return false;
        }
        self.ended = 0.0;
        let mut changed = false;
        for share in &mut self.shares {
            let observed = share.succeeded / share.ended;
            if (observed - share.in_force).abs() > share.in_force / 8.0 {
                share.in_force = observed;
                changed = true;
            }
        }
        changed
    }

    #[cfg(test)]
    pub fn ghosts(&self) -> &Ghosts<K> {
        &self.ghosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(reuse: &mut Reuse<u32>, asked_again: bool) -> f64 {
        reuse.revise();
        reuse.probability(asked_again)
    }

    #[test]
    fn a_share_should_follow_what_happens_and_forget_what_happened() {
        let mut reuse = Reuse::new(64);
        assert_eq!(reuse.probability(false), 1.0);
        (0..200).for_each(|n| reuse.gave_way(n, 1, false));
        assert!(observed(&mut reuse, false) < 0.01);
        assert_eq!(reuse.probability(true), 1.0, "the other class");
        // Every second is found.
        for n in 1_000..1_200 {
            reuse.gave_way(n, 1, false);
            reuse.found(1, false);
        }
        let half = observed(&mut reuse, false);
        assert!((0.4..0.6).contains(&half), "{half}");
    }

    #[test]
    fn what_gave_way_too_early_should_count_as_asked_for_again() {
        let mut reuse = Reuse::new(64);
        (0..200).for_each(|n| reuse.gave_way(n, 1, false));
        assert!(observed(&mut reuse, false) < 0.01);
        // Again and again the same forty, which are never there when they are asked for.
        for lap in 0..6 {
            for name in 300..340 {
                let again = reuse.came(&name);
                assert_eq!(again, lap > 0);
                reuse.gave_way(name, 1, again);
            }
        }
        let (once, again) = (observed(&mut reuse, false), observed(&mut reuse, true));
        assert!(once > 0.4 && again > 0.7, "{once} {again}");
        assert!(!reuse.came(&0), "forgotten");
    }
}
