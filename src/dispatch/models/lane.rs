//! Receipts.

use std::time::{Duration, SystemTime};

use super::super::lane::receipt;
use super::wait_for;
use crate::sync::explore::explore;
use crate::sync::thread;

/// Registering a waker against waking it: the receipt comes, with its time, or the word that it never will.
#[test]
fn loom_waker_registration_against_wake() {
    explore("receipt: register against wake", || {
        let (sender, slot) = receipt();
        let filling = thread::spawn(move || sender.fill(7, 5));
        let receipt = wait_for(&slot).expect("filled");
        let created_at = SystemTime::UNIX_EPOCH + Duration::from_nanos(5);
        assert_eq!((receipt.id(), receipt.created_at()), (7, created_at));
        filling.join().unwrap();
        let (sender, slot) = self::receipt();
        let dropping = thread::spawn(move || drop(sender));
        assert_eq!(wait_for(&slot), None);
        dropping.join().unwrap();
    });
}
