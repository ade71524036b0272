//! How long the training still takes, were no run stopped early. Nothing is said that nothing is known of.

use std::time::Duration;

use quartet_shared::state::{ExperimentState, WorkerState};

use crate::scheduler::{Now, Run, Scheduler};

/// The time until a run that is being trained has trained all its epochs. `None` while its worker is not
/// connected, and until enough of its first epoch is done.
pub(super) fn of_run(run: &Run, now: Now) -> Option<Duration> {
    let lease = run.record().lease()?;
    let progress = lease.progress?;
    if lease.awaited(now).is_some() {
        return None;
    }
    let done = if progress.epoch > run.position().epoch && progress.steps > 0 {
        f64::from(progress.step) / f64::from(progress.steps)
    } else {
        0.0
    };
    let left = (f64::from(epochs_left(run)) - done).max(0.0);
    Duration::try_from_secs_f64(left * epoch_seconds(run)?).ok()
}

/// The time until all runs are trained by the workers that are there. Runs without a worker take as long as
/// their backbone's cost suggests, compared with those whose speed is known; the longest goes to the first
/// worker that becomes free.
pub(super) fn of_experiment(scheduler: &Scheduler, now: Now) -> Option<Duration> {
    if scheduler.experiment_state() != ExperimentState::Training {
        return None;
    }
    let open = scheduler.runs().iter();
    let open = open.filter(|run| !run.record().state().has_ended());
    let (mut loads, mut waiting) = (Vec::new(), Vec::new());
    let pace = pace(scheduler.runs());
    for run in open {
        match of_run(run, now) {
            Some(left) => loads.push(left.as_secs_f64()),
            None => {
                let epoch = epoch_seconds(run).or(pace.map(|pace| pace * run.settings.cost))?;
                waiting.push(f64::from(epochs_left(run)) * epoch);
            }
        }
    }
    let workers = workers(scheduler);
    loads.resize(workers.max(loads.len()), 0.0);
    Duration::try_from_secs_f64(makespan(loads, waiting)?).ok()
}

/// When the last worker is done: the works that wait go, longest first, each to the worker that is free
/// first.
/// `None` without a worker.
fn makespan(mut loads: Vec<f64>, mut waiting: Vec<f64>) -> Option<f64> {
    waiting.sort_by(|one, other| other.total_cmp(one));
    for work in waiting {
        let first = loads.iter_mut().min_by(|one, other| one.total_cmp(other))?;
        *first += work;
    }
    loads.into_iter().max_by(f64::total_cmp)
}

/// The workers that train, or could.
fn workers(scheduler: &Scheduler) -> usize {
    let workers = scheduler.workers().filter(|worker| worker.connected);
    let states = workers.map(|worker| worker.state(scheduler.config()));
    states
        .filter(|state| matches!(state, WorkerState::Idle | WorkerState::Busy))
        .count()
}

fn epochs_left(run: &Run) -> u32 {
    let done = run.position().epoch.0;
    run.settings.epochs.saturating_sub(done)
}

/// How long an epoch of the run takes: as long as the last one, or as the one in progress seems to.
fn epoch_seconds(run: &Run) -> Option<f64> {
    let last = run.committed().last_epoch;
    let now = || run.record().lease()?.epoch_time();
    last.map(|epoch| epoch.metrics.seconds)
        .or_else(|| now().map(|time| time.as_secs_f64()))
}

/// The mean time of an epoch of cost 1.
fn pace(runs: &[Run]) -> Option<f64> {
    let paces = runs.iter().filter_map(|run| {
        let cost = run.settings.cost;
        Some(epoch_seconds(run)? / cost).filter(|_| cost > 0.0)
    });
    let paces: Vec<f64> = paces.collect();
    (!paces.is_empty()).then(|| paces.iter().sum::<f64>() / paces.len() as f64)
}

#[cfg(test)]
mod tests {
    use quartet_shared::ids::Epoch;
    use quartet_shared::progress::{Phase, Progress};
    use quartet_shared::provenance::Provenance;
    use quartet_shared::secret::SecretHash;
    use quartet_shared::spec::Backbone;
    use quartet_shared::task::LeaseId;

    use super::*;
    use crate::scheduler::{Config, History, RunSettings, WorkerInfo};

    #[test]
    fn runs_that_wait_are_spread_over_the_workers() {
        for (loads, waiting, all) in [
            (vec![10.0, 4.0], vec![], Some(10.0)),
            (vec![10.0, 4.0], vec![5.0], Some(10.0)),
            (vec![10.0, 4.0], vec![5.0, 3.0], Some(12.0)),
            (vec![0.0], vec![5.0, 3.0], Some(8.0)),
            (vec![], vec![5.0], None),
        ] {
            assert_eq!(makespan(loads, waiting), all);
        }
    }

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    /// Two runs of three epochs, the second of which costs twice as much.
    fn scheduler() -> Scheduler {
        let run = |name: &str, cost| RunSettings {
            name: name.parse().unwrap(),
            backbone: Backbone::Vgg16,
            epochs: 3,
            patience: 3,
            cost,
            has_weight: true,
        };
        let runs = vec![run("a", 1.0), run("b", 2.0)];
        let id = "x-1".parse().unwrap();
        Scheduler::new(id, Config::default(), runs, History::default())
    }

    fn join(scheduler: &mut Scheduler, worker: &str, now: Now) -> LeaseId {
        let info = WorkerInfo {
            id: worker.parse().unwrap(),
            name: worker.to_owned(),
            device: "none".to_owned(),
            secret: SecretHash::default(),
            provenance: Provenance::default(),
            stays: false,
            precisions: Vec::new(),
        };
        let _ = scheduler.join(info, None, now);
        let lease = scheduler.assign(now).remove(0).lease;
        scheduler.end_grant(&lease, true, now).unwrap();
        lease
    }

    fn report(scheduler: &mut Scheduler, lease: &LeaseId, step: u32, now: Now) {
        let progress = Progress {
            phase: Phase::Training,
            epoch: Epoch(1),
            step,
            steps: 10,
            ..Progress::preparing(3)
        };
        let held = Some((lease.clone(), progress));
        let _ = scheduler.heartbeat(&lease.worker, held, now).unwrap();
    }

    #[test]
    fn the_first_epoch_tells_how_long_all_take() {
        let mut scheduler = scheduler();
        assert_eq!(of_experiment(&scheduler, at(0)), None, "nobody is there");
        let lease = join(&mut scheduler, "w1", at(0));
        assert_eq!(lease.task.to_string(), "b", "the longer one goes first");
        report(&mut scheduler, &lease, 0, at(1));
        assert_eq!(of_experiment(&scheduler, at(1)), None, "nothing is known");
        // Half of an epoch of 20 s: 50 s are left, and 3 epochs of 10 s of the run that waits.
        report(&mut scheduler, &lease, 5, at(11));
        let seconds = |eta: Option<Duration>| eta.map(|eta| eta.as_secs());
        assert_eq!(seconds(of_run(&scheduler.runs()[1], at(11))), Some(50));
        assert_eq!(seconds(of_experiment(&scheduler, at(11))), Some(80));
        // A second worker takes that one.
        let second = join(&mut scheduler, "w2", at(11));
        assert_eq!(seconds(of_experiment(&scheduler, at(11))), Some(50));
        report(&mut scheduler, &second, 0, at(11));
        // A run without its worker has no time of its own.
        scheduler.disconnected(&lease.worker, at(12));
        assert_eq!(of_run(&scheduler.runs()[1], at(12)), None);
    }
}
