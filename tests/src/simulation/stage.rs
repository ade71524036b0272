//! Where a simulation plays: its hosts, its store, its chance.

use std::sync::Arc;
use std::time::Duration;

use quartet_shared::outcome::Outcome;
use quartet_store::layout::Layout;
use quartet_store::manifest::Manifest;
use tokio::runtime::Runtime;
use turmoil::Sim;

use super::Played;
use super::check::{self, read};
use super::dice::Dice;
use super::faulty_store::FaultyStore;
use super::hosts::World;

/// Virtual time between two looks at the network.
const TICK: Duration = Duration::from_millis(20);
/// Virtual time after which an experiment that nothing disturbs any more must have finished.
const PATIENCE: Duration = Duration::from_secs(240);

pub(super) struct Stage {
    seed: u64,
    pub(super) dice: Arc<Dice>,
    pub(super) objects: FaultyStore,
    world: World,
    /// Runs what is no part of the simulation.
    pub(super) outside: Runtime,
}

impl Stage {
    pub(super) fn new(seed: u64) -> Result<Self, String> {
        let dice = Arc::new(Dice::new(seed));
        let objects = FaultyStore::new(Arc::clone(&dice));
        let outside = tokio::runtime::Builder::new_current_thread().build();
        Ok(Self {
            seed,
            world: World::new(&dice, &objects),
            dice,
            objects,
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
        while self.world.ending().is_none() {
            let now = sim.elapsed();
            disturb(now, &mut sim);
            if now > end + PATIENCE {
                return Err(format!("not finished after {now:?}"));
            }
            sim.step().map_err(|e| e.to_string())?;
        }
        let checked = check::check(&self.world, &self.objects);
        Ok(Played {
            coverage: self.outside.block_on(checked)?,
            took: sim.elapsed(),
            next_number: self.dice.number(),
        })
    }

    /// Changes a byte of the first run's best weights, if all runs have finished.
    pub(super) fn damage_best_of_finished(&self) -> bool {
        let layout = Layout::new(self.world.spec.name.clone());
        self.outside.block_on(async {
            let mut best = None;
            for run in self.world.spec.runs.iter().rev() {
                let outcome = layout.outcome(&run.name);
                let Ok(outcome) = read::<Outcome>(&self.objects, &outcome).await else {
                    return false;
                };
                best = Some(layout.manifest(&run.name, outcome.best_epoch));
            }
            let best = best.expect("an experiment has runs");
            let Ok(best) = read::<Manifest>(&self.objects, &best).await else {
                return false;
            };
            self.objects.damage(&best.weights.key).await
        })
    }
}
