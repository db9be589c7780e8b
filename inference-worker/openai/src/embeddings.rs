//! Requests for embeddings, and the vectors that answer them.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::limits::INPUTS;
use crate::prompt::Input;
use base64::{engine::general_purpose::STANDARD, Engine};
use serde_json::{json, Value};

/// A request, understood and within its bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingsRequest {
    /// Name of the model.
    pub model: String,
    /// The texts.
    pub inputs: Vec<Input>,
    /// Whether vectors are written as base64 of little-endian floats.
    pub base64: bool,
    /// The length that the client expects of vectors; that of the model or refused.
    pub dimensions: Option<u64>,
}

impl EmbeddingsRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`ApiError`] that names the field which is missing, wrong or not understood.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.name("model")?.ok_or_else(|| {
            ApiError::invalid("missing_model", "`model` must name the model.").about("model")
        })?;
        let input = fields.take("input").ok_or_else(|| {
            ApiError::invalid("invalid_input", "`input` is missing.").about("input")
        })?;
        let inputs = Input::read("input", input, INPUTS)?;
        let base64 = match fields.string("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                return Err(ApiError::value(
                    "encoding_format",
                    "`encoding_format` must be float or base64.",
                ))
            }
        };
        let dimensions = fields.whole("dimensions", 1..=u64::MAX)?;
        fields.pass_over(&["user"]);
        fields.finish()?;
        Ok(EmbeddingsRequest {
            model,
            inputs,
            base64,
            dimensions,
        })
    }

    /// Refuses a length other than the model's: a vector that was not trained to be cut means nothing
    /// when it is.
    ///
    /// # Errors
    /// When another length was asked for.
    pub fn check_dimensions(&self, hidden: usize) -> Result<(), ApiError> {
        match self.dimensions {
            Some(asked) if asked != hidden as u64 => Err(ApiError::value(
                "dimensions",
                format!("Vectors of this model have {hidden} dimensions and are not cut. Leave `dimensions` out."),
            )),
            _ => Ok(()),
        }
    }

    /// The answer: one vector for each input, in order.
    pub fn answer(&self, vectors: &[Vec<f32>], prompt_tokens: u64) -> Value {
        let data: Vec<Value> = vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| {
                let embedding = match self.base64 {
                    true => {
                        let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
                        json!(STANDARD.encode(bytes))
                    }
                    false => json!(vector),
                };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        json!({
            "object": "list",
            "data": data,
            "model": self.model,
            "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<EmbeddingsRequest, ApiError> {
        EmbeddingsRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn all_four_shapes_of_inputs_should_be_read() {
        for (input, expected) in [
            (json!("a"), vec![Input::Text("a".into())]),
            (
                json!(["a", "b"]),
                vec![Input::Text("a".into()), Input::Text("b".into())],
            ),
            (json!([1, 2]), vec![Input::Tokens(vec![1, 2])]),
            (
                json!([[1], [2, 3]]),
                vec![Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])],
            ),
        ] {
            let request = parse(json!({"model": "m", "input": input})).unwrap();
            assert_eq!(request.inputs, expected);
        }
        for wrong in [
            json!([]),
            json!([[]]),
            json!({}),
            json!([-1]),
            json!([1.5]),
            json!([true]),
        ] {
            let error = parse(json!({"model": "m", "input": wrong})).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("input"));
        }
        let many = vec!["a"; INPUTS + 1];
        assert!(parse(json!({"model": "m", "input": many})).is_err());
    }

    #[test]
    fn vectors_should_come_as_numbers_or_base64() {
        let mut request = parse(json!({"model": "m", "input": "a"})).unwrap();
        let vectors = [vec![1.0f32, -0.5]];
        let answer = request.answer(&vectors, 3);
        assert_eq!(answer["data"][0]["embedding"], json!([1.0, -0.5]));
        assert_eq!(answer["usage"]["total_tokens"], 3);
        request.base64 = true;
        let answer = request.answer(&vectors, 3);
        let text = answer["data"][0]["embedding"].as_str().unwrap();
        assert_eq!(
            STANDARD.decode(text).unwrap(),
            [0, 0, 128, 63, 0, 0, 0, 191]
        );
    }

    #[test]
    fn a_length_other_than_the_models_should_be_refused() {
        let request = parse(json!({"model": "m", "input": "a", "dimensions": 8})).unwrap();
        assert!(request.check_dimensions(8).is_ok());
        let error = request.check_dimensions(16).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("dimensions"));
    }
}
