//! Workers that break off answers and charge for them, over many answers and restarts. What they show
//! is settled and acknowledged as the gateway does it, on its own files.

use openledger_chain::Key;
use openledger_gateway::{
    check::Signer,
    lanes::{
        settle, Breakage, Came, LaneState, LaneStore, Overdrawn, Owed, Pending, Reconciled,
        ANSWERS, PART, UNDER_WAY,
    },
    upstream::LaneReport,
    voucher::{voucher, Order, Position, Terms},
    GatewayError,
};
use openledger_metering::{SignedReceipt, SignedVoucher};
use openledger_primitives::{
    receipt::{BackendClass, Outcome, Receipt},
    voucher::EvidenceClass,
    Balance, LaneIndex, Signature, FORMAT_VERSION,
};
use rand::{rngs::StdRng, Rng, SeedableRng};
use std::collections::BTreeMap;

const CHANNEL: u64 = 8;
const WORKER: [u8; 32] = [7; 32];
const TERMS: Terms = Terms {
    index: 2,
    price_in: 1_500_000,
    price_out: 40_000_000,
};

fn receipt(
    voucher: [u8; 32],
    tokens_in: u32,
    tokens_out: u32,
    fee: Balance,
    prev_cum: Balance,
) -> Receipt {
    Receipt {
        version: FORMAT_VERSION,
        domain: [1; 32],
        voucher,
        worker: WORKER,
        key: 0,
        outcome: Outcome::Complete,
        tokens_in,
        tokens_out,
        fee,
        cum: prev_cum + fee,
        output_commit: [0; 32],
        fingerprint_root: [0; 32],
        attribution_root: [0; 32],
        retrieval_root: [0; 32],
        start_block: 1,
        first_token_ms: 1,
        total_ms: 2,
        backend: BackendClass::CpuF32,
    }
}

/// What the worker does with a request.
#[derive(Clone, Copy)]
struct Request {
    terms: Terms,
    tokens_in: u32,
    max_out: u32,
    charged: u32,
    owed: Owed,
}

impl Request {
    fn whole(tokens_in: u32, tokens: u32) -> Self {
        Request {
            terms: TERMS,
            tokens_in,
            max_out: 256,
            charged: tokens,
            owed: Owed::AtMost(tokens),
        }
    }

    fn broken(tokens_in: u32, delivered: u32, charged: u32) -> Self {
        Request {
            owed: Owed::Broken(delivered),
            ..Request::whole(tokens_in, charged)
        }
    }

    fn fee(&self) -> Balance {
        self.terms.fee(self.tokens_in, self.charged).unwrap()
    }
}

/// A gateway's files, and the lanes as its worker has them.
struct Desk {
    folder: tempfile::TempDir,
    store: Option<LaneStore>,
    own: Key,
    service: Key,
    lanes: BTreeMap<LaneIndex, LaneState>,
}

impl Desk {
    fn new(lanes: LaneIndex) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Desk {
            store: Some(LaneStore::open(folder.path()).unwrap()),
            folder,
            own: Key::from_uri("//Consumer").unwrap(),
            service: Key::from_uri("//Service").unwrap(),
            lanes: (0..lanes)
                .map(|lane| (lane, LaneState::default()))
                .collect(),
        }
    }

    fn store(&self) -> &LaneStore {
        self.store.as_ref().unwrap()
    }

    fn restart(&mut self) {
        self.store = None;
        self.store = Some(LaneStore::open(self.folder.path()).unwrap());
        for (lane, state) in &mut self.lanes {
            *state = self
                .store
                .as_ref()
                .unwrap()
                .lane(CHANNEL, *lane)
                .unwrap()
                .unwrap_or_default();
        }
    }

    fn breakage(&self) -> Breakage {
        self.store().breakage(&WORKER).unwrap()
    }

    /// Signs for a request, and settles it by what the worker shows.
    fn ask(&mut self, lane: LaneIndex, request: &Request) -> Result<(), GatewayError> {
        let state = self.lanes.get_mut(&lane).unwrap();
        let voucher = voucher(
            &state.position,
            &Order {
                domain: [1; 32],
                channel: CHANNEL,
                lane,
                revision: 5,
                terms: request.terms,
                tokens_in: request.tokens_in,
                max_out: request.max_out,
                evidence: EvidenceClass::Open,
                expiry: 100,
                body: b"{}",
                salt: [9; 32],
            },
        )
        .unwrap();
        let pending = Pending {
            voucher,
            signature: self.own.sign_hash(&voucher.hash()),
            terms: request.terms,
            tokens_in: request.tokens_in,
            owed: request.owed,
        };
        state.pending = Some(pending.clone());
        let store = self.store.as_ref().unwrap();
        store.put(CHANNEL, lane, state).unwrap();
        let receipt = receipt(
            voucher.hash(),
            request.tokens_in,
            request.charged,
            request.fee(),
            voucher.prev_cum,
        );
        let signed_voucher = SignedVoucher {
            voucher,
            signature: pending.signature,
        };
        let report = LaneReport {
            sequence: voucher.sequence,
            cumulative: receipt.cum,
            in_flight: false,
            voucher: Some(signed_voucher),
            receipt: Some(SignedReceipt::sign(receipt, |hash| {
                self.service.sign_hash(hash)
            })),
        };
        let signer = Signer {
            worker: WORKER,
            key: Some(self.service.public()),
        };
        let signed = match settle(&state.position, &pending, &report, &signer) {
            Reconciled::Accepted(signed) => signed,
            other => panic!("{other:?}"),
        };
        let came = match request.owed {
            Owed::AtMost(_) => Came::Whole,
            _ => Came::under(&pending),
        };
        let accepted = LaneState {
            position: Position {
                sequence: voucher.sequence,
                receipt: signed.receipt.hash(),
                cumulative: signed.receipt.cum,
            },
            pending: None,
            parked: None,
        };
        let taken = store.accept(CHANNEL, lane, &accepted, &signed_voucher, &signed, &came);
        if taken.is_ok() {
            *state = accepted;
        }
        taken
    }

    /// Planck acknowledged.
    fn acknowledged(&self) -> Balance {
        self.lanes
            .values()
            .map(|state| state.position.cumulative)
            .sum()
    }
}

