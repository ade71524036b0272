//! Readers that do what they must not.

use super::*;

const SHORT: Limits = Limits {
    time: Duration::from_millis(500),
    ..LIMITS
};

/// What is found when inputs that are not `good` any more are given to `bad`.
fn found(name: &str, bad: fn()) -> String {
    let format = Format {
        name,
        test: &format!("harness::tests::{name}"),
        kind: Kind::Binary,
        cases: 20,
    };
    let valid = || vec![b"good".repeat(8)];
    let read = |bytes: &[u8]| match bytes.starts_with(b"good") {
        true => Ok(()),
        false => {
            bad();
            Err("it is bad".to_owned())
        }
    };
    let found = survives_within(SHORT, &format, valid, read);
    found.err().unwrap_or_default()
}

/// Whether this is the reader's process, in which nothing is found.
fn is_reader() -> bool {
    env::var(READER[0]).is_ok()
}

#[test]
fn refusals_are_fine() {
    assert_eq!(found("refusals_are_fine", || ()), "");
}

#[test]
fn a_panic_is_found() {
    let found = found("a_panic_is_found", || panic!("the reader panics"));
    assert!(
        is_reader() || found.contains("the reader panics"),
        "{found}"
    );
    let one = |line: &str| line.starts_with("QUARTET_MUTATION_SEED=a_panic_is_found:");
    assert!(
        is_reader() || found.lines().all(one) && found.lines().count() == 1,
        "{found}"
    );
}

#[test]
fn a_hanging_reader_is_found() {
    let found = found("a_hanging_reader_is_found", || {
        std::thread::sleep(Duration::MAX)
    });
    assert!(is_reader() || found.contains("it hangs"), "{found}");
}

#[test]
fn a_large_allocation_is_found() {
    let found = found("a_large_allocation_is_found", || {
        drop(std::hint::black_box(vec![1_u8; 1 << 30]));
    });
    assert!(
        is_reader() || found.contains("memory allocation of 1073741824 bytes failed"),
        "{found}"
    );
}

#[test]
fn an_endless_recursion_is_found() {
    fn endless(depth: u64) -> u64 {
        match std::hint::black_box(depth) {
            u64::MAX => 0,
            depth => endless(depth + 1) + 1,
        }
    }
    let found = found("an_endless_recursion_is_found", || {
        std::hint::black_box(endless(0));
    });
    assert!(is_reader() || found.contains("stack"), "{found}");
}

#[test]
fn a_valid_input_must_be_read() {
    let format = Format {
        name: "a_valid_input_must_be_read",
        test: "harness::tests::a_valid_input_must_be_read",
        kind: Kind::Text,
        cases: 1,
    };
    let read = |_: &[u8]| Err("never".to_owned());
    let found = survives_within(SHORT, &format, || vec![b"x".to_vec()], read);
    let found = found.err().unwrap_or_default();
    assert!(
        is_reader() || found.contains("valid input 0 is refused: never"),
        "{found}"
    );
}
