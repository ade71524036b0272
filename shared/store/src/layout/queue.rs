//! The keys of the queue: what the coordinator of a store is to train, one after the other.

use super::Claims;

/// The folder of the queue. No experiment has such a name.
const QUEUE: &str = "_queue";

/// Who rules the queue.
#[must_use]
pub fn claims() -> Claims {
    Claims(QUEUE.to_owned())
}

/// The folder of what was submitted.
#[must_use]
pub fn entries() -> String {
    format!("{QUEUE}/entries")
}

/// What was submitted; numbers begin at 1.
#[must_use]
pub fn entry(number: u32) -> String {
    format!("{}/{number:06}.json", entries())
}

/// The folder of how entries have ended.
#[must_use]
pub fn all_ended() -> String {
    format!("{QUEUE}/ended")
}

/// How an entry has ended.
#[must_use]
pub fn ended(number: u32) -> String {
    format!("{}/{number:06}.json", all_ended())
}

/// The number of an entry, or of its end, whose key this is.
#[must_use]
pub fn number(key: &str) -> Option<u32> {
    let name = key.rsplit_once('/')?.1.strip_suffix(".json")?;
    name.parse().ok().filter(|number| {
        let known = [entry(*number), ended(*number)];
        known.iter().any(|known| known == key)
    })
}
