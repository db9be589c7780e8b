//! Greedy answers without a cache, for evaluation; serving is the engine's.

use candle_core::Tensor;

use crate::document::prompt;
use crate::error::{Error, Result};
use crate::gradients::{Lanes, Model};
use crate::vocabulary::Encoder;

/// Questions that go through the model together.
const TOGETHER: usize = 24;

/// Answers each question with at most `most` tokens.
pub fn answers(
    lanes: &Lanes,
    model: Model<'_>,
    encoder: &Encoder,
    questions: &[String],
    most: usize,
) -> Result<Vec<String>> {
    let groups: Vec<&[String]> = questions.chunks(TOGETHER).collect();
    let mut out = Vec::with_capacity(questions.len());
    for group in lanes.map(&groups, |group| group_answers(model, encoder, group, most)) {
        out.extend(group?);
    }
    Ok(out)
}

fn group_answers(
    model: Model<'_>,
    encoder: &Encoder,
    questions: &[String],
    most: usize,
) -> Result<Vec<String>> {
    let mut rows = questions
        .iter()
        .map(|q| encoder.ids(&prompt(q)))
        .collect::<Result<Vec<_>>>()?;
    let starts: Vec<usize> = rows.iter().map(Vec::len).collect();
    let mut open: Vec<usize> = (0..rows.len()).collect();
    for _ in 0..most {
        if open.is_empty() {
            break;
        }
        let width = open.iter().map(|&r| rows[r].len()).max().unwrap_or(0);
        if width > model.config.max_position_embeddings {
            break;
        }
        let mut ids = Vec::with_capacity(open.len() * width);
        for &r in &open {
            ids.extend_from_slice(&rows[r]);
            ids.resize(ids.len() + width - rows[r].len(), encoder.pad());
        }
        let device = candle_core::Device::Cpu;
        let ids = Tensor::from_vec(ids, (open.len(), width), &device)?;
        let hidden =
            openledger_model::hidden_states(model.config, model.weights, model.adapter, &ids)?
                .detach()
                .reshape((open.len() * width, model.config.hidden_size))?;
        let last: Vec<u32> = open
            .iter()
            .enumerate()
            .map(|(i, &r)| (i * width + rows[r].len() - 1) as u32)
            .collect();
        let head = model
            .weights
            .lm_head
            .as_ref()
            .unwrap_or(&model.weights.embed);
        let last = hidden.index_select(&Tensor::new(last, &device)?, 0)?;
        let next = last
            .matmul(&head.detach().t()?)?
            .argmax(1)?
            .to_vec1::<u32>()?;
        let mut still = Vec::with_capacity(open.len());
        for (&r, id) in open.iter().zip(next) {
            if id != encoder.end() {
                rows[r].push(id);
                still.push(r);
            }
        }
        open = still;
    }
    rows.iter()
        .zip(starts)
        .map(|(row, start)| {
            let told = row.get(start..).ok_or_else(|| {
                Error::Invalid("a question longer than the model's context".into())
            })?;
            encoder.text(told)
        })
        .collect()
}
