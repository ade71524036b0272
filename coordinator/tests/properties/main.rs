//! Property tests: the invariants hold over random sequences of events, whatever workers claim, whenever
//! they vanish, and however often the coordinator is started again.
//!
//! `world` applies each event to the scheduler and to a small reference model, which says what the
//! answer must be. Its assertions begin with the name of the property that they check.

mod world;

use proptest::prelude::*;

use world::{Remaining, World};

/// A lease that an event names.
#[derive(Clone, Copy, Debug)]
enum Pick {
    /// A live one.
    Live(usize),
    /// Any lease that was ever granted, most of them stale.
    Any(usize),
    /// A lease of another experiment, with the same task, attempt and worker as one of these.
    Foreign(usize),
}

/// How the write of a manifest ends.
#[derive(Clone, Copy, Debug)]
enum CommitFate {
    /// It is in the store, with this validation accuracy.
    Written(u8),
    /// It could not be written.
    GivenUp,
    /// An older coordinator has written this epoch.
    Foreign(u8),
}

#[derive(Clone, Debug)]
enum Event {
    Join {
        worker: usize,
        held: Option<Pick>,
    },
    JoinAgain {
        worker: usize,
    },
    Heartbeat {
        worker: usize,
        names: Option<Pick>,
        step: u32,
    },
    HeartbeatOwn {
        worker: usize,
        step: u32,
    },
    BeginCommit {
        lease: Pick,
        offset: u32,
    },
    BeginStep {
        lease: Pick,
        offset: u32,
        step: u32,
    },
    EndCommit {
        ticket: usize,
        end: CommitFate,
    },
    EndGrant {
        ticket: usize,
        recorded: bool,
    },
    BeginRollback {
        lease: Pick,
    },
    EndRollback {
        ticket: usize,
        back_to: Option<usize>,
    },
    /// An older coordinator commits the next epoch under a lease that it granted, and this one finds out.
    LateCommit {
        lease: Pick,
        accuracy: u8,
    },
    Drain {
        worker: usize,
        for_good: bool,
    },
    BeginComplete {
        lease: Pick,
    },
    EndComplete {
        ticket: usize,
        written: bool,
    },
    BeginKeep {
        lease: Pick,
    },
    EndKeep {
        ticket: usize,
        kept: bool,
    },
    /// A whole epoch, then completion where due.
    Work {
        lease: Pick,
        accuracy: u8,
    },
    Fail {
        lease: Pick,
        is_repeatable: bool,
    },
    Release {
        lease: Pick,
    },
    Disconnect {
        worker: usize,
    },
    Lost {
        worker: usize,
    },
    Wait {
        millis: u64,
    },
    Decide {
        /// Whether the records of new leases take a while to be written.
        slow: bool,
    },
    /// The coordinator has not run for a while, as when its machine sleeps.
    Resumed,
    /// The coordinator is killed and started again; its writes in progress `landed` in the store or not.
    Restart {
        landed: bool,
    },
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        12 => any::<usize>().prop_map(Pick::Live),
        4 => any::<usize>().prop_map(Pick::Any),
        1 => any::<usize>().prop_map(Pick::Foreign),
    ]
}

