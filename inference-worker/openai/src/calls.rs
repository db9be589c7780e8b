//! Text and calls of tools in an answer that is being written.

use crate::completion::Completion;
use crate::tools::{CallSyntax, Tool, ToolCall};

/// Separates what is text from what are calls, and holds back what may become one.
#[derive(Clone, Debug)]
pub struct CallReader {
    syntax: CallSyntax,
    tools: Vec<Tool>,
    one_call: bool,
    answer: String,
    /// Bytes of the answer that were given.
    shown: usize,
}

impl CallReader {
    /// For an answer to `request` by a model that writes calls in `syntax`.
    pub fn new(request: &Completion, syntax: CallSyntax) -> Self {
        CallReader {
            syntax,
            tools: request.tools.clone(),
            one_call: request.one_call,
            answer: String::new(),
            shown: 0,
        }
    }

    /// Takes more of the answer and gives what is surely text.
    pub fn push(&mut self, more: &str) -> String {
        self.answer.push_str(more);
        let certain = match self.tools.is_empty() {
            true => self.answer.len(),
            false => self.syntax.certain_text(&self.answer),
        };
        let text = self.answer.get(self.shown..certain).unwrap_or_default();
        let text = text.to_owned();
        self.shown = self.shown.max(certain);
        text
    }

    /// Ends the answer: the text that was held back, and the calls, in order, each named by `id`.
    pub fn end(self, id: impl FnMut(usize) -> String) -> (String, Vec<ToolCall>) {
        let (text, mut calls) = match self.tools.is_empty() {
            true => (self.answer, Vec::new()),
            false => self.syntax.split(&self.answer, &self.tools, id),
        };
        if self.one_call {
            calls.truncate(1);
        }
        (text.get(self.shown..).unwrap_or_default().to_owned(), calls)
    }
}
