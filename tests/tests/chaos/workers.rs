//! Faults of workers and of their way to the coordinator.

use std::time::Duration;

use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::task::Task;
use quartet_store::manifest::AttemptRecord;
use quartet_tests::fleet::LIMIT;
use quartet_tests::proxy::Mode;
use quartet_tests::results::{Manifests, attempts, manifests};
use quartet_tests::scene::{EPOCHS, RUNS, Scene, run_name};

/// The run that a worker trains.
pub(crate) fn run_of(scene: &mut Scene, worker: &str) -> String {
    scene.until(|snapshot| Some(snapshot.run_of(worker)?.name().to_owned()))
}

fn manifests_of(scene: &Scene, run: &str) -> Manifests {
    manifests(&scene.store, &scene.layout(), &run_name(run))
}

/// Waits until a run has been given away; how many epochs it had then, and who trains it now.
pub(crate) fn given_away(scene: &mut Scene, run: &str, attempt: u64) -> (Epoch, String) {
    scene.until(|snapshot| {
        let run = snapshot.run(run);
        assert!(run.attempt() <= attempt, "lost more than once");
        let heir = run.worker().filter(|_| run.attempt() == attempt)?;
        let epochs = u32::try_from(run.committed()).expect("few epochs");
        Some((Epoch(epochs), heir.to_owned()))
    })
}

/// All epochs after this one were trained by later attempts than the first.
fn assert_first_attempt_ended(scene: &Scene, run: &str, epoch: Epoch) {
    let manifests = manifests_of(scene, run);
    let attempts = attempts(&manifests);
    assert!(attempts.is_sorted(), "{attempts:?}");
    assert_eq!(attempts.first(), Some(&Attempt(1)), "{attempts:?}");
    let later = manifests.range(epoch.next()..);
    for manifest in later.map(|(_, manifest)| manifest) {
        assert!(manifest.attempt > Attempt(1), "{manifest:?}");
    }
}

pub(crate) fn killed(scene: &mut Scene) {
    scene.begin(&[]);
    let run = run_of(scene, "one");
    scene.kill_worker("one");
    scene.start_worker("heir");
    let (epoch, heir) = given_away(scene, &run, 2);
    assert_ne!(heir, "one");
    finish_first_attempt(scene, &run, epoch);
}

/// Waits until the run has more epochs than when it was given away, and looks at who trained them.
fn finish_first_attempt(scene: &mut Scene, run: &str, epoch: Epoch) {
    let more = u64::from(epoch.next().0);
    scene.until(|snapshot| (snapshot.run(run).committed() >= more).then_some(()));
    assert_first_attempt_ended(scene, run, epoch);
}

/// How often a worker is killed at most until its run was resumed within an epoch.
const KILLS: u32 = 4;

pub(crate) fn killed_within_an_epoch(scene: &mut Scene) {
    scene.keep_states_every(Duration::from_millis(50));
    scene.begin(&[]);
    scene.start_worker("heir1");
    for kill in 1..=KILLS {
        // Whoever trains a run of which a state within an epoch is committed.
        let (run, worker, attempt) = scene.until(|snapshot| {
            let mut runs = snapshot.runs().filter(|run| run.steps_committed() > 0);
            runs.find_map(|run| {
                Some((
                    run.name().to_owned(),
                    run.worker()?.to_owned(),
                    run.attempt(),
                ))
            })
        });
        scene.kill_worker(&worker);
        scene.start_worker(&format!("heir{}", kill + 1));
        given_away(scene, &run, attempt + 1);
        let task = Task::Train(run_name(&run));
        let attempt = u32::try_from(attempt).expect("few attempts");
        let key = scene.layout().attempt(&task, Attempt(attempt).next());
        let record: AttemptRecord =
            serde_json::from_slice(&scene.store.read(&key)).expect("a record");
        if record.resume.step > 0 {
            return;
        }
    }
    panic!("no run was resumed within an epoch");
}

pub(crate) fn evaluator_killed(scene: &mut Scene) {
    scene.begin(&["one", "two"]);
    scene.until(|snapshot| {
        let mut runs = snapshot.runs();
        runs.all(|run| run.committed() + 1 >= u64::from(EPOCHS))
            .then_some(())
    });
    // The evaluator needs the weights, for which it now takes a while.
    scene.to_coordinator.set(Mode::Slow {
        bytes_per_second: 20_000_000,
        delay: Duration::from_millis(40),
    });
    let evaluator = scene.until(|snapshot| snapshot.evaluator().map(str::to_owned));
    scene.kill_worker(&evaluator);
    scene.to_coordinator.set(Mode::Pass);
    scene.until(|snapshot| {
        let second = snapshot.evaluator().filter(|worker| *worker != evaluator);
        (second.is_some() && snapshot.evaluation_attempt() == 2).then_some(())
    });
}

pub(crate) fn stopped(scene: &mut Scene) {
    scene.begin(&[]);
    let run = run_of(scene, "one");
    scene.worker("one").signal("STOP");
    scene.start_worker("heir");
    let (epoch, _) = given_away(scene, &run, 2);
    scene.worker("one").signal("CONT");
    drops_its_run_and_is_usable_again(scene, &run, epoch);
}

pub(crate) fn cut_off(scene: &mut Scene) {
    scene.begin(&["one"]);
    let run = run_of(scene, "one");
    scene.to_coordinator.set(Mode::Blackhole);
    scene.start_worker("heir");
    let (epoch, _) = given_away(scene, &run, 2);
    assert!(scene.to_coordinator.counters().withheld > 0);
    scene.to_coordinator.set(Mode::Pass);
    drops_its_run_and_is_usable_again(scene, &run, epoch);
}

/// Worker "one", which lost its run, hears so, drops it, and then does all that is left: the others are killed.
pub(crate) fn drops_its_run_and_is_usable_again(scene: &mut Scene, run: &str, epoch: Epoch) {
    scene.until(|snapshot| snapshot.is_idle("one").then_some(()));
    let log = scene.logged("one");
    assert!(
        log.contains("lease revoked") || log.contains("task dropped"),
        "{log}"
    );
    scene.kill_workers_but("one");
    scene.until(|snapshot| {
        let works = snapshot.run_of("one").is_some() || snapshot.evaluator() == Some("one");
        works.then_some(())
    });
    assert_first_attempt_ended(scene, run, epoch);
}

/// Resets of the workers' connections.
const RESETS: u64 = 3;

pub(crate) fn connections_reset(scene: &mut Scene) {
    scene.begin(&["one", "two"]);
    for reset in 1..=RESETS {
        let before = scene.to_coordinator.counters();
        scene.to_coordinator.reset();
        let reset_now = scene.to_coordinator.counters().reset - before.reset;
        assert!(reset_now >= 2, "both workers' connections are reset");
        // Both come back, and a run goes on.
        let back = before.connections + 2;
        scene
            .to_coordinator
            .wait_until(LIMIT, |counters| counters.connections >= back);
        let mut committed = None;
        scene.until(|snapshot| {
            let now: u64 = snapshot.runs().map(|run| run.committed()).sum();
            let first = *committed.get_or_insert(now);
            (now > first).then_some(())
        });
        assert!(scene.to_coordinator.counters().reset >= 2 * reset);
    }
    for run in RUNS {
        let attempts = attempts(&manifests_of(scene, run));
        assert!(
            attempts.iter().all(|attempt| *attempt == Attempt(1)),
            "{attempts:?}"
        );
    }
    scene.expect_attempts(1);
}
