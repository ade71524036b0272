//! What does not go well, and what people learn of it.

use super::*;
use crate::weights::Missing;

#[tokio::test]
async fn wrong_bytes_are_downloaded_once_more() {
    let harness = Harness::new().await;
    harness.hub.fail([Fault::Wrong]);
    harness.succeed().await;
    assert_eq!(harness.hub.parts().len(), 14);

    let path = harness.blob();
    let mut damaged = harness.bytes.clone();
    damaged[SIZE / 2] ^= 1;
    fs::write(&path, damaged).unwrap();
    harness.succeed().await;
    assert_eq!(harness.hub.parts().len(), 21);

    fs::remove_file(&path).unwrap();
    harness.hub.fail([Fault::Wrong; 14]);
    let HubProblem::Damaged { found, expected } = harness.fail().await else {
        panic!("the bytes are wrong");
    };
    assert_eq!(expected, Checksum::of(&harness.bytes));
    assert_ne!(found, expected);
    assert_eq!(harness.hub.parts().len(), 35);
    let left = fs::read_dir(path.parent().unwrap()).unwrap();
    for entry in left {
        assert_eq!(entry.unwrap().path().extension().unwrap(), "lock");
    }
    harness.succeed().await;
}

#[tokio::test]
async fn without_network_a_damaged_file_is_an_error() {
    let mut harness = Harness::new().await;
    harness.succeed().await;
    fs::write(harness.blob(), b"short").unwrap();
    harness.config.offline = true;
    assert!(matches!(harness.fail().await, HubProblem::Damaged { .. }));
    assert!(harness.blob().exists());
}

#[tokio::test]
async fn a_token_opens_a_private_repository() {
    let mut harness = Harness::new().await;
    harness.hub.require_token("hf_mine");
    for token in [None, Some("hf_other")] {
        harness.config.token = token.map(|token| Token(token.to_owned()));
        let HubProblem::Denied { status, with_token } = harness.fail().await else {
            panic!("the hub refuses");
        };
        assert_eq!((status, with_token), (401, token.is_some()));
    }
    harness.config.token = Some(Token("hf_mine".to_owned()));
    harness.succeed().await;
}

#[tokio::test]
async fn the_token_is_not_sent_where_it_is_not_asked_for() {
    let mut harness = Harness::new().await;
    harness.config.token = Some(Token("hf_mine".to_owned()));
    harness.succeed().await;
    assert!(harness.hub.seen().iter().all(|seen| seen.token.is_none()));
}

/// Tells what is written to it.
struct Told(std::sync::mpsc::Sender<String>);

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.send(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes as long as hf-hub tries to get the lock: five seconds.
#[tokio::test]
async fn a_download_of_another_process_is_waited_for() {
    let harness = Harness::new().await;
    let path = harness.blob().with_extension("lock");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let lock = fs::File::create(path).unwrap();
    lock.lock().unwrap();
    let (sender, told) = std::sync::mpsc::channel();
    let release = std::thread::spawn(move || {
        let is_waiting = |text: String| text.contains("waiting for another process");
        assert!(told.iter().any(is_waiting));
        lock.unlock().unwrap();
    });
    let mut progress = DownloadProgress::new(Box::new(Told(sender)), Mode::Lines);
    resolve(&file(None), &harness.config, &mut progress)
        .await
        .unwrap();
    release.join().unwrap();
    harness.succeed().await;
}

#[tokio::test]
async fn what_the_hub_does_not_have_is_named() {
    let harness = Harness::new().await;
    let other = HubFile {
        repository: "timm/vgg61".to_owned(),
        ..file(None)
    };
    let absent = HubFile {
        file: Some("weights.h5".to_owned()),
        ..file(None)
    };
    let cases = [
        (other, Missing::Repository),
        (file(Some("v2")), Missing::Revision),
        (absent, Missing::File),
    ];
    for (file, expected) in cases {
        match harness.resolve(&file).await.unwrap_err() {
            HubProblem::NotFound(missing) => assert_eq!(missing, expected, "{file}"),
            problem => panic!("{file}: {problem}"),
        }
    }
}

#[tokio::test]
async fn a_hub_out_of_order_is_tried_again() {
    let harness = Harness::new().await;
    harness.hub.answer_with([503, 429]);
    harness.succeed().await;
    fs::remove_dir_all(harness.model()).unwrap();
    harness.hub.answer_with([500, 502, 504]);
    let problem = harness.fail().await.to_string();
    assert!(problem.contains("504"), "{problem}");
    harness.hub.answer_with([418]);
    assert!(matches!(harness.fail().await, HubProblem::Unexpected(_)));
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_named_with_the_cause() {
    let mut harness = Harness::new().await;
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    harness.config.endpoint = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let HubProblem::Unreachable(problem) = harness.fail().await else {
        panic!("nobody listens");
    };
    assert!(problem.contains(&harness.config.endpoint), "{problem}");
    assert!(problem.contains("refused"), "{problem}");
}

#[tokio::test]
async fn a_download_that_stands_still_is_begun_anew() {
    let mut harness = Harness::new().await;
    harness.config.pace.stall = Duration::from_millis(200);
    harness.config.pace.attempts = 100;
    harness.hub.fail([Fault::Fine, Fault::Hang]);
    harness.succeed().await;
    harness.hub.is_given_up().await;
}

#[tokio::test]
async fn a_dropped_download_ends_and_can_be_resumed() {
    let harness = Harness::new().await;
    harness.hub.fail([Fault::Fine, Fault::Fine, Fault::Hang]);
    tokio::select! {
        _ = harness.fail() => panic!("it hangs"),
        () = harness.hub.hangs() => {}
    }
    harness.hub.is_given_up().await;
    harness.succeed().await;
    // Whether the second part was noted down when the third one hung is a race.
    let resumed = last_attempt(&harness.hub.parts())[0];
    assert!([PART, 2 * PART].contains(&resumed), "{resumed}");
}
