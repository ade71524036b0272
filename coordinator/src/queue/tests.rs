use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;

fn store() -> Store {
    Store::from_objects("memory", Arc::new(InMemory::new()))
}

async fn open(store: &Store) -> Queue {
    Queue::open(store.clone(), "127.0.0.1:1", &[])
        .await
        .unwrap()
}

fn name(name: &str) -> ExperimentName {
    name.parse().unwrap()
}

fn names(queue: &Queue) -> Vec<String> {
    let waiting = queue.waiting();
    let names = waiting
        .iter()
        .map(|(_, entry)| entry.experiment.to_string());
    names.collect()
}

#[tokio::test]
async fn higher_priorities_come_first_then_those_that_came_first() {
    let store = store();
    let queue = open(&store).await;
    for (experiment, priority) in [("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5)] {
        assert!(
            queue
                .add(name(experiment), Precision::F32, priority, None)
                .await
                .unwrap()
        );
    }
    assert_eq!(names(&queue), ["b", "e", "a", "c", "d"]);
    // Twice is once.
    assert!(!queue.add(name("a"), Precision::F32, 9, None).await.unwrap());
    assert_eq!(names(&queue), ["b", "e", "a", "c", "d"]);
}

#[tokio::test]
async fn the_next_coordinator_knows_what_the_last_one_knew() {
    let store = store();
    let first = open(&store).await;
    for experiment in ["a", "b", "c"] {
        first
            .add(name(experiment), Precision::F32, 0, Some("ann".into()))
            .await
            .unwrap();
    }
    let number = first.find(&name("b")).unwrap();
    assert!(first.end(number, How::Cancelled, "enough").await.unwrap());
    assert!(!first.end(number, How::Finished, "").await.unwrap());
    let second = open(&store).await;
    assert_eq!(second.term(), first.term().next());
    assert_eq!(names(&second), ["a", "c"]);
    let ended = second.ended();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended, first.ended());
    assert_eq!(
        (ended[0].1.how, &ended[0].1.reason[..]),
        (How::Cancelled, "enough")
    );
    // What has ended can come again.
    assert!(
        second
            .add(name("b"), Precision::F32, 0, None)
            .await
            .unwrap()
    );
    assert_eq!(names(&second), ["a", "c", "b"]);
}

/// What an older coordinator wrote too late is in the way of nobody.
#[tokio::test]
async fn an_entry_that_was_not_known_is_found_out_about() {
    let store = store();
    let (first, second) = (open(&store).await, open(&store).await);
    let late = Entry {
        experiment: name("late"),
        priority: 0,
        submitted_at: Timestamp::now(),
        submitted_by: None,
        precision: Precision::F32,
        nonce: 1,
    };
    store.create_json(&keys::entry(1), &late).await.unwrap();
    drop(first);
    assert!(
        second
            .add(name("a"), Precision::F32, 0, None)
            .await
            .unwrap()
    );
    assert_eq!(names(&second), ["late", "a"]);
    store.create_json(&keys::entry(3), &late).await.unwrap();
    assert!(
        !second
            .add(name("late"), Precision::F32, 0, None)
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn who_rules_no_more_changes_nothing() {
    let store = store();
    let first = open(&store).await;
    first.add(name("a"), Precision::F32, 0, None).await.unwrap();
    let second = open(&store).await;
    let error = first
        .add(name("b"), Precision::F32, 0, None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("leads the queue"), "{error}");
    assert!(first.end(1, How::Finished, "").await.is_err());
    assert_eq!(names(&second), ["a"]);
    assert_eq!(names(&open(&store).await), ["a"]);
}
