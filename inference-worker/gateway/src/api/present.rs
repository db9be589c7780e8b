//! From what a worker sends to what the client sees: stop strings over the borders of vouchers, calls of
//! tools, log-probabilities beside their text.

use crate::{upstream::Part, GatewayError};
use openledger_openai::{tools::CallSyntax, CallReader, Completion, ToolCall};
use openledger_text::StopStrings;
use serde_json::{Map, Value};

/// One answer on its way.
pub(super) struct Presenter {
    stops: StopStrings,
    stopped: bool,
    calls: CallReader,
    waiting: Value,
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
            waiting: Value::Null,
        })
    }

    /// Takes more of the answer and gives what may be shown; nothing when all is held back.
    pub(super) fn push(&mut self, part: Part) -> Option<Part> {
        if self.stopped {
            return None;
        }
        append(&mut self.waiting, part.logprobs);
        let certain = self.stops.push(&part.text);
        self.stopped = certain.stopped;
        let text = self.calls.push(&certain.text);
        (!text.is_empty()).then(|| Part {
            text,
            logprobs: self.waiting.take(),
        })
    }

    /// Ends the answer; `id` names its calls.
    pub(super) fn end(mut self, id: impl FnMut(usize) -> String) -> Rest {
        let held = match self.stopped {
            true => String::new(),
            false => self.stops.finish(),
        };
        let mut text = self.calls.push(&held);
        let (held, calls) = self.calls.end(id);
        text.push_str(&held);
        Rest {
            part: Part {
                text,
                logprobs: self.waiting,
            },
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
