//! The payloads of a measurement, and the check that each of them arrives once and in order.

/// A payload of `WORDS` words of 8 bytes. The first two are used.
pub(crate) struct Payload<const WORDS: usize>([u64; WORDS]);

impl<const WORDS: usize> Payload<WORDS> {
    /// The payload of the event with this number, counted from 0, of this publisher.
    pub(crate) fn new(publisher: usize, number: u64) -> Self {
        const { assert!(WORDS >= 2) };
        let mut words = [number; WORDS];
        words[0] = publisher as u64;
        Payload(words)
    }

    pub(crate) fn publisher(&self) -> u64 {
        self.0[0]
    }

    pub(crate) fn number(&self) -> u64 {
        self.0[1]
    }
}

/// Checks what one subscriber receives.
#[derive(Debug)]
pub(crate) struct Checker {
    /// For each publisher, the number of the event that comes next if none is missing.
    next: Vec<u64>,
    received: u64,
    /// The events that are missing so far.
    skipped: u64,
    /// The first violation: the publisher, the number of its event, and the number that could have
    /// come.
    violation: Option<(u64, u64, u64)>,
}

impl Checker {
    pub(crate) fn new(publishers: usize) -> Checker {
        Checker {
            next: vec![0; publishers],
            received: 0,
            skipped: 0,
            violation: None,
        }
    }

    /// Takes note of an event.
    #[inline]
    pub(crate) fn accept<const WORDS: usize>(&mut self, payload: &Payload<WORDS>) {
        let (publisher, number) = (payload.publisher(), payload.number());
        self.received += 1;
        match self.next.get_mut(publisher as usize) {
            Some(next) if number >= *next => {
                self.skipped += number - *next;
                *next = number + 1;
            }
            next => {
                let expected = next.map_or(0, |next| *next);
                self.violation.get_or_insert((publisher, number, expected));
            }
        }
    }

    /// Ends the check. `published` has the number of events of each publisher, and `missing` the
    /// number of events that the subscription says to have lost, or replaced.
    ///
    /// Returns the number of events that were received.
    pub(crate) fn finish(self, published: &[u64], missing: u64) -> Result<u64, String> {
        if let Some((publisher, number, expected)) = self.violation {
            return Err(format!(
                "event {number} of publisher {publisher} arrived twice or out of order: the next \
                 one is event {expected}"
            ));
        }
        debug_assert_eq!(self.next.len(), published.len());
        let mut skipped = self.skipped;
        for (publisher, (next, published)) in self.next.iter().zip(published).enumerate() {
            let Some(rest) = published.checked_sub(*next) else {
                return Err(format!(
                    "publisher {publisher} published {published} events, and event {} arrived",
                    next - 1
                ));
            };
            skipped += rest;
        }
        if skipped != missing {
            return Err(format!(
                "{skipped} events did not arrive, and {missing} were reported as lost or replaced"
            ));
        }
        Ok(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(events: &[(usize, u64)], published: &[u64], missing: u64) -> Result<u64, String> {
        let mut checker = Checker::new(published.len());
        for &(publisher, number) in events {
            checker.accept(&Payload::<2>::new(publisher, number));
        }
        checker.finish(published, missing)
    }

    #[test]
    fn every_event_once_and_in_order_is_right() {
        assert_eq!(checked(&[], &[0], 0), Ok(0));
        assert_eq!(checked(&[(0, 0), (1, 0), (0, 1)], &[2, 1], 0), Ok(3));
        assert_eq!(checked(&[(0, 1), (0, 3)], &[5], 3), Ok(2));
    }

    #[test]
    fn anything_else_is_a_violation() {
        for (events, published, missing, message) in [
            (
                &[(0, 0), (0, 0)][..],
                &[1][..],
                0,
                "event 0 of publisher 0 arrived twice",
            ),
            (&[(0, 1), (0, 0)], &[2], 0, "the next one is event 2"),
            (&[(1, 0)], &[1], 0, "event 0 of publisher 1 arrived"),
            (
                &[(0, 0), (0, 2)],
                &[3],
                0,
                "1 events did not arrive, and 0 were reported",
            ),
            (
                &[(0, 0)],
                &[2],
                0,
                "1 events did not arrive, and 0 were reported",
            ),
            (
                &[(0, 0)],
                &[1],
                1,
                "0 events did not arrive, and 1 were reported",
            ),
            (
                &[(0, 0), (0, 1)],
                &[1],
                0,
                "publisher 0 published 1 events, and event 1 arrived",
            ),
        ] {
            let error = checked(events, published, missing).expect_err(message);
            assert!(error.contains(message), "{message}: {error}");
        }
    }
}
