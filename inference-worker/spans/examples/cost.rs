//! Bytes and time an index costs, for a random corpus of growing size:
//! `cargo run --release -p openledger-spans --example cost [tokens]`.

use openledger_spans::{Builder, Index, RowKey, VersionRef};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let most: usize = match std::env::args().nth(1) {
        Some(tokens) => tokens.parse()?,
        None => 10_000_000,
    };
    let version = VersionRef {
        datanet: 1,
        version: 1,
        root: [0; 32],
    };
    println!("tokens      build s  bytes/token  open s  500 tokens ms");
    for tokens in [most / 100, most / 10, most] {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        // Squaring a uniform value makes low ids frequent, as in text.
        let mut token = || {
            let uniform: f64 = random.random();
            (uniform * uniform * 32_000.0) as u32
        };
        let mut builder = Builder::new(32_000, [0; 32], vec![version])?;
        let mut sample = Vec::new();
        for row in 0..tokens / 100 {
            let text: Vec<u32> = (0..99).map(|_| token()).collect();
            if row % 10 == 0 && sample.len() < 500 {
                sample.extend_from_slice(&text[..25]);
            }
            let key = RowKey {
                datanet: 1,
                version: 1,
                contribution: row as u64 / 50,
                row: row as u32 % 50,
            };
            builder.add(key, [text])?;
        }
        let folder = tempfile::tempdir()?;
        let start = Instant::now();
        builder.build(folder.path())?;
        let build = start.elapsed().as_secs_f64();
        let mut bytes = 0;
        for entry in std::fs::read_dir(folder.path())? {
            bytes += entry?.metadata()?.len();
        }
        let start = Instant::now();
        let index = Index::open(folder.path())?;
        let open = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let found = (0..20)
            .map(|_| index.match_output(&sample, 48_000).len())
            .sum::<usize>();
        let search = start.elapsed().as_secs_f64() * 1_000.0 / 20.0;
        assert!(found > 0);
        println!(
            "{tokens:<11} {build:<8.2} {:<12.2} {open:<7.3} {search:.3}",
            bytes as f64 / builder.positions() as f64
        );
    }
    Ok(())
}
