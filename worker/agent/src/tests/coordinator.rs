//! A coordinator that gives one task and keeps a record of what comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use quartet_proto::v1::coordinator_message::Message;
use quartet_proto::v1::fleet_server::{Fleet, FleetServer};
use quartet_proto::v1::{self, commit_checkpoint_request::Part, worker_message};
use quartet_shared::blob::Blob;
use quartet_shared::position::Position;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Something that a worker did.
#[derive(Debug, PartialEq)]
pub(super) enum Call {
    /// It committed a checkpoint, whose bytes match its header. The flag says whether the header had metrics
    /// and early stopping.
    Commit(Position, bool),
    /// It released its task, with this reason and this corrupt object.
    Release(v1::ReleaseKind, String, String),
    Complete,
}

/// What the coordinator gives, and how it answers.
pub(super) struct Setup {
    pub(super) welcome: v1::Welcome,
    pub(super) assignment: v1::Assignment,
    pub(super) objects: HashMap<String, Vec<u8>>,
    /// The bytes of an object after which its first reading breaks off.
    pub(super) breaks_after: usize,
    /// Whether a commit is refused.
    pub(super) refusal: fn(Position) -> Option<Status>,
}

/// A running coordinator.
pub(super) struct Coordinator {
    pub(super) address: String,
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    pub(super) hellos: mpsc::UnboundedReceiver<v1::Hello>,
    /// How the workers' streams ended.
    pub(super) ends: mpsc::UnboundedReceiver<Result<(), Status>>,
    reads: Arc<Mutex<Vec<String>>>,
    streams: Arc<Mutex<Streams>>,
}

type Outbox = mpsc::Sender<Result<v1::CoordinatorMessage, Status>>;

/// The current stream, and what becomes of others.
#[derive(Default)]
struct Streams {
    current: Option<mpsc::WeakSender<Result<v1::CoordinatorMessage, Status>>>,
    closed: bool,
}

fn send(outbox: &Outbox, message: Message) {
    let message = Some(message);
    outbox
        .try_send(Ok(v1::CoordinatorMessage { message }))
        .unwrap();
}

impl Coordinator {
    pub(super) async fn start(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, calls) = mpsc::unbounded_channel();
        let (greeted, hellos) = mpsc::unbounded_channel();
        let (ended, ends) = mpsc::unbounded_channel();
        let reads = Arc::new(Mutex::new(Vec::new()));
        let streams = Arc::new(Mutex::new(Streams::default()));
        let service = Service {
            setup,
            calls: sender,
            hellos: greeted,
            ends: ended,
            reads: Arc::clone(&reads),
            streams: Arc::clone(&streams),
        };
        let server = tonic::transport::Server::builder().add_service(FleetServer::new(service));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            address,
            calls,
            hellos,
            ends,
            reads,
            streams,
        }
    }

    /// Says something to the worker that is attached.
    pub(super) fn say(&self, message: Message) {
        let streams = self.streams.lock().unwrap();
        let outbox = streams.current.as_ref().and_then(mpsc::WeakSender::upgrade);
        send(&outbox.expect("a worker is attached"), message);
    }

    /// From now on no worker can attach.
    pub(super) fn close(&self) {
        self.streams.lock().unwrap().closed = true;
    }

    /// How often an object was read.
    pub(super) fn reads(&self, key: &str) -> usize {
        let reads = self.reads.lock().unwrap();
        reads.iter().filter(|read| *read == key).count()
    }
}

struct Service {
    setup: Setup,
    calls: mpsc::UnboundedSender<Call>,
    hellos: mpsc::UnboundedSender<v1::Hello>,
    ends: mpsc::UnboundedSender<Result<(), Status>>,
    reads: Arc<Mutex<Vec<String>>>,
    streams: Arc<Mutex<Streams>>,
}

