use std::time::{Duration, Instant};

use quartet_report::html;
use quartet_shared::event::{AttemptEnd, Event, Occurrence};
use quartet_shared::ids::Attempt;
use quartet_shared::spec::from_toml;
use quartet_shared::task::Task;

use crate::{page_of, parsed, samples, text_of, whole_text};

#[test]
fn a_finished_experiment() {
    let (record, predictions) = samples::finished();
    let page = html(&record, &predictions, samples::NOW);
    let page = parsed(&page);
    insta::assert_snapshot!("finished_header", text_of(&page, "header"));
    insta::assert_snapshot!("finished_runs", text_of(&page, "runs"));
    insta::assert_snapshot!("finished_attempts", text_of(&page, "attempts"));
    let leads = page
        .descendants()
        .filter(|node| node.attribute("class") == Some("lead"));
    let leads: Vec<&str> = leads.filter_map(|node| node.text()).collect();
    insta::assert_snapshot!("finished_leads", leads.join("\n"));
}

#[test]
fn a_failed_experiment_says_why() {
    let page = page_of(&samples::failed());
    let page = parsed(&page);
    insta::assert_snapshot!("failed_header", text_of(&page, "header"));
    insta::assert_snapshot!("failed_runs", text_of(&page, "runs"));
}

#[test]
fn an_experiment_that_has_just_begun_is_told_as_such() {
    let page = page_of(&samples::begun(4, 30));
    insta::assert_snapshot!(
        "begun",
        text_of(&parsed(&page), "body")
            .split(" To cite, and")
            .next()
            .unwrap()
    );
}

#[test]
fn all_that_is_needed_to_cite_is_there() {
    let (record, predictions) = samples::finished();
    let page = html(&record, &predictions, samples::NOW);
    let text = whole_text(&page);
    let tree = parsed(&page);
    let toml = tree
        .descendants()
        .find(|node| node.has_tag_name("pre"))
        .unwrap();
    let toml = toml.first_element_child().unwrap().text().unwrap();
    assert_eq!(from_toml(toml, "report").unwrap(), record.spec.experiment);
    let mut needed = vec![
        "q7f3k2m9".to_owned(),
        record.spec.dataset.blob.sha256.to_string(),
        "login-2".to_owned(),
    ];
    for run in &record.runs {
        let best = run.outcome.unwrap().best_epoch;
        let best = run.epochs.iter().find(|epoch| epoch.epoch == best).unwrap();
        needed.push(best.weights.blob.sha256.to_string());
        needed.push(record.spec.weights[&run.spec.name].blob.sha256.to_string());
        needed.push(run.spec.seed.to_string());
    }
    for part in needed {
        assert!(text.contains(&part), "{part}");
    }
}

#[test]
fn equal_input_gives_equal_output() {
    let write = || {
        let (record, predictions) = samples::finished();
        html(&record, &predictions, samples::NOW)
    };
    assert_eq!(write(), write());
}

#[test]
fn a_page_needs_neither_a_network_nor_a_script() {
    let (record, predictions) = samples::finished();
    let page = html(&record, &predictions, samples::NOW);
    let page = parsed(&page);
    let mut pictures = 0;
    for node in page.descendants().filter(|node| node.is_element()) {
        let name = node.tag_name().name();
        assert!(
            !["script", "link", "iframe", "object"].contains(&name),
            "{name}"
        );
        if let Some(source) = node.attribute("src") {
            assert!(source.starts_with("data:image/png;base64,"), "{source}");
            assert!(!node.attribute("alt").unwrap().is_empty());
            pictures += 1;
        }
        if name == "svg" {
            assert!(!node.attribute("aria-label").unwrap().is_empty());
        }
    }
    assert_eq!(pictures, 2 * quartet_report::findings::SHOWN);
    let style = page
        .descendants()
        .find(|node| node.has_tag_name("style"))
        .unwrap()
        .text()
        .unwrap();
    assert!(!style.contains("url(") && !style.contains("@import"));
}

#[test]
fn foreign_text_stays_text() {
    const BAD: &str = "\"><script>alert('x')</script>&amp;\u{1}\u{0}\n\u{202e}\u{ffff}</style>";
    const SHOWN: &str = "\"><script>alert('x')</script>&amp;";
    let (mut record, predictions) = samples::finished();
    let report = record.report.as_mut().unwrap();
    report.classes[0] = BAD.to_owned();
    for split in &mut report.splits {
        split.per_class[0].class = BAD.to_owned();
    }
    let attempt = &mut record.runs[0].attempts[0];
    attempt.worker = BAD.to_owned();
    attempt.result.as_mut().unwrap().reason = Some(BAD.to_owned());
    record.runs[1].outcome = None;
    record.runs[1].failure = Some(BAD.to_owned());
    record.report.as_mut().unwrap().members.clear();
    let worker = quartet_shared::event::Worker {
        name: BAD.to_owned(),
        ..samples::history::worker(0)
    };
    let task = Task::Train(record.runs[0].spec.name.clone());
    let (at, attempt, how, reason) = (
        samples::NOW,
        Attempt(1),
        AttemptEnd::Failed,
        Some(BAD.to_owned()),
    );
    let what = Occurrence::AttemptEnded {
        task,
        attempt,
        worker,
        how,
        reason,
    };
    record.events.push(Event { at, what });
    let (term, host, version) = (quartet_shared::ids::Term(2), BAD.to_owned(), BAD.to_owned());
    record.events.push(Event {
        at,
        what: Occurrence::CoordinatorStarted {
            term,
            host,
            version,
        },
    });
    let page = html(&record, &predictions, samples::NOW);
    assert!(!page.contains("NaN"));
    let page = parsed(&page);
    assert!(page.descendants().all(|node| !node.has_tag_name("script")));
    for id in [
        "header", "classes", "attempts", "events", "citation", "mistakes",
    ] {
        assert!(text_of(&page, id).contains(SHOWN), "{id}");
    }
    for figure in quartet_report::figures(&record, &predictions) {
        let figure = parsed(&figure.svg);
        assert!(
            figure
                .descendants()
                .all(|node| !node.has_tag_name("script"))
        );
    }
}

#[test]
fn of_many_events_the_last_are_shown() {
    let mut record = samples::begun(1, 1);
    for number in 0..1234 {
        let reason = format!("reason {number}.");
        let what = Occurrence::CoordinatorStopped { reason };
        record.events.push(Event {
            at: samples::later(number),
            what,
        });
    }
    let text = whole_text(&page_of(&record));
    assert!(
        text.contains("1 034 events before these 200 are left out"),
        "{text}"
    );
    assert!(
        !text.contains("reason 1033.")
            && text.contains("reason 1034.")
            && text.contains("reason 1233.")
    );
}

#[test]
fn a_report_of_forty_runs_is_small_and_fast() {
    let (record, predictions) = samples::trained(40, 100);
    let start = Instant::now();
    let page = html(&record, &predictions, samples::NOW);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    let page = parsed(&page);
    let curves = page
        .descendants()
        .filter(|node| node.attribute("class") == Some("multiples"));
    let figures = curves
        .flat_map(|grid| grid.children())
        .filter(|node| node.has_tag_name("figure"));
    assert_eq!(figures.count(), 40);
}
