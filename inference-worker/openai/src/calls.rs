//! Text and calls of tools in an answer that is being written.

use crate::call_syntax::CallSyntax;
use crate::completion::Completion;
use crate::tools::{Tool, ToolCall};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    fn request() -> Completion {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"Hi"}],
            "tools":[{"type":"function","function":{"name":"time"}}]}"#;
        Completion::parse(Endpoint::Chat, body).unwrap()
    }

    #[test]
    fn text_and_calls_should_be_the_same_however_the_answer_is_cut() {
        use CallSyntax::{Bare, Listed, Named, Tagged};
        for (syntax, answer, text, calls) in [
            (
                Listed,
                r#"See [0]: [TOOL_CALLS] [{"name": "time", "arguments": {}}]"#,
                "See [0]:",
                1,
            ),
            (
                Named,
                "See: [TOOL_CALLS]time[ARGS]{}[TOOL_CALLS]time[ARGS]{}",
                "See:",
                2,
            ),
            (
                Named,
                "[TOOL_CALLS]day[ARGS]{} – no",
                "[TOOL_CALLS]day[ARGS]{} – no",
                0,
            ),
            (Named, r#"{"name":"time","arguments":{}}"#, "", 1),
            (
                Tagged,
                r#"See: <tool_call>{"name":"time","arguments":{}}</tool_call>"#,
                "See:",
                1,
            ),
            (Bare, r#"{"name":"time","parameters":{}}"#, "", 1),
            (Bare, "[TOOL_CALLS]", "[TOOL_CALLS]", 0),
        ] {
            for at in (0..=answer.len()).filter(|at| answer.is_char_boundary(*at)) {
                for step in [1, 3, 7] {
                    let mut reader = CallReader::new(&request(), syntax);
                    let mut shown = reader.push(&answer[..at]);
                    let letters: Vec<char> = answer[at..].chars().collect();
                    for piece in letters.chunks(step) {
                        shown += &reader.push(&piece.iter().collect::<String>());
                    }
                    let (rest, found) = reader.end(|n| n.to_string());
                    assert_eq!((shown + &rest, found.len()), (text.to_owned(), calls));
                }
            }
        }
    }
}