#[tonic::async_trait]
impl Fleet for Service {
    type AttachStream = ReceiverStream<Result<v1::CoordinatorMessage, Status>>;
    type GetObjectStream =
        tokio_stream::Iter<std::vec::IntoIter<Result<v1::GetObjectResponse, Status>>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::WorkerMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|first| first.message);
        let Some(worker_message::Message::Hello(hello)) = first else {
            panic!("the first message is no hello")
        };
        let (outbox, responses) = mpsc::channel(4);
        {
            let mut streams = self.streams.lock().unwrap();
            if streams.closed {
                return Err(Status::unavailable("closed"));
            }
            streams.current = Some(outbox.downgrade());
        }
        send(&outbox, Message::Welcome(self.setup.welcome.clone()));
        send(&outbox, Message::Assignment(self.setup.assignment.clone()));
        let _ = self.hellos.send(hello);
        let ends = self.ends.clone();
        // The stream lasts as long as the worker's.
        tokio::spawn(async move {
            let end = loop {
                match messages.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                }
            };
            drop(outbox);
            let _ = ends.send(end);
        });
        Ok(Response::new(ReceiverStream::new(responses)))
    }

    async fn commit_checkpoint(
        &self,
        request: Request<Streaming<v1::CommitCheckpointRequest>>,
    ) -> Result<Response<v1::CommitCheckpointResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(Part::Header(header)) = parts.message().await?.and_then(|m| m.part) else {
            panic!("the first part is no header")
        };
        let mut bytes = Vec::new();
        while let Some(message) = parts.message().await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                panic!("a later part is no chunk")
            };
            bytes.extend(chunk);
        }
        let blobs = [header.weights, header.training_state];
        let blobs = blobs.map(|blob| Blob::try_from(blob.unwrap()).unwrap());
        let (weights, state) = bytes.split_at(bytes.len().min(blobs[0].size as usize));
        if [weights, state].map(Blob::of) != blobs {
            return Err(Status::data_loss("other bytes"));
        }
        let position = Position::try_from(header.position.unwrap()).unwrap();
        assert_eq!(header.metrics.is_some(), header.early_stopping.is_some());
        let _ = self
            .calls
            .send(Call::Commit(position, header.metrics.is_some()));
        match (self.setup.refusal)(position) {
            Some(status) => Err(status),
            None => Ok(Response::new(v1::CommitCheckpointResponse {})),
        }
    }

    async fn complete(
        &self,
        _: Request<v1::CompleteRequest>,
    ) -> Result<Response<v1::CompleteResponse>, Status> {
        let _ = self.calls.send(Call::Complete);
        Ok(Response::new(v1::CompleteResponse {}))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let request = request.into_inner();
        let call = Call::Release(request.kind(), request.reason, request.object);
        let _ = self.calls.send(call);
        Ok(Response::new(v1::ReleaseResponse {}))
    }

    async fn keep_predictions(
        &self,
        _: Request<Streaming<v1::KeepPredictionsRequest>>,
    ) -> Result<Response<v1::KeepPredictionsResponse>, Status> {
        unreachable!("nothing is evaluated")
    }

    async fn keep_log(
        &self,
        _: Request<v1::KeepLogRequest>,
    ) -> Result<Response<v1::KeepLogResponse>, Status> {
        // Nothing waits for it.
        std::future::pending().await
    }

    async fn get_object(
        &self,
        request: Request<v1::GetObjectRequest>,
    ) -> Result<Response<Self::GetObjectStream>, Status> {
        let v1::GetObjectRequest { key, offset } = request.into_inner();
        let object = self.setup.objects.get(&key).cloned();
        let mut reads = self.reads.lock().unwrap();
        let again = reads.contains(&key);
        reads.push(key.clone());
        let chunk = object.ok_or_else(|| Status::not_found(key))?;
        let mut rest = chunk[usize::try_from(offset).unwrap()..].to_vec();
        let mut end = None;
        if !again && rest.len() > self.setup.breaks_after {
            rest.truncate(self.setup.breaks_after);
            end = Some(Err(Status::unavailable("the connection broke")));
        }
        let chunk = Ok(v1::GetObjectResponse { chunk: rest.into() });
        let chunks = [Some(chunk), end].into_iter().flatten().collect::<Vec<_>>();
        Ok(Response::new(tokio_stream::iter(chunks)))
    }
}
