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
        input_wait: None,
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
    assert_snapshot!(html, @r#"
    <header>
    <p class="kind">experiment</p>
    <h1>demo</h1>
    <p class="standing"><strong class="training">training</strong> 0 of 2 runs finished · 1 of 2 workers · up 1 min 05 s</p>
    <p class="trouble">second waits for a worker again: worker &#34;x&#34; &#38; y was lost</p>
    </header>
    <section>
    <h2>Runs</h2>
    <div class="wide"><table class="runs">
    <thead><tr><th>run</th><th>state</th><th class="minor">worker</th><th class="n">epoch</th><th class="minor">progress</th>
    <th class="n minor">images/s</th><th class="n minor">valid loss</th><th class="n minor">valid accuracy</th><th class="n">best (epoch)</th><th class="n">ETA</th></tr></thead>
    <tbody>
    <tr><th><a href="logs/first" title="log">first</a></th><td class="state-leased">training</td><td class="minor">&#60;script&#62;alert(1)&#60;/script&#62;</td>
    <td class="n">2/8</td><td class="bar minor"><progress max="1" value="0.281" aria-label="first">28 %</progress></td>
    <td class="n minor">12.3</td><td class="n minor">1.250</td><td class="n minor">50.00 %</td><td class="n">50.00 % (2)</td><td class="n">10 min</td></tr>
    <tr><th><a href="logs/second" title="log">second</a></th><td class="state-pending">pending</td><td class="minor"></td>
    <td class="n">0/8</td><td class="bar minor"><progress max="1" value="0" aria-label="second">0 %</progress></td>
    <td class="n minor"></td><td class="n minor"></td><td class="n minor"></td><td class="n"></td><td class="n"></td></tr>
    </tbody></table></div>
    </section>
    <section>
    <h2>Workers</h2>
    <div class="wide"><table class="workers">
    <thead><tr><th>worker</th><th>state</th><th>task</th><th class="minor">device</th><th class="minor">GPU</th><th class="n">last heartbeat</th></tr></thead>
    <tbody>
    <tr><th>&#60;script&#62;alert(1)&#60;/script&#62;</th><td class="state-busy">busy</td><td>first</td>
    <td class="minor">CPU</td><td class="minor"></td><td class="n">now</td></tr>
    </tbody></table></div>
    </section>
    "#);
}

#[test]
fn a_page_has_a_place_for_each_part() {
    let page = document(&snapshot(wire()), None, &[]);
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
    let (_, workers) = html.split_once("<h2>Workers</h2>").unwrap();
    assert_eq!(workers.matches("<tr><th>w").count(), 51, "and the header");
}
