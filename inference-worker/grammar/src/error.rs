//! Why an answer cannot be held to a form.

use openledger_text::TextError;

/// Everything that can go wrong before an answer begins.
#[derive(Debug, thiserror::Error)]
pub enum GrammarError {
    /// The tokens of this model have no bytes of their own.
    #[error("answers of this model cannot be held to a form: {0}")]
    Tokenizer(#[from] TextError),
    /// The form is larger than any that is taken.
    #[error("the {what} is too large: {found}, at most {most}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// How large it may be.
        most: usize,
    },
    /// The schema points to something outside itself.
    #[error("$ref {0:?}: only references within the schema, beginning with #, are followed")]
    Reference(String),
    /// Forms of other answers hold the memory that there is for all.
    #[error(
        "the forms of other answers hold all memory that there is for forms; try again shortly"
    )]
    NoMemory,
    /// Forms of other answers to the same tenant hold as much memory as one tenant may.
    #[error(
        "the forms of your other answers hold all memory that there is for one client's forms; ask for fewer \
         at a time, or try again when they have ended"
    )]
    TenantMemory,
    /// The form is not understood, contradicts itself, or takes too much work.
    #[error("the answer's form: {0}")]
    Form(String),
}
