use insta::assert_snapshot;
use quartet_proto::v1;
use quartet_status::snapshot::Snapshot;

use super::*;

/// A run that trains, one that waits, and a worker of a name that somebody has chosen to do harm.
fn wire() -> v1::Snapshot {
    let progress = v1::Progress {
        phase: v1::Phase::Training.into(),
        epoch: 3,
        epochs: 8,
        step: 44,
        steps: 176,
        images_per_second: 12.34,
        ..Default::default()
    };
    let metrics = v1::EpochMetrics {
        valid_loss: 1.25,
        valid_accuracy: 0.5,
        ..Default::default()
    };
    let run = |name: &str| v1::RunStatus {
        name: name.into(),
        backbone: "vgg16".into(),
        epochs: 8,
        ..Default::default()
    };
    v1::Snapshot {
        experiment: "demo".into(),
        term: 1,
        state: v1::ExperimentState::Training.into(),
        workers_expected: 2,
        uptime_ms: 65_000,
        runs: vec![
            v1::RunStatus {
                state: v1::TaskState::Leased.into(),
                attempt: 1,
                worker: "<script>alert(1)</script>".into(),
                epochs_committed: 2,
                metrics: Some(metrics),
                early_stopping: Some(v1::EarlyStopping {
                    best_epoch: 2,
                    best_valid_accuracy: 0.5,
                    wait: 0,
                }),
                progress: Some(progress),
                eta_ms: Some(600_000),
                ..run("first")
            },
            v1::RunStatus {
                state: v1::TaskState::Pending.into(),
                reason: "worker \"x\" & y\nwas lost".into(),
                ..run("second")
            },
        ],
        workers: vec![worker("<script>alert(1)</script>")],
        evaluation: Some(v1::EvaluationStatus {
            state: v1::TaskState::Blocked.into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn worker(name: &str) -> v1::WorkerStatus {
    v1::WorkerStatus {
        id: "w1".into(),
        name: name.into(),
        device: "CPU".into(),
        state: v1::WorkerState::Busy.into(),
        task: Some(v1::Task {
            kind: Some(v1::task::Kind::Run("first".into())),
        }),
        since_heartbeat_ms: 100,
        ..Default::default()
    }
}

fn snapshot(wire: v1::Snapshot) -> Snapshot {
    wire.try_into().unwrap()
}

#[test]
fn the_fleet_is_shown_and_foreign_text_is_escaped() {
    let html = Part::Fleet.html(&snapshot(wire()), None);
    assert!(!html.contains("<script"), "{html}");
    assert_snapshot!(html, @"");
}

#[test]
fn a_page_has_a_place_for_each_part() {
    let page = document(&snapshot(wire()), None);
    for part in Part::ALL {
        assert!(
            page.contains(&format!("<div id=\"{}\">", part.id())),
            "{page}"
        );
        assert!(SCRIPT.contains(part.id()));
    }
    assert_eq!(page.matches("<script").count(), 1, "its own alone");
    assert!(style().contains("prefers-color-scheme: dark"));
}

#[test]
fn a_large_fleet_is_cut() {
    let mut wire = wire();
    wire.workers = (0..1000)
        .map(|number| worker(&format!("w{number}")))
        .collect();
    let html = Part::Fleet.html(&snapshot(wire), None);
    assert!(html.contains("and 950 more"));
    assert_eq!(html.matches("<tr><th>w").count(), 50);
}
