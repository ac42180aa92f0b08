//! Receipts.

use std::time::{Duration, SystemTime};

use super::super::lane::receipt;
use super::wait_for_receipt;
use crate::sync::explore::explore;
use crate::sync::thread;

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
