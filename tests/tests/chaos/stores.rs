//! Faults of the store.

use std::time::Duration;

use quartet_shared::outcome::Outcome;
use quartet_store::manifest::Manifest;
use quartet_tests::fleet::LIMIT;
use quartet_tests::proxy::{Mode, Proxy};
use quartet_tests::results::manifests;
use quartet_tests::scene::{RUNS, Scene, run_name};

fn to_store(scene: &Scene) -> &Proxy {
    scene.to_store.as_ref().expect("the store is S3")
}

/// Epochs that are committed, of all runs.
fn committed(scene: &mut Scene) -> u64 {
    scene.until(|snapshot| Some(snapshot.runs().map(|run| run.committed()).sum()))
}

/// How long a store is gone.
const OUTAGE: Duration = Duration::from_secs(60);

pub(crate) fn gone(scene: &mut Scene) {
    scene.begin(&[]);
    to_store(scene).set(Mode::Refuse);
    to_store(scene).wait_until(LIMIT, |counters| counters.refused >= 3);
    let before = committed(scene);
    to_store(scene).set(Mode::Blackhole);
    to_store(scene).wait_until(LIMIT, |counters| counters.withheld + counters.stranded > 0);
    // The fleet goes on without it, for many times a lease, and says so.
    let lease = scene.timers().lease.as_secs_f64();
    let mut since = None;
    scene.until(|snapshot| {
        assert!(
            snapshot
                .runs()
                .all(|run| run.attempt() == 1 && run.worker().is_some())
        );
        assert!(snapshot.longest_silence() < lease, "heartbeats go on");
        let since = *since.get_or_insert(snapshot.uptime());
        (snapshot.uptime() > since + OUTAGE.as_secs_f64()).then_some(())
    });
    assert_eq!(committed(scene), before, "nothing can be committed");
    to_store(scene).set(Mode::Pass);
    scene.expect_attempts(1);
}

pub(crate) fn slow(scene: &mut Scene) {
    scene.begin(&[]);
    to_store(scene).set(Mode::Slow {
        bytes_per_second: 1_000_000,
        delay: Duration::from_millis(5),
    });
    let before = committed(scene);
    let lease = scene.timers().lease.as_secs_f64();
    let mut places = Vec::new();
    scene.until(|snapshot| {
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
    let slowed = to_store(scene).counters().slowed;
    assert!(slowed > 1_000_000, "{slowed} bytes were slowed");
    to_store(scene).set(Mode::Pass);
    scene.expect_attempts(1);
}

pub(crate) fn checkpoints_corrupted(scene: &mut Scene) {
    scene.begin(&[]);
    scene.kill_coordinator();
    scene.kill_workers();
    let latest = |scene: &Scene, run: &str| -> Manifest {
        let manifests = manifests(&scene.store, &scene.layout(), &run_name(run));
        manifests.into_values().last().expect("it has some")
    };
    let [flipped, truncated] = RUNS.map(|run| latest(scene, run));
    let (flipped_key, truncated_key) = (&flipped.weights.key, &truncated.training_state.key);
    let mut bytes = scene.store.read(flipped_key);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    scene.store.write(flipped_key, &bytes);
    let mut bytes = scene.store.read(truncated_key);
    bytes.truncate(bytes.len() / 2);
    scene.store.write(truncated_key, &bytes);
    // The epochs after the checkpoint that is still good are trained once more.
    scene.forget_committed();
    scene.start_coordinator();
    for name in ["three", "four"] {
        scene.start_worker(name);
    }
    for damaged in [&flipped, &truncated] {
        let run = damaged.run.as_str();
        let again = u64::from(damaged.epoch.next().0);
        scene.until(|snapshot| {
            assert!(snapshot.ended().is_none(), "{:?}", snapshot.failures());
            (snapshot.run(run).committed() >= again).then_some(())
        });
        let manifests = manifests(&scene.store, &scene.layout(), &damaged.run);
        let redone = &manifests[&damaged.epoch];
        assert!(redone.attempt > damaged.attempt, "{redone:?}");
        assert_eq!(redone.weights.blob, damaged.weights.blob);
        assert_eq!(redone.training_state.blob, damaged.training_state.blob);
    }
    let logs = ["coordinator", "three", "four"].map(|name| scene.logged(name));
    for key in [flipped_key, truncated_key] {
        assert!(logs.iter().any(|log| log.contains(key)), "{key}: {logs:?}");
    }
}

pub(crate) fn best_weights_corrupted(scene: &mut Scene) {
    scene.begin(&[]);
    // One run waits until the other has finished.
    scene.kill_worker("two");
    let run = scene.until(|snapshot| {
        let run = snapshot.runs().find(|run| run.is_finished())?;
        Some(run_name(run.name()))
    });
    let outcome: Outcome = serde_json::from_slice(&scene.store.read(&scene.layout().outcome(&run)))
        .expect("an outcome");
    let best = &manifests(&scene.store, &scene.layout(), &run)[&outcome.best_epoch];
    let key = &best.weights.key;
    let mut bytes = scene.store.read(key);
    bytes[0] ^= 0xff;
    scene.store.write(key, &bytes);
    scene.start_worker("three");
    // The evaluation finds it, and the run is trained again from an epoch before.
    scene.forget_committed();
    scene.until(|snapshot| {
        assert!(snapshot.ended().is_none(), "{:?}", snapshot.failures());
        (snapshot.run(run.as_str()).attempt() > u64::from(best.attempt.0)).then_some(())
    });
    let best_epoch = u64::from(outcome.best_epoch.0);
    scene.until(|snapshot| (snapshot.run(run.as_str()).committed() >= best_epoch).then_some(()));
    let redone = &manifests(&scene.store, &scene.layout(), &run)[&outcome.best_epoch];
    assert!(redone.attempt > best.attempt, "{redone:?}");
    assert_eq!(redone.weights.blob, best.weights.blob);
    assert!(scene.logged("coordinator").contains(key));
}
