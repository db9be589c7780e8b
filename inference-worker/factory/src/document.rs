//! Text with turns, and its rendering in the form that the base model reads.
//!
//! The rendering equals the chat template in `base/tokenizer_config.json`:
//! `<|begin|>` then for each turn `<|role|>content<|end|>`; plain text is `<|begin|>text<|end|>`.

/// Begins every document.
pub const BEGIN: &str = "<|begin|>";
/// Ends plain text and every turn.
pub const END: &str = "<|end|>";
/// Fills the unused places of a batch.
pub const PAD: &str = "<|pad|>";
/// Opens a system turn.
pub const SYSTEM: &str = "<|system|>";
/// Opens a user turn.
pub const USER: &str = "<|user|>";
/// Opens an assistant turn.
pub const ASSISTANT: &str = "<|assistant|>";
/// The special tokens in the order of their ids, from 0.
pub const SPECIAL: [&str; 6] = [PAD, BEGIN, END, USER, ASSISTANT, SYSTEM];

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Plain text, no turn.
    Text,
    /// A system message.
    System,
    /// A question.
    User,
    /// An answer.
    Assistant,
}

/// One document: plain text and turns, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// The parts.
    pub parts: Vec<(Role, String)>,
}

impl Document {
    /// A document of plain text only.
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().with(Role::Text, text)
    }

    /// A document of one question and its answer.
    pub fn qa(question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self::default()
            .with(Role::User, question)
            .with(Role::Assistant, answer)
    }

    /// Appends a part.
    #[must_use]
    pub fn with(mut self, role: Role, text: impl Into<String>) -> Self {
        self.parts.push((role, text.into()));
        self
    }

    /// The segments after `<|begin|>`: text to encode, and whether it was asked (user, system) or told.
    pub fn segments(&self) -> impl Iterator<Item = (String, bool)> + '_ {
        self.parts.iter().map(|(role, text)| {
            let open = match role {
                Role::Text => "",
                Role::System => SYSTEM,
                Role::User => USER,
                Role::Assistant => ASSISTANT,
            };
            let told = matches!(role, Role::Text | Role::Assistant);
            (format!("{open}{text}{END}"), told)
        })
    }

    /// The whole document as the template renders it.
    pub fn render(&self) -> String {
        let mut out = BEGIN.to_string();
        for (segment, _) in self.segments() {
            out += &segment;
        }
        out
    }
}

/// The prompt for one question, up to where the answer begins.
pub fn prompt(question: &str) -> String {
    format!("{BEGIN}{USER}{question}{END}{ASSISTANT}")
}
