//! Adapters that are made to hurt: whatever the files say, reading them takes memory of the order of
//! their size, and the error is short.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use openledger_model::{Adapter, LoraConfig, ModelConfig, Targets};
use serde_json::{json, Map, Value};

/// Counts what each thread has, and the most that it had.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread on its way out has no counter any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: everything is the system's own allocator; beside it only cells of the thread are changed.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is given, and the most bytes that it took on this thread beyond what was there.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.with(Cell::get);
    MOST.with(|most| most.set(before));
    let result = work();
    let most = MOST.with(Cell::get);
    (result, usize::try_from(most - before).unwrap_or(0))
}

fn model() -> ModelConfig {
    let fields = json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32,
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0, "max_position_embeddings": 64, "tie_word_embeddings": false,
        "hidden_act": "silu"
    });
    ModelConfig::from_json(&fields.to_string()).unwrap()
}

/// The bytes of the two files of a good adapter.
fn good() -> (Vec<u8>, Vec<u8>) {
    let names = Targets::Names(vec!["q_proj".to_owned(), "down_proj".to_owned()]);
    let adapter = Adapter::init(&model(), LoraConfig::new(2, 4.0, names), 1).unwrap();
    adapter.to_bytes().unwrap()
}

/// Refused within bounds; the message.
fn refused(what: &str, config: &[u8], weights: &[u8]) -> String {
    let model = model();
    let (loaded, most) = measured(|| Adapter::from_bytes(config, weights, &model));
    let message = match loaded {
        Ok(_) => panic!("{what} was accepted"),
        Err(error) => error.to_string(),
    };
    // A value of JSON takes more than its text: two bytes of a list are 32 and its growth.
    let bound = (4 << 20) + 80 * (config.len() + weights.len());
    assert!(most < bound, "{what}: {most} bytes, bound {bound}");
    assert!(
        message.len() < 4_000,
        "{what}: {} bytes of message",
        message.len()
    );
    message
}

/// A safetensors file with this header before the bytes.
fn file(header: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(bytes);
    file
}

fn header_of(weights: &[u8]) -> (Map<String, Value>, &[u8]) {
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    (header, &weights[8 + length..])
}

#[test]
fn safetensors_that_lie_should_be_refused_within_bounded_memory() {
    let (config, weights) = good();
    let (_, most) = measured(|| Adapter::from_bytes(&config, &weights, &model()).unwrap());
    assert!(most > weights.len(), "the allocator counts");
    let (header, bytes) = header_of(&weights);
    let name = header
        .keys()
        .find(|k| k.contains("lora_A"))
        .unwrap()
        .clone();
    let changed = |field: &str, value: Value| {
        let mut header = header.clone();
        header[&name][field] = value;
        file(Value::Object(header).to_string().as_bytes(), bytes)
    };
    let begin = header[&name]["data_offsets"][0].as_u64().unwrap();
    let end = header[&name]["data_offsets"][1].as_u64().unwrap();
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    for length in [
        u64::MAX,
        u64::MAX / 2,
        1 << 40,
        100_000_001,
        weights.len() as u64,
        0,
        1,
    ] {
        let mut lying = weights.clone();
        lying[..8].copy_from_slice(&length.to_le_bytes());
        cases.push((format!("a header of {length} bytes"), lying));
    }
    for (first, last) in [
        (0, end - begin + 4),
        (begin + 4, end + 4),
        (end, begin),
        (begin, u64::MAX),
        (u64::MAX, u64::MAX),
        (begin, end + 1_000_000),
    ] {
        let offsets = changed("data_offsets", json!([first, last]));
        cases.push((format!("offsets {first}..{last}"), offsets));
    }
    for shape in [
        json!([u64::MAX, u64::MAX]),
        json!([u64::MAX, 2]),
        json!([0, 16]),
        json!([2, -16]),
        json!([1_000_000, 16]),
        json!(vec![1u8; 100_000]),
        json!("2"),
    ] {
        let text: String = shape.to_string().chars().take(40).collect();
        cases.push((format!("shape {text}"), changed("shape", shape)));
    }
    cases.push((
        "an unknown type".to_owned(),
        changed("dtype", json!("F128")),
    ));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    cases.push(("a deep header".to_owned(), file(deep.as_bytes(), &[])));
    let metadata: Map<String, Value> = (0..60_000).map(|i| (i.to_string(), json!("x"))).collect();
    let metadata = json!({ "__metadata__": metadata });
    let metadata = file(metadata.to_string().as_bytes(), &[]);
    cases.push(("nothing but metadata".to_owned(), metadata));
    let mut many = header.clone();
    for i in 0..100_000 {
        let empty = json!({ "dtype": "F32", "shape": [0], "data_offsets": [end, end] });
        many.insert(format!("{i}"), empty);
    }
    let many = file(Value::Object(many).to_string().as_bytes(), bytes);
    cases.push(("a hundred thousand tensors".to_owned(), many));
    let mut long = header.clone();
    let tensor = long.remove(&name).unwrap();
    long.insert("x".repeat(1 << 20), tensor);
    let long = file(Value::Object(long).to_string().as_bytes(), bytes);
    cases.push(("a name of a megabyte".to_owned(), long));
    cases.push((
        "a header that is no text".to_owned(),
        file(&[0xff; 64], bytes),
    ));
    for (what, weights) in cases {
        refused(&what, &config, &weights);
    }
}

