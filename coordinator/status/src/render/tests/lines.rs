use insta::assert_snapshot;

use super::super::*;
use crate::snapshot::{TaskState, WorkerState};
use crate::tests::sample;

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
    experiment fer2013: finished
    inception_resnet_v2  finished after 8 of 8 epochs, best 62.5 % (epoch 7)
    vgg16  finished after 8 of 8 epochs, best 47.0 % (epoch 7)
    resnet50  finished after 8 of 8 epochs, best 60.0 % (epoch 7)
    inception_v3  finished after 8 of 8 epochs, best 61.5 % (epoch 7)
    ensemble  accuracy: valid 72.10 % of 3589 images, test 72.75 % of 3589 images
    ");
    assert_snapshot!(lines(None, &sample::failed()).join("\n"), @"
    experiment fer2013: failed
    inception_resnet_v2  finished after 8 of 8 epochs, best 62.5 % (epoch 7)
    vgg16  failed: the loss is NaN [2Jin epoch 1
    resnet50  finished after 8 of 8 epochs, best 60.0 % (epoch 7)
    inception_v3  finished after 8 of 8 epochs, best 61.5 % (epoch 7)
    ");
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
        now.workers[1].connected = false;
        now.runs[1].state = TaskState::Pending;
        now.runs[1].worker = None;
        now.runs[1].reason = Some("worker gpu-1@node7 was lost: no heartbeat for 15 s".into());
    });
    change(|now| {
        now.workers[2].state = WorkerState::Busy;
        now.workers[2].connected = true;
    });
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
    worker gpu-1@node7 was lost, last heard of 0.4 s ago
    vgg16  waits for a worker again: worker gpu-1@node7 was lost: no heartbeat for 15 s
    worker gpu-2@node7 joined, cuda:2 (NVIDIA H200)
    vgg16  goes on after epoch 4 on gpu-2@node7 (attempt 2)
    coordinator restarted (term 2 after 1)
    vgg16  epoch 5/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 49.0 %  best 50.0 % (epoch 4)
    vgg16  finished after 5 of 8 epochs, best 50.0 % (epoch 4)
    worker gpu-2@node7 hands its task back and leaves
    worker gpu-2@node7 left
    ");
}

#[test]
fn from_training_to_the_result() {
    assert_snapshot!(lines(Some(&sample::training()), &sample::evaluating()).join("\n"), @"
    inception_resnet_v2  epoch 8/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 61.5 %  best 62.5 % (epoch 7)
    vgg16  epoch 8/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 46.0 %  best 47.0 % (epoch 7)
    resnet50  epoch 8/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 59.0 %  best 60.0 % (epoch 7)
    inception_v3  epoch 8/8  train loss 1.234 acc 45.1 %  valid loss 1.300 acc 60.5 %  best 61.5 % (epoch 7)
    worker gpu-1@node7 hands its task back and leaves
    inception_resnet_v2  finished after 8 of 8 epochs, best 62.5 % (epoch 7)
    vgg16  finished after 8 of 8 epochs, best 47.0 % (epoch 7)
    resnet50  finished after 8 of 8 epochs, best 60.0 % (epoch 7)
    inception_v3  finished after 8 of 8 epochs, best 61.5 % (epoch 7)
    ensemble  is evaluated by gpu-0@node7
    experiment fer2013: evaluating, 2 of 4 workers
    ");
    assert_snapshot!(lines(Some(&sample::evaluating()), &sample::finished()).join("\n"), @"
    worker gpu-0@node7 left
    worker gpu-1@node7 left
    ensemble  accuracy: valid 72.10 % of 3589 images, test 72.75 % of 3589 images
    experiment fer2013: finished
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
    let row = |snapshot| {
        let text = table(snapshot, 120);
        text.lines()
            .find(|line| line.starts_with("vgg16 "))
            .unwrap()
            .to_owned()
    };
    assert_snapshot!(row(&run), @"vgg16                waiting     gpu-1@node7         3/8                     1.30 46.0 %     47.0 % (2)");
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

#[test]
fn epochs_between_two_snapshots_have_their_lines() {
    let before = sample::training();
    let mut now = before.clone();
    for epoch in 4..=6 {
        sample::commit(&mut now.runs[1], epoch, 0.5);
    }
    now.workers.remove(1);
    let lines = lines(Some(&before), &now);
    let starts = lines
        .iter()
        .map(|line| line.split("  train").next().unwrap());
    assert_eq!(
        starts.collect::<Vec<_>>(),
        [
            "vgg16  epoch 4/8",
            "vgg16  epoch 5/8",
            "vgg16  epoch 6/8",
            "worker gpu-1@node7 left"
        ]
    );
    // An older coordinator does not tell of them.
    now.runs[1].recent_epochs.clear();
    let lines = super::super::lines(Some(&before), &now);
    assert!(lines[0].starts_with("vgg16  epoch 6/8"), "{lines:?}");
}

#[test]
fn a_coordinator_that_was_restarted_has_lost_nobody() {
    let before = sample::training();
    let mut now = before.clone();
    now.term = now.term.next();
    // The one without a run is not known yet, the other one is awaited.
    now.workers.remove(0);
    now.workers[0].connected = false;
    now.runs[1].progress = None;
    now.runs[1].awaited = Some(Duration::from_secs(14));
    assert_snapshot!(lines(Some(&before), &now).join("\n"), @"
    coordinator restarted (term 2 after 1)
    vgg16  waits for gpu-1@node7 to come back, 14 s at most
    ");
    let first = lines(None, &now);
    assert!(
        !first.contains(&"vgg16  is trained by gpu-1@node7".to_owned()),
        "{first:?}"
    );
    let mut back = now.clone();
    back.workers[0].connected = true;
    back.runs[1].awaited = None;
    assert_eq!(lines(Some(&now), &back), ["worker gpu-1@node7 is back"]);
    // Nor does another name of the worker begin an attempt.
    let mut named = back.clone();
    named.runs[1].worker = Some("w1".into());
    assert_eq!(lines(Some(&back), &named), Vec::<String>::new());
}

#[test]
fn a_run_goes_on_within_an_epoch() {
    let mut before = sample::training();
    before.runs[2].steps_committed = 20;
    let shown = table(&before, 80);
    assert!(
        shown.contains("resnet50: goes on within epoch 1, after step 20\n"),
        "{shown}"
    );
    let mut now = before.clone();
    now.runs[2].state = TaskState::Leased;
    now.runs[2].attempt = now.runs[2].attempt.next();
    now.runs[2].worker = Some("gpu-1@node7".into());
    assert_eq!(
        lines(Some(&before), &now),
        ["resnet50  goes on within epoch 1, after step 20 on gpu-1@node7 (attempt 2)"]
    );
}
