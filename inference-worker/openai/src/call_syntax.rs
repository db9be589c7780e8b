//! How model families write calls of tools into their answers, and how these are read.

use crate::limits::TOOLS;
use crate::tools::{is_name, Tool, ToolCall};
use serde_json::{json, Value};

/// How a model family writes calls into its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallSyntax {
    /// `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, once for each call: Qwen, Hermes.
    Tagged,
    /// The whole answer is `{"name": …, "parameters": {…}}`: Llama 3.
    Bare,
    /// `[TOOL_CALLS] [{"name": …, "arguments": {…}}, …]`: Mistral, up to version 7 of its tokenizer.
    Listed,
    /// `[TOOL_CALLS]name[ARGS]{…}`, once for each call, some with `[CALL_ID]` and an id before
    /// `[ARGS]`: Mistral, from version 11 on. A forced call is `{"name": …, "arguments": {…}}`, as
    /// where the template has no place for tools.
    Named,
    /// The model's template has no place for tools. A call can only be forced: the answer is
    /// `{"name": …, "arguments": {…}}`.
    Unknown,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

/// Mistral's tokens. They are special ones, which the tokenizer shows all the same.
const MARK: &str = "[TOOL_CALLS]";
const CALL_ID: &str = "[CALL_ID]";
const ARGS: &str = "[ARGS]";

/// Letters and digits of the only ids that Mistral's templates take back.
const SHORT_ID: usize = 9;

/// A call's name and arguments.
type NameAndArguments = (String, String);

impl CallSyntax {
    /// The syntax that a chat template tells its model of.
    pub fn of_template(template: &str) -> Self {
        if !template.contains("tools") {
            CallSyntax::Unknown
        } else if template.contains(OPEN) {
            CallSyntax::Tagged
        } else if template.contains(MARK) && template.contains(ARGS) {
            CallSyntax::Named
        } else if template.contains(MARK) {
            CallSyntax::Listed
        } else if template.contains("\"parameters\"") || template.contains("'parameters'") {
            CallSyntax::Bare
        } else {
            CallSyntax::Unknown
        }
    }

