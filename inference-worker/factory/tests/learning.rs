//! The shipped base learns facts that were invented a moment ago, and only the right adapter knows them.

use std::path::PathBuf;

use openledger_factory::adapter::{gate, train_adapter, Base, Choices, VersionRows};
use openledger_factory::evaluation::{exact_match, Question};
use openledger_factory::gradients::Lanes;
use openledger_factory::invented::{story, StoryDatanet};
use openledger_factory::manifest::Lora;
use openledger_factory::progress::{Cancel, Event, Progress, Silent};
use openledger_factory::train::Watch;
use openledger_factory::Error;
use openledger_store::Row;

fn base() -> Base {
    Base::load(
        &PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
            .join("base"),
    )
    .unwrap()
}

fn version(number: u32, datanet: &StoryDatanet) -> [VersionRows; 1] {
    let texts = datanet.contributors.iter().flat_map(|c| &c.rows);
    [VersionRows {
        datanet: number,
        version: 1,
        root: [number as u8; 32],
        rows: texts.map(|text| Row::new(text, []).unwrap()).collect(),
    }]
}

fn suite(datanet: &StoryDatanet) -> Vec<Question> {
    let questions = datanet.contributors.iter().flat_map(|c| &c.questions);
    questions
        .map(|q| Question {
            question: q.question.clone(),
            fact: q.fact.clone(),
        })
        .collect()
}

fn quick() -> Choices {
    let mut choices = Choices::default();
    choices.hyper.schedule.steps = 100;
    choices.hyper.evaluate_every = 0;
    choices
}

fn watch<'a>(cancel: &'a Cancel) -> Watch<'a> {
    Watch {
        progress: &Silent,
        cancel,
        checkpoint: None,
        save_every: 0,
    }
}

#[test]
fn invented_facts_should_be_told_by_their_adapter_and_by_no_other() {
    let seed = std::env::var("OPENLEDGER_SEED").map_or(20_260, |s| s.parse().unwrap());
    println!("seed {seed}");
    let base = base();
    let story = story(seed, 2).unwrap();
    let cancel = Cancel::default();
    let trained: Vec<_> = (0..2)
        .map(|i| {
            let rows = version(i as u32, &story.datanets[i]);
            train_adapter(&base, &rows, &quick(), &watch(&cancel)).unwrap()
        })
        .collect();
    let lanes = Lanes::new(2).unwrap();
    for i in 0..2 {
        let suite = suite(&story.datanets[i]);
        let ask =
            |adapter| exact_match(&lanes, base.model(adapter), &base.encoder, &suite).unwrap();
        let right = ask(Some(&trained[i].adapter));
        assert!(right.share() >= 0.95, "seed {seed}: {:?}", right.misses);
        for wrong in [Some(&trained[1 - i].adapter), None] {
            let result = ask(wrong);
            assert!(
                result.share() <= 0.1,
                "seed {seed}: {}/{}",
                result.right,
                result.asked
            );
        }
        let evaluation = &trained[i].manifest.evaluation;
        assert!(evaluation.perplexity_after < evaluation.perplexity_before);
        gate(&trained[i].manifest, None).unwrap();
        let mut worse = trained[i].manifest.clone();
        worse.evaluation.perplexity_after = worse.evaluation.perplexity_before.map(|p| p * 2.0);
        assert!(matches!(gate(&worse, None), Err(Error::Gate(_))));
    }
}

/// Cancels when a step is reached.
struct StopAt(usize, Cancel);

impl Progress for StopAt {
    fn on(&self, event: &Event) {
        if matches!(event, Event::Step { step, .. } if *step == self.0) {
            self.1.cancel();
        }
    }
}

#[test]
fn a_resumed_run_should_give_the_same_bytes_as_one_that_never_stopped() {
    let base = base();
    let story = story(3, 2).unwrap();
    let rows = version(7, &story.datanets[1]);
    let mut choices = quick();
    choices.hyper.schedule.steps = 12;
    choices.hyper.evaluate_every = 4;
    let whole = train_adapter(&base, &rows, &choices, &watch(&Cancel::default())).unwrap();
    let again = train_adapter(&base, &rows, &choices, &watch(&Cancel::default())).unwrap();
    assert_eq!(
        whole.manifest.to_bytes().unwrap(),
        again.manifest.to_bytes().unwrap()
    );

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let cancel = Cancel::default();
    let stop = StopAt(7, cancel.clone());
    let interrupted = Watch {
        progress: &stop,
        cancel: &cancel,
        checkpoint: Some(path.clone()),
        save_every: 0,
    };
    let error = train_adapter(&base, &rows, &choices, &interrupted).unwrap_err();
    assert!(
        matches!(error, Error::Interrupted { step: 7, .. }),
        "{error}"
    );
    assert!(error.to_string().contains(&path.display().to_string()));

    let fresh = Cancel::default();
    let resumed = Watch {
        checkpoint: Some(path),
        ..watch(&fresh)
    };
    let mut other = choices.clone();
    other.lora.seed += 1;
    assert!(train_adapter(&base, &rows, &other, &resumed).is_err());
    let resumed = train_adapter(&base, &rows, &choices, &resumed).unwrap();
    assert_eq!(
        resumed.adapter.to_bytes().unwrap(),
        whole.adapter.to_bytes().unwrap()
    );
    assert_eq!(
        resumed.manifest.to_bytes().unwrap(),
        whole.manifest.to_bytes().unwrap()
    );
}

#[test]
fn dropout_should_be_refused_by_name_and_leave_no_trace_when_zero() {
    let base = base();
    let rows = version(0, &story(3, 2).unwrap().datanets[0]);
    let cancel = Cancel::default();
    for dropout in [0.1, -0.1, 1.0, f64::NAN] {
        let mut choices = quick();
        choices.hyper.schedule.steps = 1;
        choices.lora.dropout = dropout;
        let error = train_adapter(&base, &rows, &choices, &watch(&cancel)).unwrap_err();
        assert!(error.to_string().contains("lora_dropout"), "{error}");
    }
    // A plan without dropout reads and hashes as before there was the setting.
    let written = serde_json::to_value(&quick().lora).unwrap();
    assert!(written.get("dropout").is_none());
    assert_eq!(
        serde_json::from_value::<Lora>(written).unwrap(),
        quick().lora
    );
}
