//! Runs user code, and contains its panics.
//!
//! The engine calls user-supplied code: wakers, clocks, observers, handlers, and the `drop`
//! of payloads and of what closures own. [`contain`] runs such code, and reports a panic to the
//! log. [`catch`] returns the panic to a caller that can act on it.
//!
//! `std::panic::catch_unwind` alone is not enough. It returns the value that the code panicked
//! with, and the `drop` of that value is user code again, which may panic outside of the
//! `catch_unwind`. [`Panic`] contains that panic, too. No other file of the engine calls
//! `catch_unwind`, but for `log.rs`, which this file uses.
//!
//! A closure that the engine keeps owns values of the program. [`UserValue`] contains the panics of
//! their drops.

use std::any::Any;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::log;

/// Runs user code. If it panics, returns `None`, and logs that `what` panicked.
#[inline]
pub(crate) fn contain<R>(what: &'static str, user_code: impl FnOnce() -> R) -> Option<R> {
    match catch(user_code) {
        Ok(value) => Some(value),
        Err(panic) => {
            report(what, &panic);
            None
        }
    }
}

/// Runs user code, or code of the engine, and returns its panic.
#[inline]
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, Panic> {
    catch_unwind(AssertUnwindSafe(code)).map_err(|value| Panic(ManuallyDrop::new(value)))
}

/// A panic that was caught. If the drop of its value panics, that panic is contained.
pub(crate) struct Panic(ManuallyDrop<Box<dyn Any + Send>>);

impl Panic {
    /// The panic's message, if it is a string.
    pub(crate) fn message(&self) -> Option<&str> {
        let text = self.0.downcast_ref::<&str>().copied();
        text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str))
    }
}

impl Drop for Panic {
    fn drop(&mut self) {
        let empty: Box<dyn Any + Send> = Box::new(());
        let value = std::mem::replace(&mut *self.0, empty);
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
            log::error(format_args!(
                "the value of a panic panicked when it was dropped"
            ));
            // The value of the second panic may do the same, and so on: it is leaked.
            std::mem::forget(second);
        }
    }
}

/// A value that the program has given to the engine, such as a closure. If its drop panics, the
/// panic is contained.
pub(crate) struct UserValue<T>(Option<T>);

impl<T> UserValue<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for UserValue<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.as_ref().expect("only `drop` takes it")
    }
}

impl<T> DerefMut for UserValue<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only `drop` takes it")
    }
}

impl<T> Drop for UserValue<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        contain("the drop of a callback", || drop(value));
    }
}

#[cold]
fn report(what: &'static str, panic: &Panic) {
    let message = panic.message().unwrap_or("(not text)");
    log::error(format_args!("{what} panicked: {message}"));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics when it is dropped, with a value of the same type.
    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            panic_any(PanicsOnDrop);
        }
    }

    #[test]
    fn a_panic_whose_value_panics_when_dropped_is_contained() {
        assert_eq!(contain("a test", || 1), Some(1));
        assert_eq!(contain("a test", || panic_any(PanicsOnDrop)), None::<()>);
        let outcome = catch(|| -> () { panic_any(PanicsOnDrop) });
        assert!(outcome.is_err());
    }

    #[test]
    fn a_message_is_a_str_or_a_string() {
        let message = |code: fn()| catch(code).unwrap_err().message().map(str::to_owned);
        assert_eq!(message(|| panic!("plain")).as_deref(), Some("plain"));
        assert_eq!(message(|| panic!("{}", 1)).as_deref(), Some("1"));
        assert_eq!(message(|| panic_any(1)), None);
    }
}
