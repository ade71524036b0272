use quartet_proto::v1;

use super::*;

fn queue() -> QueueStatus {
    let entry = |experiment: &str, state| QueueEntry {
        experiment: experiment.parse().unwrap(),
        state,
        priority: 0,
        submitted_at: Some(Timestamp::at(1_795_795_200_000)),
        submitted_by: None,
        ended_at: None,
        reason: None,
        open: None,
    };
    QueueStatus {
        entries: vec![
            QueueEntry {
                priority: 3,
                submitted_by: Some("ann".into()),
                open: Some(OpenExperiment {
                    state: ExperimentState::Training,
                    runs: 4,
                    runs_ended: 1,
                    workers: 3,
                    eta: Some(Duration::from_secs(90)),
                }),
                ..entry("first", QueueState::Open)
            },
            QueueEntry {
                open: Some(OpenExperiment {
                    state: ExperimentState::Waiting,
                    runs: 2,
                    runs_ended: 0,
                    workers: 0,
                    eta: None,
                }),
                ..entry("second", QueueState::Open)
            },
            entry("third", QueueState::Waiting),
            QueueEntry {
                ended_at: Some(Timestamp::at(1_795_795_260_000)),
                reason: Some("vgg16: the loss\nis not finite".into()),
                ..entry("bad", QueueState::Failed)
            },
        ],
        is_open: true,
        waiting_workers: 1,
    }
}

#[test]
fn a_queue_is_a_table() {
    insta::assert_snapshot!(render(&queue(), Format::Text, 200), @r"
    experiment  state      priority  done  runs  workers         ETA  submitted (UTC)   by   ended (UTC)       reason
    first       training          3     1     4        3  1 min 30 s  2026-11-27 16:00  ann
    second      no worker               0     2        0              2026-11-27 16:00
    third       waiting                                               2026-11-27 16:00
    bad         failed                                                2026-11-27 16:00       2026-11-27 16:01  vgg16: the loss is not finite
    1 worker waits for an experiment
    ");
    insta::assert_snapshot!(render(&queue(), Format::Text, 60), @r"
    experiment  state      done  reason
    first       training      1
    second      no worker     0
    third       waiting
    bad         failed           vgg16: the loss is not finite
    1 worker waits for an experiment
    ");
}

#[test]
fn an_empty_queue_says_so() {
    let queue = QueueStatus {
        entries: Vec::new(),
        is_open: false,
        waiting_workers: 0,
    };
    let text = render(&queue, Format::Text, 80);
    assert!(text.starts_with("the queue is empty\n"), "{text}");
    assert!(text.contains("`coordinator --serve`"), "{text}");
    assert_eq!(render(&queue, Format::Json, 80), "[]\n");
}

#[test]
fn a_queue_survives_the_wire() {
    let queue = queue();
    let message = v1::GetQueueResponse {
        entries: queue.entries.iter().cloned().map(Into::into).collect(),
        term: 1,
        waiting_workers: 1,
    };
    assert_eq!(QueueStatus::try_from(message), Ok(queue));
}
