//! A model's vocabulary as a trie of bytes, and the compiling of forms.

use crate::constraint::GrammarConstraint;
use crate::error::GrammarError;
use crate::form::Form;
use crate::memory::{Memory, Share};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::Parser;
use llguidance::{Matcher, ParserFactory};
use openledger_engine::Tenant;
use openledger_text::Tokenizer;
use serde_json::{json, Value};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use toktrie::{TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// The whitespace that may be between the parts of a JSON text.
const WHITESPACE: &str = r"( |\n {0,16})?";

/// Compiles forms for one model. Its clones share the vocabulary.
#[derive(Clone)]
pub struct Grammars {
    factory: Arc<ParserFactory>,
    end: u32,
    memory: Arc<Memory>,
    tenant: Tenant,
}

/// Bytes that the lexers of all forms under way may hold together.
pub const MEMORY: usize = 1 << 30;

/// The vocabulary, and behind it one token that stands for the end: which real tokens end an answer is
/// the request's affair.
struct Vocabulary(TokTrie);

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        // So no token is forced: the model chooses how it writes what has to come.
        false
    }
}

/// What a form may cost. Fuel is of llguidance's measure: compiling takes up to 10 ms of it, and a
/// mask up to some milliseconds.
fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 1_000,
        initial_lexer_fuel: 500_000,
        step_lexer_fuel: 100_000,
        step_max_items: 25_000,
        max_lexer_states: 20_000,
        max_grammar_size: 100_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

impl Grammars {
    /// For a model with `vocabulary` logits. Takes tenths of a second for a large vocabulary.
    ///
    /// # Errors
    /// When the tokenizer's tokens have no bytes of their own, or the vocabulary does not fit.
    pub fn new(tokenizer: &Tokenizer, vocabulary: usize) -> Result<Self, GrammarError> {
        let form = |e: &dyn std::fmt::Display| GrammarError::Form(e.to_string());
        let end = u32::try_from(vocabulary).map_err(|e| form(&e))?;
        let size = end
            .checked_add(1)
            .ok_or_else(|| form(&"no room for its end"))?;
        let mut words: Vec<Vec<u8>> = tokenizer
            .token_bytes()?
            .into_iter()
            .take(vocabulary)
            .map(Option::unwrap_or_default)
            .collect();
        words.resize(vocabulary, Vec::new());
        let mut mark = b"<end>".to_vec();
        mark.insert(0, TokTrie::SPECIAL_TOKEN_MARKER);
        words.push(mark);
        let build = || {
            let trie = TokTrie::from(&TokRxInfo::new(size, end), &words);
            let environment: toktrie::TokEnv = Arc::new(Vocabulary(trie));
            ParserFactory::new_simple(&environment)
        };
        // What it asserts of a vocabulary it asserts by panics.
        let factory = catch_unwind(AssertUnwindSafe(build));
        let mut factory = factory
            .map_err(|_| form(&"the vocabulary is not understood"))?
            .map_err(|e| form(&e))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Self {
            factory: Arc::new(factory),
            end,
            memory: Arc::new(Memory::new(MEMORY)),
            tenant: Tenant::default(),
        })
    }

    /// The same with so many bytes for all forms under way, instead of [`MEMORY`].
    #[must_use]
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory = Arc::new(Memory::new(bytes));
        self
    }

    /// The same on behalf of a tenant, who may hold a fourth of the memory; the default one is alone and may
    /// hold all.
    #[must_use]
    pub fn on_behalf_of(&self, tenant: Tenant) -> Self {
        Self {
            tenant,
            ..self.clone()
        }
    }

    /// A constraint for one answer, which may end by any of `stop_tokens` once it is whole.
    ///
    /// # Errors
    /// When the form is too large, not understood, or can be met by nothing;
    /// [`GrammarError::NoMemory`] when others hold the memory, [`GrammarError::TenantMemory`] when the tenant
    /// itself does.
    pub fn compile(
        &self,
        form: &Form,
        stop_tokens: &[u32],
    ) -> Result<GrammarConstraint, GrammarError> {
        form.check()?;
        let mut share = Share::new(&self.memory, self.tenant)?;
        let grammar = match form {
            Form::JsonObject => json_grammar(json!({ "type": "object" })),
            Form::JsonSchema(schema) => json_grammar(schema.clone()),
            Form::JsonBetween {
                before,
                schema,
                after,
            } => between(before, schema.clone(), after),
            Form::Regex(pattern) => TopLevelGrammar::from_regex(pattern),
        };
        let compile = || -> Result<(Matcher, Parser), String> {
            let parser = self.factory.create_parser(grammar);
            let parser = parser.map_err(|e| first_line(&e))?;
            // A clone shares the lexer, whose size the matcher does not tell.
            let lexer = parser.parser.clone();
            let mut matcher = Matcher::new(Ok(parser));
            // What cannot be met at all shows in the first mask.
            let mask = matcher.compute_mask_or_eos().map_err(|e| first_line(&e))?;
            if mask.is_zero() {
                return Err("nothing can be written by which it would be met".to_owned());
            }
            Ok((matcher, lexer))
        };
        let compiled = catch_unwind(AssertUnwindSafe(compile));
        let (matcher, lexer) = compiled
            .unwrap_or_else(|_| Err("it is not understood".to_owned()))
            .map_err(GrammarError::Form)?;
        share.grow(lexer.lexer_stats().num_bytes)?;
        Ok(GrammarConstraint::new(
            matcher,
            lexer,
            share,
            self.end,
            stop_tokens.to_vec(),
        ))
    }
}

/// A schema between two texts.
fn between(before: &str, schema: Value, after: &str) -> TopLevelGrammar {
    // An empty text is no terminal.
    let quoted = |text: &str| match text {
        "" => String::new(),
        text => Value::from(text).to_string(),
    };
    TopLevelGrammar::from_lark(format!(
        "start: {} json {}\njson: %json {}\n",
        quoted(before),
        quoted(after),
        with_options(schema)
    ))
}

fn json_grammar(schema: Value) -> TopLevelGrammar {
    TopLevelGrammar::from_json_schema(with_options(schema))
}

/// A schema with this crate's options, whatever it says itself of them.
fn with_options(mut schema: Value) -> Value {
    if let Value::Object(members) = &mut schema {
        let options = json!({ "whitespace_flexible": true, "whitespace_pattern": WHITESPACE });
        members.insert("x-guidance".to_owned(), options);
    }
    schema
}

/// Without the traces of a library's inside.
pub(crate) fn first_line(error: &impl std::fmt::Display) -> String {
    const MOST: usize = 300;
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.chars().take(MOST).collect()
}
