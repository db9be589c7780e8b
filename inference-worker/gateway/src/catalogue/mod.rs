//! The models of the channel's worker: names, terms, tokenizers.

mod names;

use crate::{voucher::Terms, GatewayError};
use names::Names;
use openledger_chain::{apis::models::RevisionInfo, AccountId, ChainClient};
use openledger_openai::{Completion, Input, Prompt, Tool};
use openledger_primitives::{
    revision::{ModelRef, RevisionStatus},
    Digest, RevisionId,
};
use openledger_store::Store;
use openledger_text::{Conversation, TextModel};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// How long terms and the worker's list are taken as they were read.
const FRESH: Duration = Duration::from_secs(6);
/// How old the worker's list may be when a model is not in it: what was announced just now is found, and
/// names that nobody serves cost at most one look at the chain in this time.
const RECENT: Duration = Duration::from_secs(1);
/// How long they are used when the chain cannot be read.
const STALE: Duration = Duration::from_secs(600);

/// Tokenizer, template and context of a base model.
#[derive(Debug)]
pub struct BaseText {
    /// Tokenizer and chat template.
    pub text: TextModel,
    /// Tokens of the context.
    pub context: u32,
}

/// A model ready to be asked.
#[derive(Clone, Debug)]
pub struct Model {
    /// As the chain has it.
    pub info: Arc<RevisionInfo>,
    /// Terms in effect.
    pub terms: Terms,
    /// Its base's text.
    pub base: Arc<BaseText>,
}

#[derive(Default)]
struct Cache {
    served: Option<(Instant, Vec<RevisionId>)>,
    models: HashMap<RevisionId, (Instant, Arc<RevisionInfo>)>,
    names: Names,
    terms: HashMap<RevisionId, (Instant, Terms)>,
    bases: HashMap<Digest, Arc<BaseText>>,
}

/// Models, read from chain and store as they are asked for.
pub struct Catalogue {
    chain: ChainClient,
    worker: AccountId,
    store: Store,
    cache: Mutex<Cache>,
}

impl BaseText {
    /// Prompt tokens of a request, counted as the worker counts them.
    ///
    /// # Errors
    /// [`GatewayError::BadRequest`] when the template refuses the messages, or the prompt cannot be
    /// encoded.
    pub fn count_prompt(&self, request: &Completion) -> Result<u32, GatewayError> {
        let count = match &request.prompt {
            Prompt::Messages(messages) => {
                let tools: Vec<_> = request.tools.iter().map(Tool::to_json).collect();
                let conversation = Conversation {
                    messages,
                    tools: &tools,
                    variables: Some(&request.template),
                    add_generation_prompt: true,
                };
                let ids = self.text.count_conversation(&conversation);
                ids.map_err(|error| {
                    GatewayError::bad("invalid_messages", "messages", error.to_string())
                })?
                .len()
            }
            Prompt::Inputs(inputs) => match inputs.first() {
                Some(Input::Text(text)) => {
                    let ids = self.text.count_text(text);
                    ids.map_err(|error| {
                        GatewayError::bad("invalid_prompt", "prompt", error.to_string())
                    })?
                    .len()
                }
                Some(Input::Tokens(ids)) => ids.len(),
                None => 0,
            },
        };
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Tokens of a delivered text in its canonical tokenisation.
    ///
    /// # Errors
    /// [`GatewayError::Text`] when it cannot be encoded.
    pub fn count_output(&self, text: &str) -> Result<u32, GatewayError> {
        self.text
            .tokenizer()
            .encode(text, false)
            .map(|ids| ids.len() as u32)
            .map_err(|error| GatewayError::Text(error.to_string()))
    }
}

impl Catalogue {
    /// The models of `worker`, with tokenizers from `store`.
    pub fn new(chain: ChainClient, worker: AccountId, store: Store) -> Self {
        Catalogue {
            chain,
            worker,
            store,
            cache: Mutex::new(Cache::default()),
        }
    }

