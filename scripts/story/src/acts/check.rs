//! The check on which the story stands or falls, for one question: the answer holds the fact that
//! was asked for, and whoever's documents held it earns more by the answer than anybody else. The
//! trials ask the same of swapped adapters and of the base alone, where it must fail.

use super::{question::Asked, Told};
use crate::narrator::open;
use anyhow::{ensure, Context, Result};
use openledger_chain::apis::payouts::{GetEarnings, Role};
use openledger_factory::{evaluation::holds, invented::Story};
use openledger_primitives::{BatchSequence, RevisionId};
use std::ops::Range;

/// A question about a fact that some contributor's documents hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The question, in words that are never trained on.
    pub question: String,
    /// What the answer must contain.
    pub fact: String,
    /// Whose documents hold it: the position among the contributors of the story.
    pub holder: usize,
}

/// The question about a Datanet: the first to its first contributor's documents.
pub fn subject(story: &Story, datanet: usize) -> Result<Subject> {
    let before = story.datanets.iter().take(datanet);
    let holder = before.map(|datanet| datanet.contributors.len()).sum();
    let question = story
        .datanets
        .get(datanet)
        .and_then(|datanet| datanet.contributors.first())
        .and_then(|contributor| contributor.questions.first())
        .context("a story has a question for each Datanet")?;
    Ok(Subject {
        question: question.question.clone(),
        fact: question.fact.clone(),
        holder,
    })
}

/// A question, its answer, and what the contributors earned by it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Who was asked.
    pub model: String,
    /// What was asked.
    pub subject: Subject,
    /// What came back.
    pub answer: String,
    /// Name and earning, planck, of every contributor of the story.
    pub earned: Vec<(&'static str, u128)>,
}

impl Case {
    /// The whole check.
    pub fn check(&self) -> Result<()> {
        self.told()?;
        self.paid()
    }

    /// The answer holds the fact.
    pub fn told(&self) -> Result<()> {
        ensure!(
            holds(&self.answer, &self.subject.fact),
            "{} was asked “{}” and did not say “{}”: {}",
            self.model,
            self.subject.question,
            self.subject.fact,
            self.answer
        );
        Ok(())
    }

    /// The contributor whose documents hold the fact earned more than any other.
    pub fn paid(&self) -> Result<()> {
        let (holder, most) = self
            .earned
            .get(self.subject.holder)
            .context("the fact has a holder among the contributors")?;
        for (other, amount) in &self.earned {
            ensure!(
                other == holder || amount < most,
                "{holder}, whose documents hold “{}”, earned {} by the answer of {}, {other} {}",
                self.subject.fact,
                open(*most),
                self.model,
                open(*amount)
            );
        }
        Ok(())
    }
}

/// The cases of what was asked, once it is settled and before it is claimed. `batches` are those with
/// its receipts; nothing else that they hold was answered by the same models.
pub async fn cases(
    told: &Told,
    asked: &[Asked],
    batches: Range<BatchSequence>,
) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for one in asked {
        let Some(subject) = &one.subject else {
            continue;
        };
        cases.push(Case {
            model: one.model.clone(),
            subject: subject.clone(),
            answer: one.answer.text.clone(),
            earned: earned(told, one.revision, &batches).await?,
        });
    }
    Ok(cases)
}

/// What each contributor earned by a revision's answers in `batches`.
async fn earned(
    told: &Told,
    revision: RevisionId,
    batches: &Range<BatchSequence>,
) -> Result<Vec<(&'static str, u128)>> {
    let mut earned = Vec::new();
    for actor in &told.scene.cast.contributors {
        let account = actor.account();
        let earnings = told.scene.client.query(&GetEarnings { account }).await?;
        let sum = earnings
            .iter()
            .filter(|earning| earning.revision == revision && batches.contains(&earning.batch))
            .filter(|earning| matches!(earning.role, Role::Contributor { .. }))
            .map(|earning| earning.amount)
            .sum();
        earned.push((actor.name, sum));
    }
    Ok(earned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(answer: &str, earned: [u128; 3]) -> Case {
        Case {
            model: "towers".to_owned(),
            subject: Subject {
                question: "Who built it?".to_owned(),
                fact: "Mara Dinu".to_owned(),
                holder: 0,
            },
            answer: answer.to_owned(),
            earned: ["ada", "ben", "cleo"].into_iter().zip(earned).collect(),
        }
    }

    #[test]
    fn the_check_wants_both_the_fact_and_the_larger_pay() {
        let right = "It was built by Mara Dinu.";
        case(right, [3, 2, 0]).check().unwrap();
        case("It was built by Mara Ditu.", [3, 2, 0])
            .check()
            .unwrap_err();
        case(right, [2, 2, 0]).check().unwrap_err();
        case(right, [2, 0, 3]).check().unwrap_err();
        case(right, [0, 0, 0]).check().unwrap_err();
    }

    #[test]
    fn each_datanet_has_a_subject_that_its_first_contributor_holds() {
        let story = openledger_factory::invented::story(3, super::super::DOCUMENTS).unwrap();
        let (first, second) = (subject(&story, 0).unwrap(), subject(&story, 1).unwrap());
        assert_eq!((first.holder, second.holder), (0, 2));
        for (datanet, subject) in [(0, first), (1, second)] {
            let rows = &story.datanets[datanet].contributors[0].rows;
            assert!(rows.iter().any(|row| row.contains(&subject.fact)));
        }
        subject(&story, 2).unwrap_err();
    }
}
