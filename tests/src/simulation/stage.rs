//! Where a simulation plays: its hosts, its store, its chance.

use std::sync::Arc;
use std::time::Duration;

use quartet_shared::outcome::Outcome;
use quartet_store::evaluation::newest_evaluation;
use quartet_store::layout::Layout;
use quartet_store::manifest::Manifest;
use tokio::runtime::Runtime;
use turmoil::Sim;

use super::Played;
use super::check::{self, Coverage, read};
use super::dice::Dice;
use super::faulty_store::Mood;
use super::hosts::{Cast, World};
use super::simulated::Simulated;

/// Virtual time between two looks at the network.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// Virtual time after which an experiment that nothing disturbs any more must have finished.
const PATIENCE: Duration = Duration::from_secs(240);

pub(super) struct Stage {
    seed: u64,
    pub(super) dice: Arc<Dice>,
    pub(super) world: World,
    /// Runs what is no part of the simulation.
    pub(super) outside: Runtime,
}

impl Stage {
    pub(super) fn new(seed: u64, cast: Cast) -> Result<Self, String> {
        let dice = Arc::new(Dice::new(seed));
        let outside = tokio::runtime::Builder::new_current_thread().build();
        Ok(Self {
            seed,
            world: World::new(&dice, cast),
            dice,
            outside: outside.map_err(|e| e.to_string())?,
        })
    }

    /// Plays until the experiment has ended, then looks at what has come of it. `disturb` is called between
    /// two ticks, and disturbs nothing any more when `end` is over.
    pub(super) fn play(
        &self,
        end: Duration,
        mut disturb: impl FnMut(Duration, &mut Sim<'_>),
    ) -> Result<Played, String> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.seed)
            .tick_duration(TICK)
            .simulation_duration(end + PATIENCE * 2)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(60))
            .tcp_capacity(1024)
            .build();
        self.world.start(&mut sim);
        while !self.world.has_ended() {
            let now = sim.elapsed();
            disturb(now, &mut sim);
            if now > end + PATIENCE {
                return Err(format!("not finished after {now:?}"));
            }
            sim.step().map_err(|e| e.to_string())?;
        }
        let mut coverage = Coverage {
            pauses: self.world.paused(),
            ..Coverage::default()
        };
        for experiment in &self.world.experiments {
            coverage += self.outside.block_on(check::check(experiment))?;
        }
        Ok(Played {
            coverage,
            took: sim.elapsed(),
            next_number: self.dice.number(),
        })
    }

    /// Has all stores behave like this.
    pub(super) fn set(&self, mood: Mood) {
        for experiment in &self.world.experiments {
            experiment.objects.set(mood);
        }
    }

    /// Whether an ensemble is evaluated.
    pub(super) fn has_evaluation(&self) -> bool {
        let Simulated { spec, objects, .. } = &self.world.experiments[0];
        let (store, layout) = (objects.healthy(), Layout::new(spec.name.clone()));
        let newest = newest_evaluation(&store, &layout);
        matches!(self.outside.block_on(newest), Ok(Some(_)))
    }

    /// Changes a byte of the first run's best weights, if all runs have finished.
    pub(super) fn damage_best_of_finished(&self) -> bool {
        let Simulated { spec, objects, .. } = &self.world.experiments[0];
        let layout = Layout::new(spec.name.clone());
        self.outside.block_on(async {
            let mut best = None;
            for run in spec.runs.iter().rev() {
                let outcome = layout.outcome(&run.name);
                let Ok(outcome) = read::<Outcome>(objects, &outcome).await else {
                    return false;
                };
                best = Some(layout.manifest(&run.name, outcome.best_epoch));
            }
            let best = best.expect("an experiment has runs");
            let Ok(best) = read::<Manifest>(objects, &best).await else {
                return false;
            };
            objects.damage(&best.weights.key).await
        })
    }
}
