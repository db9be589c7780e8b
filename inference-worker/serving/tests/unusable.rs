//! Adapters that cannot be served: what their clients are told, and that others are answered all the same.

mod common;

use common::*;
use openledger_engine::{Engine, EngineHandle, EngineOptions, Event, Request};
use openledger_model::{Adapter, LoraConfig, Targets};
use openledger_serving::Models;
use serde_json::{json, Value};

const TEXT: &str = "/v1/completions";

/// An error's status, code and message.
async fn refused(scene: &Scene, path: &str, mut body: Value, model: &str) -> (u16, String, String) {
    body["model"] = json!(model);
    let (status, answer) = scene.post(path, &body).await;
    let of = |name: &str| {
        answer["error"][name]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (status, of("code"), of("message"))
}

#[tokio::test]
async fn files_that_are_gone_or_changed_should_be_told_of_without_their_path() {
    let scene = Scene::new().await;
    std::fs::remove_dir_all(scene.folder.path().join("red")).unwrap();
    write_adapter(&scene.folder.path().join("blue"), 9);
    let embed = json!({"input": "Hi"});
    for (model, why) in [("red", "gone"), ("blue", "changed")] {
        for (path, body) in [(TEXT, prompt("Hi")), ("/v1/embeddings", embed.clone())] {
            let (status, code, message) = refused(&scene, path, body, model).await;
            assert_eq!((status, code.as_str()), (503, "adapter_unavailable"));
            assert!(message.contains(&format!("`{model}`")), "{message}");
            assert!(message.contains(why), "{message}");
            assert!(!message.contains('/'), "{message}");
        }
    }
    scene.ok(TEXT, &prompt("Hi")).await;
}

#[tokio::test]
async fn weights_that_compute_no_numbers_should_be_told_of() {
    let scene = Scene::new().await;
    let folder = scene.folder.path().join("huge");
    let lora = LoraConfig::new(4, 8.0, Targets::AllLinear);
    let adapter = Adapter::random(&config(), lora, 1e30, 3).unwrap();
    adapter.save(&folder).unwrap();
    scene.models.load("huge", &folder, false).unwrap();
    let (status, code, message) = refused(&scene, TEXT, prompt("Hi"), "huge").await;
    assert_eq!((status, code.as_str()), (500, "weights_not_finite"));
    assert!(message.contains("`huge`"), "{message}");
    scene.ok(TEXT, &prompt("Hi")).await;
}

/// Whether an adapter of this engine's answers.
async fn answers(engine: &EngineHandle, models: &Models, name: &str) -> bool {
    let mut request = Request::new(vec![1, 2, 3], 2);
    request.adapter = models.find(name).unwrap().adapter();
    let mut stream = engine.submit(request).unwrap();
    loop {
        match stream.next().await {
            Some(Event::Finished(_)) => return true,
            Some(Event::Failed(_)) | None => return false,
            Some(_) => {}
        }
    }
}

#[tokio::test]
async fn an_adapter_that_the_device_never_has_room_for_should_not_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    write_adapter(folder.path(), 1);
    let mut loaded = Vec::new();
    // One context takes four pages of these.
    for pages in [5, 6, 8, 12, 16, 24, 48] {
        let options = EngineOptions {
            threads: Some(1),
            max_context: Some(64),
            arena_pages: Some(pages),
            ..EngineOptions::default()
        };
        let engine = Engine::start(&config(), weights(&config()), options).unwrap();
        let models = Models::new(&engine, BASE, None).unwrap();
        match models.load("red", folder.path(), false) {
            Ok(_) => assert!(answers(&engine, &models, "red").await, "{pages} pages"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("--device-memory"), "{error}");
                assert!(models.find("red").is_none());
            }
        }
        loaded.push(models.find("red").is_some());
    }
    assert!(!loaded[0] && loaded[6], "{loaded:?}");
}
