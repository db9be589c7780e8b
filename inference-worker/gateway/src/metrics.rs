//! Counters, by the names under which Prometheus scrapes them.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Says what each metric is.
pub(crate) fn describe() {
    describe_counter!(
        "openledger_gateway_requests_total",
        "Requests by model and outcome (ok, or the error's code)."
    );
    describe_counter!(
        "openledger_gateway_tokens_in_total",
        "Prompt tokens of accepted receipts, by model."
    );
    describe_counter!(
        "openledger_gateway_tokens_out_total",
        "Output tokens of accepted receipts, by model."
    );
    describe_counter!(
        "openledger_gateway_fees_planck_total",
        "Fees of accepted receipts in planck, by model."
    );
    describe_counter!(
        "openledger_gateway_receipts_total",
        "Receipts accepted, by outcome."
    );
    describe_counter!(
        "openledger_gateway_rejected_receipts_total",
        "Receipts refused, by reason."
    );
    describe_gauge!(
        "openledger_gateway_lanes_usable",
        "Lanes that are not parked."
    );
    describe_gauge!("openledger_gateway_lanes_parked", "Lanes that are parked.");
    describe_gauge!(
        "openledger_gateway_requests_in_flight",
        "Requests being answered."
    );
}

pub(crate) fn request(model: &str, outcome: &str) {
    counter!("openledger_gateway_requests_total", "model" => model.to_owned(), "outcome" => outcome.to_owned())
        .increment(1);
}

pub(crate) fn accepted(model: &str, outcome: &str, tokens_in: u32, tokens_out: u32, fee: u128) {
    counter!("openledger_gateway_receipts_total", "outcome" => outcome.to_owned()).increment(1);
    let model = model.to_owned();
    counter!("openledger_gateway_tokens_in_total", "model" => model.clone())
        .increment(u64::from(tokens_in));
    counter!("openledger_gateway_tokens_out_total", "model" => model.clone())
        .increment(u64::from(tokens_out));
    counter!("openledger_gateway_fees_planck_total", "model" => model)
        .increment(u64::try_from(fee).unwrap_or(u64::MAX));
}

pub(crate) fn rejected(reason: &str) {
    counter!("openledger_gateway_rejected_receipts_total", "reason" => reason.to_owned())
        .increment(1);
}

pub(crate) fn lanes(usable: usize, parked: usize) {
    gauge!("openledger_gateway_lanes_usable").set(usable as f64);
    gauge!("openledger_gateway_lanes_parked").set(parked as f64);
}

/// Counts a request as being answered until dropped.
pub(crate) struct InFlight;

impl InFlight {
    pub(crate) fn begin() -> Self {
        gauge!("openledger_gateway_requests_in_flight").increment(1.0);
        InFlight
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!("openledger_gateway_requests_in_flight").decrement(1.0);
    }
}
