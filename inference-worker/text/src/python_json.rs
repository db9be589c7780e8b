//! JSON as Python's `json.dumps` spaces it, because templates were written for its output.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};

struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// `value` on one line, with a space after each comma and colon, non-ASCII characters as they are.
pub(crate) fn dumps(value: &impl Serialize) -> Result<String, String> {
    write(value, Spaced)
}

/// `value` with each entry on a line of its own, indented by so many spaces for each level.
pub(crate) fn dumps_indented(value: &impl Serialize, indent: usize) -> Result<String, String> {
    let indent = " ".repeat(indent);
    write(value, PrettyFormatter::with_indent(indent.as_bytes()))
}

fn write(value: &impl Serialize, formatter: impl Formatter) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value
        .serialize(&mut serializer)
        .map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}
