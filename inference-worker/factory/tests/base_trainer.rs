//! The base trainer on a tiny recipe: same bytes again, same bytes when interrupted, and an ordinary folder.

use std::fs;
use std::path::Path;

use openledger_factory::adapter::Base;
use openledger_factory::base::{train_base, Recipe};
use openledger_factory::document::Document;
use openledger_factory::progress::{Cancel, Silent};
use openledger_factory::train::Watch;
use openledger_factory::Error;

fn recipe() -> Recipe {
    let shipped = include_str!("../base/recipe.json");
    let mut recipe = Recipe::from_json(shipped).unwrap();
    recipe.vocab = 400;
    recipe.hidden = 32;
    recipe.intermediate = 48;
    recipe.layers = 2;
    recipe.heads = 2;
    recipe.kv_heads = 1;
    recipe.corpus.known = 6;
    recipe.hyper.batch = 6;
    recipe.hyper.schedule.steps = 6;
    recipe.hyper.schedule.warmup = 2;
    recipe.hyper.evaluate_every = 3;
    recipe.hyper.stop = 0;
    recipe
}

fn train(recipe: &Recipe, out: &Path, cancel: &Cancel) -> Result<(), Error> {
    let watch = Watch {
        progress: &Silent,
        cancel,
        checkpoint: Some(out.join("checkpoint")),
        save_every: 2,
    };
    train_base(recipe, out, &watch).map(|_| ())
}

#[test]
fn a_stopped_run_should_go_on_to_the_same_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    train(&recipe(), &whole, &Cancel::default()).unwrap();
    let mut stopped = recipe();
    stopped.hyper.stop = 4;
    train(&stopped, &parts, &Cancel::default()).unwrap();
    let halfway = fs::read(parts.join("model.safetensors")).unwrap();
    let cancelled = Cancel::default();
    cancelled.cancel();
    let interrupted = train(&recipe(), &parts, &cancelled);
    assert!(matches!(
        interrupted,
        Err(Error::Interrupted { step: 4, .. })
    ));
    train(&recipe(), &parts, &Cancel::default()).unwrap();
    for file in ["model.safetensors", "tokenizer.json", "config.json"] {
        let read = |dir: &Path| fs::read(dir.join(file)).unwrap();
        assert!(read(&whole) == read(&parts), "{file} differs");
    }
    assert!(halfway != fs::read(parts.join("model.safetensors")).unwrap());
    let base = Base::load(&whole).unwrap();
    assert_eq!(base.config.num_hidden_layers, 2);
}

#[test]
fn the_tokenizer_should_keep_any_text_and_take_digits_apart() {
    let dir =
        Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it")).join("base");
    let base = Base::load(&dir).unwrap();
    for text in [
        "The port of Velkor is 48213.",
        " ünïcödé \u{1f600}\t\r\n  x",
        "",
        "<b>'s \\ \u{0}",
    ] {
        let ids = base.encoder.ids(text).unwrap();
        assert_eq!(base.encoder.text(&ids).unwrap(), text);
    }
    let four = base.encoder.ids("4821").unwrap();
    assert_eq!(four.len(), 4);
    let document = Document::qa("Who?", "Nobody.");
    let example = base.encoder.example(&document, false).unwrap();
    assert_eq!(example.ids, base.encoder.ids(&document.render()).unwrap());
    assert_eq!(example.learn.len(), example.ids.len());
    assert!(example.learn.iter().any(|l| *l) && example.learn.iter().any(|l| !l));
}

#[test]
fn the_chat_template_should_render_what_the_model_was_trained_on() {
    let path = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
        .join("base/tokenizer_config.json");
    let config: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let template = config["chat_template"].as_str().unwrap();
    let mut environment = minijinja::Environment::new();
    environment.add_template("chat", template).unwrap();
    let rendered = environment
        .get_template("chat")
        .unwrap()
        .render(minijinja::context! {
            bos_token => config["bos_token"].as_str(),
            eos_token => config["eos_token"].as_str(),
            add_generation_prompt => true,
            messages => serde_json::json!([
                {"role": "user", "content": "Who?"},
                {"role": "assistant", "content": "Nobody."},
                {"role": "user", "content": "Why?"},
            ]),
        })
        .unwrap();
    let history = Document::qa("Who?", "Nobody.").render();
    let next = openledger_factory::document::prompt("Why?");
    let begin = openledger_factory::document::BEGIN;
    assert_eq!(rendered, history + next.strip_prefix(begin).unwrap());
}
