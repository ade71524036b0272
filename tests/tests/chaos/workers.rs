//! Faults of workers and of their way to the coordinator.

use std::time::Duration;

use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::task::Task;
use quartet_store::manifest::AttemptRecord;
use quartet_tests::harness::{Harness, RUNS, run_name};
use quartet_tests::processes::LIMIT;
use quartet_tests::proxy::Mode;
use quartet_tests::results::{Manifests, attempts, manifests};

/// The run that a worker trains.
pub(crate) fn run_of(harness: &mut Harness, worker: &str) -> String {
    harness.until(|snapshot| Some(snapshot.run_of(worker)?.name().to_owned()))
}

fn manifests_of(harness: &Harness, run: &str) -> Manifests {
    manifests(&harness.store, &harness.layout(), &run_name(run))
}

/// Waits until a run has been given away; how many epochs it had then, and who trains it now.
pub(crate) fn given_away(harness: &mut Harness, run: &str, attempt: u64) -> (Epoch, String) {
    harness.until(|snapshot| {
        let run = snapshot.run(run);
        assert!(run.attempt() <= attempt, "lost more than once");
        let heir = run.worker().filter(|_| run.attempt() == attempt)?;
        let epochs = u32::try_from(run.committed()).expect("few epochs");
        Some((Epoch(epochs), heir.to_owned()))
    })
}

/// All epochs after this one were trained by later attempts than the first.
fn assert_first_attempt_ended(harness: &Harness, run: &str, epoch: Epoch) {
    let manifests = manifests_of(harness, run);
    let attempts = attempts(&manifests);
    assert!(attempts.is_sorted(), "{attempts:?}");
    assert_eq!(attempts.first(), Some(&Attempt(1)), "{attempts:?}");
    let later = manifests.range(epoch.next()..);
    for manifest in later.map(|(_, manifest)| manifest) {
        assert!(manifest.attempt > Attempt(1), "{manifest:?}");
    }
}

pub(crate) fn killed(harness: &mut Harness) {
    harness.begin(&[]);
    let run = run_of(harness, "one");
    harness.kill_worker("one");
    harness.start_worker("heir");
    let (epoch, heir) = given_away(harness, &run, 2);
    assert_ne!(heir, "one");
    finish_first_attempt(harness, &run, epoch);
}

/// Waits until the run has more epochs than when it was given away, and looks at who trained them.
fn finish_first_attempt(harness: &mut Harness, run: &str, epoch: Epoch) {
    let more = u64::from(epoch.next().0);
    harness.until(|snapshot| (snapshot.run(run).committed() >= more).then_some(()));
    assert_first_attempt_ended(harness, run, epoch);
}

/// How often a worker is killed at most until its run is resumed from a mid-epoch checkpoint.
const KILLS: u32 = 4;

pub(crate) fn killed_within_an_epoch(harness: &mut Harness) {
    harness.keep_mid_epoch_checkpoints_every(Duration::from_millis(50));
    harness.begin(&[]);
    harness.start_worker("heir1");
    for kill in 1..=KILLS {
        // Whoever trains a run of which a mid-epoch checkpoint is committed.
        let (run, worker, attempt) = harness.until(|snapshot| {
            let mut runs = snapshot.runs().filter(|run| run.steps_committed() > 0);
            runs.find_map(|run| {
                Some((
                    run.name().to_owned(),
                    run.worker()?.to_owned(),
                    run.attempt(),
                ))
            })
        });
        harness.kill_worker(&worker);
        harness.start_worker(&format!("heir{}", kill + 1));
        given_away(harness, &run, attempt + 1);
        let task = Task::Train(run_name(&run));
        let attempt = u32::try_from(attempt).expect("few attempts");
        let key = harness.layout().attempt(&task, Attempt(attempt).next());
        // A lease is seen before its record is in the store, and its worker is heard of after that.
        let heard = u64::from(attempt) + 1;
        harness.until(|snapshot| {
            let run = snapshot.run(&run);
            (run.is_finished() || run.attempt() > heard || run.place().is_some()).then_some(())
        });
        let record: AttemptRecord =
            serde_json::from_slice(&harness.store.read(&key)).expect("a record");
        if record.resume.step > 0 {
            return;
        }
    }
    panic!("no run was resumed from a mid-epoch checkpoint");
}

/// Slow for weights, and fast enough for what answers heartbeats between them.
const WEIGHTS_BYTES_PER_SECOND: u32 = 500_000;

pub(crate) fn evaluator_killed(harness: &mut Harness) {
    harness.begin(&["one", "two"]);
    // Both have what they need for their runs.
    harness.until(|snapshot| {
        let mut runs = snapshot.runs();
        runs.all(|run| run.committed() > 0).then_some(())
    });
    // The evaluator needs the weights of the runs, for which it now takes seconds.
    harness.to_coordinator.set(Mode::SlowAnswers {
        bytes_per_second: WEIGHTS_BYTES_PER_SECOND,
    });
    let evaluator = harness.until(|snapshot| snapshot.evaluator().map(str::to_owned));
    harness.kill_worker(&evaluator);
    harness.to_coordinator.set(Mode::Pass);
    // The second evaluator takes a tenth of a second, so it may have finished before it is seen.
    harness.until(|snapshot| (snapshot.evaluation_attempt() == 2).then_some(()));
}

