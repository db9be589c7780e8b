//! What an answer must look like: JSON, JSON by a schema, a regular expression, or a forced call of a tool.

use openledger_engine::{Tenant, TokenConstraint};
use openledger_grammar::{Form, GrammarError, Grammars};
use openledger_model::ModelConfig;
use openledger_openai::CallSyntax;
use openledger_openai::{ApiError, Completion, Format, Tool, ToolChoice};
use openledger_text::TextModel;
use std::sync::{Arc, OnceLock};

/// Seconds after which a form may find memory that others hold now.
pub(crate) const FORMS_WAIT: u64 = 5;

/// Makes constraints for one model. Clones share the vocabulary's index, which is made when it is first
/// needed.
#[derive(Clone)]
pub struct Guides {
    text: TextModel,
    vocabulary: usize,
    ends: Arc<[u32]>,
    syntax: CallSyntax,
    grammars: Arc<OnceLock<Result<Grammars, String>>>,
    tenant: Tenant,
}

impl Guides {
    /// For a model and its tokenizer.
    pub fn new(text: &TextModel, config: &ModelConfig) -> Self {
        Guides {
            text: text.clone(),
            vocabulary: config.vocab_size,
            ends: config.eos_token_ids.clone().into(),
            syntax: text.template().map_or(CallSyntax::Unknown, |template| {
                CallSyntax::of_template(template.source())
            }),
            grammars: Arc::default(),
            tenant: Tenant::default(),
        }
    }

    /// The same on behalf of a tenant, who has only a part of the memory that there is for forms.
    #[must_use]
    pub fn on_behalf_of(&self, tenant: Tenant) -> Self {
        Guides {
            tenant,
            ..self.clone()
        }
    }

    /// The constraint that a request asks for. Large grammars take their time: call it where that stops
    /// nobody.
    ///
    /// # Errors
    /// [`ApiError`] when the form is not understood or too large, or the model cannot call tools.
    pub fn of(&self, request: &Completion) -> Result<Option<Box<dyn TokenConstraint>>, ApiError> {
        let Some((form, param)) = self.form(request)? else {
            return Ok(None);
        };
        let grammars = self.grammars.get_or_init(|| {
            let grammars = Grammars::new(self.text.tokenizer(), self.vocabulary);
            grammars.map_err(|error| error.to_string())
        });
        let grammars = grammars
            .as_ref()
            .map_err(|error| ApiError::unprocessable("no_grammar", format!("{error}.")))?;
        // Where the model's own end is passed over, the end of the form still is one.
        let guide = grammars.on_behalf_of(self.tenant);
        let guide = guide.compile(&form, &self.ends);
        let guide = guide.map_err(|error| match error {
            error @ (GrammarError::NoMemory | GrammarError::TenantMemory) => {
                ApiError::busy(format!("Not now: {error}."), FORMS_WAIT)
            }
            error => ApiError::value(param, format!("`{param}` cannot be held to: {error}.")),
        })?;
        Ok(Some(Box::new(guide)))
    }

    /// The form of an answer, and the field that asks for it.
    fn form(&self, request: &Completion) -> Result<Option<(Form, &'static str)>, ApiError> {
        let tools: Vec<&Tool> = match &request.tool_choice {
            _ if request.tools.is_empty() => Vec::new(),
            ToolChoice::Required => request.tools.iter().collect(),
            ToolChoice::Function(name) => {
                let named = request.tools.iter().filter(|tool| tool.name == *name);
                named.collect()
            }
            ToolChoice::None | ToolChoice::Auto if self.syntax == CallSyntax::Unknown => {
                return Err(ApiError::unprocessable(
                    "no_tool_format",
                    "The chat template of this model says nothing of tools, so it cannot know when to \
                     call one. Force a call by `tool_choice`, or leave `tools` out.",
                )
                .about("tools"));
            }
            ToolChoice::None | ToolChoice::Auto => Vec::new(),
        };
        if !tools.is_empty() {
            let (before, after) = self.syntax.around();
            let form = Form::JsonBetween {
                before: before.to_owned(),
                schema: self.syntax.schema(&tools),
                after: after.to_owned(),
            };
            return Ok(Some((form, "tools")));
        }
        Ok(match &request.format {
            Format::Text => None,
            Format::JsonObject => Some((Form::JsonObject, "response_format")),
            Format::JsonSchema(schema) => {
                Some((Form::JsonSchema(schema.clone()), "response_format"))
            }
            Format::GuidedJson(schema) => Some((Form::JsonSchema(schema.clone()), "guided_json")),
            Format::Regex(pattern) => Some((Form::Regex(pattern.clone()), "guided_regex")),
        })
    }
}
