//! What goes wrong in a simulation, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use turmoil::Sim;

use super::dice::Dice;
use super::faulty_store::Mood;
use super::hosts::{COORDINATORS, WORKERS};
use super::stage::Stage;

/// Virtual time within which things go wrong.
const TROUBLE: Duration = Duration::from_secs(40);

/// One thing that goes wrong, or is mended.
#[derive(Clone, Copy, Debug)]
enum Event {
    Crash(&'static str),
    Start(&'static str),
    /// No message gets through.
    Partition(&'static str, &'static str),
    Repair(&'static str, &'static str),
    /// Messages are late.
    Hold(&'static str, &'static str),
    Release(&'static str, &'static str),
    Mood(Mood),
    /// A coordinator does not run for a while.
    Pause(&'static str, Duration),
    /// A byte of some checkpoint changes.
    Damage(usize),
    /// Steps begin to fail.
    Fail(u32),
}

/// All of it, in order.
pub(super) struct FaultPlan {
    events: Vec<(Duration, Event)>,
    applied: usize,
    end: Duration,
    /// Hosts that are down, with the number of crashes that keep them so.
    down: BTreeMap<&'static str, u32>,
}

impl FaultPlan {
    /// Nothing but pauses of the only coordinator.
    pub(super) fn pauses(dice: &Dice) -> Self {
        let events = (0..=dice.below(5)).map(|_| {
            // While it trains, even if that does not take long.
            let at = Duration::from_millis(dice.within(0..12_000));
            let pause = Duration::from_millis(dice.within(3_000..60_000));
            (at, Event::Pause(COORDINATORS[0], pause))
        });
        Self::of(events.collect())
    }

    /// Nothing but restarts of the only coordinator.
    pub(super) fn restarts(dice: &Dice) -> Self {
        let (mut events, mut at) = (Vec::new(), Duration::ZERO);
        for _ in 0..2 + dice.below(8) {
            at += Duration::from_millis(dice.within(500..8_000));
            events.push((at, Event::Crash(COORDINATORS[0])));
            at += Duration::from_millis(dice.within(50..2_000));
            events.push((at, Event::Start(COORDINATORS[0])));
        }
        Self::of(events)
    }

    /// All that can go wrong, and restarts of a coordinator.
    pub(super) fn with_restarts(dice: &Dice) -> Self {
        let mut events = Self::restarts(dice).events;
        events.extend(Self::new(dice).events);
        Self::of(events)
    }

    pub(super) fn new(dice: &Dice) -> Self {
        let mut events = Vec::new();
        let hosts = [&COORDINATORS[..], &WORKERS[..]].concat();
        for _ in 0..dice.below(9) {
            let begin = Duration::from_millis(dice.within(0..TROUBLE.as_millis() as u64));
            let end = begin + Duration::from_millis(dice.within(50..25_000));
            let one = hosts[dice.below(hosts.len())];
            let other = COORDINATORS[dice.below(COORDINATORS.len())];
            let (event, undo) = match dice.below(12) {
                0..=2 => (Event::Crash(one), Some(Event::Start(one))),
                3..=4 if one != other => (
                    Event::Partition(one, other),
                    Some(Event::Repair(one, other)),
                ),
                5 if one != other => (Event::Hold(one, other), Some(Event::Release(one, other))),
                6 => (Event::Mood(Mood::Slow), Some(Event::Mood(Mood::Well))),
                7 => (Event::Mood(Mood::Flaky), Some(Event::Mood(Mood::Well))),
                8 => (Event::Mood(Mood::Down), Some(Event::Mood(Mood::Well))),
                9 => (Event::Mood(Mood::Contested), Some(Event::Mood(Mood::Well))),
                10 => (Event::Pause(other, end - begin), None),
                11 if dice.chance(0.5) => (Event::Fail(2), None),
                _ => (Event::Damage(dice.below(1000)), None),
            };
            events.push((begin, event));
            events.extend(undo.map(|undo| (end, undo)));
        }
        Self::of(events)
    }

    fn of(mut events: Vec<(Duration, Event)>) -> Self {
        events.sort_by_key(|(at, _)| *at);
        let end = events.last().map_or(Duration::ZERO, |(at, _)| *at);
        Self {
            events,
            applied: 0,
            end,
            down: BTreeMap::new(),
        }
    }

    /// When all is well again.
    pub(super) fn end(&self) -> Duration {
        self.end
    }

    /// Has everything happen that is due.
    pub(super) fn apply(&mut self, now: Duration, sim: &mut Sim<'_>, stage: &Stage) {
        let Stage {
            dice,
            world,
            outside,
            ..
        } = stage;
        let objects = &world.experiments[0].objects;
        while let Some(&(_, event)) = self.events.get(self.applied).filter(|(at, _)| *at <= now) {
            self.applied += 1;
            tracing::info!(?now, ?event, "fault");
            match event {
                Event::Crash(host) => {
                    let crashes = self.down.entry(host).or_default();
                    *crashes += 1;
                    if *crashes == 1 {
                        sim.crash(host);
                    }
                }
                Event::Start(host) => {
                    let crashes = self.down.entry(host).or_default();
                    *crashes -= 1;
                    if *crashes == 0 {
                        sim.bounce(host);
                    }
                }
                Event::Partition(one, other) => sim.partition(one, other),
                Event::Repair(one, other) => sim.repair(one, other),
                Event::Hold(one, other) => sim.hold(one, other),
                Event::Release(one, other) => sim.release(one, other),
                Event::Mood(mood) => stage.set(mood),
                Event::Pause(host, pause) => world.pause(host, pause),
                Event::Fail(steps) => dice.allow_failures(steps),
                Event::Damage(index) => outside.block_on(async {
                    let keys = objects.keys("simulated/runs").await;
                    let blobs: Vec<_> = keys
                        .into_iter()
                        .filter(|key| key.ends_with(".safetensors"))
                        .collect();
                    if !blobs.is_empty() {
                        let key = &blobs[index % blobs.len()];
                        objects.damage(key).await;
                    }
                }),
            }
        }
    }
}

impl std::fmt::Debug for FaultPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(&self.events[..self.applied])
            .finish()
    }
}
