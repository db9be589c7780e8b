//! Mutations of a corpus, the same for the same number: for tests that run without libFuzzer.

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Pieces that parsers of JSON and of lengths stumble over.
const PIECES: [&[u8]; 16] = [
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"[[[[[[[[",
    b"{\"\":",
    b"\"",
    b"\\ud800",
    b"\xff\xfe",
    b"\0\0\0\0\0\0\xf0\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"true",
    b",",
    b"}",
    b":",
    b"9",
];

/// One of the seeds with a few changes.
pub fn mutate(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Random(number);
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(3) {
        let at = random.below(data.len());
        match random.below(8) {
            0 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
            2 => data.truncate(at),
            3 => {
                let to = (at + 1 + random.below(16)).min(data.len());
                data.drain(at.min(to)..to);
            }
            4 => {
                let to = (at + 1 + random.below(64)).min(data.len());
                let copy = data[at.min(to)..to].to_vec();
                let into = random.below(data.len() + 1);
                data.splice(into..into, copy);
            }
            5 => {
                let piece = PIECES[random.below(PIECES.len())];
                data.splice(at..at, piece.iter().copied());
            }
            6 => {
                let piece = PIECES[random.below(PIECES.len())];
                let to = (at + piece.len()).min(data.len());
                data.splice(at..to, piece.iter().copied());
            }
            _ => {
                // The end of another seed.
                let other = &seeds[random.below(seeds.len())];
                data.truncate(at);
                data.extend(&other[random.below(other.len() + 1)..]);
            }
        }
    }
    data
}
