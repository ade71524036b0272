//! Faults of the store.

use std::time::Duration;

use quartet_shared::outcome::Outcome;
use quartet_store::manifest::Manifest;
use quartet_tests::harness::{Harness, RUNS, run_name};
use quartet_tests::processes::LIMIT;
use quartet_tests::proxy::{Mode, Proxy};
use quartet_tests::results::manifests;

fn to_store(harness: &Harness) -> &Proxy {
    harness.to_store.as_ref().expect("the store is S3")
}

/// Epochs that are committed, of all runs.
fn committed(harness: &mut Harness) -> u64 {
    harness.until(|snapshot| Some(snapshot.runs().map(|run| run.committed()).sum()))
}

/// How long a store is gone.
const OUTAGE: Duration = Duration::from_secs(60);

pub(crate) fn gone(harness: &mut Harness) {
    harness.begin(&[]);
    to_store(harness).set(Mode::Refuse);
    to_store(harness).wait_until(LIMIT, |counters| counters.refused >= 3);
    let before = committed(harness);
    to_store(harness).set(Mode::Blackhole);
    to_store(harness).wait_until(LIMIT, |counters| counters.withheld + counters.stranded > 0);
    // The fleet goes on without it, for many times a lease, and says so.
    let lease = harness.timers().lease.as_secs_f64();
    let (mut since, mut trouble_seen) = (None, false);
    harness.until(|snapshot| {
        assert!(
            snapshot
                .runs()
                .all(|run| run.attempt() == 1 && run.worker().is_some())
        );
        assert!(snapshot.longest_silence() < lease, "heartbeats go on");
        let since = *since.get_or_insert(snapshot.uptime());
        trouble_seen |= snapshot.store_trouble().is_some();
        (snapshot.uptime() > since + OUTAGE.as_secs_f64()).then_some(())
    });
    assert_eq!(committed(harness), before, "nothing can be committed");
    assert!(trouble_seen, "people see that the store is gone");
    to_store(harness).set(Mode::Pass);
    harness.until(|snapshot| snapshot.store_trouble().is_none().then_some(()));
    harness.expect_attempts(1);
}

pub(crate) fn slow(harness: &mut Harness) {
    harness.begin(&[]);
    to_store(harness).set(Mode::Slow {
        bytes_per_second: 1_000_000,
        delay: Duration::from_millis(5),
    });
    let before = committed(harness);
    let lease = harness.timers().lease.as_secs_f64();
    let mut places = Vec::new();
    harness.until(|snapshot| {
        assert!(snapshot.longest_silence() < lease, "heartbeats go on");
        places.extend(snapshot.runs().filter_map(|run| {
            let (phase, epoch, step) = run.place()?;
            Some((run.name().to_owned(), phase.to_owned(), epoch, step))
        }));
        let now: u64 = snapshot.runs().map(|run| run.committed()).sum();
        (now >= before + 3).then_some(())
    });
    places.sort_unstable();
    places.dedup();
    assert!(places.len() > 3, "training goes on: {places:?}");
    let slowed = to_store(harness).counters().slowed;
    assert!(slowed > 1_000_000, "{slowed} bytes were slowed");
    to_store(harness).set(Mode::Pass);
    harness.expect_attempts(1);
}

pub(crate) fn checkpoints_corrupted(harness: &mut Harness) {
    harness.begin(&[]);
    harness.kill_coordinator();
    harness.kill_workers();
    let latest = |harness: &Harness, run: &str| -> Manifest {
        let manifests = manifests(&harness.store, &harness.layout(), &run_name(run));
        manifests.into_values().last().expect("it has some")
    };
    let [flipped, truncated] = RUNS.map(|run| latest(harness, run));
    let (flipped_key, truncated_key) = (&flipped.weights.key, &truncated.training_state.key);
    let mut bytes = harness.store.read(flipped_key);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    harness.store.write(flipped_key, &bytes);
    let mut bytes = harness.store.read(truncated_key);
    bytes.truncate(bytes.len() / 2);
    harness.store.write(truncated_key, &bytes);
    // The epochs after the checkpoint that is still good are trained once more.
    harness.forget_committed();
    harness.start_coordinator();
    for name in ["three", "four"] {
        harness.start_worker(name);
    }
    for damaged in [&flipped, &truncated] {
        let run = damaged.run.as_str();
        let again = u64::from(damaged.epoch.next().0);
        harness.until(|snapshot| {
            assert!(snapshot.ended().is_none(), "{:?}", snapshot.failures());
            (snapshot.run(run).committed() >= again).then_some(())
        });
        let manifests = manifests(&harness.store, &harness.layout(), &damaged.run);
        let redone = &manifests[&damaged.epoch];
        assert!(redone.attempt > damaged.attempt, "{redone:?}");
        assert_eq!(redone.weights.blob, damaged.weights.blob);
        assert_eq!(redone.training_state.blob, damaged.training_state.blob);
    }
    let logs = ["coordinator", "three", "four"].map(|name| harness.logged(name));
    for key in [flipped_key, truncated_key] {
        assert!(logs.iter().any(|log| log.contains(key)), "{key}: {logs:?}");
    }
}

pub(crate) fn best_weights_corrupted(harness: &mut Harness) {
    harness.begin(&[]);
    // One run waits until the other has finished.
    harness.kill_worker("two");
    let run = harness.until(|snapshot| {
        let run = snapshot.runs().find(|run| run.is_finished())?;
        Some(run_name(run.name()))
    });
    let outcome: Outcome =
        serde_json::from_slice(&harness.store.read(&harness.layout().outcome(&run)))
            .expect("an outcome");
    let best = &manifests(&harness.store, &harness.layout(), &run)[&outcome.best_epoch];
    let key = &best.weights.key;
    let mut bytes = harness.store.read(key);
    bytes[0] ^= 0xff;
    harness.store.write(key, &bytes);
    harness.start_worker("three");
    // The evaluation finds it, and the run is trained again from an epoch before.
    harness.forget_committed();
    harness.until(|snapshot| {
        assert!(snapshot.ended().is_none(), "{:?}", snapshot.failures());
        (snapshot.run(run.as_str()).attempt() > u64::from(best.attempt.0)).then_some(())
    });
    let best_epoch = u64::from(outcome.best_epoch.0);
    harness.until(|snapshot| (snapshot.run(run.as_str()).committed() >= best_epoch).then_some(()));
    let redone = &manifests(&harness.store, &harness.layout(), &run)[&outcome.best_epoch];
    assert!(redone.attempt > best.attempt, "{redone:?}");
    assert_eq!(redone.weights.blob, best.weights.blob);
    assert!(harness.logged("coordinator").contains(key));
}
