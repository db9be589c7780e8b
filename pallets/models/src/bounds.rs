//! Bounds on the constants of the payout rule that a revision may choose.

use openledger_primitives::{revision::AttributionParams, terms::PPM};

/// Least and most of each constant of [`AttributionParams`]; bits are in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributionBounds {
    /// Least information of a span that counts.
    pub least_span_millibits: u32,
    /// Most that a revision may ask of a span.
    pub most_span_millibits: u32,
    /// Least reference information per output token.
    pub least_reference_millibits: u32,
    /// Most reference information per output token.
    pub most_reference_millibits: u32,
    /// Highest noise threshold of influence, thousandths.
    pub most_z0_milli: u32,
    /// Contributions credited per answer at most.
    pub most_top: u16,
    /// Dimensions of the influence projection at most.
    pub most_projection: u16,
    /// Highest damping, thousandths.
    pub most_damping_milli: u32,
}

impl Default for AttributionBounds {
    /// Spans of 8 to 256 bits, references of 0.1 to 32 bits a token, at most 64 credits an answer.
    fn default() -> Self {
        AttributionBounds {
            least_span_millibits: 8_000,
            most_span_millibits: 256_000,
            least_reference_millibits: 100,
            most_reference_millibits: 32_000,
            most_z0_milli: 10_000,
            most_top: 64,
            most_projection: 4_096,
            most_damping_milli: 100_000,
        }
    }
}

impl AttributionBounds {
    /// Whether a revision may use these constants.
    pub fn allow(&self, params: &AttributionParams) -> bool {
        let spans =
            (self.least_span_millibits..=self.most_span_millibits).contains(&params.min_millibits);
        let reference = (self.least_reference_millibits..=self.most_reference_millibits)
            .contains(&params.reference_millibits);
        let credits =
            (1..=PPM).contains(&params.clip_ppm) && (1..=self.most_top).contains(&params.top);
        let influence = params.alpha_ppm <= PPM
            && params.sample_ppm <= PPM
            && params.z0_milli <= self.most_z0_milli
            && params.projection <= self.most_projection
            && params.damping_milli <= self.most_damping_milli;
        spans && reference && credits && influence && self.influence_is_computable(params)
    }

    /// Influence that counts must be computed on some answers, in some dimensions, with damping.
    fn influence_is_computable(&self, params: &AttributionParams) -> bool {
        params.alpha_ppm == PPM
            || (params.sample_ppm > 0 && params.projection > 0 && params.damping_milli > 0)
    }
}