/// What the rule allows to be lost at most, by its numbers as the guide has them.
fn budget(delivered: Balance, dearest: &Request) -> Balance {
    assert_eq!((PART, ANSWERS, UNDER_WAY), (25, 8, 128));
    delivered / 25 + 8 * dearest.terms.fee(dearest.tokens_in, 128).unwrap()
}

#[test]
fn break_two_deliver_one_is_worth_no_more_than_the_budget_over_a_thousand_rounds() {
    let mut desk = Desk::new(1);
    let (whole, broken) = (Request::whole(40, 20), Request::broken(40, 0, 128));
    let (mut delivered, mut refused) = (0, 0);
    for round in 0..1_000 {
        for _ in 0..2 {
            // A lane that is parked is taken to go on here, as if its owner had opened another.
            match desk.ask(0, &broken) {
                Ok(()) => {}
                Err(GatewayError::Overdrawn(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            if round % 7 == 0 {
                desk.restart();
            }
        }
        desk.ask(0, &whole).unwrap();
        delivered += whole.fee();
        if round % 3 == 0 {
            desk.restart();
        }
        let lost = desk.acknowledged() - delivered;
        assert!(lost <= budget(delivered, &broken), "round {round}: {lost}");
    }
    // Two thousand broken answers, of which all but a few were refused.
    assert!(refused > 1_900, "{refused}");
    let breakage = desk.breakage();
    assert_eq!(breakage.answers, 2_000 - refused);
    assert_eq!(breakage.lost.fee, desk.acknowledged() - delivered);
    assert_eq!(breakage.lost.tokens, 128 * (2_000 - refused));
}

#[test]
fn a_little_text_before_each_break_earns_nothing() {
    let mut desk = Desk::new(1);
    let broken = Request::broken(400, 2, 130);
    let came = TERMS.fee(0, 2).unwrap();
    let mut delivered = 0;
    for _ in 0..1_000 {
        if desk.ask(0, &broken).is_ok() {
            delivered += came;
        }
    }
    assert!(desk.acknowledged() - delivered <= budget(delivered, &broken));
    // The prompt alone is no smaller a loss for the text being all that is charged beside it.
    let honest_count = Request::broken(400, 2, 2);
    for _ in 0..1_000 {
        if desk.ask(0, &honest_count).is_ok() {
            delivered += came;
        }
    }
    assert!(desk.acknowledged() - delivered <= budget(delivered, &broken));
}

#[test]
fn cheap_answers_that_come_whole_earn_nothing_for_dear_ones() {
    let mut desk = Desk::new(1);
    let mut broken = Request::broken(40, 0, 128);
    broken.terms.price_out *= 1_000;
    let cheap = Request::whole(40, 256);
    for _ in 0..1_000 {
        desk.ask(0, &cheap).unwrap();
    }
    let taken = (0..1_000).filter(|_| desk.ask(0, &broken).is_ok()).count();
    assert_eq!(taken, 8);
}

#[test]
fn another_lane_does_not_begin_the_budget_anew() {
    let mut desk = Desk::new(4);
    let broken = Request::broken(40, 0, 128);
    for lane in 0..4 {
        for _ in 0..10 {
            let _ = desk.ask(lane, &broken);
        }
    }
    assert_eq!(desk.acknowledged(), budget(0, &broken));
}

#[test]
fn a_receipt_that_is_too_much_changes_nothing_on_disk() {
    let mut desk = Desk::new(1);
    let broken = Request::broken(40, 0, 128);
    for _ in 0..8 {
        desk.ask(0, &broken).unwrap();
    }
    let (state, breakage) = (desk.lanes[&0].clone(), desk.breakage());
    let error = desk.ask(0, &broken).unwrap_err();
    assert_eq!((error.status(), error.code()), (502, "undelivered_charges"));
    let GatewayError::Overdrawn(overdrawn) = &error else {
        panic!("{error}");
    };
    assert_eq!(
        *overdrawn,
        Overdrawn {
            charged: broken.fee(),
            lost: 8 * broken.fee(),
            limit: 8 * broken.fee(),
        }
    );
    desk.restart();
    assert_eq!(desk.breakage(), breakage);
    assert_eq!(desk.lanes[&0].position, state.position);
    assert!(desk.lanes[&0].pending.is_some());
    let sequence = state.position.sequence + 1;
    assert!(desk
        .store()
        .receipt(CHANNEL, 0, sequence)
        .unwrap()
        .is_none());
    // What did come is paid for: an answer that goes on has no prompt to lose.
    let mut came = Request::broken(0, 50, 50);
    desk.ask(0, &came).unwrap();
    came.charged = 60;
    assert!(desk.ask(0, &came).is_err());
}

#[test]
fn a_gateway_that_was_killed_counts_what_it_cannot_know_as_lost() {
    let mut desk = Desk::new(1);
    let mut killed = Request::whole(40, 256);
    killed.owed = Owed::Signed;
    assert!((0..1_000).filter(|_| desk.ask(0, &killed).is_ok()).count() < 8);
    assert!(desk.acknowledged() <= budget(0, &killed));
}

#[test]
fn a_client_that_leaves_costs_the_worker_nothing_of_its_budget() {
    let pending = |owed| {
        let order = Order {
            domain: [1; 32],
            channel: CHANNEL,
            lane: 0,
            revision: 5,
            terms: TERMS,
            tokens_in: 40,
            max_out: 256,
            evidence: EvidenceClass::Open,
            expiry: 100,
            body: b"{}",
            salt: [9; 32],
        };
        Pending {
            voucher: voucher(&Position::default(), &order).unwrap(),
            signature: Signature([0; 64]),
            terms: TERMS,
            tokens_in: 40,
            owed,
        }
    };
    assert_eq!(Came::under(&pending(Owed::AtMost(256))), Came::Aside);
    let broken = Came::under(&pending(Owed::Broken(3)));
    assert!(matches!(broken, Came::Part { delivered: 3, .. }));
}

/// One answer in a hundred breaks off at a random place and is charged for all that may have been
/// under way: by the rule alone, a million answers of each mix, of a hundred workers that begin anew.
#[test]
fn an_honest_worker_with_one_broken_answer_in_a_hundred_is_never_parked() {
    let even = Terms {
        price_in: TERMS.price_out,
        ..TERMS
    };
    // Terms, prompt tokens, one prompt in fifty, output tokens.
    for (terms, prompt, long, longest) in [
        (TERMS, 4_000, 4_000, 256),
        (TERMS, 20, 20, 16),
        (TERMS, 300, 300, 256),
        (even, 8_000, 8_000, 40),
        (even, 20, 30_000, 40),
    ] {
        for seed in 0..100 {
            let mut dice = StdRng::seed_from_u64(seed);
            let mut breakage = Breakage::default();
            for answer in 0..10_000 {
                let tokens_in = match dice.random_range(0..50) {
                    0 => dice.random_range(1..=long),
                    _ => dice.random_range(1..=prompt),
                };
                let length = dice.random_range(1..=longest);
                let broken = dice.random_range(0..100) == 0;
                let delivered = match broken {
                    true => dice.random_range(0..=length),
                    false => length,
                };
                let charged = length.min(delivered + UNDER_WAY);
                let fee = terms.fee(tokens_in, charged).unwrap();
                let came = match broken {
                    true => Came::Part {
                        delivered,
                        tokens_in,
                        terms,
                    },
                    false => Came::Whole,
                };
                breakage = breakage
                    .after(&receipt([2; 32], tokens_in, charged, fee, 0), &came)
                    .unwrap_or_else(|error| panic!("seed {seed}, answer {answer}: {error}"));
            }
            assert!(breakage.answers > 50, "{}", breakage.answers);
        }
    }
}
