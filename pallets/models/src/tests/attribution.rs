//! Bounds on the constants of the payout rule.

use crate::{mock::*, AttributionBounds, Error};
use frame_support::{assert_noop, assert_ok};
use openledger_primitives::{
    revision::{AttributionParams, RevisionFacts},
    terms::PPM,
};

type Refused = Error<Test>;

#[test]
fn each_constant_has_its_bounds() {
    let bounds = AttributionBounds::default();
    let good = AttributionParams::default();
    assert!(bounds.allow(&good));
    let outside = [
        AttributionParams {
            alpha_ppm: PPM + 1,
            ..good
        },
        AttributionParams {
            min_millibits: bounds.least_span_millibits - 1,
            ..good
        },
        AttributionParams {
            min_millibits: bounds.most_span_millibits + 1,
            ..good
        },
        AttributionParams {
            z0_milli: bounds.most_z0_milli + 1,
            ..good
        },
        AttributionParams {
            reference_millibits: bounds.least_reference_millibits - 1,
            ..good
        },
        AttributionParams {
            reference_millibits: bounds.most_reference_millibits + 1,
            ..good
        },
        AttributionParams {
            clip_ppm: 0,
            ..good
        },
        AttributionParams {
            clip_ppm: PPM + 1,
            ..good
        },
        AttributionParams { top: 0, ..good },
        AttributionParams {
            top: bounds.most_top + 1,
            ..good
        },
        AttributionParams {
            sample_ppm: PPM + 1,
            ..good
        },
        AttributionParams {
            projection: bounds.most_projection + 1,
            ..good
        },
        AttributionParams {
            damping_milli: bounds.most_damping_milli + 1,
            ..good
        },
    ];
    for params in outside {
        assert!(!bounds.allow(&params), "{params:?}");
    }
}

#[test]
fn influence_that_counts_must_be_computable_and_calibrated() {
    run(|| {
        let adapter = adapter_of_bob();
        let half = AttributionParams {
            alpha_ppm: PPM / 2,
            ..Default::default()
        };
        let publish = |null, attribution| {
            let facts = RevisionFacts {
                null,
                attribution,
                ..facts()
            };
            Models::publish_revision(signed(BOB), adapter, facts, versions(&[0]))
        };
        assert_noop!(publish([0; 32], half), Refused::DigestMissing);
        for params in [
            AttributionParams {
                sample_ppm: 0,
                ..half
            },
            AttributionParams {
                projection: 0,
                ..half
            },
            AttributionParams {
                damping_milli: 0,
                ..half
            },
        ] {
            assert_noop!(publish([5; 32], params), Refused::AttributionOutOfBounds);
        }
        assert_ok!(publish([5; 32], half));
    });
}
