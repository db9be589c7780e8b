//! The folders that an operator names: a base model, and adapters by the names of their folders.

use crate::cli::NamedAdapter;
use anyhow::{ensure, Context, Result};
use std::path::Path;

/// Entries that are told of by name when they are passed over.
const MOST_TOLD: usize = 20;

/// Refuses what cannot be the folder of a base, before anything is read.
pub(super) fn check_base(base: &Path) -> Result<()> {
    let shown = base.display();
    let meta = std::fs::metadata(base)
        .with_context(|| format!("--base {shown}: name the folder of a base model"))?;
    ensure!(
        meta.is_dir(),
        "--base {shown} is a file: name the folder that holds it, with the model's tokenizer.json beside it"
    );
    ensure!(
        std::fs::symlink_metadata(base.join("tokenizer.json")).is_ok(),
        "--base {shown}: there is no tokenizer.json in it. Copy that of the model there; the tokenizer within a \
         GGUF file is not read"
    );
    Ok(())
}

/// A folder's own name.
pub(super) fn name_of(folder: &Path) -> Result<String> {
    let whole = folder
        .canonicalize()
        .with_context(|| format!("the base model in {}", folder.display()))?;
    let name = whole.file_name().and_then(|name| name.to_str());
    let name = name.context("the folder of the base has no name; give one by --name")?;
    Ok(name.to_owned())
}

/// What is in a folder of adapters.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Adapters by the names of their folders.
    pub adapters: Vec<NamedAdapter>,
    /// What is passed over though it looks like one, and why.
    passed_over: Vec<(String, &'static str)>,
}

impl Found {
    /// Looks into a folder. Files and what is hidden are passed over without a word.
    pub fn look(folder: &Path) -> Result<Self> {
        let shown = folder.display();
        let entries = std::fs::read_dir(folder).with_context(|| {
            format!("--adapters {shown}: name a folder with a folder for each adapter in it")
        })?;
        let mut found = Self::default();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let (kind, folder) = (entry.file_type()?, entry.path());
            if kind.is_symlink() && folder.is_dir() {
                let why = "links are not followed; name it by --adapter NAME=DIR";
                found.passed_over.push((name.to_owned(), why));
            } else if kind.is_dir() && folder.join("adapter_config.json").is_file() {
                let name = name.to_owned();
                found.adapters.push(NamedAdapter { name, folder });
            } else if kind.is_dir() {
                let why = "there is no adapter_config.json in it";
                found.passed_over.push((name.to_owned(), why));
            }
        }
        found.adapters.sort_by(|a, b| a.name.cmp(&b.name));
        found.passed_over.sort();
        Ok(found)
    }

    /// Logs what is passed over, some of it by name.
    pub fn tell(&self) {
        for (name, why) in self.passed_over.iter().take(MOST_TOLD) {
            tracing::warn!(name, "passed over in --adapters: {why}");
        }
        if let Some(more) = self.passed_over.len().checked_sub(MOST_TOLD + 1) {
            tracing::warn!(
                more = more + 1,
                "passed over in --adapters, for the same reasons"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_folder_with_an_adapter_is_one_by_its_name() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["b", "a", ".hidden", "empty"] {
            fs::create_dir(parent.path().join(name)).unwrap();
            if name != "empty" {
                fs::write(parent.path().join(name).join("adapter_config.json"), "{}").unwrap();
            }
        }
        fs::write(parent.path().join("README.md"), "adapters").unwrap();
        std::os::unix::fs::symlink(parent.path().join("a"), parent.path().join("link")).unwrap();
        let found = Found::look(parent.path()).unwrap();
        let names: Vec<&str> = found.adapters.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let [(empty, no_config), (link, no_link)] = found.passed_over.as_slice() else {
            panic!("{:?}", found.passed_over);
        };
        assert_eq!((empty.as_str(), link.as_str()), ("empty", "link"));
        assert!(no_config.contains("adapter_config.json") && no_link.contains("--adapter"));
    }

    #[test]
    fn a_folder_that_is_not_there_should_be_named() {
        let parent = tempfile::tempdir().unwrap();
        let missing = parent.path().join("missing");
        for error in [Found::look(&missing).map(drop), check_base(&missing)] {
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains(&missing.display().to_string()), "{error}");
        }
    }

    #[test]
    fn what_is_no_base_should_be_refused_with_what_to_name() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("model.gguf");
        fs::write(&file, "GGUF").unwrap();
        let error = check_base(&file).unwrap_err().to_string();
        assert!(error.contains("name the folder"), "{error}");
        let error = check_base(parent.path()).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json"), "{error}");
        fs::write(parent.path().join("tokenizer.json"), "{}").unwrap();
        check_base(parent.path()).unwrap();
    }
}
