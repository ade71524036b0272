//! The whole fleet in one thread and in virtual time: the real coordinator, the real agents of the workers,
//! gRPC over a simulated network, an object store that fails, and an executor that hashes. Chance decides
//! what goes wrong and when, from a seed. With the same seed the same goes wrong at the same time, but for
//! the order in which a server that stops takes its last calls.
//!
//! - `fault_plan`: what goes wrong; `stage`: where and until when
//! - `hosts`: the programs; `simulated`: the experiment
//! - `faulty_store`: the store; `executor`: the training; `dice`: chance
//! - `check`: what must have come of it

mod check;
mod dice;
pub mod executor;
mod fault_plan;
mod faulty_store;
mod hosts;
mod simulated;
mod stage;

use std::time::Duration;

pub use check::Coverage;
use fault_plan::FaultPlan;
use faulty_store::Mood;
use hosts::Cast;
use stage::Stage;

/// How long nothing can be deleted in a store that needs it.
const UNDELETABLE: Duration = Duration::from_secs(60);

/// How a simulation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// What it went through.
    pub coverage: Coverage,
    /// Virtual time until the experiment had ended.
    pub took: Duration,
    /// The next number that chance would have given: another one when any decision was made in another order.
    pub next_number: u64,
}

/// Simulates a fleet from its start to the end of its experiment.
///
/// # Errors
/// What is not as it must be.
pub fn run(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Spare)?;
    play(&stage, FaultPlan::new(&stage.dice))
}

/// Simulates a fleet whose coordinator's host takes turns at two experiments, of the same name and with the
/// same runs, so that workers come to the one with leases of the other.
///
/// # Errors
/// What is not as it must be.
pub fn run_with_another_experiment(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Stranger)?;
    play(&stage, FaultPlan::restarts(&stage.dice))
}

/// Simulates a fleet whose experiment is changed twice: while it is trained, or when it has finished. It ends
/// as one that had its last form from the start.
///
/// # Errors
/// What is not as it must be.
pub fn run_with_changes(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Growing)?;
    play(&stage, FaultPlan::with_restarts(&stage.dice))
}

/// Simulates a fleet whose experiment has a run that fails for good: the ensemble of the others is evaluated.
///
/// # Errors
/// What is not as it must be.
pub fn run_with_a_broken_run(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Broken)?;
    play(&stage, FaultPlan::with_restarts(&stage.dice))
}

/// The same in which nothing goes wrong but, once the ensemble is evaluated, one call of the store in three:
/// what the coordinator has to say of the end is not lost.
///
/// # Errors
/// What is not as it must be.
pub fn run_with_a_broken_run_in_a_flaky_store(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Broken)?;
    let mut is_flaky = false;
    stage.play(Duration::ZERO, |_, _| {
        if !is_flaky && stage.has_evaluation() {
            stage.set(Mood::Flaky);
            is_flaky = true;
        }
    })
}

/// Simulates a fleet of two coordinators of one queue, to which three experiments are submitted, of which one
/// may be cancelled and come again.
///
/// # Errors
/// What is not as it must be.
pub fn run_with_a_queue(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Queue)?;
    play(&stage, FaultPlan::with_restarts(&stage.dice))
}

/// Simulates a fleet in which nothing goes wrong, but that its coordinator does not run for a while.
///
/// # Errors
/// What is not as it must be; a lease was lost.
pub fn run_with_pauses(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Single)?;
    let played = play(&stage, FaultPlan::pauses(&stage.dice))?;
    match played.coverage.further_attempts {
        0 => Ok(played),
        lost => Err(format!("{lost} leases were lost")),
    }
}

fn play(stage: &Stage, mut plan: FaultPlan) -> Result<Played, String> {
    let played = stage.play(plan.end(), |now, sim| plan.apply(now, sim, stage));
    played.map_err(|problem| format!("{problem}; {plan:?}"))
}

/// Damages the best weights of a run when all have finished, in a store in which nothing can be deleted for
/// the next minute. A rollback that was given up in the middle would leave a run that is finished and has
/// no outcome.
///
/// # Errors
/// What is not as it must be.
pub fn run_with_best_damaged_in_undeletable_store(seed: u64) -> Result<Played, String> {
    let stage = Stage::new(seed, Cast::Spare)?;
    let mut end = None;
    stage.play(UNDELETABLE, |now, _| match end {
        None => {
            if stage.damage_best_of_finished() {
                stage.set(Mood::Undeletable);
                end = Some(now + UNDELETABLE);
            }
        }
        Some(end) if now >= end => stage.set(Mood::Well),
        Some(_) => {}
    })
}
