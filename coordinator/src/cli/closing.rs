//! What the coordinator says of its workers as it ends.

use quartet_status::snapshot::Snapshot;

/// What happens after a signal.
pub(super) fn stopping(snapshot: &Snapshot) -> String {
    let (present, staying) = (snapshot.workers_present(), snapshot.workers_staying());
    let mut parts = vec!["stopping: the workers hand their tasks back".to_owned()];
    match staying {
        0 => parts[0] += " and leave",
        staying => {
            let leaving = present - staying;
            let mut whither = format!("{} for the next coordinator (--stay)", stay(staying));
            match leaving {
                0 => {}
                1 => whither += ", 1 leaves",
                leaving => whither += &format!(", {leaving} leave"),
            }
            parts.push(whither);
        }
    }
    parts.push("a second signal ends this at once".to_owned());
    parts.join("; ")
}

/// Who is still there once the coordinator has ended, if anybody is.
pub(super) fn staying(staying: usize) -> Option<String> {
    let workers = match staying {
        0 => return None,
        1 => "1 worker stays".to_owned(),
        staying => format!("{staying} workers stay"),
    };
    Some(format!(
        "{workers} for the next experiment at this address; while that is trained, \
         `status drain --all` sends workers home"
    ))
}

fn stay(count: usize) -> String {
    let s = if count == 1 { "s" } else { "" };
    format!("{count} stay{s}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quartet_shared::ids::{Attempt, Term};
    use quartet_status::snapshot::{
        EvaluationStatus, ExperimentState, TaskState, WorkerState, WorkerStatus,
    };

    use super::*;

    /// A fleet of which so many stay and so many leave.
    fn fleet(staying: usize, leaving: usize) -> Snapshot {
        let worker = |number: usize| WorkerStatus {
            id: format!("w{number}").parse().unwrap(),
            name: "one".to_owned(),
            device: "none".to_owned(),
            state: WorkerState::Idle,
            connected: true,
            task: None,
            since_heartbeat: Duration::ZERO,
            gpu: None,
            stays: number < staying,
        };
        Snapshot {
            experiment: "x".parse().unwrap(),
            term: Term(1),
            state: ExperimentState::Training,
            workers_expected: 4,
            runs: Vec::new(),
            workers: (0..staying + leaving).map(worker).collect(),
            uptime: Duration::ZERO,
            eta: None,
            stopping: false,
            insecure: false,
            store_trouble: None,
            evaluation: EvaluationStatus {
                state: TaskState::Blocked,
                attempt: Attempt(0),
                worker: None,
                progress: None,
                stalled: None,
                awaited: None,
                reason: None,
                splits: Vec::new(),
            },
        }
    }

    #[test]
    fn a_signal_says_who_stays_and_who_leaves() {
        let said = |staying, leaving| stopping(&fleet(staying, leaving));
        let nobody = "stopping: the workers hand their tasks back and leave; a second signal ends this at once";
        assert_eq!(said(0, 0), nobody);
        assert_eq!(said(0, 4), nobody);
        let between = |whither: &str| {
            format!(
                "stopping: the workers hand their tasks back; {whither}; a second signal ends this at once"
            )
        };
        let coordinator = "for the next coordinator (--stay)";
        assert_eq!(said(1, 0), between(&format!("1 stays {coordinator}")));
        assert_eq!(
            said(3, 1),
            between(&format!("3 stay {coordinator}, 1 leaves"))
        );
        assert_eq!(
            said(1, 2),
            between(&format!("1 stays {coordinator}, 2 leave"))
        );
    }

    #[test]
    fn the_end_says_who_is_still_there() {
        assert_eq!(staying(0), None);
        assert!(
            staying(1)
                .unwrap()
                .starts_with("1 worker stays for the next experiment")
        );
        assert!(
            staying(2)
                .unwrap()
                .starts_with("2 workers stay for the next experiment")
        );
    }
}
