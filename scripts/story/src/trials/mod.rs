//! What must fail, what must survive, and what others than this program can do: run after the story
//! by the tests.

mod commands;
mod history;
mod killed;
mod knowledge;
mod memory;
mod openai;
mod payouts;
mod refusals;
mod vouchers;

use crate::acts::{pay::submitted, Told};
use anyhow::Result;

/// Runs every trial; the number that passed, which is all of them.
///
/// The order saves time, not one of them: what is asked early is settled in one challenge window.
pub async fn all(told: &mut Told) -> Result<usize> {
    told.scene
        .narrator
        .act("Trials: what must fail, and what must survive.");
    let mut passed = 0;
    // Says what a trial has shown, and counts it.
    macro_rules! trial {
        ($shown:expr) => {{
            let shown: String = $shown;
            told.scene.narrator.say(format!("ok: {shown}"));
            passed += 1;
        }};
    }
    trial!(memory::stays_below_what_was_promised(told)?);
    trial!(refusals::of_an_unknown_model(told).await?);
    trial!(refusals::of_broken_json_and_long_prompts(told).await?);
    trial!(vouchers::refused_change_nothing(told).await?);

    let knowledge = knowledge::ask_those_who_cannot_know(told).await?;
    submitted(told).await?;
    let knowledge = knowledge.until(told).await?;
    trial!(openai::client_works_unmodified(told).await?);
    submitted(told).await?;
    let killed = killed::between_delivery_and_submission(told).await?;
    trial!(killed.shown());

    trial!(commands::generate_says_what_the_worker_serves(told).await?);
    trial!(commands::verify_receipt_tells_true_from_false(told).await?);
    trial!(commands::status_shows_the_worker(told).await?);
    trial!(commands::leave_waits_for_what_is_owed(told).await?);

    trial!(killed.is_paid_once(told).await?);
    trial!(knowledge.swapped_adapters_fail_the_check(told).await?);
    trial!(knowledge.the_base_alone_fails_the_check(told).await?);
    trial!(payouts::polkadot_js_claims_and_decodes(told).await?);
    trial!(history::only_the_purse_is_a_development_key(told).await?);
    trial!(commands::leave_lets_go_when_nothing_is_owed(told).await?);
    Ok(passed)
}
