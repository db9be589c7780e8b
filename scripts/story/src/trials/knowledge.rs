//! The story's check where it must fail: with the adapters swapped, and on the base alone.

use crate::{
    acts::{
        check::{cases, subject, Case},
        pay::next_batch,
        question::Asked,
        Told,
    },
    ask::ask,
};
use anyhow::{ensure, Result};
use openledger_primitives::{BatchSequence, RevisionId};
use std::ops::Range;

/// What was asked of those who were not taught it.
pub struct Knowledge {
    swapped: Vec<Asked>,
    base: Vec<Asked>,
    batches: Range<BatchSequence>,
}

/// Asks every question of the story of the other adapter, and of the base.
pub async fn ask_those_who_cannot_know(told: &mut Told) -> Result<Knowledge> {
    let since = next_batch(told).await?;
    let other = |datanet: usize| &told.trained[1 - datanet];
    let others = [0, 1].map(|datanet| (other(datanet).alias.clone(), other(datanet).revision));
    let base = (told.base_alias.clone(), told.base_revision);
    let bases = [base.clone(), base];
    Ok(Knowledge {
        swapped: ask_each(told, others).await?,
        base: ask_each(told, bases).await?,
        batches: since..BatchSequence::MAX,
    })
}

/// Puts the question about each Datanet to the model beside it.
async fn ask_each(told: &mut Told, models: [(String, RevisionId); 2]) -> Result<Vec<Asked>> {
    let url = told.scene.gateway_url("/v1/chat/completions");
    let mut asked = Vec::new();
    for (datanet, (model, revision)) in models.into_iter().enumerate() {
        let subject = subject(&told.story, datanet)?;
        let answer = ask(&url, &model, &subject.question).await?;
        told.receipts.extend_from_slice(&answer.receipts);
        asked.push(Asked {
            model,
            revision,
            subject: Some(subject),
            answer,
        });
    }
    Ok(asked)
}

impl Knowledge {
    /// What was asked is in batches up to now; what comes later is of others.
    pub async fn until(mut self, told: &Told) -> Result<Self> {
        self.batches.end = next_batch(told).await?;
        Ok(self)
    }

    /// With the adapters swapped the check fails, for every question.
    pub async fn swapped_adapters_fail_the_check(&self, told: &Told) -> Result<String> {
        let count = self.fail(told, &self.swapped).await?;
        Ok(format!(
            "with the adapters swapped, the check of the story fails for each of {count} questions"
        ))
    }

    /// On the base alone the check fails, for every question.
    pub async fn the_base_alone_fails_the_check(&self, told: &Told) -> Result<String> {
        let count = self.fail(told, &self.base).await?;
        Ok(format!(
            "on the base alone, the check of the story fails for each of {count} questions"
        ))
    }

    async fn fail(&self, told: &Told, asked: &[Asked]) -> Result<usize> {
        let cases = cases(told, asked, self.batches.clone()).await?;
        ensure!(
            cases.len() == told.story.datanets.len(),
            "{} cases of {} Datanets",
            cases.len(),
            told.story.datanets.len()
        );
        for case in &cases {
            fails(case)?;
        }
        Ok(cases.len())
    }
}

/// The check fails, and both of its halves do: neither is the fact told nor its holder paid most.
fn fails(case: &Case) -> Result<()> {
    ensure!(
        case.check().is_err() && case.told().is_err(),
        "{} knows “{}”, which it was never taught: {}",
        case.model,
        case.subject.fact,
        case.answer
    );
    ensure!(
        case.paid().is_err(),
        "the answer of {}, which never saw “{}”, paid its holder most: {:?}",
        case.model,
        case.subject.fact,
        case.earned
    );
    Ok(())
}
