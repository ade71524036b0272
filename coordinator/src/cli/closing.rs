//! What the coordinator says as it ends: of its workers, and of what has come of the experiment.

use quartet_shared::report::{self, EvaluationReport};
use quartet_shared::terminal::Console;
use quartet_store::Store;
use quartet_store::layout::Layout;
use quartet_store::manifest::Manifest;

/// What happens after a signal, where so many workers are there, of whom so many stay.
pub(super) fn stopping(present: usize, staying: usize) -> String {
    let mut parts = vec!["stopping: the workers hand their tasks back".to_owned()];
    match staying {
        0 => parts[0] += " and leave",
        staying => {
            let leaving = present.saturating_sub(staying);
            let mut who = format!("{} for the next coordinator (--stay)", stay(staying));
            match leaving {
                0 => {}
                1 => who += ", 1 leaves",
                leaving => who += &format!(", {leaving} leave"),
            }
            parts.push(who);
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

/// Prints an evaluation, and where it and the networks are.
pub(super) async fn say_result(
    console: &Console,
    store: &Store,
    layout: &Layout,
    report: &EvaluationReport,
) {
    let results = layout.results_of(report);
    let _ = console.print(&report::render(report));
    let mut text = format!(
        "to look at: {}\nevaluation: {}",
        store.display_key(&results.report()),
        store.display_key(&results.evaluation()),
    );
    for member in &report.members {
        let manifest = layout.manifest(&member.run, member.best_epoch);
        // What cannot be read now is told elsewhere, and the evaluation stands.
        if let Ok(Some(Manifest { weights, .. })) = store.read_json(&manifest).await {
            let key = store.display_key(&weights.key);
            text.push_str(&format!("\nbest weights of {}: {key}", member.run));
        }
    }
    let _ = console.print(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_says_who_stays_and_who_leaves() {
        let said = |staying, leaving| stopping(staying + leaving, staying);
        let nobody = "stopping: the workers hand their tasks back and leave; \
                      a second signal ends this at once";
        assert_eq!(said(0, 0), nobody);
        assert_eq!(said(0, 4), nobody);
        let between = |who: &str| {
            format!(
                "stopping: the workers hand their tasks back; {who}; a second signal ends this at once"
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
