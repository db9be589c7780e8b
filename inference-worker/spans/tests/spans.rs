//! The index as its users see it, held against brute force.

use openledger_primitives::revision::AttributionParams;
use openledger_spans::{Builder, Index, RowKey, Span, SpanError, VersionRef, KEPT_AT_LEAST};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeSet, fs};
use tempfile::TempDir;

const VERSION: VersionRef = VersionRef {
    datanet: 1,
    version: 2,
    root: [3; 32],
};

fn key(contribution: u64, row: u32) -> RowKey {
    RowKey {
        datanet: VERSION.datanet,
        version: VERSION.version,
        contribution,
        row,
    }
}

/// One contribution a vector of rows, each of one text.
type Corpus = Vec<Vec<Vec<u32>>>;

fn build(vocabulary: u32, corpus: &Corpus) -> (TempDir, Index) {
    let folder = TempDir::new().unwrap();
    let mut builder = Builder::new(vocabulary, [4; 32], vec![VERSION]).unwrap();
    for (contribution, rows) in (10u64..).zip(corpus) {
        for (row, text) in (0u32..).zip(rows) {
            builder.add(key(contribution, row), [text]).unwrap();
        }
    }
    builder.build(folder.path()).unwrap();
    let index = Index::open(folder.path()).unwrap();
    (folder, index)
}

fn holds(text: &[u32], passage: &[u32]) -> bool {
    text.windows(passage.len()).any(|window| window == passage)
}

/// Every passage that stands in some row and cannot be extended within the answer, with its owners.
fn brute_force(corpus: &Corpus, output: &[u32]) -> Vec<(usize, usize, BTreeSet<u64>)> {
    let owners = |passage: &[u32]| -> BTreeSet<u64> {
        (10u64..)
            .zip(corpus)
            .filter(|(_, rows)| rows.iter().any(|row| holds(row, passage)))
            .map(|(contribution, _)| contribution)
            .collect()
    };
    let mut found: Vec<(usize, usize)> = Vec::new();
    for start in 0..output.len() {
        let longest = (start + 1..=output.len())
            .take_while(|end| !owners(&output[start..*end]).is_empty())
            .last();
        found.extend(longest.map(|end| (start, end)));
    }
    let inside = |one: &(usize, usize)| {
        found
            .iter()
            .any(|other| other != one && other.0 <= one.0 && other.1 >= one.1)
    };
    found
        .iter()
        .filter(|one| !inside(one))
        .map(|(start, end)| (*start, end - start, owners(&output[*start..*end])))
        .collect()
}

fn by_start(mut spans: Vec<Span>) -> Vec<(usize, usize, BTreeSet<u64>)> {
    spans.sort_by_key(|span| span.start);
    spans
        .into_iter()
        .map(|span| {
            let holders: Vec<u64> = span.holders.iter().map(|h| h.contribution).collect();
            assert!(holders.windows(2).all(|pair| pair[0] < pair[1]));
            (span.start, span.length, holders.into_iter().collect())
        })
        .collect()
}

fn corpora(vocabulary: u32) -> impl Strategy<Value = (Corpus, Vec<u32>)> {
    let text = prop::collection::vec(0..vocabulary, 1..20);
    let rows = prop::collection::vec(text, 1..4);
    (
        prop::collection::vec(rows, 1..5),
        // Ids from the vocabulary, the separator's, and one beyond.
        prop::collection::vec(0..vocabulary + 2, 0..KEPT_AT_LEAST),
    )
}

fn agrees(vocabulary: u32, corpus: &Corpus, output: &[u32]) -> Result<(), TestCaseError> {
    let (_folder, index) = build(vocabulary, corpus);
    let spans = index.match_output(output, 0);
    for span in &spans {
        let passage = &output[span.start..span.start + span.length];
        for holder in &span.holders {
            let source = holder.source;
            prop_assert_eq!(source.text, 0);
            let text = &corpus[holder.contribution as usize - 10][source.row.row as usize];
            prop_assert_eq!(&text[source.offset..source.offset + span.length], passage);
        }
    }
    prop_assert_eq!(by_start(spans), brute_force(corpus, output));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn spans_equal_brute_force_on_low_entropy((corpus, output) in corpora(2)) {
        agrees(2, &corpus, &output)?;
    }

    #[test]
    fn spans_equal_brute_force((corpus, output) in corpora(8)) {
        agrees(8, &corpus, &output)?;
    }

    #[test]
    fn spans_equal_brute_force_with_wide_ids((corpus, output) in corpora(4)) {
        // The same ids high in a vocabulary of 32 bits.
        let lift = |text: &Vec<u32>| text.iter().map(|id| id + 65_536).collect::<Vec<_>>();
        let corpus: Corpus = corpus.iter().map(|rows| rows.iter().map(lift).collect()).collect();
        agrees(65_540, &corpus, &lift(&output))?;
    }
}

