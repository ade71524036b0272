//! Clients that mean no good.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use quartet_identity::folder::DEFAULT_DAYS;
use quartet_identity::{KeyChoice, KeyFolder, Role};
use quartet_proto::v1::fleet_client::FleetClient;
use quartet_proto::v1::status_client::StatusClient;
use quartet_proto::v1::{self, worker_message};
use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::task::{LeaseId, Task};
use quartet_store::manifest::StoredSpec;
use quartet_tests::played_worker::header;
use quartet_tests::processes::{hello, secret};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::experiment::Experiment;

/// Idle connections, half-open handshakes, and downloads that nobody reads.
const IDLE: usize = 10_000;
const HALF_OPEN: usize = 1000;
const UNREAD: usize = 200;
/// Streams on one connection.
const STREAMS: usize = 90;
/// Clients that do the same thing again and again.
const CLIENTS: usize = 20;
/// A handshake's first bytes: a record of 512 bytes, of which one comes.
const BEGUN: &[u8] = b"\x16\x03\x01\x02\x00\x01";

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    Nobody,
    Idle,
    HalfOpen,
    Unread,
    Hellos,
    HugeNames,
    WrongCertificates,
    ExpiredCertificates,
    Strangers,
    ViewerDrains,
    Impostor,
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Idle => write!(f, "{IDLE} idle connections"),
            Self::HalfOpen => write!(f, "{HALF_OPEN} handshakes that stop half-way"),
            Self::Unread => write!(f, "{UNREAD} downloads that nobody reads"),
            Self::Hellos => f.write_str("workers that join and leave, without end"),
            Self::HugeNames => f.write_str("names of 1,000,000 characters"),
            Self::WrongCertificates => f.write_str("certificates of another authority"),
            Self::ExpiredCertificates => f.write_str("expired certificates"),
            Self::Strangers => f.write_str("calls without keys"),
            Self::ViewerDrains => f.write_str("a viewer that drains workers"),
            Self::Impostor => f.write_str("a worker that commits for another"),
        }
    }
}

/// What is attacked.
pub(super) struct Target {
    pub(super) address: String,
    pub(super) keys: KeyChoice,
    /// The packed data set's key.
    dataset: String,
    /// A lease that an honest worker holds, and the worker.
    lease: LeaseId,
    wrong: ClientConfig,
    expired: ClientConfig,
}

impl Target {
    pub(super) fn new(
        experiment: &Experiment,
        address: &str,
        snapshot: &Value,
    ) -> anyhow::Result<Self> {
        let spec = std::fs::read(experiment.path("store/bench/spec.json"))?;
        let spec: StoredSpec = serde_json::from_slice(&spec)?;
        let run = &snapshot["runs"][0];
        let workers = snapshot["workers"].as_array().context("workers")?;
        let worker = workers
            .iter()
            .find(|worker| worker["name"] == run["worker"]);
        let id = worker.context("the run's worker")?["id"].as_str();
        let lease = LeaseId {
            experiment: spec.id.context("an identity")?,
            task: Task::Train(run["name"].as_str().context("a name")?.parse()?),
            attempt: Attempt(1),
            worker: id.context("an id")?.parse()?,
        };
        let keys = KeyFolder::new(experiment.path("keys"));
        let expired = keys.add("expired", Role::Worker, 0)?;
        let other = KeyFolder::new(experiment.path("other"));
        other.create(DEFAULT_DAYS)?;
        let ca = keys.path().join("ca.pem");
        Ok(Self {
            address: address.to_owned(),
            keys: experiment.choice(),
            dataset: spec.dataset.key,
            lease,
            wrong: config(&ca, other.path())?,
            expired: config(&ca, expired.path())?,
        })
    }
}

/// How a client with a worker's keys connects that does not look at them first.
fn config(ca: &Path, keys: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let file = |name: &str| -> PathBuf { keys.join(name) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(file("worker.pem"))?],
            PrivateKeyDer::from_pem_file(file("worker.key"))?,
        )?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

impl Attack {
    pub(super) const ALL: [Self; 11] = [
        Self::Nobody,
        Self::Idle,
        Self::HalfOpen,
        Self::Unread,
        Self::Hellos,
        Self::HugeNames,
        Self::WrongCertificates,
        Self::ExpiredCertificates,
        Self::Strangers,
        Self::ViewerDrains,
        Self::Impostor,
    ];

    /// Goes on until then; what has become of it.
    pub(super) async fn run(self, target: Arc<Target>, until: Instant) -> anyhow::Result<String> {
        match self {
            Self::Nobody => {
                tokio::time::sleep_until(until).await;
                Ok("-".to_owned())
            }
            Self::Idle => open(&target, IDLE, b"", until).await,
            Self::HalfOpen => open(&target, HALF_OPEN, BEGUN, until).await,
            Self::Unread => unread(&target, until).await,
            _ => {
                let refused = AtomicU64::new(0);
                let refused = Arc::new(refused);
                let mut clients = JoinSet::new();
                for client in 0..CLIENTS {
                    let (target, refused) = (Arc::clone(&target), Arc::clone(&refused));
                    clients
                        .spawn(async move { self.repeat(&target, client, until, &refused).await });
                }
                while let Some(done) = clients.join_next().await {
                    done??;
                }
                let count = refused.load(Ordering::Relaxed);
                Ok(match self {
                    Self::Hellos => format!("{count} joined"),
                    _ => format!("{count} refused"),
                })
            }
        }
    }

