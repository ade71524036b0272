//! Faults of workers and of their way to the coordinator.

use quartet_shared::ids::{Attempt, Epoch};
use quartet_tests::fleet::LIMIT;
use quartet_tests::proxy::Mode;
use quartet_tests::results::{Manifests, attempts, manifests};
use quartet_tests::scene::{RUNS, Scene, run_name};

/// The run that a worker trains.
fn run_of(scene: &mut Scene, worker: &str) -> String {
    scene.until(|snapshot| Some(snapshot.run_of(worker)?.name().to_owned()))
}

fn manifests_of(scene: &Scene, run: &str) -> Manifests {
    manifests(&scene.store, &scene.layout(), &run_name(run))
}

/// Waits until a run has been given away; how many epochs it had then, and who trains it now.
fn given_away(scene: &mut Scene, run: &str, attempt: u64) -> (Epoch, String) {
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
fn drops_its_run_and_is_usable_again(scene: &mut Scene, run: &str, epoch: Epoch) {
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
