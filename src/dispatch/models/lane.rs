//! Lanes that are parked, and receipts.

use std::time::{Duration, SystemTime};

use super::super::block::EnvelopeTable;
use super::super::lane::{LanesShared, NewLanes, Pending, own_lane, receipt};
use super::wait_for_receipt;
use crate::sync::explore::explore;
use crate::sync::{Arc, thread};

/// Registering a waker against waking it: the publisher gets the receipt with its time, or learns
/// that the event will never be sequenced.
#[test]
fn loom_waker_registration_against_wake() {
    explore("receipt: register against wake", || {
        let (sender, slot) = receipt();
        let filling = thread::spawn(move || sender.fill(7, 5));
        let receipt = wait_for_receipt(&slot).expect("filled");
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
        assert_eq!((receipt.id(), receipt.created_at()), (7, created_at));
        filling.join().unwrap();
        let (sender, slot) = self::receipt();
        let dropping = thread::spawn(move || drop(sender));
        assert_eq!(wait_for_receipt(&slot), None);
        dropping.join().unwrap();
    });
}

/// Two publishers push to lanes that the sequencer parks: each lane with an event is either not
/// parked, or reported, and each is reported once.
#[test]
fn loom_park_against_push() {
    explore("lanes: park against push", || {
        let shared = Arc::new(LanesShared::new());
        let new_lanes = Arc::new(NewLanes::new());
        let mut producers = [(); 2].map(|()| own_lane(2, &new_lanes));
        assert!(
            producers
                .iter_mut()
                .all(|producer| producer.has_room(&shared))
        );
        let mut lanes: Vec<_> = std::iter::from_fn(|| new_lanes.pop()).collect();
        let publishing = producers.map(|mut producer| {
            let shared = shared.clone();
            thread::spawn(move || {
                let pending = Pending {
                    #[cfg(feature = "latency")]
                    stamp_ns: 0,
                    envelope: EnvelopeTable::new()
                        .envelope("a", None, None)
                        .expect("a topic"),
                    data: (),
                    receipt: None,
                };
                producer.vacant().expect("there is room").stage(pending);
                producer.commit(&shared).expect("open")
            })
        });
        let mut parked = [0, 1].map(|slot| lanes[slot].park(slot as u32));
        // What was reported is looked at while the publishers may still report.
        let mut take = |parked: &mut [bool; 2]| {
            let mut next = shared.ready.take();
            while let Some(slot) = next {
                assert!(std::mem::take(&mut parked[slot as usize]), "it was parked");
                next = lanes[slot as usize].next_ready();
            }
        };
        take(&mut parked);
        publishing.map(|thread| thread.join().unwrap());
        take(&mut parked);
        assert_eq!(parked, [false, false], "both lanes have an event");
        assert!(lanes.iter_mut().all(|lane| lane.ring.refresh() == 1));
    });
}