    /// Under which key the arguments are.
    fn arguments(self) -> &'static str {
        match self {
            CallSyntax::Bare => "parameters",
            _ => "arguments",
        }
    }

    /// What stands before and after a call's object.
    pub fn around(self) -> (&'static str, &'static str) {
        match self {
            CallSyntax::Tagged => ("<tool_call>\n", "\n</tool_call>"),
            CallSyntax::Listed => ("[TOOL_CALLS] [", "]"),
            CallSyntax::Bare | CallSyntax::Named | CallSyntax::Unknown => ("", ""),
        }
    }

    /// JSON schema of the object of one call of any of `tools`.
    pub fn schema(self, tools: &[&Tool]) -> Value {
        let of = |tool: &&Tool| {
            json!({
                "type": "object",
                "properties": {"name": {"const": tool.name}, self.arguments(): tool.parameters},
                "required": ["name", self.arguments()],
                "additionalProperties": false,
            })
        };
        match tools {
            [tool] => of(tool),
            tools => json!({"anyOf": tools.iter().map(of).collect::<Vec<_>>()}),
        }
    }

    /// Splits an answer into its text and its calls, in order; `id` names each. Only calls of `tools`
    /// are calls: anything else stays text.
    pub fn split(
        self,
        answer: &str,
        tools: &[Tool],
        mut id: impl FnMut(usize) -> String,
    ) -> (String, Vec<ToolCall>) {
        let (text, calls) = match self {
            CallSyntax::Tagged => self.split_tagged(answer, tools),
            CallSyntax::Listed | CallSyntax::Named if answer.contains(MARK) => {
                self.split_marked(answer, tools)
            }
            CallSyntax::Listed => (answer.to_owned(), Vec::new()),
            CallSyntax::Bare | CallSyntax::Named | CallSyntax::Unknown => {
                match self.call(answer, tools) {
                    Some(call) => (String::new(), vec![call]),
                    None => (answer.to_owned(), Vec::new()),
                }
            }
        };
        let calls = calls
            .into_iter()
            .enumerate()
            .map(|(at, (name, arguments))| ToolCall {
                id: self.id(id(at)),
                name,
                arguments,
            })
            .collect();
        (text, calls)
    }

    fn split_tagged(self, answer: &str, tools: &[Tool]) -> (String, Vec<NameAndArguments>) {
        let (mut text, mut calls) = (String::new(), Vec::new());
        let mut rest = answer;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let (object, behind) = after.split_once(CLOSE).unwrap_or((after, ""));
            text.push_str(before);
            match self.call(object, tools) {
                Some(call) if calls.len() < TOOLS => calls.push(call),
                _ => text.push_str(&rest[before.len()..rest.len() - behind.len()]),
            }
            rest = behind;
        }
        text.push_str(rest);
        if !calls.is_empty() {
            // Line breaks before calls belong to their syntax.
            text.truncate(text.trim_end().len());
        }
        (text, calls)
    }

    fn split_marked(self, answer: &str, tools: &[Tool]) -> (String, Vec<NameAndArguments>) {
        let (mut text, mut calls) = (String::new(), Vec::new());
        let mut rest = answer;
        while let Some((before, after)) = rest.split_once(MARK) {
            text.push_str(before);
            match self.marked(after, tools) {
                Some((found, behind)) if calls.len() + found.len() <= TOOLS => {
                    calls.extend(found);
                    rest = behind;
                }
                _ => {
                    text.push_str(MARK);
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        if !calls.is_empty() {
            text.truncate(text.trim_end().len());
        }
        (text, calls)
    }

    /// The calls that follow a mark, and what is behind them; none unless all of them are calls of
    /// `tools`. Models of either version are known to write the other's form, so both are read.
    fn marked<'a>(
        self,
        after: &'a str,
        tools: &[Tool],
    ) -> Option<(Vec<NameAndArguments>, &'a str)> {
        let after = after.trim_start();
        if after.starts_with('[') {
            let (list, behind) = json_at(after)?;
            let calls = list.as_array()?.iter();
            let calls: Vec<_> = calls
                .map(|object| self.call_of(object, tools))
                .collect::<Option<_>>()?;
            return (!calls.is_empty()).then_some((calls, behind));
        }
        let end = after.find(|c: char| !is_name(c.encode_utf8(&mut [0; 4])))?;
        let (name, mut rest) = after.split_at(end);
        if let Some(id) = rest.strip_prefix(CALL_ID) {
            rest = id.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        }
        let rest = rest.strip_prefix(ARGS).unwrap_or(rest);
        let (arguments, behind) = json_at(rest)?;
        let is_call = arguments.is_object() && tools.iter().any(|tool| tool.name == name);
        is_call.then(|| (vec![(name.to_owned(), arguments.to_string())], behind))
    }

    fn call(self, object: &str, tools: &[Tool]) -> Option<NameAndArguments> {
        self.call_of(&serde_json::from_str(object.trim()).ok()?, tools)
    }

    fn call_of(self, object: &Value, tools: &[Tool]) -> Option<NameAndArguments> {
        let name = object.get("name")?.as_str()?;
        let arguments = object
            .get(self.arguments())
            .or_else(|| object.get("arguments"))
            .filter(|arguments| arguments.is_object())?;
        tools
            .iter()
            .any(|tool| tool.name == name)
            .then(|| (name.to_owned(), arguments.to_string()))
    }

    /// A call's id as the model's template takes it back in a later turn.
    fn id(self, id: String) -> String {
        if !matches!(self, CallSyntax::Listed | CallSyntax::Named) {
            return id;
        }
        // FNV-1a; what is random in the id stays so.
        let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let digit = |_| {
            let digit = (hash % 36) as u32;
            hash /= 36;
            char::from_digit(digit, 36).unwrap_or('0')
        };
        (0..SHORT_ID).map(digit).collect()
    }

    /// How much of an answer that is still being written is surely text, in bytes: nothing that may
    /// turn out to be a call.
    pub fn certain_text(self, so_far: &str) -> usize {
        let begins_object =
            || so_far.trim_start().is_empty() || so_far.trim_start().starts_with('{');
        match self {
            CallSyntax::Tagged => before_mark(so_far, OPEN),
            CallSyntax::Named | CallSyntax::Bare | CallSyntax::Unknown if begins_object() => 0,
            CallSyntax::Listed | CallSyntax::Named => before_mark(so_far, MARK),
            CallSyntax::Bare | CallSyntax::Unknown => so_far.len(),
        }
    }
}

/// Bytes before a mark that is there or may be on its way, and before the space in front of it.
fn before_mark(so_far: &str, mark: &str) -> usize {
    let until = so_far.find(mark).unwrap_or_else(|| {
        let held = (1..mark.len())
            .rev()
            .find(|n| so_far.ends_with(&mark[..*n]));
        so_far.len() - held.unwrap_or(0)
    });
    so_far[..until].trim_end().len()
}

/// The JSON value that a text begins with, and what is behind it.
fn json_at(text: &str) -> Option<(Value, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    let value = values.next()?.ok()?;
    Some((value, text.get(values.byte_offset()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str) -> Tool {
        Tool {
            name: name.into(),
            description: None,
            parameters: json!({"type": "object"}),
        }
    }

    fn split(syntax: CallSyntax, answer: &str) -> (String, Vec<(String, String)>) {
        let tools = [tool("weather"), tool("time")];
        let (text, calls) = syntax.split(answer, &tools, |n| format!("call_{n}"));
        let calls = calls.into_iter().map(|c| (c.name, c.arguments)).collect();
        (text, calls)
    }

    #[test]
    fn tagged_calls_should_be_taken_out_of_the_text() {
        let answer = "Let me see.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>\n<tool_call>{\"name\":\"time\",\"arguments\":{}}</tool_call>";
        let (text, calls) = split(CallSyntax::Tagged, answer);
        assert_eq!(text, "Let me see.");
        let expected = [("weather", "{\"city\":\"Bern\"}"), ("time", "{}")];
        assert_eq!(calls, expected.map(|(n, a)| (n.to_owned(), a.to_owned())));
    }

    #[test]
    fn what_is_no_call_of_a_tool_should_stay_text() {
        for answer in [
            "<tool_call>not json</tool_call> and more",
            "<tool_call>{\"name\":\"unknown\",\"arguments\":{}}</tool_call>",
            "<tool_call>{\"name\":\"weather\",\"arguments\":[]}",
            "plain",
        ] {
            assert_eq!(split(CallSyntax::Tagged, answer), (answer.into(), vec![]));
        }
        let bare = "{\"name\": \"other\", \"parameters\": {}}";
        assert_eq!(split(CallSyntax::Bare, bare), (bare.into(), vec![]));
    }

    #[test]
    fn a_bare_call_should_be_the_whole_answer() {
        let (text, calls) = split(
            CallSyntax::Bare,
            " {\"name\": \"time\", \"parameters\": {\"zone\": 2}}\n",
        );
        assert_eq!(text, "");
        assert_eq!(calls, [("time".to_owned(), "{\"zone\":2}".to_owned())]);
    }

    #[test]
    fn text_that_may_become_a_call_should_be_held_back() {
        let tagged = CallSyntax::Tagged;
        assert_eq!(tagged.certain_text("Hello"), 5);
        assert_eq!(tagged.certain_text("Hello <tool"), 5);
        assert_eq!(tagged.certain_text("Hello <tool_call>{"), 5);
        assert_eq!(tagged.certain_text("a < b"), 5);
        assert_eq!(CallSyntax::Bare.certain_text(" {\"na"), 0);
        assert_eq!(CallSyntax::Bare.certain_text("Hi {"), 4);
        for marked in [CallSyntax::Listed, CallSyntax::Named] {
            assert_eq!(marked.certain_text("Hello [TOOL_"), 5);
            assert_eq!(marked.certain_text("Hello [TOOL_CALLS]ti"), 5);
            assert_eq!(marked.certain_text("a[0]"), 4);
        }
        assert_eq!(CallSyntax::Named.certain_text("{\"name"), 0);
    }

    #[test]
    fn marked_calls_should_be_taken_out_of_the_text() {
        let expected = [("weather", "{\"city\":\"[TOOL_CALLS]\"}"), ("time", "{}")];
        let expected = expected.map(|(n, a)| (n.to_owned(), a.to_owned()));
        for answer in [
            r#"See:[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "[TOOL_CALLS]"}, "id": "a1b2c3d4e"}, {"name": "time", "arguments": {}}]"#,
            r#"See: [TOOL_CALLS][{"name":"weather","arguments":{"city":"[TOOL_CALLS]"}},{"arguments":{},"name":"time"}]"#,
            r#"See:[TOOL_CALLS]weather[ARGS]{"city": "[TOOL_CALLS]"}[TOOL_CALLS]time[ARGS]{}"#,
            r#"See:[TOOL_CALLS]weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "[TOOL_CALLS]"}[TOOL_CALLS]time[CALL_ID]b[ARGS]{}"#,
            r#"See:[TOOL_CALLS]weather{"city": "[TOOL_CALLS]"}[TOOL_CALLS]time{}"#,
        ] {
            for syntax in [CallSyntax::Listed, CallSyntax::Named] {
                let (text, calls) = split(syntax, answer);
                assert_eq!(text, "See:", "{answer}");
                assert_eq!(calls, expected, "{answer}");
            }
        }
        // What is behind the calls is text.
        let (text, calls) = split(CallSyntax::Named, "[TOOL_CALLS]time[ARGS]{} Done.");
        assert_eq!((text.as_str(), calls.len()), (" Done.", 1));
    }

    #[test]
    fn what_is_behind_a_mark_and_no_call_should_stay_text() {
        for answer in [
            "[TOOL_CALLS]",
            "[TOOL_CALLS] []",
            "[TOOL_CALLS]time",
            "[TOOL_CALLS]time[ARGS]",
            "[TOOL_CALLS]time[ARGS]{\"a\":",
            "[TOOL_CALLS]time[ARGS]null",
            "[TOOL_CALLS]other[ARGS]{}",
            "[TOOL_CALLS] [{\"name\": \"time\", \"arguments\": {}}",
            "[TOOL_CALLS] [{\"name\": \"time\", \"arguments\": {}}, {\"name\": \"other\", \"arguments\": {}}]",
            "plain [TOOL",
        ] {
            for syntax in [CallSyntax::Listed, CallSyntax::Named] {
                assert_eq!(split(syntax, answer), (answer.into(), vec![]));
            }
        }
        let forced = "{\"name\": \"time\", \"arguments\": {}}";
        assert_eq!(split(CallSyntax::Named, forced).1.len(), 1);
        assert_eq!(split(CallSyntax::Listed, forced).1.len(), 0);
    }

    #[test]
    fn ids_should_be_such_as_the_models_template_takes_back() {
        let answer = "[TOOL_CALLS]time[ARGS]{}[TOOL_CALLS]time[ARGS]{}";
        let tools = [tool("time")];
        let of = |digits: &str| {
            let name = |n| format!("call_{digits}{n}");
            CallSyntax::Named.split(answer, &tools, name).1
        };
        let mut ids: Vec<String> = ["0a", "0b"]
            .into_iter()
            .flat_map(of)
            .map(|call| call.id)
            .collect();
        assert!(ids.iter().all(|id| id.len() == 9));
        assert!(ids
            .iter()
            .all(|id| id.bytes().all(|b| b.is_ascii_alphanumeric())));
        assert_eq!(ids[0], of("0a")[0].id);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4);
        let tagged = "<tool_call>{\"name\":\"time\",\"arguments\":{}}</tool_call>";
        let (_, calls) = CallSyntax::Tagged.split(tagged, &tools, |_| "call_0a".into());
        assert_eq!(calls[0].id, "call_0a");
    }

    #[test]
    fn templates_should_tell_their_syntax() {
        let syntax = CallSyntax::of_template;
        assert_eq!(syntax("{% if tools %}<tool_call>"), CallSyntax::Tagged);
        assert_eq!(
            syntax("{% if tools %}{\"name\": , \"parameters\": }"),
            CallSyntax::Bare
        );
        assert_eq!(syntax("{% if tools %}[TOOL_CALLS] ["), CallSyntax::Listed);
        assert_eq!(
            syntax("{% if tools %}'[TOOL_CALLS]' + name + '[ARGS]'"),
            CallSyntax::Named
        );
        assert_eq!(syntax("{{ messages }}"), CallSyntax::Unknown);
    }
}
