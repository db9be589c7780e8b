//! Which places of a range of `previous.bin` are the first of their contribution in the range.

const FAN: usize = 64;

/// Minima of blocks of 64, of blocks of blocks, and so on up to one.
#[derive(Debug)]
pub(crate) struct Minima {
    levels: Vec<Vec<u32>>,
}

impl Minima {
    /// The minima over values given in order.
    pub(crate) fn new(values: impl Iterator<Item = u32>) -> Self {
        let mut levels = vec![fold(values)];
        while levels.last().is_some_and(|level| level.len() > 1) {
            let level = levels.last().map(|level| fold(level.iter().copied()));
            levels.extend(level);
        }
        Minima { levels }
    }

    /// Bytes of the minima.
    pub(crate) fn bytes(&self) -> u64 {
        let values: usize = self.levels.iter().map(Vec::len).sum();
        (values * size_of::<u32>()) as u64
    }

    /// Calls `found` with every place in `[from, to)` whose value is at most `from`, in order. Blocks
    /// without one are not entered, so the work grows with what is found.
    pub(crate) fn list(
        &self,
        value: &impl Fn(usize) -> u32,
        from: usize,
        to: usize,
        found: &mut impl FnMut(usize),
    ) {
        let top = self.levels.len();
        self.visit(top, 0, value, from, to, found);
    }

    /// Visits block `block` of level `level`; level 0 are the values themselves.
    fn visit(
        &self,
        level: usize,
        block: usize,
        value: &impl Fn(usize) -> u32,
        from: usize,
        to: usize,
        found: &mut impl FnMut(usize),
    ) {
        let Some(below) = level.checked_sub(1) else {
            if (from..to).contains(&block) && value(block) as usize <= from {
                found(block);
            }
            return;
        };
        let Some(minimum) = self.levels.get(below).and_then(|level| level.get(block)) else {
            return;
        };
        let width = FAN.saturating_pow(level as u32);
        let start = block.saturating_mul(width);
        if start >= to || start.saturating_add(width) <= from || *minimum as usize > from {
            return;
        }
        let step = width / FAN;
        let first = (block * FAN).max(from / step);
        let last = (block * FAN + FAN).min(to.div_ceil(step));
        for child in first..last {
            self.visit(below, child, value, from, to, found);
        }
    }
}

fn fold(values: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut minima = Vec::new();
    for (place, value) in values.enumerate() {
        if place % FAN == 0 {
            minima.push(value);
        } else if let Some(minimum) = minima.last_mut() {
            *minimum = value.min(*minimum);
        }
    }
    minima
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn each_owner_of_a_range_is_listed_once(
            owners in prop::collection::vec(0u8..30, 1..9_000), ends in (0usize..9_000, 0usize..9_000),
        ) {
            let mut last = BTreeMap::new();
            let previous: Vec<u32> = (1u32..).zip(&owners)
                .map(|(place, owner)| last.insert(owner, place).unwrap_or(0)).collect();
            let minima = Minima::new(previous.iter().copied());
            let (from, to) = (ends.0.min(ends.1) % owners.len(), ends.0.max(ends.1).min(owners.len()));
            let mut listed = Vec::new();
            minima.list(&|place| previous[place], from, to, &mut |place| listed.push(place));
            let mut first = BTreeMap::new();
            for (place, owner) in owners.iter().enumerate().take(to).skip(from) {
                first.entry(owner).or_insert(place);
            }
            let mut expected: Vec<usize> = first.into_values().collect();
            expected.sort();
            prop_assert_eq!(listed, expected);
        }
    }
}
