//! What the consumer keeps of its lanes.

mod common;

use common::*;
use openledger_metering::{ConsumerLane, ConsumerLanes, LaneHead};
use tempfile::TempDir;

#[test]
fn lanes_are_kept_by_chain_and_across_a_restart() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("lanes.redb");
    let lanes = ConsumerLanes::open(&path, DOMAIN).unwrap();
    assert_eq!(lanes.get(1, 0).unwrap(), None);

    let open = signed(voucher(1, 0, &LaneHead::default()));
    let asked = ConsumerLane {
        open: Some(open),
        ..ConsumerLane::default()
    };
    lanes.put(1, 0, &asked).unwrap();
    drop(lanes);
    let lanes = ConsumerLanes::open(&path, DOMAIN).unwrap();
    assert_eq!(lanes.get(1, 0).unwrap(), Some(asked));
    assert_eq!(lanes.get(1, 1).unwrap(), None);

    let receipt = signed_receipt(receipt(&open.voucher, 20, 12));
    let answered = asked.accepted(&open, &receipt);
    lanes.put(1, 0, &answered).unwrap();
    assert_eq!(lanes.get(1, 0).unwrap(), Some(answered));
    assert_eq!(answered.open, None);
    // The next voucher stands on what was accepted.
    let next = voucher(1, 0, &answered.head);
    assert_eq!((next.sequence, next.prev_cum), (2, receipt.receipt.cum));
    assert_eq!(next.prev_receipt, receipt.receipt.hash());

    drop(lanes);
    let elsewhere = ConsumerLanes::open(&path, [0xd1; 32]).unwrap();
    assert_eq!(elsewhere.get(1, 0).unwrap(), None);
}
