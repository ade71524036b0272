use super::*;

const SIZE: usize = 3 * PIECE_SIZE + 5;
const KEY: &str = "object";

fn content() -> Bytes {
    (0..SIZE).map(|i| (i % 251) as u8).collect()
}

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    store.create(KEY, content()).await.unwrap();
    (dir, store)
}

/// Reads what is left; what broke the download off.
async fn read_all(download: &mut Download) -> Result<Vec<u8>, DownloadError> {
    let mut all = Vec::new();
    while let Some(message) = download.next().await {
        let message = message?;
        assert!(message.len() <= CHUNK_SIZE);
        all.extend_from_slice(&message);
    }
    Ok(all)
}

/// Whether a message comes within a second.
async fn reads(download: &mut Download) -> bool {
    let message = tokio::time::timeout(Duration::from_secs(1), download.next()).await;
    message.is_ok_and(|message| message.is_some_and(|message| message.is_ok()))
}

#[tokio::test(start_paused = true)]
async fn an_object_is_read_from_any_offset_however_slowly() {
    let (_dir, store) = store().await;
    let downloads = Downloads::default();
    for offset in [0, 1, PIECE_SIZE, SIZE - 1, SIZE, SIZE + 1] {
        let mut download = downloads.begin(&store, KEY, offset as u64).await.unwrap();
        let expected = content().slice(offset.min(SIZE)..);
        assert_eq!(read_all(&mut download).await.unwrap(), expected);
    }
    let mut download = downloads.begin(&store, KEY, 0).await.unwrap();
    let mut all = Vec::new();
    while let Some(message) = download.next().await {
        all.extend_from_slice(&message.unwrap());
        tokio::time::sleep(READ_TIMEOUT - Duration::from_secs(1)).await;
    }
    assert_eq!(all, content());
    let missing = downloads.begin(&store, "missing", 0).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn downloads_that_nobody_reads_share_little_memory_and_end() {
    let (_dir, store) = store().await;
    let downloads = Downloads::new(8);
    let mut unread = Vec::new();
    let mut begun = 0;
    for _ in 0..50 {
        let mut download = downloads.begin(&store, KEY, 0).await.unwrap();
        begun += usize::from(reads(&mut download).await);
        unread.push(download);
    }
    assert!((1..=8).contains(&begun), "{begun}");
    assert_eq!(downloads.memory.available_permits(), 0);
    // Whoever reads waits for the others no longer than they may keep still.
    let mut honest = downloads.begin(&store, KEY, 0).await.unwrap();
    let others = unread.split_off(begun);
    drop(others);
    assert_eq!(read_all(&mut honest).await.unwrap(), content());
    for mut download in unread {
        let ended = read_all(&mut download).await;
        assert!(matches!(ended, Err(DownloadError::Unread)), "{ended:?}");
        assert!(download.next().await.is_none());
    }
    assert_eq!(downloads.memory.available_permits(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_worker_reads_two_objects_at_once() {
    let (_dir, store) = store().await;
    let downloads = Downloads::default();
    let mut both = Vec::new();
    for _ in 0..2 {
        both.push(downloads.begin(&store, KEY, 0).await.unwrap());
    }
    let started = Instant::now();
    let mut read = [0, 0];
    while read != [SIZE, SIZE] {
        for (download, read) in both.iter_mut().zip(&mut read) {
            let message = download.next().await.transpose().unwrap();
            *read += message.map_or(0, |message| message.len());
        }
    }
    assert!(started.elapsed() < READ_TIMEOUT);
}
