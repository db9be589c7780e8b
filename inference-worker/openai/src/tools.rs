//! Tools that a model may call, and calls in its answers.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::limits::GRAMMAR_BYTES;
use serde::ser::{Serialize, SerializeStruct, Serializer};
use serde_json::{json, Value};

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON schema of its arguments, an object.
    pub parameters: Value,
}

/// Whether the model calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// Never; the tools are not shown to it.
    None,
    /// As it likes.
    #[default]
    Auto,
    /// It calls one of them.
    Required,
    /// It calls this one.
    Function(String),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// What the tool's turn refers to.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Arguments as the model wrote them: JSON, if it did well.
    pub arguments: String,
}

impl Tool {
    pub(crate) fn read_all(list: Vec<Value>) -> Result<Vec<Self>, ApiError> {
        let tools = list
            .into_iter()
            .enumerate()
            .map(|(at, tool)| Self::read(tool, &format!("tools[{at}]")))
            .collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(ApiError::value(
                "tools",
                format!("`tools` has two functions with the name `{}`.", pair[0]),
            )),
            None => Ok(tools),
        }
    }

    fn read(tool: Value, path: &str) -> Result<Self, ApiError> {
        let mut fields = Fields::of(tool, path)?;
        if fields.string("type")?.as_deref() != Some("function") {
            let path = format!("{path}.type");
            return Err(ApiError::value(
                &path,
                format!("`{path}` must be `function`."),
            ));
        }
        let path = format!("{path}.function");
        let mut function = Fields::of(fields.take("function").unwrap_or(Value::Null), &path)?;
        fields.finish()?;
        let name = function.name("name")?.filter(|name| is_name(name));
        let name = name.ok_or_else(|| {
            let path = format!("{path}.name");
            let what = "1 to 64 letters, digits, `_`, `-` or `.`";
            ApiError::value(&path, format!("`{path}` must be {what}."))
        })?;
        let parameters = match function.take("parameters") {
            None => json!({"type": "object", "properties": {}}),
            Some(Value::Object(schema)) => Value::Object(schema),
            Some(_) => {
                let path = format!("{path}.parameters");
                return Err(ApiError::value(
                    &path,
                    format!("`{path}` must be a JSON schema."),
                ));
            }
        };
        if parameters.to_string().len() > GRAMMAR_BYTES {
            let path = format!("{path}.parameters");
            return Err(ApiError::value(
                &path,
                format!("`{path}` has more than {GRAMMAR_BYTES} bytes."),
            ));
        }
        let description = function.string("description")?;
        // A forced call is always held to the schema.
        function.pass_over(&["strict"]);
        function.finish()?;
        Ok(Tool {
            name,
            description,
            parameters,
        })
    }

    /// As the API and chat templates have it.
    pub fn to_json(&self) -> Value {
        let mut function = json!({"name": self.name, "parameters": self.parameters});
        if let Some(description) = &self.description {
            function["description"] = json!(description);
        }
        json!({"type": "function", "function": function})
    }
}

pub(crate) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    name.len() <= 64 && name.bytes().all(plain)
}

impl ToolChoice {
    pub(crate) fn take(fields: &mut Fields, tools: &[Tool]) -> Result<Self, ApiError> {
        let Some(value) = fields.take("tool_choice") else {
            return Ok(ToolChoice::Auto);
        };
        let choice = match &value {
            Value::String(text) => match text.as_str() {
                "none" => Some(ToolChoice::None),
                "auto" => Some(ToolChoice::Auto),
                "required" => Some(ToolChoice::Required),
                _ => None,
            },
            value => value
                .pointer("/function/name")
                .and_then(Value::as_str)
                .filter(|_| value["type"] == "function")
                .map(|name| ToolChoice::Function(name.to_owned())),
        };
        let choice = choice.ok_or_else(|| {
            ApiError::value(
                "tool_choice",
                "`tool_choice` must be none, auto, required, or \
                 {\"type\": \"function\", \"function\": {\"name\": …}}.",
            )
        })?;
        let named = match &choice {
            ToolChoice::Function(name) => tools.iter().any(|tool| tool.name == *name),
            ToolChoice::Required => !tools.is_empty(),
            _ => true,
        };
        if named {
            Ok(choice)
        } else {
            Err(ApiError::value(
                "tool_choice",
                "`tool_choice` asks for a function that is not in `tools`.",
            ))
        }
    }

    /// Whether an answer must be a call.
    pub fn is_forced(&self) -> bool {
        matches!(self, ToolChoice::Required | ToolChoice::Function(_))
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            ToolChoice::None => json!("none"),
            ToolChoice::Auto => json!("auto"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Function(name) => json!({"type": "function", "function": {"name": name}}),
        }
    }
}

impl ToolCall {
    pub(crate) fn read(call: Value, path: &str) -> Result<Self, ApiError> {
        let text = |at: &str| call.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let (id, name) = (text("/id"), text("/function/name"));
        match (id, name, text("/function/arguments")) {
            (Some(id), Some(name), Some(arguments)) => Ok(ToolCall {
                id,
                name,
                arguments,
            }),
            _ => Err(ApiError::value(
                path,
                format!("`{path}` must have `id`, and `function` with `name` and `arguments`, all strings."),
            )),
        }
    }

    /// As the API has it.
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments},
        })
    }
}

/// For chat templates, which want the arguments as an object.
impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let arguments: Value = serde_json::from_str(&self.arguments)
            .unwrap_or_else(|_| Value::String(self.arguments.clone()));
        let mut call = serializer.serialize_struct("ToolCall", 3)?;
        call.serialize_field("id", &self.id)?;
        call.serialize_field("type", "function")?;
        call.serialize_field(
            "function",
            &json!({"name": self.name, "arguments": arguments}),
        )?;
        call.end()
    }
}
