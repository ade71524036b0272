use insta::assert_snapshot;
use quartet_shared::gpu::GpuUse;
use quartet_shared::ids::Revision;
use quartet_shared::terminal::columns;

use super::super::*;
use crate::snapshot::TaskState;
use crate::tests::sample;

#[test]
fn before_the_first_worker() {
    assert_snapshot!(table(&sample::waiting(), 120), @"
    experiment fer2013: waiting, 0 of 4 workers, up 3.0 s

    run                  state       worker            epoch       step   img/s  valid loss acc  best (epoch)         ETA
    inception_resnet_v2  pending                         0/8
    vgg16                pending                         0/8
    resnet50             pending                         0/8
    inception_v3         pending                         0/8

    no workers yet: join with `worker --coordinator HOST:PORT`
    ");
}

#[test]
fn while_training() {
    assert_snapshot!(table(&sample::training(), 120), @"
    experiment fer2013: training, 2 of 4 workers, ETA 3 h 26 min, up 12 min 05 s

    run                  state       worker            epoch       step   img/s  valid loss acc  best (epoch)         ETA
    inception_resnet_v2  preparing   gpu-0@node7         0/8
    vgg16                training    gpu-1@node7         4/8    120/898    1234  1.30 46.0 %     47.0 % (2)    1 h 05 min
    resnet50             pending                         0/8
    inception_v3         pending                         0/8

    worker       device                state          task                  last heartbeat
    gpu-0@node7  cuda:0 (NVIDIA H200)  busy           inception_resnet_v2        0.4 s ago
    gpu-1@node7  cuda:1 (NVIDIA H200)  busy           vgg16                      0.4 s ago
    gpu-2@node7  cuda:2 (NVIDIA H200)  lost                                      0.4 s ago

    resnet50: its last attempt ended: worker gpu-2@node7 was lost: no heartbeat for 15 s
    ");
}

#[test]
fn a_device_that_waits_for_its_input_is_said_to() {
    let line = |share| {
        let mut snapshot = sample::training();
        let progress = snapshot.runs[1].progress.as_mut().unwrap();
        progress.input_wait = share;
        let table = table(&snapshot, 120);
        let mut lines = table.lines().map(str::to_owned);
        lines.find(|line| line.contains("waits for input"))
    };
    assert_eq!(line(None), None);
    assert_eq!(line(Some(0.09)), None);
    let said = "vgg16: its device waits for input 23 % of the time".to_owned();
    assert_eq!(line(Some(0.234)), Some(said));
}

#[test]
fn narrow_terminals_show_what_matters_most() {
    assert_snapshot!(table(&sample::training(), 80), @"
    experiment fer2013: training, 2 of 4 workers, ETA 3 h 26 min, up 12 min 05 s

    run                  state       epoch  valid loss acc  best (epoch)         ETA
    inception_resnet_v2  preparing     0/8
    vgg16                training      4/8  1.30 46.0 %     47.0 % (2)    1 h 05 min
    resnet50             pending       0/8
    inception_v3         pending       0/8

    worker       device                state          task
    gpu-0@node7  cuda:0 (NVIDIA H200)  busy           inception_resnet_v2
    gpu-1@node7  cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-2@node7  cuda:2 (NVIDIA H200)  lost

    resnet50: its last attempt ended: worker gpu-2@node7 was lost: no heartbeat for 15 s
    ");
    assert_snapshot!(table(&sample::training(), 50), @"
    experiment fer2013: training, 2 of 4 workers, ETA 3 h 26 min, up 12 min 05 s

    run                  state       epoch
    inception_resnet_v2  preparing     0/8
    vgg16                training      4/8
    resnet50             pending       0/8
    inception_v3         pending       0/8

    worker       state          task
    gpu-0@node7  busy           inception_resnet_v2
    gpu-1@node7  busy           vgg16
    gpu-2@node7  lost

    resnet50: its last attempt ended: worker gpu-2@node7 was lost: no heartbeat for 15 s
    ");
}

#[test]
fn tables_keep_to_the_width() {
    for snapshot in sample::all() {
        for width in 1..200 {
            let text = table(&snapshot, width);
            let tables = text.split("\n\n").skip(1);
            let tables =
                tables.filter(|part| part.starts_with("run ") || part.starts_with("worker "));
            for line in tables.flat_map(str::lines) {
                assert!(columns(line) <= usize::from(width), "{width}: {line:?}");
            }
        }
    }
}

#[test]
fn while_evaluating() {
    assert_snapshot!(table(&sample::evaluating(), 120), @"
    experiment fer2013: evaluating, 2 of 4 workers, up 2 h 05 min

    run                  state       worker            epoch       step   img/s  valid loss acc  best (epoch)         ETA
    inception_resnet_v2  finished                        8/8               1200  1.30 61.5 %     62.5 % (7)
    vgg16                finished                        8/8               1200  1.30 46.0 %     47.0 % (7)
    resnet50             finished                        8/8               1200  1.30 59.0 %     60.0 % (7)
    inception_v3         finished                        8/8               1200  1.30 60.5 %     61.5 % (7)

    worker       device                state          task                  last heartbeat
    gpu-0@node7  cuda:0 (NVIDIA H200)  busy           evaluation                 0.4 s ago
    gpu-1@node7  cuda:1 (NVIDIA H200)  draining                                  0.4 s ago

    ensemble: evaluated by gpu-0@node7, step 3/20
    ");
}

#[test]
fn at_the_end() {
    assert_snapshot!(table(&sample::finished(), 120), @"
    experiment fer2013: finished, up 2 h 05 min

    run                  state       worker            epoch       step   img/s  valid loss acc  best (epoch)         ETA
    inception_resnet_v2  finished                        8/8               1200  1.30 61.5 %     62.5 % (7)
    vgg16                finished                        8/8               1200  1.30 46.0 %     47.0 % (7)
    resnet50             finished                        8/8               1200  1.30 59.0 %     60.0 % (7)
    inception_v3         finished                        8/8               1200  1.30 60.5 %     61.5 % (7)

    ensemble accuracy: valid 72.10 % of 3589 images, test 72.75 % of 3589 images
    ");
}

#[test]
fn an_ensemble_says_what_it_lacks() {
    let mut partial = sample::finished();
    partial.revision = Revision(3);
    partial.runs[1].state = TaskState::Failed;
    let text = table(&partial, 120);
    assert!(text.contains("(revision 3)"), "{text}");
    assert!(
        text.contains("ensemble accuracy without vgg16: valid 72.10 %"),
        "{text}"
    );
    let mut evaluating = sample::evaluating();
    evaluating.runs[1].state = TaskState::Failed;
    let text = table(&evaluating, 120);
    assert!(
        text.contains("ensemble without vgg16: evaluated by"),
        "{text}"
    );
    // Nothing is evaluated yet.
    evaluating.evaluation.state = TaskState::Blocked;
    assert!(evaluating.missing().is_empty());
}

#[test]
fn after_a_failure() {
    assert_snapshot!(table(&sample::failed(), 120), @"
    experiment fer2013: failed, up 2 h 05 min

    run                  state       worker            epoch       step   img/s  valid loss acc  best (epoch)         ETA
    inception_resnet_v2  finished                        8/8               1200  1.30 61.5 %     62.5 % (7)
    vgg16                failed                          0/8
    resnet50             finished                        8/8               1200  1.30 59.0 %     60.0 % (7)
    inception_v3         finished                        8/8               1200  1.30 60.5 %     61.5 % (7)

    vgg16 failed: the loss is NaN [2Jin epoch 1
    ");
}

#[test]
fn gpus_are_shown_where_there_is_room() {
    let mut now = sample::training();
    now.workers[1].gpu = Some(GpuUse {
        busy_percent: Some(87),
        memory_used: 44_238_000_000,
        memory_total: 85_520_000_000,
        temperature: Some(63),
    });
    now.workers[2].gpu = Some(GpuUse {
        busy_percent: None,
        memory_used: 0,
        memory_total: 1 << 34,
        temperature: None,
    });
    let wide = table(&now, 140);
    for part in ["GPU", "87 %, 41.2 of 79.6 GiB, 63 °C", " 0.0 of 16.0 GiB"] {
        assert!(wide.contains(part), "{wide}");
    }
    assert!(!table(&now, 60).contains("GPU  "));
}

#[test]
fn where_some_stay_the_table_says_who() {
    let mut now = sample::training();
    assert!(!table(&now, 180).contains("at the end"));
    now.workers[1].stays = true;
    let text = table(&now, 180);
    let rows = text.lines().skip_while(|line| !line.starts_with("worker "));
    let rows: Vec<_> = rows
        .take(3)
        .map(|row| row.split_whitespace().last().unwrap())
        .collect();
    assert_eq!(rows, ["end", "leaves", "stays"], "{text}");
}

/// A layout: where the titles are.
fn titles(snapshot: &Snapshot, width: u16) -> Vec<String> {
    let text = table(snapshot, width);
    let is_title = |line: &&str| line.starts_with("run ") || line.starts_with("worker ");
    text.lines().filter(is_title).map(str::to_owned).collect()
}

#[test]
fn the_layout_depends_on_the_experiment_and_not_on_the_moment() {
    for width in [60, 80, 100, 120, 140, 180] {
        let runs = sample::all().map(|snapshot| titles(&snapshot, width)[0].clone());
        assert!(runs.iter().all(|titles| *titles == runs[0]), "{runs:#?}");
        let mut now = sample::training();
        let before = titles(&now, width);
        now.runs[1].steps_committed = 1234;
        now.runs[1].eta = Some(Duration::from_secs(86_000));
        now.runs[1].attempt = quartet_shared::ids::Attempt(12);
        let progress = now.runs[1].progress.as_mut().unwrap();
        (progress.step, progress.images_per_second) = (1, 7.25);
        now.workers[0].since_heartbeat = Duration::from_secs(3000);
        now.workers[1].connected = false;
        assert_eq!(titles(&now, width), before);
    }
}

#[test]
fn long_names_do_not_push_columns_out() {
    let mut now = sample::training();
    now.workers[0].name = format!("{}顔", "x".repeat(127));
    now.runs[0].worker = Some(now.workers[0].name.clone());
    let workers = |width| {
        let text = table(&now, width);
        let rows = text.lines().filter(|line| line.starts_with("xxx"));
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_snapshot!(workers(90).join("\n"), @"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…  cuda:0 (NVIDIA H200)  busy           inception_resnet_v2");
    assert!(
        workers(250)[0].contains('顔'),
        "a wide terminal has room for it"
    );
}

#[test]
fn a_wide_terminal_shows_all() {
    let mut now = sample::training();
    now.runs[1].steps_committed = 100;
    now.runs[3].steps_committed = 20;
    assert_snapshot!(table(&now, 180), @"
    experiment fer2013: training, 2 of 4 workers, ETA 3 h 26 min, up 12 min 05 s

    run                  state       attempt  worker            epoch       step   img/s  train loss acc  valid loss acc  best (epoch)         ETA  checkpoint
    inception_resnet_v2  preparing            gpu-0@node7         0/8
    vgg16                training             gpu-1@node7         4/8    120/898    1234  1.19 52.8 %     1.30 46.0 %     47.0 % (2)    1 h 05 min  epoch 4, step 100
    resnet50             pending                                  0/8
    inception_v3         pending                                  1/8         20                                                                    epoch 1, step 20

    worker       device                state          task                  last heartbeat
    gpu-0@node7  cuda:0 (NVIDIA H200)  busy           inception_resnet_v2        0.4 s ago
    gpu-1@node7  cuda:1 (NVIDIA H200)  busy           vgg16                      0.4 s ago
    gpu-2@node7  cuda:2 (NVIDIA H200)  lost                                      0.4 s ago

    resnet50: its last attempt ended: worker gpu-2@node7 was lost: no heartbeat for 15 s
    inception_v3: goes on within epoch 1, after step 20
    ");
}

#[test]
fn workers_are_counted_as_they_are() {
    let mut now = sample::training();
    let mut head = |change: fn(&mut Snapshot)| {
        change(&mut now);
        headline(&now)
    };
    assert_eq!(head(|_| ()), "experiment fer2013: training, 2 of 4 workers");
    let two = "experiment fer2013: training, 2 of 2 workers";
    assert_eq!(
        head(|now| now.workers_expected = 2),
        two,
        "a lost one is not there"
    );
    let one = "experiment fer2013: training, 1 of 1 worker, 1 spare";
    assert_eq!(head(|now| now.workers_expected = 1), one);
    let away = "experiment fer2013: training, 1 of 1 worker";
    assert_eq!(head(|now| now.workers[0].connected = false), away);
    let stopping = "experiment fer2013: stopping, 1 of 1 worker";
    assert_eq!(head(|now| now.stopping = true), stopping);
    assert_eq!(
        head(|now| now.workers.clear()),
        "experiment fer2013: stopped"
    );
}

#[test]
fn lost_workers_are_shown_while_they_matter() {
    let lost = |change: fn(&mut Snapshot)| {
        let mut now = sample::training();
        change(&mut now);
        table(&now, 120)
            .lines()
            .filter(|line| line.contains("lost  "))
            .count()
    };
    assert_eq!(lost(|_| ()), 1, "the fleet is too small");
    assert_eq!(
        lost(|now| now.workers[1].name = "gpu-2@node7".into()),
        0,
        "it is back"
    );
    assert_eq!(
        lost(|now| now.workers_expected = 2),
        1,
        "it was lost just now"
    );
    let long_ago = |now: &mut Snapshot| {
        now.workers_expected = 2;
        now.workers[2].since_heartbeat = Duration::from_secs(61);
    };
    assert_eq!(lost(long_ago), 0);
    assert_eq!(lost(|now| now.stopping = true), 0);
}

#[test]
fn times_move_on_while_nothing_happens() {
    let mut before = sample::training();
    before.runs[1].awaited = Some(Duration::from_secs(14));
    let later = table(&before.later(Duration::from_secs(2)), 100);
    for part in ["up 12 min 07 s", "2.4 s ago", "to come back, 12 s at most"] {
        assert!(later.contains(part), "{later}");
    }
}
