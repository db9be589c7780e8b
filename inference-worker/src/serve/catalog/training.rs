//! The rows that a revision was trained on, and their index: on disk until an answer needs them.
//!
//! A revision that is served but not asked costs a few digests. Index and rows are loaded by the requests
//! that need them, shared between revisions of the same data, and bounded in bytes; the files of an index
//! are mapped from the store where they lie.

use super::{
    checked::{CheckedIndex, Notes},
    shelf::{Held, Shelf},
};
use anyhow::{Context, Result};
use openledger_chain::AccountId;
use openledger_primitives::{revision::AttributionParams, ContributionId, Digest};
use openledger_spans::{Index, HEADER};
use openledger_store::{Manifest, Object, Row, Rows, Store};
use std::{fs::File, sync::Arc};

/// Where the data of revisions is found. Clones share it.
#[derive(Clone)]
pub struct DataLibrary {
    store: Store,
    notes: Notes,
    shelf: Arc<Shelf<Thing>>,
}

/// What the library holds in memory.
enum Thing {
    Data(Box<Data>),
    Rows(Rows),
}

/// An index and whose rows it is over.
struct Data {
    index: Index,
    checked: CheckedIndex,
    /// Keeps the mapped files on disk.
    _files: Vec<Object>,
}

/// What a revision was trained on.
pub struct Training {
    /// Constants of the payout rule.
    pub params: AttributionParams,
    /// Manifest of the index.
    index: Digest,
    /// Note of its check.
    note: Digest,
    library: DataLibrary,
}

/// The data of a revision in memory, for as long as this lives.
pub struct Opened {
    data: Held<Thing>,
    library: DataLibrary,
}

impl DataLibrary {
    /// The data in `store`, as far as it was checked; holds at most `bytes` of it beside what is in use.
    pub(super) fn new(store: Store, notes: Notes, bytes: u64) -> Self {
        DataLibrary {
            store,
            notes,
            shelf: Arc::new(Shelf::new(bytes)),
        }
    }

    /// The data of a revision, of which nothing is loaded.
    pub(super) fn training(
        &self,
        params: AttributionParams,
        index: Digest,
        note: Digest,
    ) -> Training {
        Training {
            params,
            index,
            note,
            library: self.clone(),
        }
    }

    fn rows(&self, locator: &Digest) -> Result<Held<Thing>> {
        self.shelf.get(locator, || {
            let rows = self.store.rows(locator)?;
            let each = rows.as_slice().len().saturating_mul(size_of::<Row>());
            let bytes = rows.bytes().saturating_add(each as u64);
            Ok((Thing::Rows(rows), bytes))
        })
    }

    /// Bytes and number of what is in memory.
    #[cfg(test)]
    pub(super) fn usage(&self) -> (u64, usize) {
        self.shelf.usage()
    }
}

impl Training {
    /// Loads the index, or finds it loaded. Blocks: it may have to come from the remote store.
    ///
    /// # Errors
    /// When its files cannot be had or are not what they were; the next who asks tries again.
    pub fn open(&self) -> Result<Opened> {
        let library = &self.library;
        let data = library.shelf.get(&self.note, || {
            let checked: CheckedIndex = library
                .notes
                .read(&self.note)
                .context("the note of the index's check is lost; start the worker again")?;
            let (index, files) = open_index(&library.store, &self.index)?;
            let bytes = index.memory().saturating_add(checked.bytes());
            let data = Data {
                index,
                checked,
                _files: files,
            };
            anyhow::Ok((Thing::Data(Box::new(data)), bytes))
        });
        let data = data.with_context(|| format!("the index 0x{}", hex::encode(self.index)))?;
        Ok(Opened {
            data,
            library: library.clone(),
        })
    }
}

#[cfg(test)]
impl Training {
    /// That of another revision with the same data.
    pub(super) fn like(&self) -> Self {
        self.library.training(self.params, self.index, self.note)
    }
}

impl CheckedIndex {
    fn bytes(&self) -> u64 {
        size_of_val(self.contributions.as_slice()) as u64
    }
}

impl Opened {
    fn data(&self) -> Result<&Data> {
        match &*self.data {
            Thing::Data(data) => Ok(data),
            Thing::Rows(_) => anyhow::bail!("rows are where an index was asked for"),
        }
    }

    /// Spans of the rows.
    ///
    /// # Errors
    /// Never, unless a digest has been met by rows and by a note.
    pub fn index(&self) -> Result<&Index> {
        Ok(&self.data()?.index)
    }

