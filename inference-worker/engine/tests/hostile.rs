//! A thousand bad adapters, and folders that hurt who reads them, asked for beside good ones.

mod common;

use common::*;
use openledger_engine::{
    AdapterId, AdapterSource, EngineHandle, EngineOptions, FolderSource, Request, StepError, Tenant,
};
use openledger_model::{Adapter, ModelConfig, Targets};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

/// The files of a good adapter, spoilt in one of many ways.
struct Spoilt {
    which: usize,
    config: Arc<Vec<u8>>,
    weights: Arc<Vec<u8>>,
}

impl AdapterSource for Spoilt {
    fn read(&self, model: &ModelConfig) -> Result<Adapter, String> {
        let (mut config, mut weights) = (self.config.to_vec(), self.weights.to_vec());
        let n = self.which / 8;
        match self.which % 8 {
            0 => weights.truncate(n * weights.len() / 200),
            1 => weights[..8].copy_from_slice(&(u64::MAX - n as u64).to_le_bytes()),
            2 => {
                let end = weights.len() - 4 * (1 + n);
                weights[end..end + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            3 => {
                let mut fields: serde_json::Value = serde_json::from_slice(&config).unwrap();
                fields["r"] = serde_json::json!(1_000_000 + n);
                config = fields.to_string().into_bytes();
            }
            4 => config = "[".repeat(1000 * (1 + n)).into_bytes(),
            5 => panic!("deliberate"),
            // Good files under another's id.
            6 => {}
            _ => return Err("the store does not answer".to_owned()),
        }
        Adapter::from_bytes(&config, &weights, model).map_err(|e| e.to_string())
    }

    fn tier(&self) -> &'static str {
        "store"
    }
}

fn ask(engine: &EngineHandle, adapter: AdapterId, tenant: u8, output: usize) -> Request {
    assert!(engine.is_running());
    let mut request = Request::new(prompt(6, tenant.into()), output);
    request.adapter = Some(adapter);
    request.tenant = Tenant([tenant; 32]);
    request
}

#[test]
fn a_thousand_bad_adapters_should_fail_their_own_requests_and_harm_nobody() {
    const BAD: usize = 1_000;
    let model = config();
    let good = adapter(&model, 4, Targets::AllLinear, 1);
    let (config_bytes, weights) = good.to_bytes().unwrap();
    let (config_bytes, weights) = (Arc::new(config_bytes), Arc::new(weights));
    let pages = slab_pages(&model, &good);
    let engine = engine(EngineOptions {
        arena_pages: Some(60 + 4 * pages),
        ..EngineOptions::default()
    });
    let id = engine.load_adapter(&good).unwrap();
    let expected = tokens(engine.submit(ask(&engine, id, 1, 40)).unwrap());
    let before = engine.stats();
    let bad = |which: usize| {
        let mut id = [0xbb; 32];
        id[..8].copy_from_slice(&which.to_le_bytes());
        AdapterId(id)
    };
    for which in 0..BAD {
        let source = Spoilt {
            which,
            config: Arc::clone(&config_bytes),
            weights: Arc::clone(&weights),
        };
        engine
            .register_adapter(bad(which), Arc::new(source))
            .unwrap();
    }
    let asked: Vec<_> = (0..BAD)
        .map(|which| engine.submit(ask(&engine, bad(which), 2, 5)).unwrap())
        .collect();
    // The others are served meanwhile, with the tokens that they had before.
    for _ in 0..5 {
        let answer = tokens(engine.submit(ask(&engine, id, 1, 40)).unwrap());
        assert_eq!(answer, expected);
    }
    for (which, stream) in asked.into_iter().enumerate() {
        let (tokens, end) = stream.blocking_collect().expect("the engine runs");
        assert!(tokens.is_empty(), "{which}");
        match end {
            Err(StepError::Adapter(reason)) => assert!(reason.len() < 2_000, "{which}: {reason}"),
            other => panic!("{which}: {other:?}"),
        }
    }
    assert_eq!(
        tokens(engine.submit(ask(&engine, id, 1, 40)).unwrap()),
        expected
    );
    for which in 0..BAD {
        assert!(engine.unload_adapter(bad(which)));
    }
    let after = engine.stats();
    assert_eq!(after.failed, BAD as u64);
    assert_eq!(
        (after.running, after.waiting, after.kv_pages_used),
        (0, 0, 0)
    );
    assert_eq!(after.adapters, before.adapters);
    assert_eq!(after.adapter_pages, before.adapter_pages);
    assert_eq!(after.host_bytes, before.host_bytes);
    assert_eq!(after.device_bytes, before.device_bytes);
}

#[test]
fn folders_that_were_spoilt_should_fail_their_own_requests_and_hold_up_nobody() {
    const CONFIG: &str = "adapter_config.json";
    const WEIGHTS: &str = "adapter_model.safetensors";
    let model = config();
    let parent = tempfile::tempdir().unwrap();
    let write = |name: &str, seed: u64| {
        let folder = parent.path().join(name);
        let adapter = adapter(&model, 4, Targets::AllLinear, seed);
        (AdapterId(adapter.save(&folder).unwrap()), folder)
    };
    let engine = engine(EngineOptions::default());
    let register = |id, folder: &Path| {
        let source = FolderSource(folder.to_path_buf());
        engine.register_adapter(id, Arc::new(source)).unwrap();
    };
    let (good, folder) = write("good", 0);
    register(good, &folder);
    let (_, other) = write("other", 1);
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let long = |path: &Path, bytes: u64| {
        let file = fs::File::create(path).unwrap();
        file.set_len(bytes).unwrap();
    };
    // What stands in the place of a file when it is read.
    type Spoil<'a> = &'a dyn Fn(&Path);
    let spoils: [(&str, Spoil<'_>); 6] = [
        ("pipe", &|path| pipe(path)),
        ("device", &|path| symlink("/dev/zero", path).unwrap()),
        ("link", &|path| {
            symlink(other.join(path.file_name().unwrap()), path).unwrap()
        }),
        ("folder", &|path| fs::create_dir(path).unwrap()),
        ("terabyte", &|path| long(path, 1 << 40)),
        ("gigabyte", &|path| long(path, 1 << 30)),
    ];
    let mut bad = Vec::new();
    for file in [CONFIG, WEIGHTS] {
        for (what, spoil) in spoils {
            let name = format!("{what}-{file}");
            let (id, folder) = write(&name, 10 + bad.len() as u64);
            register(id, &folder);
            fs::remove_file(folder.join(file)).unwrap();
            spoil(&folder.join(file));
            bad.push((name, id));
        }
    }
    // The whole folder in a link's place: it leads to another adapter than the one that was registered.
    let (id, folder) = write("swapped", 2);
    register(id, &folder);
    fs::rename(&folder, parent.path().join("moved")).unwrap();
    symlink(&other, &folder).unwrap();
    bad.push(("swapped".to_owned(), id));

    let asked: Vec<_> = bad
        .iter()
        .map(|(name, id)| (name, engine.submit(ask(&engine, *id, 2, 5)).unwrap()))
        .collect();
    assert_eq!(
        tokens(engine.submit(ask(&engine, good, 1, 20)).unwrap()).len(),
        20
    );
    for (name, stream) in asked {
        let (tokens, end) = stream.blocking_collect().expect("the engine runs");
        assert!(tokens.is_empty(), "{name}");
        match end {
            Err(StepError::Adapter(reason)) => assert!(reason.len() < 2_000, "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(engine.stats().failed, bad.len() as u64);
}
