//! From what a worker sends to what the client sees: stop strings over the borders of vouchers, calls of
//! tools, log-probabilities beside their text.

use crate::{upstream::Part, GatewayError};
use openledger_openai::{CallReader, CallSyntax, Completion, ToolCall};
use openledger_text::StopStrings;
use serde_json::{Map, Value};

/// One answer on its way.
pub(super) struct Presenter {
    stops: StopStrings,
    stopped: bool,
    calls: CallReader,
    /// Bytes that came, and those of them that are before any stop string.
    came: usize,
    certain: usize,
    /// Log-probabilities that were not shown yet, and where in what came the text of each begins.
    waiting: Vec<(usize, Value)>,
}

/// What is left at the end of an answer.
pub(super) struct Rest {
    /// More of it.
    pub part: Part,
    /// Calls of tools.
    pub calls: Vec<ToolCall>,
    /// Whether a stop string ended it.
    pub stopped: bool,
}

impl Presenter {
    pub(super) fn new(request: &Completion, syntax: CallSyntax) -> Result<Self, GatewayError> {
        let stops = StopStrings::new(request.stop.clone());
        Ok(Presenter {
            stops: stops
                .map_err(|error| GatewayError::bad("invalid_value", "stop", error.to_string()))?,
            stopped: false,
            calls: CallReader::new(request, syntax),
            came: 0,
            certain: 0,
            waiting: Vec::new(),
        })
    }

    /// Takes more of the answer and gives what may be shown; nothing when all is held back.
    pub(super) fn push(&mut self, part: Part) -> Option<Part> {
        if self.stopped {
            return None;
        }
        if !part.logprobs.is_null() {
            self.waiting.push((self.came, part.logprobs));
        }
        self.came += part.text.len();
        let certain = self.stops.push(&part.text);
        self.stopped = certain.stopped;
        self.certain += certain.text.len();
        let text = self.calls.push(&certain.text);
        (!text.is_empty()).then(|| Part {
            text,
            logprobs: self.scores(),
        })
    }

    /// The log-probabilities of text that is certain: the worker also sends those of a stop string, which
    /// is charged and no part of the answer.
    fn scores(&mut self) -> Value {
        let certain = self.certain;
        let told = self.waiting.partition_point(|(begin, _)| *begin < certain);
        let mut scores = Value::Null;
        for (_, one) in self.waiting.drain(..told) {
            append(&mut scores, one);
        }
        scores
    }

    /// Ends the answer; `id` names its calls.
    pub(super) fn end(mut self, id: impl FnMut(usize) -> String) -> Rest {
        let held = match self.stopped {
            true => String::new(),
            false => self.stops.clone().finish(),
        };
        if !self.stopped {
            // Tokens at the end may have no text.
            self.certain = usize::MAX;
        }
        let logprobs = self.scores();
        let mut text = self.calls.push(&held);
        let (held, calls) = self.calls.end(id);
        text.push_str(&held);
        Rest {
            part: Part { text, logprobs },
            calls,
            stopped: self.stopped,
        }
    }
}

/// Joins the lists of two log-probability objects.
pub(super) fn append(all: &mut Value, more: Value) {
    match (all, more) {
        (_, Value::Null) => {}
        (all @ Value::Null, more) => *all = more,
        (Value::Object(all), Value::Object(more)) => join(all, more),
        _ => {}
    }
}