    /// Everything that the worker serves, each with what to ask it by: its name where the name means
    /// it, else its number.
    pub async fn list(&self) -> Result<Vec<(String, Arc<RevisionInfo>, Terms)>, GatewayError> {
        let mut cache = self.cache.lock().await;
        let mut models = Vec::new();
        let served = self.infos(&mut cache, FRESH).await?;
        for info in &served {
            let label = info.label();
            let named = self.named(&mut cache, &served, &label).await?;
            let id = match named {
                Some(named) if named.revision == info.revision => label,
                _ => info.revision.to_string(),
            };
            let terms = self.terms(&mut cache, info).await?;
            models.push((id, info.clone(), terms));
        }
        Ok(models)
    }

    /// Loads the text of every base that is served, so that the first request does not wait for it;
    /// how many models there are.
    pub async fn warm(&self) -> Result<usize, GatewayError> {
        let models = self.list().await?;
        let mut cache = self.cache.lock().await;
        for (_, info, _) in &models {
            self.base(&mut cache, info.base_manifest).await?;
        }
        Ok(models.len())
    }

    /// The model of a name, or of a decimal number, which is a revision; the module `names` has the rule.
    ///
    /// # Errors
    /// [`GatewayError::UnknownModel`] when the worker serves no such model.
    pub async fn find(&self, name: &str) -> Result<Model, GatewayError> {
        let mut cache = self.cache.lock().await;
        let mut found = self.look_up(&mut cache, name, FRESH).await?;
        if found.is_none() {
            found = self.look_up(&mut cache, name, RECENT).await?;
        }
        let info = found
            .filter(|info| info.status == RevisionStatus::Live)
            .ok_or_else(|| GatewayError::UnknownModel(name.to_owned()))?;
        let terms = self.terms(&mut cache, &info).await?;
        let base = self.base(&mut cache, info.base_manifest).await?;
        Ok(Model { info, terms, base })
    }

    /// The model of a name in the worker's list as it was read within `age`.
    async fn look_up(
        &self,
        cache: &mut Cache,
        name: &str,
        age: Duration,
    ) -> Result<Option<Arc<RevisionInfo>>, GatewayError> {
        match name.parse::<RevisionId>() {
            Ok(revision) if self.served(cache, age).await?.contains(&revision) => {
                self.info(cache, revision, FRESH).await
            }
            Ok(_) => Ok(None),
            Err(_) => {
                let served = self.infos(cache, age).await?;
                match self.named(cache, &served, name).await? {
                    Some(info) => self.info(cache, info.revision, FRESH).await,
                    None => Ok(None),
                }
            }
        }
    }

    /// What a name means among `served`.
    async fn named(
        &self,
        cache: &mut Cache,
        served: &[Arc<RevisionInfo>],
        name: &str,
    ) -> Result<Option<Arc<RevisionInfo>>, GatewayError> {
        if name.parse::<RevisionId>().is_ok() {
            return Ok(None);
        }
        if let Some(base) = names::base(served, name) {
            return Ok(Some(base));
        }
        // A name that nothing served has needs no look at the chain.
        let known = served
            .iter()
            .any(|info| matches!(info.model, ModelRef::Adapter(_)) && info.name == name.as_bytes());
        if !known {
            return Ok(None);
        }
        let first = cache.names.first(&self.chain, name).await?;
        Ok(first.and_then(|adapter| names::newest(served, adapter)))
    }

    /// What is served by a list read within `age`, by revision, as each was read within [`STALE`].
    async fn infos(
        &self,
        cache: &mut Cache,
        age: Duration,
    ) -> Result<Vec<Arc<RevisionInfo>>, GatewayError> {
        let mut infos = Vec::new();
        for revision in self.served(cache, age).await? {
            let info = self.info(cache, revision, STALE).await?;
            infos.extend(info.filter(|info| info.status == RevisionStatus::Live));
        }
        Ok(infos)
    }

    async fn served(
        &self,
        cache: &mut Cache,
        age: Duration,
    ) -> Result<Vec<RevisionId>, GatewayError> {
        if let Some((read, served)) = &cache.served {
            if read.elapsed() < age {
                return Ok(served.clone());
            }
        }
        match self.chain.served_by(self.worker).await {
            Ok(mut served) => {
                served.sort_unstable();
                cache.served = Some((Instant::now(), served.clone()));
                Ok(served)
            }
            Err(error) => match &cache.served {
                Some((read, served)) if read.elapsed() < STALE => Ok(served.clone()),
                _ => Err(error.into()),
            },
        }
    }

