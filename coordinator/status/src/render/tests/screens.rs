use insta::assert_snapshot;
use quartet_shared::terminal::{Size, columns};

use super::super::*;
use crate::snapshot::{TaskState, WorkerState};
use crate::tests::sample;

/// Many runs and workers, the last of which are active.
fn large() -> Snapshot {
    let mut large = sample::training();
    let (finished, active) = (sample::finished().runs[0].clone(), large.runs[1].clone());
    large.runs = (0..40)
        .map(|number| RunStatus {
            name: format!("run-{number}").parse().unwrap(),
            ..if number < 30 {
                finished.clone()
            } else {
                active.clone()
            }
        })
        .collect();
    large.runs[35].state = TaskState::Pending;
    large.runs[36].state = TaskState::Failed;
    large.runs[36].reason = Some("the loss is NaN".into());
    let worker = large.workers[1].clone();
    large.workers = (0..12)
        .map(|number| crate::snapshot::WorkerStatus {
            name: format!("gpu-{number}"),
            state: if number < 4 {
                WorkerState::Idle
            } else {
                WorkerState::Busy
            },
            ..worker.clone()
        })
        .collect();
    large
}

#[test]
fn what_does_not_fit_is_counted_and_active_rows_come_first() {
    let size = Size {
        columns: 60,
        rows: 25,
    };
    assert_snapshot!(screen(&large(), size, Some("a remark")), @"
    experiment fer2013: training, 4 of 4 workers, 8 spares, ETA…
    run     state       epoch  valid loss acc  best (epoch)
    run-30  training      4/8  1.30 46.0 %     47.0 % (2)
    run-31  training      4/8  1.30 46.0 %     47.0 % (2)
    run-32  training      4/8  1.30 46.0 %     47.0 % (2)
    run-33  training      4/8  1.30 46.0 %     47.0 % (2)
    run-34  training      4/8  1.30 46.0 %     47.0 % (2)
    run-37  training      4/8  1.30 46.0 %     47.0 % (2)
    run-38  training      4/8  1.30 46.0 %     47.0 % (2)
    run-39  training      4/8  1.30 46.0 %     47.0 % (2)
    run-36  failed        3/8  1.30 46.0 %     47.0 % (2)
    +1 pending, 30 finished
    worker  device                state          task
    gpu-10  cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-11  cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-4   cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-5   cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-6   cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-7   cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-8   cuda:1 (NVIDIA H200)  busy           vgg16
    gpu-9   cuda:1 (NVIDIA H200)  busy           vgg16
    +4 idle
    a remark
    run-36 failed: the loss is NaN
    ");
    let small = Size {
        columns: 60,
        rows: 12,
    };
    assert_snapshot!(screen(&sample::training(), small, None), @"
    experiment fer2013: training, 2 of 4 workers, ETA 3 h 26 mi…
    run                  state       epoch  valid loss acc
    inception_resnet_v2  preparing     0/8
    vgg16                training      4/8  1.30 46.0 %
    resnet50             pending       0/8
    inception_v3         pending       0/8
    worker       state          task
    gpu-0@node7  busy           inception_resnet_v2
    gpu-1@node7  busy           vgg16
    gpu-2@node7  lost
    resnet50: its last attempt ended: worker gpu-2@node7 was lo…
    ");
}

#[test]
fn a_screen_never_has_more_lines_or_columns_than_the_terminal() {
    for snapshot in sample::all().into_iter().chain([large()]) {
        for (columns_of, rows) in (1..130).flat_map(|c| [2, 3, 5, 8, 12, 30, 60].map(|r| (c, r))) {
            let size = Size {
                columns: columns_of,
                rows,
            };
            let text = screen(&snapshot, size, Some("a remark that is not short"));
            assert!(text.lines().count() < usize::from(rows), "{size:?}: {text}");
            let widest = text.lines().map(columns).max().unwrap();
            assert!(widest <= usize::from(columns_of), "{size:?}: {text}");
        }
    }
}
