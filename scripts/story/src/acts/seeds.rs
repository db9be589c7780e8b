//! That the story's check can be met whatever the seed: an answer in the words of the document that
//! holds the fact pays its contributor most.

use super::{check::subject, DOCUMENTS};
use openledger_factory::invented::story;
use openledger_primitives::revision::AttributionParams;
use openledger_spans::{Builder, Index, RowKey, VersionRef};
use openledger_text::TextModel;
use std::path::Path;

const SEEDS: std::ops::Range<u64> = 0..100;

#[test]
fn an_answer_from_the_documents_pays_their_contributor_most_for_any_seed() {
    let base = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
        .join("../../inference-worker/factory/base");
    let text = TextModel::from_dir(&base).unwrap();
    let tokens = |text_: &str| text.tokenizer().encode(text_, false).unwrap();
    let version = VersionRef {
        datanet: 0,
        version: 1,
        root: [0; 32],
    };
    for seed in SEEDS {
        let story = story(seed, DOCUMENTS).unwrap();
        for (datanet, facts) in story.datanets.iter().enumerate() {
            let vocabulary = u32::try_from(text.tokenizer().vocab_size()).unwrap();
            let mut builder = Builder::new(vocabulary, [0; 32], vec![version]).unwrap();
            for (contribution, contributor) in (0..).zip(&facts.contributors) {
                for (row, passage) in (0..).zip(&contributor.rows) {
                    let key = RowKey {
                        datanet: 0,
                        version: 1,
                        contribution,
                        row,
                    };
                    builder.add(key, [tokens(passage)]).unwrap();
                }
            }
            let folder = tempfile::tempdir().unwrap();
            builder.build(folder.path()).unwrap();
            let index = Index::open(folder.path()).unwrap();

            let asked = subject(&story, datanet).unwrap();
            let said = facts.contributors[0]
                .questions
                .iter()
                .find(|question| question.question == asked.question)
                .unwrap();
            let answer = tokens(&said.sentence);
            let count = u32::try_from(answer.len()).unwrap();
            let (lines, _) = index.attribute(&answer, count, &AttributionParams::default());
            let share = |contribution| -> u32 {
                let of_one = lines
                    .iter()
                    .filter(|line| line.contribution == contribution);
                of_one.map(|line| line.ppm).sum()
            };
            assert!(
                share(0) > share(1),
                "seed {seed}, Datanet {datanet}: “{}” credits {lines:?}",
                said.sentence
            );
        }
    }
}
