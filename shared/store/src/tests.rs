use super::upload::PART_SIZE;
use super::*;
use object_store::memory::InMemory;

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    (dir, store)
}

async fn read_all(store: &Store, key: &str) -> Vec<u8> {
    let stream = store.read(key).await.unwrap();
    stream
        .try_fold(Vec::new(), async |mut all, chunk| {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn an_object_is_created_once() {
    let (_dir, store) = open();
    assert_eq!(
        store.create("a/b.json", "1".into()).await.unwrap(),
        Creation::Created
    );
    assert_eq!(
        store.create("a/b.json", "2".into()).await.unwrap(),
        Creation::Exists
    );
    assert_eq!(store.read_json::<u32>("a/b.json").await.unwrap(), Some(1));
    assert_eq!(store.read_json::<u32>("a/c.json").await.unwrap(), None);
}

#[tokio::test]
async fn a_watched_object_is_created_once() {
    let (dir, local) = open();
    let remote = Store::from_objects("memory", Arc::new(InMemory::new()));
    for store in [&local, &remote] {
        let create = |content: &'static str| store.create_watched("a/b.x", content.into());
        assert_eq!(create("1").await.unwrap(), Creation::Created);
        assert_eq!(create("2").await.unwrap(), Creation::Exists);
        assert_eq!(store.list("a").await.unwrap(), ["a/b.x"]);
        assert_eq!(read_all(store, "a/b.x").await, b"1");
        let writers = (0..20).map(|_| store.create_watched("a/c.x", "3".into()));
        let created = futures::future::try_join_all(writers).await.unwrap();
        let is_new = |created: &&Creation| **created == Creation::Created;
        assert_eq!(created.iter().filter(is_new).count(), 1, "{created:?}");
    }
    let names = std::fs::read_dir(dir.path().join("a")).unwrap();
    assert_eq!(names.count(), 2);
}

/// No file whose name contains the object's is ever beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_a_folder_sees_whole_objects_only() {
    let (dir, store) = open();
    let folder = dir.path().join("a");
    std::fs::create_dir(&folder).unwrap();
    let writer = tokio::spawn(async move {
        for number in 0..50 {
            let key = format!("a/object-{number}");
            store.create_watched(&key, "whole".into()).await.unwrap();
        }
    });
    let (mut others, mut found) = (0, 0);
    while !writer.is_finished() || found < 50 {
        found = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.contains("object") {
                assert!(!name.contains('#'), "{name}");
                assert_eq!(std::fs::read(&path).unwrap(), b"whole", "{name}");
                found += 1;
            } else {
                others += 1;
            }
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert!(others > 0, "no file in the making was seen");
}

#[tokio::test]
async fn the_newest_object_has_the_greatest_number() {
    let (_dir, store) = open();
    assert_eq!(store.newest("a").await.unwrap(), None);
    for key in [
        "a/0002.json",
        "a/9999.json",
        "a/10000.json",
        "a/0001.json",
        "a/._10001.json",
        "a/9999.json.bak1",
        "b/20000.json",
    ] {
        store.create(key, "1".into()).await.unwrap();
    }
    assert_eq!(
        store.newest("a").await.unwrap().as_deref(),
        Some("a/10000.json")
    );
}

#[tokio::test]
async fn an_object_is_read_whole_and_in_pieces() {
    let bytes: Vec<u8> = (0..2 * PIECE_SIZE + 5).map(|i| (i % 251) as u8).collect();
    let (_dir, local) = open();
    let remote = Store::from_objects("memory", Arc::new(InMemory::new()));
    for store in [local, remote] {
        store.create("a", bytes.clone().into()).await.unwrap();
        store.create("empty", Bytes::new()).await.unwrap();
        for offset in [0, 1, PIECE_SIZE, bytes.len() - 1, bytes.len()] {
            let size = store.size("a").await.unwrap();
            let mut rest = Vec::new();
            for piece in pieces(offset as u64..size) {
                rest.extend_from_slice(&store.read_piece("a", piece).await.unwrap());
            }
            assert!(rest == bytes[offset..], "{offset}");
        }
        assert!(read_all(&store, "a").await == bytes);
        let empty = store.read("empty").await.unwrap();
        assert_eq!(empty.try_collect::<Vec<_>>().await.unwrap().concat(), b"");
        let missing = store.read("b").await.map(drop);
        assert!(matches!(missing, Err(StoreError::NotFound { .. })));
        let missing = store.size("b").await;
        assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    }
}

#[tokio::test]
async fn of_racing_creations_one_wins() {
    let (_dir, store) = open();
    let race = (0..16).map(|i| {
        let store = store.clone();
        async move { store.create_json("claim.json", &i).await.unwrap() }
    });
    let results = futures::future::join_all(race).await;
    assert_eq!(
        results.iter().filter(|r| **r == Creation::Created).count(),
        1
    );
}

#[tokio::test]
async fn a_large_upload_arrives_whole() {
    let (_dir, store) = open();
    let content: Vec<u8> = (0..PART_SIZE * 2 + 17).map(|i| (i % 251) as u8).collect();
    let mut upload = store.upload("x/large.bin");
    for chunk in content.chunks(1 << 20) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    assert!(!store.exists("x/large.bin").await.unwrap());
    upload.finish(Blob::of(&content)).await.unwrap().unwrap();
    assert_eq!(read_all(&store, "x/large.bin").await, content);
    assert_eq!(store.list("x").await.unwrap(), ["x/large.bin"]);
}

#[tokio::test]
async fn an_upload_with_another_checksum_leaves_no_object() {
    let (_dir, store) = open();
    for size in [10, PART_SIZE * 2] {
        let mut upload = store.upload("x.bin");
        upload.write(vec![1; size].into()).await.unwrap();
        let found = upload
            .finish(Blob::of(b"other"))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(found.size, size as u64);
        assert!(store.list("").await.unwrap().is_empty());
    }
}

#[test]
fn a_wrong_location_is_named() {
    for (location, reason) in [
        ("ftp://x", "ftp"),
        ("s3://", "bucket"),
        ("/dev/null/x", "directory"),
    ] {
        let error = Store::open(location).unwrap_err().to_string();
        assert!(
            error.contains(location) && error.contains(reason),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_store_that_is_gone_is_not_taken_for_an_empty_one() {
    let (dir, store) = open();
    store.create("e/claim.json", "1".into()).await.unwrap();
    store.check_still_has("e/claim.json").await.unwrap();
    std::fs::rename(dir.path().join("e"), dir.path().join("elsewhere")).unwrap();
    let error = store.check_still_has("e/claim.json").await.unwrap_err();
    assert!(
        error.is_permanent() && error.to_string().contains("mounted"),
        "{error}"
    );
}

#[test]
fn a_file_is_no_store() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Store::open(file.path().to_str().unwrap()).unwrap_err();
    assert!(error.to_string().contains("not a folder"), "{error}");
}

#[tokio::test]
async fn an_object_that_is_too_large_is_not_read() {
    let (dir, store) = open();
    let file = std::fs::File::create(dir.path().join("spec.json")).unwrap();
    file.set_len(LARGEST_JSON + 1).unwrap();
    let error = store.read_json::<u32>("spec.json").await.unwrap_err();
    assert!(error.is_permanent());
    let error = error.to_string();
    assert!(
        error.contains("\"spec.json\"") && error.contains("67108865 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn an_error_repeats_only_the_beginning_of_what_was_read() {
    let (_dir, store) = open();
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    store.create("a.json", long.into()).await.unwrap();
    let error = store
        .read_json::<u32>("a.json")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"a.json\"") && error.len() < 2000,
        "{}",
        error.len()
    );
}
