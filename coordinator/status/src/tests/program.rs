use std::net::SocketAddr;
use std::time::Duration;

use quartet_identity::KeyChoice;
use quartet_proto::v1;
use quartet_proto::v1::status_server::{Status as StatusService, StatusServer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

use super::{PATIENCE, Recorder, sample};
use crate::logs::LogChoice;
use crate::options::Options;
use crate::snapshot::Snapshot;
use crate::{ClientError, FollowError, Shown, StatusError, drain_fleet, logs, run};
use quartet_shared::ids::Attempt;
use quartet_shared::task::Task;
use quartet_shared::terminal::Mode;

/// A coordinator that shows what it is told to.
struct Coordinator {
    address: SocketAddr,
    shows: watch::Sender<Snapshot>,
    server: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

struct Service {
    shows: watch::Receiver<Snapshot>,
    stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl StatusService for Service {
    type WatchStream = ReceiverStream<Result<v1::Snapshot, Status>>;

    async fn get_snapshot(
        &self,
        _: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::Snapshot>, Status> {
        Ok(Response::new(self.shows.borrow().clone().into()))
    }

    async fn drain_worker(
        &self,
        _: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        Err(Status::unimplemented("nothing drains here"))
    }

    async fn retry_task(
        &self,
        _: Request<v1::RetryTaskRequest>,
    ) -> Result<Response<v1::RetryTaskResponse>, Status> {
        Err(Status::failed_precondition("a\x1b[2J has not failed"))
    }

    async fn drain_fleet(
        &self,
        _: Request<v1::DrainFleetRequest>,
    ) -> Result<Response<v1::DrainFleetResponse>, Status> {
        let workers = self.shows.borrow().workers_present();
        let workers = u32::try_from(workers).unwrap();
        Ok(Response::new(v1::DrainFleetResponse { workers }))
    }

    async fn read_log(
        &self,
        request: Request<v1::ReadLogRequest>,
    ) -> Result<Response<v1::ReadLogResponse>, Status> {
        let v1::ReadLogRequest { attempt, after, .. } = request.into_inner();
        if attempt > 2 {
            return Err(Status::not_found("there is no such\x1b[2J attempt"));
        }
        let parts = ["task begins\n", "task\x1b[2J failed\n"]
            .into_iter()
            .zip(1..);
        let mut parts = parts.filter(|(_, number)| *number > after);
        let (text, number) = parts
            .next()
            .expect("more is asked for only if there is more");
        let text = text.to_owned();
        Ok(Response::new(v1::ReadLogResponse {
            attempt: 2,
            parts: vec![v1::LogPart { number, text }],
            more: number < 2,
            ended: true,
        }))
    }

    async fn create_page_link(
        &self,
        _: Request<v1::CreatePageLinkRequest>,
    ) -> Result<Response<v1::CreatePageLinkResponse>, Status> {
        let token = "t0ken".to_owned();
        Ok(Response::new(v1::CreatePageLinkResponse { token }))
    }

    async fn watch(
        &self,
        _: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let (mut shows, mut stopped) = (self.shows.clone(), self.stopped.clone());
        tokio::spawn(async move {
            loop {
                let snapshot = shows.borrow_and_update().clone();
                let _ = sender.send(Ok(snapshot.into())).await;
                tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => return,
                    changed = shows.changed() => if changed.is_err() { return },
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Coordinator {
    async fn start(address: impl Into<SocketAddr>, shows: Snapshot) -> Self {
        let listener = TcpListener::bind(address.into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (shows, shown) = watch::channel(shows);
        let (stop, stopped) = watch::channel(false);
        let service = StatusServer::new(Service {
            shows: shown,
            stopped: stopped.clone(),
        });
        let mut until = stopped;
        let server = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                let _ = until.wait_for(|stop| *stop).await;
            });
        let server = tokio::spawn(async move { server.await.unwrap() });
        Self {
            address,
            shows,
            server,
            stop,
        }
    }

    /// Ends its streams and closes its port.
    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.server)
            .await
            .unwrap()
            .unwrap();
    }
}

fn options(address: SocketAddr) -> Options {
    Options {
        coordinator: vec![address.to_string().parse().unwrap()],
        follow: false,
        json: false,
        name: None,
        give_up_after: PATIENCE,
        keys: KeyChoice {
            folder: None,
            insecure: true,
        },
    }
}

type Program = JoinHandle<Result<Shown, StatusError>>;

fn start(options: Options) -> (Program, Recorder, Recorder) {
    let (out, err) = (Recorder::new(), Recorder::new());
    let (to_out, to_err) = (out.clone(), err.clone());
    let program = tokio::spawn(async move { run(&options, Mode::Lines, to_out, to_err).await });
    (program, out, err)
}

async fn end(program: Program) -> Result<Shown, StatusError> {
    tokio::time::timeout(PATIENCE, program)
        .await
        .unwrap()
        .unwrap()
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind(local())
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

fn local() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

#[tokio::test]
async fn a_log_is_read_to_its_end() {
    let coordinator = Coordinator::start(local(), sample::training()).await;
    let options = options(coordinator.address);
    let read = async |attempt: Option<u32>| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let choice = LogChoice {
            task: Task::Evaluate,
            attempt: attempt.map(Attempt),
            follow: false,
        };
        let read = logs::from_coordinator(&options, &choice, &mut out, &mut err).await;
        assert!(err.is_empty());
        read.map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(read(None).await.unwrap(), "task begins\ntask[2J failed\n");
    let error = read(Some(3)).await.unwrap_err().to_string();
    assert_eq!(error, "there is no such [2J attempt");
}

#[tokio::test]
async fn follows_across_a_restart_to_the_end() {
    let coordinator = Coordinator::start(local(), sample::training()).await;
    let address = coordinator.address;
    let (program, out, err) = start(Options {
        follow: true,
        ..options(address)
    });
    out.wait_for("vgg16  epoch 3/8").await;
    coordinator.stop().await;
    err.wait_for("no contact with the coordinator at 127.0.0.1")
        .await;
    let mut restarted = sample::training();
    restarted.term = restarted.term.next();
    let coordinator = Coordinator::start(address, restarted).await;
    out.wait_for("coordinator restarted").await;
    coordinator.shows.send_replace(sample::finished());
    assert_eq!(end(program).await.unwrap(), Shown::Done);
    let remarks = err.text();
    assert_eq!(remarks.lines().count(), 2, "for every outage: {remarks:?}");
    assert!(
        remarks.ends_with("contact with the coordinator again\n"),
        "{remarks:?}"
    );
    let log = out.text();
    assert!(log.contains("72.75 % of 3589 images"));
    let lines = log.lines().map(|line| line.split_once(' ').unwrap().1);
    let mut lines: Vec<_> = lines.collect();
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "a line is repeated: {log}");
}

#[tokio::test]
async fn a_coordinator_that_stopped_is_no_broken_connection() {
    let coordinator = Coordinator::start(local(), sample::training()).await;
    let (program, out, err) = start(Options {
        follow: true,
        give_up_after: Duration::from_millis(300),
        ..options(coordinator.address)
    });
    out.wait_for("vgg16  epoch 3/8").await;
    let mut stopping = sample::training();
    stopping.stopping = true;
    coordinator.shows.send_replace(stopping);
    out.wait_for("experiment fer2013: stopping").await;
    coordinator.stop().await;
    assert!(matches!(
        end(program).await,
        Err(StatusError::Follow(FollowError { .. }))
    ));
    let remarks = err.text();
    assert!(
        remarks.contains("has stopped; waiting for 0.3 s"),
        "{remarks}"
    );
    assert_eq!(remarks.lines().count(), 1, "{remarks}");
}

#[tokio::test]
async fn waits_for_a_coordinator_and_fails_with_its_experiment() {
    let address = nobody().await;
    let (program, out, err) = start(Options {
        follow: true,
        json: true,
        ..options(address)
    });
    err.wait_for("no contact").await;
    let _coordinator = Coordinator::start(address, sample::failed()).await;
    assert_eq!(end(program).await.unwrap(), Shown::Failed);
    let text = out.text();
    let event: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&event["event"], &event["state"]),
        (&"snapshot".into(), &"failed".into())
    );
}

#[tokio::test]
async fn gives_up_in_the_end() {
    let give_up_after = Duration::from_millis(300);
    let (program, out, err) = start(Options {
        follow: true,
        give_up_after,
        ..options(nobody().await)
    });
    let error = end(program).await.unwrap_err();
    assert!(matches!(error, StatusError::Follow(FollowError { .. })));
    assert!(
        error
            .to_string()
            .starts_with("gave up after 0.3 s without contact: no coordinator")
    );
    assert_eq!((out.text().as_str(), err.text().lines().count()), ("", 1));
}

#[tokio::test]
async fn shows_a_snapshot_once() {
    let coordinator = Coordinator::start(local(), sample::failed()).await;
    let (program, out, err) = start(options(coordinator.address));
    assert_eq!(
        end(program).await.unwrap(),
        Shown::Done,
        "the question was answered"
    );
    assert!(
        out.text()
            .contains("vgg16 failed: the loss is NaN [2Jin epoch 1\n")
    );
    assert_eq!(err.text(), "");
}

#[tokio::test]
async fn a_whole_fleet_is_counted_as_it_is_sent_home() {
    let coordinator = Coordinator::start(local(), sample::training()).await;
    let said = async || {
        let mut out = Vec::new();
        let options = options(coordinator.address);
        drain_fleet(&options, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(said().await, "2 workers hand their tasks back and leave\n");
    coordinator
        .shows
        .send_modify(|shows| drop(shows.workers.remove(0)));
    assert_eq!(said().await, "1 worker hands its task back and leaves\n");
    coordinator.shows.send_modify(|shows| shows.workers.clear());
    assert_eq!(said().await, "no worker is connected\n");
}

#[tokio::test]
async fn says_at_once_that_nobody_answers() {
    let address = nobody().await;
    let (program, out, _) = start(options(address));
    let error = end(program).await.unwrap_err();
    assert!(matches!(
        error,
        StatusError::Client(ClientError::Unreachable { .. })
    ));
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("no coordinator answers at {address}: ")),
        "{text}"
    );
    assert!(
        text.contains("Connection refused") && text.contains("coordinator --workers 4"),
        "{text}"
    );
    assert_eq!(out.text(), "");
}

#[tokio::test]
async fn another_kind_of_server_is_no_coordinator() {
    let listener = TcpListener::bind(local()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder()
        .add_routes(tonic::service::Routes::default())
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);
    let (program, ..) = start(Options {
        follow: true,
        ..options(address)
    });
    let error = end(program).await.unwrap_err();
    assert!(
        matches!(
            error,
            StatusError::Client(ClientError::NotCoordinator { .. })
        ),
        "{error}"
    );
    server.abort();
}
