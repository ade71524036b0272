//! Batches that are made before they are asked for.

use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
use std::thread;

/// Hands `batches` to `body`, if `ahead` from a thread of their own: it makes each while `body` works on the
/// one before. When `body` wants no more of them the thread ends.
pub(crate) fn batches_ahead<B: Send, R>(
    ahead: bool,
    mut batches: impl Iterator<Item = B> + Send,
    body: impl FnOnce(&mut dyn Iterator<Item = B>) -> R,
) -> R {
    if !ahead {
        return body(&mut batches);
    }
    thread::scope(|scope| {
        // Nothing waits in the channel, but one batch with its maker.
        let (sender, receiver) = sync_channel(0);
        let maker = scope.spawn(move || {
            for batch in batches {
                if sender.send(batch).is_err() {
                    break;
                }
            }
        });
        // Ends with the thread, or ends it.
        let result = body(&mut receiver.into_iter());
        if let Err(panic) = maker.join() {
            resume_unwind(panic);
        }
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn all_batches_come_in_their_order() {
        for ahead in [false, true] {
            let all: Vec<u32> = batches_ahead(ahead, 0..100, |batches| batches.collect());
            assert!(all.into_iter().eq(0..100), "{ahead}");
            let none = batches_ahead(ahead, std::iter::empty::<u32>(), |batches| batches.next());
            assert_eq!(none, None);
        }
    }

    #[test]
    fn the_next_batch_is_made_while_one_is_worked_on() {
        let (made, seen) = channel();
        let batches = (0..3).inspect(move |number| made.send(*number).unwrap());
        batches_ahead(true, batches, |batches| {
            assert_eq!(batches.next(), Some(0));
            // Comes though nobody asks for it.
            assert_eq!((seen.recv(), seen.recv()), (Ok(0), Ok(1)));
        });
    }

    #[test]
    fn whoever_stops_gets_no_more_made() {
        let made = AtomicUsize::new(0);
        let batches = (0..).inspect(|_| {
            made.fetch_add(1, Ordering::Relaxed);
        });
        let first: Result<i32, &str> = batches_ahead(true, batches, |batches| {
            assert_eq!(batches.next(), Some(0));
            Err("stopped")
        });
        assert_eq!(first, Err("stopped"));
        assert!(made.into_inner() <= 2);
    }

    #[test]
    #[should_panic(expected = "no memory")]
    fn who_works_on_batches_may_panic() {
        batches_ahead(true, 0.., |batches| {
            assert_eq!(batches.next(), Some(0));
            panic!("no memory");
        });
    }

    #[test]
    #[should_panic(expected = "broken")]
    fn a_batch_that_cannot_be_made_is_no_end() {
        let batches = (0..3).inspect(|number| assert!(*number < 1, "broken"));
        batches_ahead(true, batches, |batches| assert!(batches.count() < 3));
    }
}
