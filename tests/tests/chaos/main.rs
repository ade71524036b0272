//! Faults on a fleet of real processes that trains for real. Whatever happens, the experiment ends with
//! the bytes of an undisturbed one.
//!
//! Every fault waits for its moment by watching the experiment, never for a time, and asserts that it has
//! really happened.

mod coordinators;
mod disk;
mod network;
mod refusals;
mod stores;
mod workers;

use std::sync::OnceLock;

use quartet_tests::harness::{Harness, Kind, Timers};
use quartet_tests::results::Results;

/// What an undisturbed experiment results in.
fn undisturbed() -> &'static Results {
    static RESULTS: OnceLock<Results> = OnceLock::new();
    RESULTS.get_or_init(|| {
        let timers = Timers::SHORT;
        let mut harness = Harness::new("undisturbed", Kind::Local, timers);
        harness.begin(&[]);
        harness.finish()
    })
}

/// An experiment with a fault in it results in the same as an undisturbed one.
fn survives(name: &str, kind: Kind, fault: fn(&mut Harness)) {
    let mut harness = Harness::new(name, kind, Timers::SHORT);
    fault(&mut harness);
    harness.finish().assert_same(undisturbed());
}

/// Tests of faults with each kind of store.
macro_rules! matrix {
    ($($(#[doc = $doc:literal])* $name:ident: $kinds:tt => $module:ident::$fault:ident;)+) => {
        $(
            $(#[doc = $doc])*
            mod $name {
                fn on(kind: quartet_tests::harness::Kind) {
                    crate::survives(stringify!($name), kind, crate::$module::$fault);
                }
                matrix!(@tests $kinds);
            }
        )+
    };
    (@tests [$($kind:ident)+]) => { $(matrix!(@test $kind);)+ };
    (@test local) => {
        #[test]
        fn local() {
            on(quartet_tests::harness::Kind::Local);
        }
    };
    (@test s3) => {
        #[test]
        fn s3() {
            on(quartet_tests::harness::Kind::S3);
        }
    };
}

matrix! {
    /// A worker is killed.
    worker_killed: [local s3] => workers::killed;
    /// A worker is killed within an epoch of which a mid-epoch checkpoint is committed.
    worker_killed_within_an_epoch: [local s3] => workers::killed_within_an_epoch;
    /// The worker that evaluates the ensemble is killed.
    evaluator_killed: [local s3] => workers::evaluator_killed;
    /// A checkpoint takes longer than the progress timeout to its next worker, over a link that is cut twice.
    slow_link: [local s3] => workers::behind_a_slow_link;
    /// A worker is stopped for longer than its lease and goes on.
    worker_stopped: [local s3] => workers::stopped;
    /// The network between a worker and the coordinator is gone for longer than the lease.
    worker_cut_off: [local s3] => workers::cut_off;
    /// Connections between workers and the coordinator are reset again and again.
    connections_reset: [local s3] => workers::connections_reset;
    /// The coordinator is killed and started again while the workers live on.
    coordinator_killed: [local s3] => coordinators::killed;
    /// The coordinator and all workers are killed and started again.
    everything_killed: [local s3] => coordinators::killed_with_all_workers;
    /// The latest weights of one run and the latest state of the other are damaged while nothing runs.
    checkpoint_corrupted: [local s3] => stores::checkpoints_corrupted;
    /// The best weights of a finished run are damaged before the ensemble is evaluated.
    best_weights_corrupted: [local s3] => stores::best_weights_corrupted;
    /// For a minute the store refuses connections, then does not answer, then is back.
    store_gone: [s3] => stores::gone;
    /// The store is slow.
    store_slow: [s3] => stores::slow;
}