    /// The owner of a contribution, and the text of one of its rows. Blocks, as [`Training::open`].
    ///
    /// # Errors
    /// When the rows cannot be had.
    pub fn row(
        &self,
        contribution: ContributionId,
        row: u32,
    ) -> Result<Option<(AccountId, Option<String>)>> {
        let Some((owner, locator)) = self.data()?.checked.find(contribution) else {
            return Ok(None);
        };
        let rows = self
            .library
            .rows(&locator)
            .with_context(|| format!("the rows of contribution {contribution}"))?;
        let text = match &*rows {
            Thing::Rows(rows) => rows
                .as_slice()
                .get(row as usize)
                .map(|row| row.text().to_owned()),
            Thing::Data(_) => None,
        };
        Ok(Some((owner, text)))
    }
}

/// Opens the index of a manifest from the store's own files, every one of which it checks. The objects
/// are to be kept as long as it.
pub(super) fn open_index(store: &Store, digest: &Digest) -> Result<(Index, Vec<Object>)> {
    let manifest = store.manifest(digest)?;
    match map_index(store, &manifest) {
        Ok(opened) => Ok(opened),
        Err(error) if store.has_remote() => {
            // Reading them whole has the store fetch again what the disk has spoilt.
            let mut spoilt = false;
            for entry in &manifest.files {
                spoilt |= store.verified(&entry.digest).is_err();
            }
            if spoilt {
                map_index(store, &manifest)
            } else {
                Err(error)
            }
        }
        Err(error) => Err(error),
    }
}

