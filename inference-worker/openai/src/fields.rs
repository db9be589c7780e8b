//! A body's fields, taken one by one; what is left at the end was not understood.

use crate::error::ApiError;
use crate::limits::{BODY_BYTES, NAME_BYTES};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The fields of a JSON object that were not taken yet. `null` is the same as absent.
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// Where the object is in the body, ending with a dot; empty for the body itself.
    path: String,
}

impl Fields {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.len() > BODY_BYTES {
            return Err(ApiError::too_large(BODY_BYTES));
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            ApiError::invalid("invalid_json", format!("The body cannot be read: {error}."))
        })?;
        match value {
            Value::Object(map) => Ok(Fields {
                map,
                path: String::new(),
            }),
            _ => Err(ApiError::invalid(
                "invalid_json",
                "The body must be a JSON object.",
            )),
        }
    }

    /// The fields of an object at `path`.
    pub fn of(value: Value, path: &str) -> Result<Self, ApiError> {
        match value {
            Value::Object(map) => Ok(Fields {
                map,
                path: format!("{path}."),
            }),
            _ => Err(ApiError::value(
                path,
                format!("`{path}` must be an object."),
            )),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    fn wrong(&self, name: &str, what: &str) -> ApiError {
        let path = self.path(name);
        let message = format!("`{path}` must be {what}.");
        ApiError::value(&path, message)
    }

    /// The field as it is.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// A string.
    pub fn string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// A string that is no longer than names are.
    pub fn name(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let text = self.string(name)?;
        match &text {
            Some(text) if text.is_empty() || text.len() > NAME_BYTES => {
                Err(self.wrong(name, &format!("a string of 1 to {NAME_BYTES} bytes")))
            }
            _ => Ok(text),
        }
    }

    /// True or false; false when absent.
    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        Ok(self.switch(name)?.unwrap_or(false))
    }

    /// True or false.
    pub fn switch(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(on)),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// A number in a range.
    pub fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            self.wrong(name, &format!("a number from {from} to {to}"))
        })
    }

    /// A whole number in a range.
    pub fn whole(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let number = value.as_u64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            self.wrong(name, &format!("a whole number from {from} to {to}"))
        })
    }

    /// A whole number that may be negative.
    pub fn signed(&mut self, name: &str) -> Result<Option<i64>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(name, "a whole number")),
            },
        }
    }

    /// A list of at most `most`.
    pub fn list(&mut self, name: &str, most: usize) -> Result<Option<Vec<Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() <= most => Ok(Some(list)),
            Some(_) => Err(self.wrong(name, &format!("a list of at most {most}"))),
        }
    }

    /// Gives a field back.
    pub fn put_back(&mut self, name: &str, value: Value) {
        self.map.insert(name.to_owned(), value);
    }

    /// Drops fields that change nothing about the answer.
    pub fn pass_over(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Refuses the first field that is left.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(ApiError::unsupported(&self.path(name))),
            None => Ok(()),
        }
    }
}
