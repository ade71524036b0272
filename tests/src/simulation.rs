//! The whole fleet in one thread and in virtual time: the real coordinator, the real agents of the workers, gRPC over a simulated
//! network, an object store that fails, and a trainer that hashes. Chance decides what goes wrong and when, from a seed; with
//! the same seed the same goes wrong at the same time, but for the order in which a server that stops takes its last calls.
//!
//! - `story`: what goes wrong
//! - `hosts`: the programs
//! - `objects`: the store; `compute`: the trainer; `dice`: chance
//! - `check`: what must have come of it

mod check;
pub mod compute;
mod dice;
mod hosts;
mod objects;
mod story;

use std::sync::Arc;
use std::time::Duration;

pub use check::Coverage;
use dice::Dice;
use hosts::World;
use objects::Moody;
use story::Story;

/// Virtual time between two looks at the network.
const TICK: Duration = Duration::from_millis(20);
/// Virtual time after which an experiment that nothing disturbs any more must have finished.
const PATIENCE: Duration = Duration::from_secs(240);

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
    let dice = Arc::new(Dice::new(seed));
    let objects = Moody::new(Arc::clone(&dice));
    let world = World::new(&dice, &objects);
    let mut story = Story::new(&dice);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(story.end() + PATIENCE * 2)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(60))
        .tcp_capacity(1024)
        .build();
    world.start(&mut sim);
    let outside = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| e.to_string())?;
    let mut damaged = Vec::new();
    while world.ending().is_none() {
        let now = sim.elapsed();
        story.tell(now, &mut sim, &objects, &dice, &outside, &mut damaged);
        if now > story.end() + PATIENCE {
            return Err(format!("not finished after {now:?}; {story:?}"));
        }
        sim.step().map_err(|e| format!("{e}; {story:?}"))?;
    }
    let checked = outside.block_on(check::check(&world, &objects, &damaged));
    Ok(Played {
        coverage: checked.map_err(|problem| format!("{problem}; {story:?}"))?,
        took: sim.elapsed(),
        next_number: dice.number(),
    })
}