    async fn repeat(
        self,
        target: &Target,
        client: usize,
        until: Instant,
        count: &AtomicU64,
    ) -> anyhow::Result<()> {
        let role = match self {
            Self::ViewerDrains => Role::Viewer,
            _ => Role::Worker,
        };
        let channel = target.connect(role).await?;
        let mut number = 0;
        while Instant::now() < until {
            number += 1;
            let id = format!("stranger-{client}-{number}");
            match self {
                Self::Hellos => attach(FleetClient::new(channel.clone()), hello(&id, None)).await?,
                Self::HugeNames => {
                    let mut message = hello(&id, None);
                    if let Some(worker_message::Message::Hello(hello)) = &mut message.message {
                        hello.name = "x".repeat(1_000_000);
                    }
                    let attached = attach(FleetClient::new(channel.clone()), message).await;
                    expect(attached, Code::InvalidArgument)?;
                }
                Self::WrongCertificates => refused(&target.address, &target.wrong).await?,
                Self::ExpiredCertificates => refused(&target.address, &target.expired).await?,
                Self::Strangers => {
                    let uri = format!("http://{}", target.address);
                    // It may have to wait, or be cut off, which is no answer.
                    if let Ok(mut client) = StatusClient::connect(uri).await {
                        let asked = client.get_snapshot(v1::GetSnapshotRequest::default()).await;
                        expect(asked.map(drop), Code::Unauthenticated)?;
                    }
                }
                Self::ViewerDrains => {
                    let worker = target.lease.worker.to_string();
                    let mut client = StatusClient::new(channel.clone());
                    let asked = client.drain_worker(v1::DrainWorkerRequest { worker });
                    expect(asked.await.map(drop), Code::PermissionDenied)?;
                }
                Self::Impostor => {
                    let header = v1::CheckpointHeader {
                        secret: secret(&id).bytes().into(),
                        ..header(&target.lease, Epoch(1), b"forged")
                    };
                    let part = v1::commit_checkpoint_request::Part::Header(header);
                    let request = v1::CommitCheckpointRequest { part: Some(part) };
                    let mut client = FleetClient::new(channel.clone());
                    let asked = client.commit_checkpoint(tokio_stream::iter([request]));
                    expect(asked.await.map(drop), Code::PermissionDenied)?;
                }
                Self::Nobody | Self::Idle | Self::HalfOpen | Self::Unread => {
                    unreachable!("done otherwise")
                }
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// An error unless the answer is this one.
fn expect(answer: Result<(), Status>, code: Code) -> anyhow::Result<()> {
    match answer {
        Err(status) if status.code() == code => Ok(()),
        other => anyhow::bail!("{code:?} was expected, not {other:?}"),
    }
}

/// Joins, hears the welcome, and leaves.
async fn attach(
    mut client: FleetClient<tonic::transport::Channel>,
    hello: v1::WorkerMessage,
) -> Result<(), Status> {
    let (outbox, messages) = mpsc::channel(1);
    // The channel is new and has room.
    let _ = outbox.try_send(hello);
    let mut inbox = client
        .attach(ReceiverStream::new(messages))
        .await?
        .into_inner();
    inbox.message().await.map(drop)
}

/// Opens connections that send these bytes and no more.
async fn open(
    target: &Target,
    number: usize,
    bytes: &'static [u8],
    until: Instant,
) -> anyhow::Result<String> {
    let mut clients = JoinSet::new();
    let closed = Arc::new(AtomicU64::new(0));
    for _ in 0..number {
        let (address, closed) = (target.address.clone(), Arc::clone(&closed));
        clients.spawn(async move {
            let held = async {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(bytes).await?;
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await
            };
            if tokio::time::timeout_at(until, held).await.is_ok() {
                closed.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while clients.join_next().await.is_some() {}
    Ok(format!("{} closed", closed.load(Ordering::Relaxed)))
}

/// Begins downloads and reads nothing of them.
async fn unread(target: &Target, until: Instant) -> anyhow::Result<String> {
    let mut held = Vec::new();
    let mut channel = None;
    let mut waiting = 0;
    for index in 0..UNREAD {
        if index.is_multiple_of(STREAMS) {
            channel = Some(target.connect(Role::Worker).await?);
        }
        let mut client = FleetClient::new(channel.clone().context("connected above")?);
        let key = target.dataset.clone();
        let asked = client.get_object(v1::GetObjectRequest { key, offset: 0 });
        match tokio::time::timeout(Duration::from_millis(100), asked).await {
            Ok(stream) => held.push(stream?),
            Err(_) => waiting += 1,
        }
    }
    tokio::time::sleep_until(until).await;
    Ok(format!("{} begun, {waiting} wait", held.len()))
}

/// A handshake that must not come to a connection.
async fn refused(address: &str, config: &ClientConfig) -> anyhow::Result<()> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(Role::Coordinator.dns_name())?;
    let connector = TlsConnector::from(Arc::new(config.clone()));
    let talked = async {
        let mut stream = connector.connect(name, tcp).await?;
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await?;
        stream.read(&mut [0; 100]).await
    };
    match talked.await {
        Err(_) => Ok(()),
        Ok(size) => anyhow::bail!("the coordinator answered with {size} bytes"),
    }
}