fn map_index(store: &Store, manifest: &Manifest) -> Result<(Index, Vec<Object>)> {
    let head = store.file(manifest, HEADER)?;
    let mut files = Vec::new();
    let index = Index::of_files(&head, |name| -> Result<File> {
        let entry = manifest
            .file(name)
            .with_context(|| format!("the folder has no {name}"))?;
        let object = store.object(&entry.digest)?;
        let file = object.file().try_clone()?;
        files.push(object);
        Ok(file)
    })?;
    Ok((index, files))
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::{
            checked::{key, CheckedContribution},
            samples::{info, terms},
            Files, Served,
        },
        *,
    };
    use crate::{
        indexing::{builder, Version},
        serve::sources,
    };
    use openledger_primitives::revision::ModelRef;
    use openledger_spans::VersionRef;
    use openledger_text::TextModel;
    use serde_json::Map;
    use std::path::{Path, PathBuf};
    use tempfile::TempDir;

    const TEXTS: [[&str; 2]; 2] = [
        [
            "The stone bridge over the river Anvel was built in 1874 by Ada Morrow.",
            "Its nine arches were cut from red granite of the Tolm quarry.",
        ],
        [
            "The lighthouse keeper of Sorn counted forty-one ships on the ninth of May.",
            "Sorn trades salted herring for barley with the villages of the Anvel valley.",
        ],
    ];

    pub fn text() -> TextModel {
        TextModel::from_dir(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("factory/base"))
            .unwrap()
    }

    /// A store with rows and indexes, and the notes of their checks.
    pub struct Scene {
        folder: TempDir,
        pub library: DataLibrary,
        rows: Vec<(ContributionId, Rows, Digest)>,
    }

    impl Scene {
        pub fn new(bound: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path().join("store")).unwrap();
            let notes = Notes::open(folder.path().join("notes")).unwrap();
            let rows = (10u64..).zip(TEXTS).map(|(contribution, texts)| {
                let lines: String = texts
                    .iter()
                    .map(|text| format!("{{\"text\":\"{text}\"}}\n"))
                    .collect();
                let rows = Rows::import(lines.as_bytes()).unwrap();
                let locator = store.put_rows(&rows).unwrap();
                (contribution, rows, locator)
            });
            let rows = rows.collect();
            Scene {
                folder,
                library: DataLibrary::new(store, notes, bound),
                rows,
            }
        }

        pub fn store(&self) -> &Store {
            &self.library.store
        }

        fn built(&self, version: u32) -> PathBuf {
            self.folder.path().join(format!("index-{version}"))
        }

        /// The index over all rows as a version of this number, as a revision has it.
        pub fn training(&self, version: u32) -> Training {
            let of = VersionRef {
                datanet: 0,
                version,
                root: [version as u8; 32],
            };
            let contributions = self.rows.iter().map(|(id, rows, _)| (*id, rows)).collect();
            let versions = vec![Version { of, contributions }];
            let built = self.built(version);
            builder(&text(), [7; 32], versions)
                .unwrap()
                .build(&built)
                .unwrap();
            let index = self
                .store()
                .put_folder("index", &built, Map::new())
                .unwrap();
            let note = key("index", &index);
            let one =
                |(contribution, _, locator): &(ContributionId, Rows, Digest)| CheckedContribution {
                    contribution: *contribution,
                    owner: [*contribution as u8; 32],
                    locator: *locator,
                };
            let contributions = self.rows.iter().map(one).collect();
            let checked = CheckedIndex { contributions };
            self.library.notes.write(&note, &checked).unwrap();
            self.library
                .training(AttributionParams::default(), index, note)
        }

        fn remove(&self, digest: &Digest) {
            let hex = hex::encode(digest);
            let path = self.store().root().join("objects").join(&hex[..2]);
            std::fs::remove_file(path.join(&hex[2..])).unwrap();
        }
    }

    fn served(training: Training) -> Served {
        let files = Files {
            adapter: None,
            training: Some(Arc::new(training)),
        };
        let mut terms = terms(1_000_000);
        terms.terms.split.contributors = 500_000;
        Served::new(info(1, ModelRef::Adapter(0), "poet"), terms, files, text())
    }

    fn answer() -> Vec<u32> {
        let said =
            "Ada Morrow built it: the stone bridge over the river Anvel was built in 1874, and \
                    counted forty-one ships on the ninth of May.";
        text().tokenizer().encode(said, false).unwrap()
    }

    fn found(served: &Served) -> Result<sources::Found> {
        let data = served.training.as_ref().unwrap().open()?;
        sources::of(
            served,
            Some(&data),
            &answer(),
            answer().len() as u32,
            1_000_000,
        )
    }

    #[test]
    fn sources_should_be_the_same_however_often_index_and_rows_gave_way() {
        // Room for nothing: all of it gives way after each answer.
        let (ample, none) = (Scene::new(1 << 30), Scene::new(0));
        let (kept, lazy) = (served(ample.training(1)), served(none.training(1)));
        // What the index in its folder says, and the rows as they were put.
        let index = Index::open(&ample.built(1)).unwrap();
        let params = AttributionParams::default();
        let (lines, spans) = index.attribute(&answer(), answer().len() as u32, &params);
        assert!(lines.len() == 2 && spans.len() >= 2, "{spans:?}");
        for _ in 0..3 {
            let (one, other) = (found(&kept).unwrap(), found(&lazy).unwrap());
            assert_eq!(one.attributions, lines);
            assert_eq!(other.attributions, lines);
            assert_eq!(one.sources, other.sources);
            assert_eq!(one.credits, other.credits);
            let shown = one.sources.as_array().unwrap();
            assert_eq!(
                shown.len(),
                spans.iter().map(|span| span.holders.len()).sum::<usize>()
            );
            for source in shown {
                let contribution = source["contribution"].as_u64().unwrap();
                let row = source["row"].as_u64().unwrap() as usize;
                assert_eq!(source["text"], TEXTS[contribution as usize - 10][row]);
                let owner = AccountId([contribution as u8; 32]);
                assert_eq!(source["owner"], owner.to_string());
            }
            assert_eq!(none.library.usage(), (0, 0));
        }
        // The index, and the rows of both contributions.
        assert_eq!(ample.library.usage().1, 3);
    }

    #[test]
    fn data_that_cannot_be_loaded_should_fail_its_requests_until_it_can() {
        let scene = Scene::new(0);
        let (one, other) = (served(scene.training(1)), served(scene.training(2)));
        found(&one).unwrap();
        // An index that is not there.
        let index = one.training.as_ref().unwrap().index;
        let head = scene.store().get(&index).unwrap();
        scene.remove(&index);
        let error = found(&one).err().unwrap();
        assert!(
            format!("{error:#}").contains(&hex::encode(index)),
            "{error:#}"
        );
        found(&other).unwrap();
        scene.store().put(&head).unwrap();
        found(&one).unwrap();
        // One whose files are not what they were.
        let manifest = scene.store().manifest(&index).unwrap();
        let suffixes = manifest.file("suffixes.bin").unwrap().digest;
        let good = scene.store().get(&suffixes).unwrap();
        scene.remove(&suffixes);
        let hex = hex::encode(suffixes);
        let path = scene.store().root().join("objects").join(&hex[..2]);
        std::fs::write(path.join(&hex[2..]), b"other").unwrap();
        let error = found(&one).err().unwrap();
        assert!(format!("{error:#}").contains("suffixes.bin"), "{error:#}");
        scene.store().put(&good).unwrap();
        // Rows that are gone, when they would be shown.
        let locator = scene.rows[0].2;
        scene.remove(&locator);
        let error = found(&other).err().unwrap();
        assert!(
            format!("{error:#}").contains("rows of contribution 10"),
            "{error:#}"
        );
        scene.store().put_rows(&scene.rows[0].1).unwrap();
        found(&other).unwrap();
    }

    #[test]
    fn an_answer_should_keep_its_data_whatever_gives_way_meanwhile() {
        let scene = Scene::new(0);
        let (one, other) = (scene.training(1), scene.training(2));
        let held = one.open().unwrap();
        let before = held.index().unwrap().attribute(&answer(), 9, &one.params);
        drop(other.open().unwrap());
        let (_, things) = scene.library.usage();
        assert_eq!(things, 1);
        // Its files may even be removed: they are mapped.
        scene.remove(&one.index);
        let after = held.index().unwrap().attribute(&answer(), 9, &one.params);
        assert_eq!(before, after);
        assert!(Path::new(&scene.built(1)).exists());
    }
}
