use insta::assert_snapshot;
use quartet_shared::gpu::GpuUse;

use super::*;
use crate::snapshot::{TaskState, WorkerState};
use crate::tests::sample;

#[test]
fn before_the_first_worker() {
    assert_snapshot!(table(&sample::waiting(), 120), @"
    experiment fer2013: waiting, 0 of 4 workers, up 3.0 s

    run                  state    epoch
    inception_resnet_v2  pending    0/8
    vgg16                pending    0/8
    resnet50             pending    0/8
    inception_v3         pending    0/8

    no workers yet: start them with `worker --coordinator HOST:PORT`
    ");
}

#[test]
fn while_training() {
    assert_snapshot!(table(&sample::training(), 120));
}

#[test]
fn narrow_terminals_show_what_matters_most() {
    assert_snapshot!(table(&sample::training(), 80), @"
    experiment fer2013: training, 2 of 4 workers, up 12 min 05 s

    run                  state      epoch  valid        best (epoch)         ETA
    inception_resnet_v2  preparing    0/8
    vgg16                training     4/8  1.30 46.0 %  47.0 % (2)    1 h 05 min
    resnet50             pending      0/8
    inception_v3         pending      0/8

    worker       device                state  task                 last heartbeat
    gpu-0@node7  cuda:0 (NVIDIA H200)  busy   inception_resnet_v2       0.4 s ago
    gpu-1@node7  cuda:1 (NVIDIA H200)  busy   vgg16                     0.4 s ago
    gpu-2@node7  cuda:2 (NVIDIA H200)  lost

    resnet50: its last attempt ended: worker gpu-2@node7 was lost
    ");
    assert_snapshot!(table(&sample::training(), 50), @"
    experiment fer2013: training, 2 of 4 workers, up 12 min 05 s

    run                  state      epoch  valid
    inception_resnet_v2  preparing    0/8
    vgg16                training     4/8  1.30 46.0 %
    resnet50             pending      0/8
    inception_v3         pending      0/8

    worker       state  task
    gpu-0@node7  busy   inception_resnet_v2
    gpu-1@node7  busy   vgg16
    gpu-2@node7  lost

    resnet50: its last attempt ended: worker gpu-2@node7 was lost
    ");
}

#[test]
fn tables_keep_to_the_width_where_their_columns_can() {
    for snapshot in sample::all() {
        for width in 45..140 {
            for line in table(&snapshot, width)
                .split("\n\n")
                .skip(1)
                .take(2)
                .flat_map(str::lines)
            {
                assert!(
                    line.chars().count() <= usize::from(width) || line.starts_with("no workers"),
                    "{width}: {line:?}"
                );
            }
        }
    }
}

#[test]
fn while_evaluating() {
    assert_snapshot!(table(&sample::evaluating(), 120), @"
    experiment fer2013: evaluating, 2 of 4 workers, up 2 h 05 min

    run                  state     epoch  img/s  train        valid        best (epoch)
    inception_resnet_v2  finished    8/8   1200  1.23 45.1 %  1.30 61.5 %  62.5 % (7)
    vgg16                finished    8/8   1200  1.23 45.1 %  1.30 46.0 %  47.0 % (7)
    resnet50             finished    8/8   1200  1.23 45.1 %  1.30 59.0 %  60.0 % (7)
    inception_v3         finished    8/8   1200  1.23 45.1 %  1.30 60.5 %  61.5 % (7)

    worker       device                state     task        last heartbeat
    gpu-0@node7  cuda:0 (NVIDIA H200)  busy      evaluation       0.4 s ago
    gpu-1@node7  cuda:1 (NVIDIA H200)  draining                   0.4 s ago

    ensemble: evaluated by gpu-0@node7, step 3/20
    ");
}

#[test]
fn at_the_end() {
    assert_snapshot!(table(&sample::finished(), 120), @"
    experiment fer2013: finished, 0 of 4 workers, up 2 h 05 min

    run                  state     epoch  img/s  train        valid        best (epoch)
    inception_resnet_v2  finished    8/8   1200  1.23 45.1 %  1.30 61.5 %  62.5 % (7)
    vgg16                finished    8/8   1200  1.23 45.1 %  1.30 46.0 %  47.0 % (7)
    resnet50             finished    8/8   1200  1.23 45.1 %  1.30 59.0 %  60.0 % (7)
    inception_v3         finished    8/8   1200  1.23 45.1 %  1.30 60.5 %  61.5 % (7)

    no workers

    ensemble accuracy: valid 72.10 % of 3589 images, test 72.75 % of 3589 images
    ");
}

#[test]
fn after_a_failure() {
    assert_snapshot!(table(&sample::failed(), 120), @"
    experiment fer2013: failed, 0 of 4 workers, up 2 h 05 min

    run                  state     attempt  epoch  img/s  train        valid        best (epoch)
    inception_resnet_v2  finished             8/8   1200  1.23 45.1 %  1.30 61.5 %  62.5 % (7)
    vgg16                failed          3    0/8
    resnet50             finished             8/8   1200  1.23 45.1 %  1.30 59.0 %  60.0 % (7)
    inception_v3         finished             8/8   1200  1.23 45.1 %  1.30 60.5 %  61.5 % (7)

    no workers

    vgg16 failed: the loss is NaN [2Jin epoch 1
    ");
}

#[test]
fn the_first_lines_say_all() {
    assert_snapshot!(lines(None, &sample::training()).join("\n"), @"
    experiment fer2013: training, 2 of 4 workers
    worker gpu-0@node7 joined, cuda:0 (NVIDIA H200)
    worker gpu-1@node7 joined, cuda:1 (NVIDIA H200)
    inception_resnet_v2  is trained by gpu-0@node7
    vgg16  is trained by gpu-1@node7
    vgg16  epoch 3/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 46.0 %  best 47.0 % (epoch 2)
    ");
    assert_snapshot!(lines(None, &sample::finished()).join("\n"), @"
    experiment fer2013: finished, 0 of 4 workers
    inception_resnet_v2  finished after 8 of 8 epochs, best 62.5 % (epoch 7)
    vgg16  finished after 8 of 8 epochs, best 47.0 % (epoch 7)
    resnet50  finished after 8 of 8 epochs, best 60.0 % (epoch 7)
    inception_v3  finished after 8 of 8 epochs, best 61.5 % (epoch 7)
    ensemble  accuracy: valid 72.10 % of 3589 images, test 72.75 % of 3589 images
    ");
    assert_snapshot!(lines(None, &sample::failed()).join("\n"), @"
    experiment fer2013: failed, 0 of 4 workers
    inception_resnet_v2  finished after 8 of 8 epochs, best 62.5 % (epoch 7)
    vgg16  failed: the loss is NaN [2Jin epoch 1
    resnet50  finished after 8 of 8 epochs, best 60.0 % (epoch 7)
    inception_v3  finished after 8 of 8 epochs, best 61.5 % (epoch 7)
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
    assert!(!table(&now, 80).contains("GPU  "));
}

#[test]
fn a_store_that_fails_is_seen() {
    let before = sample::training();
    let mut now = before.clone();
    now.store_trouble = Some(StoreTrouble {
        since: Duration::from_secs(12),
        reason: "cannot create \"a.json\" in s3://b: it does not\nanswer".into(),
    });
    let failing = "the store has failed for 12 s, and is tried again: cannot create \"a.json\" in s3://b: it \
                   does not answer";
    assert!(table(&now, 80).ends_with(&format!("{failing}\n")));
    assert_eq!(lines(Some(&before), &now), [failing]);
    assert_eq!(lines(Some(&now), &before), ["the store works again"]);
}

#[test]
fn nothing_new_is_no_line() {
    for before in sample::all() {
        let mut now = before.clone();
        now.uptime *= 2;
        for progress in now.runs.iter_mut().filter_map(|run| run.progress.as_mut()) {
            progress.step += 1;
        }
        for worker in &mut now.workers {
            worker.since_heartbeat *= 2;
        }
        assert_eq!(lines(Some(&before), &now), Vec::<String>::new());
    }
}

#[test]
fn a_run_in_all_its_changes() {
    let mut before = sample::training();
    let mut log = Vec::new();
    let mut change = |change: fn(&mut Snapshot)| {
        let mut now = before.clone();
        change(&mut now);
        log.extend(lines(Some(&before), &now));
        before = now;
    };
    change(|now| sample::commit(&mut now.runs[1], 4, 0.5));
    change(|now| {
        now.workers[1].state = WorkerState::Lost;
        now.runs[1].state = TaskState::Pending;
        now.runs[1].worker = None;
        now.runs[1].reason = Some("worker gpu-1@node7 was lost".into());
    });
    change(|now| now.workers[2].state = WorkerState::Busy);
    change(|now| {
        now.runs[1].state = TaskState::Leased;
        now.runs[1].attempt = now.runs[1].attempt.next();
        now.runs[1].worker = Some("gpu-2@node7".into());
    });
    change(|now| now.term = now.term.next());
    change(|now| {
        sample::commit(&mut now.runs[1], 5, 0.5);
        now.runs[1].state = TaskState::Finished;
        now.runs[1].worker = None;
    });
    change(|now| now.workers[2].state = WorkerState::Draining);
    change(|now| {
        now.workers.pop();
    });
    assert_snapshot!(log.join("\n"), @"
    vgg16  epoch 4/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 49.0 %  best 50.0 % (epoch 3)
    worker gpu-1@node7 lost, last heard 0.4 s ago
    vgg16  waits for a worker again: worker gpu-1@node7 was lost
    worker gpu-2@node7 joined, cuda:2 (NVIDIA H200)
    vgg16  goes on after epoch 4 on gpu-2@node7 (attempt 2)
    coordinator restarted (term 2 after 1)
    vgg16  epoch 5/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 49.0 %  best 50.0 % (epoch 4)
    vgg16  finished after 5 of 8 epochs, best 50.0 % (epoch 4)
    worker gpu-2@node7 hands its work back and leaves
    worker gpu-2@node7 left
    ");
}

#[test]
fn from_training_to_the_result() {
    assert_snapshot!(lines(Some(&sample::training()), &sample::evaluating()).join("\n"));
    assert_snapshot!(lines(Some(&sample::evaluating()), &sample::finished()).join("\n"), @"
    worker gpu-0@node7 left
    worker gpu-1@node7 left
    ensemble  accuracy: valid 72.10 % of 3589 images, test 72.75 % of 3589 images
    experiment fer2013: finished, 0 of 4 workers
    ");
}

#[test]
fn a_task_that_stands_still_is_told_of_once() {
    let mut run = sample::training();
    run.runs[1].stalled = Some(Duration::from_secs(200));
    let said = "vgg16: no progress for 3 min 20 s on gpu-1@node7";
    assert!(table(&run, 120).lines().any(|line| line == said));
    let line = "vgg16  no progress for 3 min 20 s on gpu-1@node7";
    assert_eq!(lines(Some(&sample::training()), &run), [line]);
    let mut later = run.clone();
    later.runs[1].stalled = Some(Duration::from_secs(300));
    assert_eq!(lines(Some(&run), &later), Vec::<String>::new());

    let mut evaluation = sample::evaluating();
    evaluation.evaluation.stalled = Some(Duration::from_secs(200));
    let said =
        "ensemble: evaluated by gpu-0@node7, step 3/20; no progress for 3 min 20 s on gpu-0@node7";
    assert!(table(&evaluation, 120).lines().any(|line| line == said));
    let line = "ensemble  no progress for 3 min 20 s on gpu-0@node7";
    assert_eq!(lines(Some(&sample::evaluating()), &evaluation), [line]);
}

#[test]
fn a_task_whose_worker_is_not_connected_waits_for_it() {
    let mut run = sample::training();
    run.runs[1].awaited = Some(Duration::from_secs(14));
    let said = "vgg16: waits for gpu-1@node7 to come back, 14 s at most";
    assert!(table(&run, 120).lines().any(|line| line == said));
    let line = "vgg16  waits for gpu-1@node7 to come back, 14 s at most";
    assert_eq!(lines(Some(&sample::training()), &run), [line]);
    let mut later = run.clone();
    later.runs[1].awaited = Some(Duration::from_secs(13));
    assert_eq!(lines(Some(&run), &later), Vec::<String>::new());

    let mut evaluation = sample::evaluating();
    evaluation.evaluation.awaited = Some(Duration::from_secs(14));
    let said = "ensemble: evaluated by gpu-0@node7, step 3/20; \
                waits for gpu-0@node7 to come back, 14 s at most";
    assert!(table(&evaluation, 120).lines().any(|line| line == said));
    let line = "ensemble  waits for gpu-0@node7 to come back, 14 s at most";
    assert_eq!(lines(Some(&sample::evaluating()), &evaluation), [line]);
}