#[test]
fn planted_text_is_found_whole_and_given_to_its_owner() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut text = |length: usize| -> Vec<u32> {
        (0..length).map(|_| random.random_range(0..1_000)).collect()
    };
    let corpus: Corpus = (0..40)
        .map(|_| (0..10).map(|_| text(60)).collect())
        .collect();
    let (_folder, index) = build(1_000, &corpus);
    let (mut right, mut wrong, mut missed) = (0, 0, 0);
    for (owner, rows) in corpus.iter().enumerate() {
        for (row, planted) in rows.iter().enumerate() {
            let mut output = text(20);
            output.extend_from_slice(&planted[15..40]);
            output.extend(text(20));
            let spans = index.match_output(&output, 48_000);
            for span in &spans {
                assert!(span.start <= 20 && span.start + span.length >= 45);
                for holder in &span.holders {
                    let source = holder.source;
                    if holder.contribution == owner as u64 + 10 && source.row.row == row as u32 {
                        assert_eq!(source.offset, 15 - (20 - span.start));
                        right += 1;
                    } else {
                        wrong += 1;
                    }
                }
            }
            missed += usize::from(spans.is_empty());
        }
    }
    assert_eq!((right, wrong, missed), (400, 0, 0));
}

/// What the network shows on its first day: short rows, a small vocabulary, short answers. Words are
/// tokens here.
#[test]
fn a_sentence_of_a_row_is_attributed_to_its_contribution() {
    let rows = [
        ("the lighthouse of varrow point was built in 1874 .", 10u64),
        ("the lighthouse of varrow point stands on grey rock .", 10),
        ("the mill of tarn hollow was built in 1902 .", 11),
        ("the mill of tarn hollow grinds rye for the valley .", 11),
        (
            "the bridge of osk ford was built in 1833 by ilse marn .",
            12,
        ),
    ];
    let mut words: Vec<&str> = rows.iter().flat_map(|(row, _)| row.split(' ')).collect();
    words.sort();
    words.dedup();
    let encode = |text: &str| -> Vec<u32> {
        text.split(' ')
            .map(|word| words.binary_search(&word).unwrap_or(words.len()) as u32)
            .collect()
    };
    let mut corpus: Corpus = vec![vec![], vec![], vec![]];
    for (row, owner) in rows {
        corpus[owner as usize - 10].push(encode(row));
    }
    let (_folder, index) = build(words.len() as u32, &corpus);
    let params = AttributionParams {
        min_millibits: 16_000,
        ..AttributionParams::default()
    };
    for (answer, owner) in [
        ("the lighthouse of varrow point was built in 1874 .", 10),
        ("the mill of tarn hollow was built in 1902 .", 11),
        ("it grinds rye for the valley .", 11),
        ("the bridge of osk ford was built by ilse marn .", 12),
    ] {
        let output = encode(answer);
        let (lines, spans) = index.attribute(&output, output.len() as u32, &params);
        let of_owner: u32 = lines
            .iter()
            .filter(|line| line.contribution == owner)
            .map(|line| line.ppm)
            .sum();
        let of_all: u32 = lines.iter().map(|line| line.ppm).sum();
        assert_eq!(of_owner, of_all, "{answer}: {lines:?} {spans:?}");
        assert!(of_owner > 600_000, "{answer}: {lines:?}");
    }
    let nothing = encode("nobody wrote of any such place here");
    assert!(index.attribute(&nothing, 7, &params).0.is_empty());
}