/// A link over which a checkpoint takes longer than a run may go without progress.
const SLOW_BYTES_PER_SECOND: u32 = 60_000;
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(7);
/// Bytes after which the link is cut, once in the run's weights and once again in the rest of its state.
const CUTS: [u64; 2] = [150_000, 300_000];
/// Bytes that both cuts together may cost.
const LOSS: u64 = 250_000;

pub(crate) fn behind_a_slow_link(harness: &mut Harness) {
    harness.give_up_without_progress_for(PROGRESS_TIMEOUT);
    harness.begin(&[]);
    let run = RUNS[0];
    let loser = harness.until(|snapshot| Some(snapshot.run(run).worker()?.to_owned()));
    harness.to_coordinator.set(Mode::SlowAnswers {
        bytes_per_second: SLOW_BYTES_PER_SECOND,
    });
    harness.kill_worker(&loser);
    harness.start_worker_behind_proxy("heir");
    let (epoch, _) = given_away(harness, run, 2);
    let mut slowed = harness.to_coordinator.counters().slowed;
    for cut in CUTS {
        slowed += cut;
        let link = &harness.to_coordinator;
        link.wait_until(LIMIT, |counters| counters.slowed >= slowed);
        link.reset();
    }
    let more = u64::from(epoch.next().0);
    harness.until(|snapshot| {
        let run = snapshot.run(run);
        assert_eq!(run.attempt(), 2, "a lease was lost to a slow link");
        (run.committed() >= more).then_some(())
    });
    let counters = harness.to_coordinator.counters();
    assert_eq!(counters.reset, CUTS.len() as u64);
    // What had arrived is not sent again.
    let manifest = &manifests_of(harness, run)[&epoch];
    let size = manifest.weights.blob.size + manifest.training_state.blob.size;
    assert!(
        counters.slowed > size && counters.slowed < size + LOSS,
        "{counters:?} for {size} bytes"
    );
    harness.to_coordinator.set(Mode::Pass);
    assert_first_attempt_ended(harness, run, epoch);
}

pub(crate) fn stopped(harness: &mut Harness) {
    harness.begin(&[]);
    let run = run_of(harness, "one");
    harness.worker("one").signal("STOP");
    harness.start_worker("heir");
    let (epoch, _) = given_away(harness, &run, 2);
    harness.worker("one").signal("CONT");
    drops_its_run_and_is_usable_again(harness, &run, epoch);
}

pub(crate) fn cut_off(harness: &mut Harness) {
    harness.begin(&["one"]);
    let run = run_of(harness, "one");
    harness.to_coordinator.set(Mode::Blackhole);
    harness.start_worker("heir");
    let (epoch, _) = given_away(harness, &run, 2);
    assert!(harness.to_coordinator.counters().withheld > 0);
    harness.to_coordinator.set(Mode::Pass);
    drops_its_run_and_is_usable_again(harness, &run, epoch);
}

/// Worker "one", which lost its run, hears so, drops it, and then does all that is left: the others are
/// killed.
pub(crate) fn drops_its_run_and_is_usable_again(harness: &mut Harness, run: &str, epoch: Epoch) {
    harness.until(|snapshot| snapshot.is_idle("one").then_some(()));
    let log = harness.logged("one");
    assert!(
        log.contains("lease revoked") || log.contains("task dropped"),
        "{log}"
    );
    harness.kill_workers_but("one");
    harness.until(|snapshot| {
        let works = snapshot.run_of("one").is_some() || snapshot.evaluator() == Some("one");
        works.then_some(())
    });
    assert_first_attempt_ended(harness, run, epoch);
}

/// Resets of the workers' connections.
const RESETS: u64 = 3;

pub(crate) fn connections_reset(harness: &mut Harness) {
    harness.begin(&["one", "two"]);
    for reset in 1..=RESETS {
        let before = harness.to_coordinator.counters();
        harness.to_coordinator.reset();
        let reset_now = harness.to_coordinator.counters().reset - before.reset;
        assert!(reset_now >= 2, "both workers' connections are reset");
        // Both come back, and a run goes on.
        let back = before.connections + 2;
        harness
            .to_coordinator
            .wait_until(LIMIT, |counters| counters.connections >= back);
        let mut committed = None;
        harness.until(|snapshot| {
            let now: u64 = snapshot.runs().map(|run| run.committed()).sum();
            let first = *committed.get_or_insert(now);
            (now > first).then_some(())
        });
        assert!(harness.to_coordinator.counters().reset >= 2 * reset);
    }
    for run in RUNS {
        let attempts = attempts(&manifests_of(harness, run));
        assert!(
            attempts.iter().all(|attempt| *attempt == Attempt(1)),
            "{attempts:?}"
        );
    }
    harness.expect_attempts(1);
}
