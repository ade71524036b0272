use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::KeyPair;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Uri;

use crate::authority::Authority;
use crate::client::{connect, shake_hands};
use crate::credentials::Credentials;
use crate::folder::{DEFAULT_DAYS, KeyFolder};
use crate::server::{ServerKeys, Stream};
use crate::{KeyError, Role};

fn made() -> (tempfile::TempDir, KeyFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = KeyFolder::new(dir.path().join("keys"));
    assert!(folder.create(DEFAULT_DAYS).unwrap());
    (dir, folder)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A server that answers a line with who has sent it.
async fn serve(folder: &KeyFolder) -> Uri {
    let keys = Arc::new(ServerKeys::read(folder).unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut stream = Stream::new(tcp, Some(&keys));
            tokio::spawn(async move {
                let mut line = [0; 6];
                if stream.read_exact(&mut line).await.is_err() {
                    return;
                }
                assert_eq!(&line, b"hello\n");
                let peer = stream.peer();
                let name = peer
                    .holder()
                    .map(|holder| format!("{} {}", holder.role, holder.name));
                let name = name.unwrap_or_else(|| "stranger".to_owned());
                stream.write_all(name.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
    format!("http://{address}").parse().unwrap()
}

async fn ask(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
) -> Result<String, String> {
    let mut answer = String::new();
    let asked = async {
        stream.write_all(b"hello\n").await?;
        stream.read_to_string(&mut answer).await
    };
    match asked.await {
        Ok(_) => Ok(answer),
        Err(error) => Err(error.to_string()),
    }
}

async fn answer(folder: &KeyFolder, role: Role, uri: &Uri) -> Result<String, String> {
    let stream = connect(folder, role, uri)
        .await
        .map_err(|e| e.to_string())?;
    ask(stream).await
}

#[test]
fn keys_are_private_and_made_once() {
    let (_dir, folder) = made();
    assert_eq!(mode(folder.path()), 0o700);
    for role in Role::ALL {
        assert_eq!(mode(&folder.private_key(role)), 0o600);
    }
    assert_eq!(mode(&folder.path().join("ca.key")), 0o600);
    let before = fs::read(folder.authority()).unwrap();
    assert!(!folder.create(DEFAULT_DAYS).unwrap(), "they are there");
    assert_eq!(fs::read(folder.authority()).unwrap(), before);
    let keys = folder.keys().unwrap();
    let roles: Vec<_> = keys
        .iter()
        .map(|key| (key.name.as_str(), key.role))
        .collect();
    assert_eq!(roles, Role::ALL.map(|role| (role.as_str(), role)));
    let year = OffsetDateTime::now_utc() + Duration::days(365);
    for key in keys {
        assert!((key.expires - year).abs() < Duration::minutes(5), "{key:?}");
    }
    assert!(
        fs::read_dir(folder.path()).unwrap().all(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str()
                .is_some_and(|name| name.ends_with(".pem") || name.ends_with(".key"))
        }),
        "nothing is left over"
    );
}

#[test]
fn private_keys_that_others_read_or_that_are_gone_are_a_concern() {
    let (_dir, folder) = made();
    assert_eq!(folder.concerns().unwrap(), Vec::<String>::new());
    for key in [
        folder.path().join("ca.key"),
        folder.private_key(Role::Worker),
    ] {
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    }
    fs::remove_file(folder.private_key(Role::Viewer)).unwrap();
    let concerns = folder.concerns().unwrap().join("\n");
    for part in [
        "ca.key: chmod 600",
        "worker.key: chmod 600",
        "viewer.key is missing",
    ] {
        assert!(concerns.contains(part), "{concerns}");
    }
    assert_eq!(concerns.lines().count(), 3);
}

#[test]
fn of_many_that_make_keys_at_once_one_makes_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let folder = KeyFolder::new(dir.path().join("below/keys"));
    let made = std::thread::scope(|scope| {
        let create = || folder.create(DEFAULT_DAYS).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        let made = threads.into_iter().map(|thread| thread.join().unwrap());
        made.filter(|made| *made).count()
    });
    assert_eq!(made, 1);
    ServerKeys::read(&folder).unwrap();
    let beside = fs::read_dir(dir.path().join("below")).unwrap().count();
    assert_eq!(beside, 1, "nothing is left over");
    // As a shell completes it.
    let slash = KeyFolder::new(dir.path().join("slash/"));
    assert!(slash.create(DEFAULT_DAYS).unwrap());
    ServerKeys::read(&slash).unwrap();
    // What is no folder of keys is not taken for one, nor overwritten.
    let other = KeyFolder::new(dir.path().join("other"));
    fs::create_dir(other.path()).unwrap();
    fs::write(other.path().join("mine"), "").unwrap();
    let error = other.create(DEFAULT_DAYS).unwrap_err().to_string();
    assert!(
        error.contains("cannot make keys in") && error.contains("other"),
        "{error}"
    );
    assert!(other.path().join("mine").exists());
}

#[test]
fn keys_for_another_machine_are_a_folder_without_the_authority_s_key() {
    let (_dir, folder) = made();
    let node = folder.add("node-7", Role::Worker, 10).unwrap();
    let mut files: Vec<_> = fs::read_dir(node.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    files.sort();
    assert_eq!(files, ["ca.pem", "worker.key", "worker.pem"]);
    let keys = folder.keys().unwrap();
    let added = keys.last().unwrap();
    assert_eq!((added.name.as_str(), added.role), ("node-7", Role::Worker));
    assert!(matches!(
        folder.add("node-7", Role::Viewer, 10),
        Err(KeyError::Exists(_))
    ));
    for name in ["", "../x", "a/b", ".hidden", "-x", "a b", &"x".repeat(65)] {
        let refused = folder.add(name, Role::Worker, 10);
        assert!(matches!(refused, Err(KeyError::Name(_))), "{name:?}");
    }
    let error = node.add("other", Role::Worker, 10).unwrap_err().to_string();
    assert!(error.contains("ca.key"), "only who has it can add: {error}");
}

#[tokio::test]
async fn each_side_knows_the_other() {
    let (_dir, folder) = made();
    let uri = serve(&folder).await;
    for role in Role::ALL {
        assert_eq!(
            answer(&folder, role, &uri).await,
            Ok(format!("{role} {role}"))
        );
    }
    let node = folder.add("node-7", Role::Worker, 10).unwrap();
    assert_eq!(
        answer(&node, Role::Worker, &uri).await.as_deref(),
        Ok("worker node-7")
    );
    // Without keys one gets as far as being told so.
    let tcp = TcpStream::connect(uri.authority().unwrap().as_str())
        .await
        .unwrap();
    assert_eq!(ask(tcp).await.as_deref(), Ok("stranger"));
}

#[tokio::test]
async fn keys_of_another_authority_open_nothing() {
    let (_dir, folder) = made();
    let (_other_dir, other) = made();
    let uri = serve(&folder).await;
    let error = answer(&other, Role::Worker, &uri).await.unwrap_err();
    assert!(error.contains("not issued by the authority of"), "{error}");
    // A folder of both is noticed at once.
    fs::copy(folder.authority(), other.authority()).unwrap();
    let error = answer(&other, Role::Worker, &uri).await.unwrap_err();
    assert!(
        error.contains("worker.pem") && error.contains("was not issued by"),
        "{error}"
    );
}

#[tokio::test]
async fn only_a_coordinator_s_certificate_serves() {
    let (_dir, folder) = made();
    let credentials = Credentials::read(&folder, Role::Worker).unwrap();
    let config = credentials.server(folder.path()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let uri: Uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let _ = acceptor.accept(tcp).await;
    });
    let error = answer(&folder, Role::Admin, &uri).await.unwrap_err();
    assert!(error.contains("not that of a coordinator"), "{error}");
    // Nor does it when its file is given another name.
    for file in ["pem", "key"] {
        let named = folder.path().join(format!("coordinator.{file}"));
        fs::copy(folder.path().join(format!("worker.{file}")), named).unwrap();
    }
    let error = ServerKeys::read(&folder).unwrap_err().to_string();
    assert!(error.contains("no coordinator's certificate"), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let (_dir, folder) = made();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let uri: Uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"\0\0\x12\x04\0\0\0\0\0").await.unwrap();
        let _ = tcp.read(&mut [0; 1000]).await;
    });
    let error = answer(&folder, Role::Worker, &uri).await.unwrap_err();
    assert!(error.contains("does not speak TLS"), "{error}");
}

/// Replaces a role's certificate by one that has expired.
fn let_expire(folder: &KeyFolder, role: Role) {
    let (certificate, key) = (folder.authority(), folder.path().join("ca.key"));
    let far = OffsetDateTime::now_utc() + Duration::days(1);
    let (pem, private) = (
        fs::read_to_string(certificate).unwrap(),
        fs::read_to_string(&key).unwrap(),
    );
    let authority = Authority::from_pem(&pem, &private, far, &key).unwrap();
    let key = KeyPair::from_pem(&fs::read_to_string(folder.private_key(role)).unwrap()).unwrap();
    let certificate = authority.issue("old", role, 0, &key).unwrap();
    fs::write(folder.certificate(role), certificate).unwrap();
}

#[tokio::test]
async fn an_expired_certificate_opens_nothing_until_it_is_renewed() {
    let (_dir, folder) = made();
    let uri = serve(&folder).await;
    let_expire(&folder, Role::Worker);
    let error = answer(&folder, Role::Worker, &uri).await.unwrap_err();
    assert!(
        error.contains("expired on") && error.contains("keys renew"),
        "{error}"
    );
    // Nor to a client that does not look at its own.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let credentials = Credentials::read_of_any_age(&folder, Role::Worker).unwrap();
    let config = credentials.client(folder.path()).unwrap();
    let refused = match shake_hands(&folder, config, &uri).await {
        Ok(stream) => ask(stream).await,
        Err(error) => Err(error.to_string()),
    };
    let error = refused.unwrap_err();
    assert!(error.contains("alert"), "{error}");
    let key = fs::read(folder.private_key(Role::Worker)).unwrap();
    assert_eq!(folder.renew(10).unwrap().len(), 4);
    assert_eq!(fs::read(folder.private_key(Role::Worker)).unwrap(), key);
    assert_eq!(
        answer(&folder, Role::Worker, &uri).await.as_deref(),
        Ok("worker old")
    );
}

#[tokio::test]
async fn a_server_shows_its_renewed_certificate_without_a_restart() {
    let (_dir, folder) = made();
    let uri = serve(&folder).await;
    let shown = async || {
        let stream = connect(&folder, Role::Viewer, &uri).await.unwrap();
        let (_, session) = stream.get_ref();
        session.peer_certificates().unwrap()[0].to_vec()
    };
    let before = shown().await;
    assert_eq!(shown().await, before);
    folder.renew(10).unwrap();
    let mut after = shown().await;
    let started = std::time::Instant::now();
    while after == before {
        assert!(started.elapsed() < std::time::Duration::from_secs(30));
        after = shown().await;
    }
    // What cannot be used does not replace what can.
    fs::write(folder.certificate(Role::Coordinator), "nonsense").unwrap();
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_millis(1500) {
        assert_eq!(shown().await, after);
    }
}

#[test]
fn a_folder_that_lacks_something_says_what() {
    let (_dir, folder) = made();
    let node = folder.add("node", Role::Viewer, 10).unwrap();
    let choice = crate::KeyChoice {
        folder: Some(node.path().to_owned()),
        insecure: false,
    };
    let error = choice
        .connector(&[Role::Worker], "a worker")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no keys for a worker (worker.pem)"),
        "{error}"
    );
    assert!(!KeyFolder::new("/dev/null/keys").exists().unwrap());
    let nothing = KeyFolder::new(folder.path().join("nothing"));
    let error = nothing.keys().unwrap_err().to_string();
    assert!(
        error.contains("cannot read") && error.contains("nothing"),
        "{error}"
    );
    fs::write(folder.private_key(Role::Worker), "nonsense").unwrap();
    let error = Credentials::read(&folder, Role::Worker)
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("worker.key"), "{error}");
    // A key of another certificate.
    fs::copy(
        folder.private_key(Role::Admin),
        folder.private_key(Role::Viewer),
    )
    .unwrap();
    let viewer = Credentials::read(&folder, Role::Viewer).unwrap();
    assert!(viewer.client(folder.path()).is_err());
}