fn join(all: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, list) in more {
        match (all.get_mut(&name), list) {
            (Some(Value::Array(all)), Value::Array(list)) => all.extend(list),
            (None, list) => {
                all.insert(name, list);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openledger_openai::Endpoint;
    use serde_json::json;

    fn presenter(more: &str, syntax: CallSyntax) -> Presenter {
        let body =
            format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}]{more}}}"#);
        let request = Completion::parse(Endpoint::Chat, body.as_bytes()).unwrap();
        Presenter::new(&request, syntax).unwrap()
    }

    fn shown(presenter: &mut Presenter, pieces: &[&str]) -> String {
        let parts = pieces.iter().map(|piece| Part::from(*piece));
        parts
            .filter_map(|part| presenter.push(part))
            .map(|part| part.text)
            .collect()
    }

    #[test]
    fn a_stop_string_over_the_border_of_two_vouchers_ends_the_answer() {
        let mut presenter = presenter(r#","stop":"END.""#, CallSyntax::Unknown);
        // The first voucher's text ends within it: the worker had to deliver what it charged.
        assert_eq!(
            shown(&mut presenter, &["It is EN", "D. and more"]),
            "It is "
        );
        let rest = presenter.end(|_| unreachable!());
        assert!(rest.stopped && rest.part.text.is_empty());
    }

    #[test]
    fn a_call_is_taken_out_of_the_text() {
        let tools = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
        let mut presenter = presenter(tools, CallSyntax::Tagged);
        let text = shown(
            &mut presenter,
            &[
                "So: <tool",
                "_call>{\"name\": \"f\", \"arguments\": {}}",
                "</tool_call>",
            ],
        );
        assert_eq!(text, "So:");
        let rest = presenter.end(|_| "id".into());
        assert_eq!(rest.calls[0].name, "f");
        assert_eq!(rest.part.text, "");
    }

    #[test]
    fn a_stop_string_is_cut_out_with_its_log_probabilities_however_it_comes() {
        let answer = "It is EEND. and more";
        for length in 1..=answer.len() {
            let mut presenter = presenter(r#","stop":["END.","zzz"]"#, CallSyntax::Unknown);
            let (mut text, mut scores) = (String::new(), Value::Null);
            for (at, piece) in answer.as_bytes().chunks(length).enumerate() {
                let part = Part {
                    text: std::str::from_utf8(piece).unwrap().into(),
                    logprobs: json!({"content": [at * length], "refusal": null}),
                };
                if let Some(part) = presenter.push(part) {
                    text.push_str(&part.text);
                    append(&mut scores, part.logprobs);
                }
            }
            let rest = presenter.end(|_| unreachable!());
            append(&mut scores, rest.part.logprobs);
            assert!(rest.stopped && rest.part.text.is_empty());
            assert_eq!(text, "It is E");
            // Of every token that begins before the cut, and of no other.
            let begins: Vec<usize> = (0..text.len()).step_by(length).collect();
            assert_eq!(scores["content"], json!(begins), "{length}");
        }
    }

    #[test]
    fn an_answer_that_is_its_stop_string_shows_nothing() {
        let mut presenter = presenter(r#","stop":"END.""#, CallSyntax::Unknown);
        let part = Part {
            text: "END.".into(),
            logprobs: json!({"content": [1], "refusal": null}),
        };
        assert!(presenter.push(part).is_none());
        let rest = presenter.end(|_| unreachable!());
        assert!(rest.stopped);
        assert_eq!(rest.part, Part::default());
    }

    #[test]
    fn log_probabilities_without_text_come_with_the_end() {
        let mut presenter = presenter("", CallSyntax::Unknown);
        let part = |text: &str, token: u32| Part {
            text: text.into(),
            logprobs: json!({"content": [token], "refusal": null}),
        };
        let shown = presenter.push(part("a", 1)).unwrap();
        assert_eq!(shown.logprobs["content"], json!([1]));
        assert!(presenter.push(part("", 2)).is_none());
        let rest = presenter.end(|_| unreachable!());
        assert_eq!(rest.part.logprobs["content"], json!([2]));
    }

    #[test]
    fn log_probabilities_wait_for_their_text() {
        let mut presenter = presenter(r#","stop":"xyz""#, CallSyntax::Unknown);
        let part = |text: &str, token: u32| Part {
            text: text.into(),
            logprobs: json!({"content": [token], "refusal": null}),
        };
        assert!(presenter.push(part("xy", 1)).is_none());
        let shown = presenter.push(part("w", 2)).unwrap();
        assert_eq!(
            (shown.text.as_str(), &shown.logprobs["content"]),
            ("xyw", &json!([1, 2]))
        );
    }
}