fn fate() -> impl Strategy<Value = CommitFate> {
    prop_oneof![
        8 => any::<u8>().prop_map(CommitFate::Written),
        2 => Just(CommitFate::GivenUp),
        1 => any::<u8>().prop_map(CommitFate::Foreign),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    use Event::*;
    let worker = 0..world::WORKERS;
    prop_oneof![
        4 => (worker.clone(), proptest::option::of(pick())).prop_map(|(worker, held)| Join { worker, held }),
        8 => worker.clone().prop_map(|worker| JoinAgain { worker }),
        2 => (worker.clone(), proptest::option::of(pick()), 0..4u32)
            .prop_map(|(worker, names, step)| Heartbeat { worker, names, step }),
        10 => (worker.clone(), 0..4u32).prop_map(|(worker, step)| HeartbeatOwn { worker, step }),
        8 => (pick(), prop_oneof![6 => Just(1u32), 1 => 0..4u32])
            .prop_map(|(lease, offset)| BeginCommit { lease, offset }),
        4 => (pick(), 0..2u32, 1..5u32)
            .prop_map(|(lease, offset, step)| BeginStep { lease, offset, step }),
        8 => (any::<usize>(), fate()).prop_map(|(ticket, end)| EndCommit { ticket, end }),
        4 => (any::<usize>(), proptest::bool::weighted(0.8))
            .prop_map(|(ticket, recorded)| EndGrant { ticket, recorded }),
        2 => pick().prop_map(|lease| BeginRollback { lease }),
        2 => (any::<usize>(), proptest::option::of(0..4usize))
            .prop_map(|(ticket, back_to)| EndRollback { ticket, back_to }),
        1 => (pick(), any::<u8>()).prop_map(|(lease, accuracy)| LateCommit { lease, accuracy }),
        1 => (worker.clone(), any::<bool>()).prop_map(|(worker, for_good)| Drain { worker, for_good }),
        4 => pick().prop_map(|lease| BeginComplete { lease }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(ticket, written)| EndComplete { ticket, written }),
        3 => pick().prop_map(|lease| BeginKeep { lease }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(ticket, kept)| EndKeep { ticket, kept }),
        6 => (pick(), any::<u8>()).prop_map(|(lease, accuracy)| Work { lease, accuracy }),
        3 => (pick(), proptest::bool::weighted(0.2))
            .prop_map(|(lease, is_repeatable)| Fail { lease, is_repeatable }),
        2 => pick().prop_map(|lease| Release { lease }),
        3 => worker.clone().prop_map(|worker| Disconnect { worker }),
        2 => worker.prop_map(|worker| Lost { worker }),
        8 => prop_oneof![3 => 0..4_000u64, 1 => 0..40_000u64].prop_map(|millis| Wait { millis }),
        16 => proptest::bool::weighted(0.2).prop_map(|slow| Decide { slow }),
        1 => Just(Resumed),
        2 => any::<bool>().prop_map(|landed| Restart { landed }),
    ]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    proptest::collection::vec(event(), 1..150)
}

/// How many sequences of events are tried; `PROPTEST_CASES` says otherwise.
fn cases() -> u32 {
    let told = std::env::var("PROPTEST_CASES").ok();
    told.map_or(10_000, |cases| {
        cases.parse().expect("PROPTEST_CASES is a number")
    })
}

fn apply(world: &mut World, event: &Event) {
    match *event {
        Event::Join { worker, held } => world.join(worker, held),
        Event::JoinAgain { worker } => world.join_again(worker),
        Event::Heartbeat {
            worker,
            names,
            step,
        } => world.heartbeat(worker, names, step),
        Event::HeartbeatOwn { worker, step } => world.heartbeat_own(worker, step),
        Event::BeginCommit { lease, offset } => world.begin_commit(lease, offset),
        Event::BeginStep {
            lease,
            offset,
            step,
        } => world.begin_step(lease, offset, step),
        Event::EndCommit { ticket, end } => world.end_commit(ticket, end),
        Event::EndGrant { ticket, recorded } => world.end_grant(ticket, recorded),
        Event::BeginRollback { lease } => world.begin_rollback(lease),
        Event::EndRollback { ticket, back_to } => world.end_rollback(ticket, back_to),
        Event::LateCommit { lease, accuracy } => world.late_commit(lease, accuracy),
        Event::Drain { worker, for_good } => world.drain(worker, for_good),
        Event::BeginComplete { lease } => world.begin_complete(lease),
        Event::EndComplete { ticket, written } => world.end_complete(ticket, written),
        Event::BeginKeep { lease } => world.begin_keep(lease),
        Event::EndKeep { ticket, kept } => world.end_keep(ticket, kept),
        Event::Work { lease, accuracy } => world.work(lease, accuracy),
        Event::Fail {
            lease,
            is_repeatable,
        } => world.fail(lease, is_repeatable),
        Event::Release { lease } => world.release(lease),
        Event::Disconnect { worker } => world.disconnect(worker),
        Event::Lost { worker } => world.lost(worker),
        Event::Wait { millis } => world.wait(millis),
        Event::Decide { slow } => world.decide(slow),
        Event::Resumed => world.resumed(),
        Event::Restart { landed } => world.restart(landed),
    }
    world.check_view();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Leases are exclusive and fenced, epochs are committed once and in order, attempts grow, retries
    /// are bounded, deadlines lie ahead.
    #[test]
    fn the_invariants_hold_after_every_event(events in events()) {
        let mut world = World::new();
        for event in &events {
            apply(&mut world, event);
        }
    }

    /// From any state, one healthy worker finishes the experiment, whether the others have gone, are
    /// silent, or hold their tasks without progress.
    #[test]
    fn one_healthy_worker_ends_the_experiment(
        events in events(),
        others in prop_oneof![Just(Remaining::Gone), Just(Remaining::Silent), Just(Remaining::Stuck)],
        landed in any::<bool>(),
    ) {
        let mut world = World::new();
        for event in &events {
            apply(&mut world, event);
        }
        world.finish_with_one_worker(others, landed);
    }
}