#[test]
fn the_most_informative_are_kept() {
    // Tokens 0..30 once each, so that no two stand together in the answer.
    let corpus: Corpus = vec![(0..30).map(|id| vec![id; 1 + id as usize % 3]).collect()];
    let (_folder, index) = build(30, &corpus);
    let output: Vec<u32> = (0..30).collect();
    let spans = index.match_output(&output, 0);
    assert_eq!(spans.len(), KEPT_AT_LEAST);
    assert!(spans
        .windows(2)
        .all(|pair| pair[0].millibits >= pair[1].millibits));
    // Those that occur once in 59 tokens carry the most.
    assert!(spans.iter().all(|span| span.start % 3 == 0));
    let least = spans[0].millibits;
    assert!(index.match_output(&output, least + 1).is_empty());
}

#[test]
fn texts_of_a_row_do_not_run_together() {
    let folder = TempDir::new().unwrap();
    let mut builder = Builder::new(10, [0; 32], vec![VERSION]).unwrap();
    builder
        .add(
            key(5, 3),
            [vec![1, 2, 3], vec![], vec![4, 5], vec![6, 7, 8]],
        )
        .unwrap();
    builder.build(folder.path()).unwrap();
    let index = Index::open(folder.path()).unwrap();
    let spans = index.match_output(&[2, 3, 4, 5, 6, 7], 0);
    let mut places: Vec<_> = spans
        .iter()
        .map(|s| {
            (
                s.start,
                s.length,
                s.holders[0].source.text,
                s.holders[0].source.offset,
            )
        })
        .collect();
    places.sort();
    assert_eq!(places, [(0, 2, 0, 1), (2, 2, 1, 0), (4, 2, 2, 0)]);
    assert_eq!(spans[0].holders[0].source.row, key(5, 3));
}

#[test]
fn equal_rows_give_equal_files() {
    let corpus: Corpus = vec![vec![vec![1, 2, 3, 1, 2], vec![2, 2]], vec![vec![1, 2, 9]]];
    let (first, _) = build(10, &corpus);
    let (second, _) = build(10, &corpus);
    for entry in fs::read_dir(first.path()).unwrap() {
        let entry = entry.unwrap();
        let other = fs::read(second.path().join(entry.file_name())).unwrap();
        assert_eq!(fs::read(entry.path()).unwrap(), other);
    }
}

#[test]
fn damaged_files_are_refused() {
    let corpus: Corpus = vec![vec![vec![1, 2, 3, 1, 2], vec![2, 2]], vec![vec![1, 2, 9]]];
    let (folder, index) = build(10, &corpus);
    drop(index);
    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(names.len(), 6);
    for path in names {
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 0x10;
        for damage in [&whole[..whole.len() - 1], &flipped, &[]] {
            fs::write(&path, damage).unwrap();
            assert!(Index::open(folder.path()).is_err(), "{path:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            Index::open(folder.path()),
            Err(SpanError::Io { .. })
        ));
        fs::write(&path, &whole).unwrap();
        Index::open(folder.path()).unwrap();
    }
}

#[test]
fn what_cannot_be_indexed_is_refused() {
    assert!(matches!(
        Builder::new(0, [0; 32], vec![]),
        Err(SpanError::Vocabulary(0))
    ));
    let mut builder = Builder::new(10, [0; 32], vec![VERSION]).unwrap();
    let folder = TempDir::new().unwrap();
    assert!(matches!(
        builder.build(folder.path()),
        Err(SpanError::Empty)
    ));
    builder.add(key(5, 1), [[1, 2]]).unwrap();
    assert!(matches!(
        builder.add(key(5, 1), [[1]]),
        Err(SpanError::OutOfOrder)
    ));
    assert!(matches!(
        builder.add(key(4, 9), [[1]]),
        Err(SpanError::OutOfOrder)
    ));
    assert!(matches!(
        builder.add(key(5, 2), [[1, 10]]),
        Err(SpanError::UnknownToken { id: 10, .. })
    ));
    let other = RowKey {
        version: 3,
        ..key(5, 2)
    };
    assert!(matches!(
        builder.add(other, [[1]]),
        Err(SpanError::UnknownVersion { .. })
    ));
    assert_eq!(builder.positions(), 3);
    builder.build(folder.path()).unwrap();
    assert!(builder.build(folder.path()).is_err());
}
