//! Answers in the shape of OpenAI's API, with the field `openledger` beside it.

use super::present::Rest;
use crate::{
    answer::{Answer, Question},
    upstream::{Endpoint, Part},
};
use openledger_openai::{answer::Finish, ToolCall};
use openledger_primitives::{ChannelId, Digest};
use parity_scale_codec::Encode;
use rand::RngCore;
use serde_json::{json, Map, Value};
use std::time::{SystemTime, UNIX_EPOCH};

/// What every piece of one answer has in common.
pub(super) struct Reply {
    endpoint: Endpoint,
    id: String,
    created: u64,
    model: String,
    channel: ChannelId,
    revision: u64,
    terms: u32,
}

impl Reply {
    pub(super) fn new(question: &Question, model: &str, channel: ChannelId) -> Self {
        let mut random = [0; 12];
        rand::rng().fill_bytes(&mut random);
        let kind = match question.endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Text => "cmpl",
        };
        Reply {
            endpoint: question.endpoint,
            id: format!("{kind}-{}", hex::encode(random)),
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            model: model.to_owned(),
            channel,
            revision: question.model.info.revision,
            terms: question.model.terms.index,
        }
    }

    /// The whole answer at once.
    pub(super) fn whole(
        &self,
        part: &Part,
        calls: &[ToolCall],
        finish: Finish,
        answer: &Answer,
    ) -> Value {
        let (object, mut choice) = match self.endpoint {
            Endpoint::Chat => {
                let mut message =
                    json!({"role": "assistant", "content": part.text, "refusal": null});
                if !calls.is_empty() {
                    message["tool_calls"] = calls.iter().map(ToolCall::to_json).collect();
                    if part.text.is_empty() {
                        message["content"] = Value::Null;
                    }
                }
                ("chat.completion", json!({"message": message}))
            }
            Endpoint::Text => ("text_completion", json!({"text": part.text})),
        };
        choice["index"] = json!(0);
        choice["logprobs"] = part.logprobs.clone();
        choice["finish_reason"] = json!(finish.as_str());
        let mut body = self.head(object);
        body.insert("choices".into(), json!([choice]));
        body.insert("usage".into(), usage(answer));
        body.insert("openledger".into(), self.openledger(answer));
        Value::Object(body)
    }

    /// The name of a call of the answer.
    pub(super) fn call_id(&self, position: usize) -> String {
        let digits = self.id.split_once('-').map_or("", |(_, digits)| digits);
        format!("call_{digits}{position:02x}")
    }

    /// The event of a whole call.
    pub(super) fn call(&self, position: usize, call: &ToolCall) -> Value {
        let mut value = call.to_json();
        value["index"] = json!(position);
        self.event(json!({"delta": {"tool_calls": [value]}}), None)
    }

    /// The first event of a chat stream; text streams have none.
    pub(super) fn opening(&self) -> Option<Value> {
        (self.endpoint == Endpoint::Chat)
            .then(|| self.event(json!({"delta": {"role": "assistant", "content": ""}}), None))
    }

    /// An event with more of the answer.
    pub(super) fn delta(&self, part: &Part) -> Value {
        let mut choice = match self.endpoint {
            Endpoint::Chat => json!({"delta": {"content": part.text}}),
            Endpoint::Text => json!({"text": part.text}),
        };
        choice["logprobs"] = part.logprobs.clone();
        self.event(choice, None)
    }

    /// The event that ends the answer; it carries the receipts.
    pub(super) fn ending(&self, finish: Finish, answer: &Answer) -> Value {
        let choice = match self.endpoint {
            Endpoint::Chat => json!({"delta": {}}),
            Endpoint::Text => json!({"text": ""}),
        };
        let mut event = self.event(choice, Some(finish.as_str()));
        event["openledger"] = self.openledger(answer);
        event
    }

    /// The event with usage, for clients that ask for it.
    pub(super) fn usage(&self, answer: &Answer) -> Value {
        let mut body = self.head(self.streamed());
        body.insert("choices".into(), json!([]));
        body.insert("usage".into(), usage(answer));
        Value::Object(body)
    }

    fn streamed(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Text => "text_completion",
        }
    }

    fn event(&self, mut choice: Value, finish: Option<&str>) -> Value {
        choice["index"] = json!(0);
        if choice.get("logprobs").is_none() {
            choice["logprobs"] = Value::Null;
        }
        choice["finish_reason"] = json!(finish);
        let mut body = self.head(self.streamed());
        body.insert("choices".into(), json!([choice]));
        Value::Object(body)
    }

    fn head(&self, object: &str) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("id".into(), json!(self.id));
        body.insert("object".into(), json!(object));
        body.insert("created".into(), json!(self.created));
        body.insert("model".into(), json!(self.model));
        body.insert(
            "system_fingerprint".into(),
            json!(format!("revision-{}", self.revision)),
        );
        body
    }

    /// Receipts and sources. Amounts are planck as decimal strings: they do not fit JSON numbers.
    fn openledger(&self, answer: &Answer) -> Value {
        let receipts: Vec<Value> = answer
            .receipts
            .iter()
            .map(|accepted| {
                let receipt = &accepted.signed.receipt;
                json!({
                    "id": hex::encode(accepted.id),
                    "lane": accepted.lane,
                    "sequence": accepted.sequence,
                    "outcome": receipt.outcome,
                    "tokens_in": receipt.tokens_in,
                    "tokens_out": receipt.tokens_out,
                    "fee": receipt.fee.to_string(),
                    "receipt": hex::encode(accepted.signed.encode()),
                    "voucher": hex::encode(accepted.voucher.encode()),
                    "output_salt": hex::encode(accepted.output_salt),
                })
            })
            .collect();
        json!({
            "channel": self.channel,
            "revision": self.revision,
            "terms": self.terms,
            "fee": answer.fee().to_string(),
            "outcome": answer.receipts.last().map(|last| last.signed.receipt.outcome),
            "receipt": receipts.last().map_or(Value::Null, |last| last["receipt"].clone()),
            "receipts": receipts,
            "sources": answer.sources,
            "attributions": answer.attributions,
        })
    }
}

/// The last receipt's name, for a header.
pub(super) fn receipt_id(answer: &Answer) -> Option<Digest> {
    answer.receipts.last().map(|accepted| accepted.id)
}

/// Why an answer ended, from its receipts and what was made of its text.
pub(super) fn finish(answer: &Answer, rest: &Rest) -> Finish {
    if !rest.calls.is_empty() {
        Finish::ToolCalls
    } else if answer.complete || rest.stopped {
        Finish::Stop
    } else {
        Finish::Length
    }
}

fn usage(answer: &Answer) -> Value {
    let (tokens_in, tokens_out) = (answer.tokens_in(), answer.tokens_out());
    json!({
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in.saturating_add(tokens_out),
    })
}
