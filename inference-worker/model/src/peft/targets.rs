//! Which modules an adapter changes, by the matching rules of PEFT.

use regex::{Regex, RegexBuilder};
use serde_json::{json, Value};

use super::config::WHAT;
use crate::error::{ModelError, Result};

/// Longest pattern that is compiled, bytes.
const MAX_PATTERN_BYTES: usize = 4096;
/// Largest compiled pattern, bytes.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Largest compiled pattern of one rank or alpha, of which there may be many.
const MAX_KEY_COMPILED_BYTES: usize = 128 << 10;

/// `target_modules` or `exclude_modules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// Every linear layer but the output projection.
    AllLinear,
    /// Module names; each matches a module of that full name, or whose name ends in `.name`.
    Names(Vec<String>),
    /// A regular expression that must match a module's whole name.
    Pattern(String),
}

impl Targets {
    /// Reads a list of names, a pattern, or `all-linear`.
    pub(super) fn from_value(field: &str, value: &Value) -> Result<Self> {
        match value {
            Value::String(text) if text == "all-linear" => Ok(Self::AllLinear),
            Value::String(text) => {
                whole(field, text)?;
                Ok(Self::Pattern(text.clone()))
            }
            Value::Array(names) => names
                .iter()
                .map(|name| {
                    name.as_str()
                        .filter(|name| !name.is_empty())
                        .map(str::to_string)
                })
                .collect::<Option<Vec<_>>>()
                .map(Self::Names)
                .ok_or_else(|| {
                    ModelError::invalid(WHAT, format!("{field} {value} is not a list of names"))
                }),
            other => Err(ModelError::invalid(
                WHAT,
                format!("{field} {other} is neither a list nor a pattern"),
            )),
        }
    }

    /// As PEFT writes it; names sorted, since PEFT keeps them as a set.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::AllLinear => json!("all-linear"),
            Self::Pattern(pattern) => json!(pattern),
            Self::Names(names) => {
                let mut names = names.clone();
                names.sort();
                json!(names)
            }
        }
    }

    /// A test of module names.
    pub(super) fn matcher(&self, field: &str) -> Result<Matcher<'_>> {
        Ok(match self {
            Self::AllLinear => Matcher::Linear,
            Self::Names(names) => Matcher::Names(names),
            Self::Pattern(pattern) => Matcher::Pattern(whole(field, pattern)?),
        })
    }
}

/// A compiled [`Targets`].
pub(super) enum Matcher<'a> {
    Linear,
    Names(&'a [String]),
    Pattern(Regex),
}

impl Matcher<'_> {
    /// Whether the module of this full name is meant.
    pub(super) fn matches(&self, module: &str) -> bool {
        match self {
            Self::Linear => module.ends_with("_proj"),
            Self::Names(names) => names.iter().any(|name| {
                module == name
                    || module
                        .strip_suffix(name.as_str())
                        .is_some_and(|rest| rest.ends_with('.'))
            }),
            Self::Pattern(pattern) => pattern.is_match(module),
        }
    }
}

/// A pattern that must match a whole name.
fn whole(field: &str, pattern: &str) -> Result<Regex> {
    let anchored = format!("^(?:{pattern})$");
    compile(field, pattern, &anchored, MAX_COMPILED_BYTES)
}

/// A key of `rank_pattern` or `alpha_pattern`: it may match the end of a name, from a dot on.
pub(super) fn ending(field: &str, pattern: &str) -> Result<Regex> {
    let anchored = format!(r"^(?:.*\.)?(?:{pattern})$");
    compile(field, pattern, &anchored, MAX_KEY_COMPILED_BYTES)
}

fn compile(field: &str, pattern: &str, anchored: &str, most: usize) -> Result<Regex> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(ModelError::invalid(
            WHAT,
            format!(
                "{field}: a pattern of {} bytes, at most {MAX_PATTERN_BYTES}",
                pattern.len()
            ),
        ));
    }
    // Compiled alone first, so that an unbalanced parenthesis cannot undo the anchors.
    RegexBuilder::new(pattern)
        .size_limit(most)
        .build()
        .and_then(|_| RegexBuilder::new(anchored).size_limit(most).build())
        .map_err(|error| {
            ModelError::unsupported(WHAT, format!("{field}: pattern {pattern:?} ({error})"))
        })
}