#[test]
fn a_tensor_that_is_there_twice_should_be_refused_by_name() {
    let (config, weights) = good();
    let (header, bytes) = header_of(&weights);
    let text = Value::Object(header.clone()).to_string();
    let name = header.keys().find(|k| k.contains("lora_A")).unwrap();
    // The same twice, and one that another reader would find elsewhere.
    let end = header[name]["data_offsets"][1].as_u64().unwrap();
    let other = json!({ "dtype": "F32", "shape": [0], "data_offsets": [end, end] });
    for again in [&header[name], &other] {
        let twice = format!("{{\"{name}\":{again},{}", &text[1..]);
        let message = refused("a name twice", &config, &file(twice.as_bytes(), bytes));
        assert!(
            message.contains("lora_A") && message.contains("twice"),
            "{message}"
        );
    }
}

#[test]
fn configurations_that_ask_for_too_much_should_be_refused_within_bounded_memory() {
    let (config, weights) = good();
    let fields: Map<String, Value> = serde_json::from_slice(&config).unwrap();
    let with = |name: &str, value: Value| {
        let mut fields = fields.clone();
        fields.insert(name.to_owned(), value);
        Value::Object(fields).to_string()
    };
    let each = |pattern: fn(usize) -> String, count: usize| -> Value {
        (0..count)
            .map(|i| (pattern(i), json!(2)))
            .collect::<Map<_, _>>()
            .into()
    };
    let cases = [
        (
            "rank 10^6",
            with("r", json!(1_000_000)),
            "not between 1 and 512",
        ),
        (
            "rank 2^64",
            with("r", json!(1.8e19)),
            "not between 1 and 512",
        ),
        (
            "a pattern of rank 10^6",
            with("rank_pattern", json!({ "q_proj": 1_000_000 })),
            "rank_pattern",
        ),
        (
            "patterns by the thousand",
            with("rank_pattern", each(|i| format!("p{i}"), 50_000)),
            "at most 2048",
        ),
        // Each of a megabyte once it is compiled.
        (
            "large patterns",
            with("alpha_pattern", each(|i| format!("\\w{{20}}{i}"), 2_000)),
            "alpha_pattern",
        ),
        (
            "a list of a megabyte",
            with("target_modules", json!(vec![0; 400_000])),
            "target_modules",
        ),
        (
            "names by the thousand",
            with("target_modules", json!(vec!["a"; 200_000])),
            "no linear layer",
        ),
        (
            "a text of a megabyte",
            with("bias", json!("x".repeat(1 << 20))),
            "bias",
        ),
        (
            "a field of a megabyte",
            with(&"x".repeat(1 << 20), json!(1)),
            "not supported",
        ),
        (
            "a number beyond all",
            with("lora_alpha", json!(1e300)),
            "usable number",
        ),
        (
            "deep values",
            with("x", json!(null)).replace("null", &"[".repeat(300_000)),
            "recursion limit",
        ),
    ];
    for (what, config, expected) in cases {
        let message = refused(what, config.as_bytes(), &weights);
        assert!(message.contains(expected), "{what}: {message}");
    }
    refused("no text", &[0xff; 100], &weights);
    refused("a number that is none", br#"{"r": 1e999}"#, &weights);
}

#[cfg(unix)]
#[test]
fn folders_that_lie_should_be_refused_without_being_read() {
    let (config, weights) = good();
    let model = model();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), &weights).unwrap();
    let case = |what: &str, prepare: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("adapter_config.json"), &config).unwrap();
        fs::write(folder.path().join("adapter_model.safetensors"), &weights).unwrap();
        assert!(Adapter::load(folder.path(), &model).is_ok());
        prepare(folder.path());
        let (loaded, most) = measured(|| Adapter::load(folder.path(), &model));
        assert!(loaded.is_err(), "{what}");
        assert!(most < 2 << 20, "{what}: {most} bytes");
    };
    let replace = |folder: &Path, name: &str| {
        fs::remove_file(folder.join(name)).unwrap();
        folder.join(name)
    };
    use std::os::unix::fs::symlink;
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        case("a link out of the folder", &|folder| {
            symlink(outside.path().join("secret"), replace(folder, name)).unwrap();
        });
        case("a link by a parent", &|folder| {
            let up = Path::new("..").join(outside.path().file_name().unwrap());
            symlink(up.join("secret"), replace(folder, name)).unwrap();
        });
        case("a device without an end", &|folder| {
            symlink("/dev/zero", replace(folder, name)).unwrap();
        });
        case("a link to itself", &|folder| {
            symlink(name, replace(folder, name)).unwrap();
        });
        case("a folder", &|folder| {
            fs::create_dir(replace(folder, name)).unwrap()
        });
        case("a pipe that nobody writes to", &|folder| {
            let path = replace(folder, name);
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        });
        case("a terabyte of nothing", &|folder| {
            let file = fs::File::create(folder.join(name)).unwrap();
            file.set_len(1 << 40).unwrap();
        });
    }
}