    /// A revision as it was read within `age`, or later where the chain cannot be read.
    async fn info(
        &self,
        cache: &mut Cache,
        revision: RevisionId,
        age: Duration,
    ) -> Result<Option<Arc<RevisionInfo>>, GatewayError> {
        let known = cache.models.get(&revision);
        if let Some((_, info)) = known.filter(|(read, _)| read.elapsed() < age) {
            return Ok(Some(info.clone()));
        }
        match self.chain.revision(revision).await {
            Ok(Some(info)) => {
                let info = Arc::new(info);
                cache
                    .models
                    .insert(revision, (Instant::now(), info.clone()));
                Ok(Some(info))
            }
            Ok(None) => Ok(None),
            Err(error) => match known {
                Some((read, info)) if read.elapsed() < STALE => Ok(Some(info.clone())),
                _ => Err(error.into()),
            },
        }
    }

    async fn terms(&self, cache: &mut Cache, info: &RevisionInfo) -> Result<Terms, GatewayError> {
        let (revision, model) = (info.revision, info.model);
        if let Some((read, terms)) = cache.terms.get(&revision) {
            if read.elapsed() < FRESH {
                return Ok(*terms);
            }
        }
        match self.chain.terms(model, None).await {
            Ok(Some(found)) => {
                let terms = Terms {
                    index: found.index,
                    price_in: found.terms.price_in,
                    price_out: found.terms.price_out,
                };
                cache.terms.insert(revision, (Instant::now(), terms));
                Ok(terms)
            }
            Ok(None) => Err(GatewayError::UnknownModel(revision.to_string())),
            Err(error) => match cache.terms.get(&revision) {
                Some((read, terms)) if read.elapsed() < STALE => Ok(*terms),
                _ => Err(error.into()),
            },
        }
    }

    async fn base(
        &self,
        cache: &mut Cache,
        manifest: Digest,
    ) -> Result<Arc<BaseText>, GatewayError> {
        if let Some(base) = cache.bases.get(&manifest) {
            return Ok(base.clone());
        }
        let store = self.store.clone();
        let base = tokio::task::spawn_blocking(move || load(&store, manifest))
            .await
            .map_err(|error| GatewayError::Text(error.to_string()))??;
        let base = Arc::new(base);
        cache.bases.insert(manifest, base.clone());
        Ok(base)
    }
}

/// Reads the text files of a base model out of the store; weights are left where they are.
fn load(store: &Store, digest: Digest) -> Result<BaseText, GatewayError> {
    let unusable = |what: &str, error: String| {
        GatewayError::Text(format!(
            "{what} of the base model 0x{} in the store {}: {error}",
            hex::encode(digest),
            store.root().display()
        ))
    };
    let manifest = store
        .manifest_of("base", &digest)
        .map_err(|error| unusable("the manifest", error.to_string()))?;
    let required = |path: &str| {
        store
            .file(&manifest, path)
            .map_err(|error| unusable(path, error.to_string()))
    };
    let optional = |path: &str| manifest.file(path).map(|_| required(path)).transpose();
    let config: Value = serde_json::from_slice(&required("config.json")?)
        .map_err(|error| unusable("config.json", error.to_string()))?;
    let context = config
        .get("max_position_embeddings")
        .and_then(Value::as_u64)
        .and_then(|context| u32::try_from(context).ok())
        .ok_or_else(|| {
            unusable(
                "config.json",
                "it does not say `max_position_embeddings`".into(),
            )
        })?;
    let text = TextModel::from_bytes(
        &required("tokenizer.json")?,
        optional("tokenizer_config.json")?.as_deref(),
        optional("chat_template.jinja")?.as_deref(),
    )
    .map_err(|error| unusable("the tokenizer", error.to_string()))?;
    Ok(BaseText { text, context })
}
