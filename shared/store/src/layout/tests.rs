use super::*;

#[test]
fn blobs_are_found_again_by_their_keys() {
    let layout = Layout::new("e".parse().unwrap());
    let run = "a-1.b".parse().unwrap();
    for position in [
        Position::end_of(Epoch(12)),
        Position::within(Epoch(12), 450),
    ] {
        for key in [
            layout.weights(&run, position, Attempt(7)),
            layout.training_state(&run, position, Attempt(7)),
        ] {
            assert_eq!(
                layout.parse_blob(&run, &key),
                Some((position, Attempt(7))),
                "{key}"
            );
        }
    }
    assert!(layout.is_of_run(&run, &layout.outcome(&run)));
    assert!(!layout.is_of_run(&run, "e/runs/a-1.bc/outcome.json"));
    for other in [
        "e/runs/a-1.b/checkpoints/other.txt",
        "e/runs/a/checkpoints/0001-001.weights.safetensors",
    ] {
        assert_eq!(layout.parse_blob(&run, other), None, "{other}");
    }
}

#[test]
fn workers_read_blobs_and_nothing_else() {
    let layout = Layout::new("e".parse().unwrap());
    let run = "a".parse().unwrap();
    let sum = Checksum::of(b"x");
    let step = Position::within(Epoch(2), 7);
    for key in [
        dataset(sum),
        weights(sum),
        layout.weights(&run, step, Attempt(1)),
        layout.training_state(&run, Position::end_of(Epoch(1)), Attempt(1)),
    ] {
        assert!(layout.is_for_workers(&key), "{key}");
        for other in [
            format!("{key}/x"),
            format!("{key}.x"),
            format!("/{key}"),
            format!("f/{key}"),
            key.replace('/', "//"),
            key.replace('/', "/./"),
            key.to_uppercase(),
        ] {
            assert!(!layout.is_for_workers(&other), "{other}");
        }
    }
    for other in [
        "",
        "/",
        "..",
        "datasets/",
        "weights/../e/spec.json",
        "e/spec.json",
        "e/spec.json/x",
        "e/runs/a/epochs/0001.json",
        "e/runs/a/attempts/0001.json",
        "e/runs/a/checkpoints/1-1.weights.safetensors",
        "e/runs/a/checkpoints/+001-001.weights.safetensors",
        "e/runs/a/checkpoints/0001-001.other.safetensors",
        "e/runs/../checkpoints/0001-001.weights.safetensors",
        "other/runs/a/checkpoints/0001-001.weights.safetensors",
    ] {
        assert!(!layout.is_for_workers(other), "{other}");
    }
}

#[test]
fn listings_are_in_order() {
    let layout = Layout::new("e".parse().unwrap());
    let run = "a".parse().unwrap();
    let key = |epoch, step| layout.step_manifest(&run, Position::within(Epoch(epoch), step));
    let keys = [key(9, 10), key(9, 200), key(10, 1)];
    assert!(keys.is_sorted(), "{keys:?}");
    let again = EventFolder::Run(&run, Revision(2));
    assert_eq!(
        layout.event_file(again, 0),
        "e/tensorboard/a@2/events.out.tfevents.0000000000.quartet"
    );
    let folder = EventFolder::Train(&run, Revision::FIRST);
    let numbers = [0, 9, 10, u64::from(u32::MAX), 9_999_999_999];
    let keys = numbers.map(|number| layout.event_file(folder, number));
    assert!(keys.is_sorted(), "{keys:?}");
}
