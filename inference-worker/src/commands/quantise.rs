//! `quantise`: writes a base model in fewer bits.

use crate::cli::{QuantiseArgs, QuantiseTo};
use anyhow::{bail, ensure, Context, Result};
use openledger_model::{quantise, Checkpoint, ModelConfig, Target};
use std::{
    fs::{self, File},
    io::IsTerminal,
    path::{Path, PathBuf},
};

/// Files of a base that are not its weights, which go along if they are there.
const COMPANIONS: [&str; 10] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];

/// Inputs that share a scale where `--group` does not say.
const GROUP: usize = 128;

pub fn run(args: QuantiseArgs) -> Result<()> {
    let target = target(args.to, args.group)?;
    ensure!(
        fs::symlink_metadata(&args.out).is_err(),
        "{} exists; name a folder that does not",
        args.out.display()
    );
    let config = ModelConfig::from_dir(&args.base)
        .with_context(|| format!("the base model in {}", args.base.display()))?;
    let checkpoint = Checkpoint::open(&args.base, &config)
        .with_context(|| format!("the base model in {}", args.base.display()))?;
    let parent = parent(&args.out);
    // A crash leaves a hidden draft behind, never a folder that looks complete.
    let draft = tempfile::Builder::new()
        .prefix(".quantise-")
        .tempdir_in(&parent)
        .with_context(|| format!("a draft in {}", parent.display()))?;
    let shown = std::io::stderr().is_terminal();
    let outcome = quantise(&checkpoint, target, draft.path(), |done, all| {
        match shown {
            true => eprint!("\rshard {done} of {all}"),
            // A log has lines.
            false => eprintln!("shard {done} of {all}"),
        }
    });
    if shown {
        eprintln!();
    }
    let outcome = outcome?;
    for name in COMPANIONS {
        let from = args.base.join(name);
        if fs::symlink_metadata(&from).is_ok_and(|meta| meta.is_file()) {
            let to = draft.path().join(name);
            fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
            File::open(&to)?.sync_all()?;
        }
    }
    File::open(draft.path())?.sync_all()?;
    make_readable(draft.path())?;
    fs::rename(draft.path(), &args.out)
        .with_context(|| format!("{} could not be put in place", args.out.display()))?;
    // It is no draft any more.
    let _ = draft.keep();
    File::open(&parent)?.sync_all()?;
    println!(
        "{} bytes of tensors in {}",
        outcome.bytes,
        args.out.display()
    );
    println!(
        "rounding changed the linear layers by {:.4} of their size (root mean square)",
        outcome.relative_error
    );
    Ok(())
}

fn target(to: QuantiseTo, group: Option<usize>) -> Result<Target> {
    Ok(match (to, group) {
        (QuantiseTo::Int4, group) => Target::Int4 {
            group: group.unwrap_or(GROUP),
        },
        (_, Some(_)) => bail!("--group is for --to int4; the others have a scale to each row"),
        (QuantiseTo::Bf16, None) => Target::Bf16,
        (QuantiseTo::Fp8, None) => Target::Fp8,
        (QuantiseTo::Int8, None) => Target::Int8,
    })
}

fn parent(out: &Path) -> PathBuf {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Drafts are private; what they become has the permissions that a new folder would have.
fn make_readable(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("permissions of {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_model::{StoredType, Weights};

    fn base(dir: &Path) -> PathBuf {
        let text = r#"{
            "model_type": "llama", "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 64
        }"#;
        let base = dir.join("base");
        let config = ModelConfig::from_json(text).unwrap();
        let weights = Weights::random(&config, 3).unwrap();
        weights.save(&base, StoredType::F32).unwrap();
        fs::write(base.join("config.json"), config.to_json()).unwrap();
        fs::write(base.join("tokenizer.json"), "{}").unwrap();
        base
    }

    fn args(base: &Path, to: QuantiseTo, group: Option<usize>, out: &Path) -> QuantiseArgs {
        QuantiseArgs {
            base: base.to_path_buf(),
            to,
            group,
            out: out.to_path_buf(),
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_should_be_written_whole_with_its_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path());
        let out = dir.path().join("int4");
        run(args(&base, QuantiseTo::Int4, Some(16), &out)).unwrap();
        assert!(names(&out).contains(&"tokenizer.json".to_owned()));
        let config = ModelConfig::from_dir(&out).unwrap();
        let checkpoint = Checkpoint::open(&out, &config).unwrap();
        assert!(checkpoint.is_quantised());
        checkpoint.weights().unwrap();
        assert_eq!(names(dir.path()), ["base", "int4"]);
    }

    #[test]
    fn what_is_refused_should_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(dir.path());
        let out = dir.path().join("out");
        // Groups that do not fit; a group that means nothing.
        assert!(run(args(&base, QuantiseTo::Int4, Some(5), &out)).is_err());
        assert!(run(args(&base, QuantiseTo::Int8, Some(16), &out)).is_err());
        // A weight that is not a number, at the end of the file.
        let file = base.join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        fs::write(&file, bytes).unwrap();
        let error = run(args(&base, QuantiseTo::Int8, None, &out)).unwrap_err();
        assert!(error.to_string().contains("not finite"), "{error}");
        assert_eq!(names(dir.path()), ["base"]);
        // A folder that is there is left as it is.
        fs::create_dir(&out).unwrap();
        let error = run(args(&base, QuantiseTo::Bf16, None, &out)).unwrap_err();
        assert!(error.to_string().contains("exists"), "{error}");
        assert!(names(&out).is_empty());
    }
}
