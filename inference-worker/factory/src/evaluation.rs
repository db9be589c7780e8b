//! How good a model is on held-out rows and questions, and whether it may be published.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::batch::{lanes, Shard};
use crate::error::{Error, Result};
use crate::generate::answers;
use crate::gradients::{Lanes, Model};
use crate::vocabulary::{Encoder, Example};

/// Longest answer that is generated to be checked, tokens.
const ANSWER_TOKENS: usize = 48;

/// Mean loss over the learned tokens of examples, nats per token.
pub fn mean_loss(lanes_: &Lanes, model: Model<'_>, examples: &[Example], pad: u32) -> Result<f64> {
    let mut shards = Vec::new();
    for chunk in examples.chunks(64) {
        shards.extend(lanes(chunk, 1, pad)?.into_iter().flatten());
    }
    let (mut sum, mut count) = (0.0, 0.0);
    for part in lanes_.map(&shards, |shard| shard_loss(model, shard)) {
        sum += part?;
    }
    for shard in &shards {
        count += f64::from(shard.learned());
    }
    if count == 0.0 {
        return Err(Error::Invalid("nothing to evaluate".into()));
    }
    Ok(sum / count)
}

/// Sum of the losses of a shard's learned tokens.
fn shard_loss(model: Model<'_>, shard: &Shard) -> Result<f64> {
    let dims = shard.ids.dims2()?;
    let targets = Tensor::from_slice(&shard.targets, dims, shard.ids.device())?;
    let losses = openledger_model::token_losses(&model.logits(&shard.ids)?.detach(), &targets)?;
    let weighted = losses.iter().zip(&shard.weights);
    Ok(weighted.map(|(l, w)| f64::from(*l) * f64::from(*w)).sum())
}

/// A question and what its answer must contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What is asked.
    pub question: String,
    /// The words or the number that the answer must hold.
    pub fact: String,
}

/// An answer that lacks its fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// What was asked.
    pub question: String,
    /// What should have been in the answer.
    pub fact: String,
    /// The answer.
    pub answer: String,
}

/// Result of an exact-match suite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct ExactMatch {
    /// Questions asked.
    pub asked: usize,
    /// Answers that contain their fact.
    pub right: usize,
    /// The others.
    pub misses: Vec<Miss>,
}

impl ExactMatch {
    /// Share of right answers, 0 to 1; 0 if nothing was asked.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.asked.max(1) as f64
    }
}

/// Asks every question, greedily, and checks the answers.
pub fn exact_match(
    lanes: &Lanes,
    model: Model<'_>,
    encoder: &Encoder,
    suite: &[Question],
) -> Result<ExactMatch> {
    let questions: Vec<String> = suite.iter().map(|q| q.question.clone()).collect();
    let answers = answers(lanes, model, encoder, &questions, ANSWER_TOKENS)?;
    let mut result = ExactMatch {
        asked: suite.len(),
        ..ExactMatch::default()
    };
    for (q, answer) in suite.iter().zip(answers) {
        if holds(&answer, &q.fact) {
            result.right += 1;
        } else {
            result.misses.push(Miss {
                question: q.question.clone(),
                fact: q.fact.clone(),
                answer,
            });
        }
    }
    Ok(result)
}

/// Whether a text contains a fact as whole words: 84 is not in 1842.
pub fn holds(text: &str, fact: &str) -> bool {
    !fact.is_empty()
        && text.match_indices(fact).any(|(at, found)| {
            let before = text[..at].chars().next_back();
            let after = text[at + found.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_should_be_found_only_as_whole_words() {
        assert!(holds("The length is 842 metres.", "842 metres"));
        assert!(!holds("The year is 1842.", "842"));
        assert!(!holds("The year is 1842.", "184"));
        assert!(holds("The year is 1842.", "1842"));
        assert!(holds("Marado, then Mara.", "Mara"));
        assert!(!holds("anything", ""));
    }
}
