//! Coordinators of a queue, and who submits experiments to it.

use std::time::Duration;

use futures::stream;
use quartet_coordinator::queue::{How, Queue};
use quartet_coordinator::server::{Contact, News, Policy, QueueRunner};
use quartet_ingest::data::{self, Source};
use quartet_proto::channel::endpoint;
use quartet_proto::v1::put_object_request::Part;
use quartet_proto::v1::queue_client::QueueClient;
use quartet_proto::v1::{self, ObjectKind};
use quartet_shared::blob::Blob;
use quartet_shared::chunks::CHUNK_SIZE;
use quartet_shared::ids::ExperimentName;
use quartet_shared::shutdown::Shutdown;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{COORDINATORS, PORT, RESTART, WORKERS, World, connector, faces, incoming, timing};
use crate::simulation::simulated::Ending;

/// The host of whoever submits experiments.
pub(super) const SUBMITTER: &str = "s";

/// Longest time that an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has a coordinator on this host until all experiments have ended.
pub(super) async fn supervise(world: &World, host: &str) {
    while !world.has_ended() {
        if let Err(error) = serve(world, host).await {
            tracing::info!(host, error = format!("{error:#}"), "the coordinator ended");
        }
        tokio::time::sleep(RESTART).await;
    }
}

async fn serve(world: &World, host: &str) -> anyhow::Result<()> {
    let store = world.experiments[0].store().clone();
    let contact = Contact {
        address: format!("{host}:{PORT}"),
        connector: connector(),
        plain_connector: None,
    };
    let queue = Queue::open(store, &contact.address, &[&contact.connector]).await?;
    for (entry, ended) in queue.ended() {
        note(world, &entry.experiment, ended.how, &ended.reason);
    }
    let workers = WORKERS.len() as u32;
    let (runner, mut news) =
        QueueRunner::new(queue, contact, workers, timing(), Policy::Local, None);
    let heard = async {
        while let Some(news) = news.recv().await {
            if let News::Ended {
                experiment,
                how,
                reason,
                ..
            } = news
            {
                note(world, &experiment, how, &reason);
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        biased;
        served = runner.serve(incoming().await?, Shutdown::new()) => served,
        () = heard => Ok(()),
    }
}

/// An entry has ended.
fn note(world: &World, experiment: &ExperimentName, how: How, reason: &str) {
    let mut experiments = world.experiments.iter();
    let Some(simulated) = experiments.find(|known| known.spec.name == *experiment) else {
        return;
    };
    match how {
        How::Finished => simulated.end(Ending::Finished),
        How::Failed => simulated.end(Ending::Failed(vec![reason.to_owned()])),
        // It comes again.
        How::Cancelled => {}
    }
}

/// Submits all experiments, one of which may be cancelled after a while and submitted again.
pub(super) async fn submit(world: &World) {
    let cancelled = world
        .dice
        .chance(0.4)
        .then(|| world.dice.below(world.experiments.len()));
    for experiment in &world.experiments {
        tokio::time::sleep(Duration::from_millis(world.dice.within(0..4_000))).await;
        let priority = world.dice.below(3) as i32 - 1;
        insist(async |client| send(client, &experiment.spec, priority).await).await;
    }
    let Some(cancelled) = cancelled else { return };
    tokio::time::sleep(Duration::from_millis(world.dice.within(0..6_000))).await;
    let spec = &world.experiments[cancelled].spec;
    insist(async |client| {
        let experiment = spec.name.to_string();
        match client.cancel(v1::CancelRequest { experiment }).await {
            // It has ended, or the answer to a first try was lost.
            Err(status) if status.code() == Code::NotFound => Ok(()),
            cancelled => cancelled.map(drop),
        }
    })
    .await;
    insist(async |client| send(client, spec, 0).await).await;
}

/// Tries until one of the coordinators has done it.
async fn insist(call: impl AsyncFn(&mut QueueClient<Channel>) -> Result<(), Status>) {
    for host in COORDINATORS.iter().cycle() {
        let uri = format!("http://{host}:{PORT}");
        let endpoint = endpoint(uri, PATIENCE, PATIENCE).expect("an address");
        let mut client = QueueClient::new(connector().channel(endpoint));
        match tokio::time::timeout(PATIENCE, call(&mut client)).await {
            Ok(Ok(())) => return,
            Ok(Err(status)) => {
                let message = status.message();
                tracing::info!(host, message, "not done");
                assert_ne!(status.code(), Code::InvalidArgument, "{message}");
                assert_ne!(status.code(), Code::AlreadyExists, "{message}");
            }
            Err(_) => tracing::info!(host, "no answer"),
        }
        tokio::time::sleep(RESTART).await;
    }
}

async fn send(
    client: &mut QueueClient<Channel>,
    spec: &quartet_shared::spec::ExperimentSpec,
    priority: i32,
) -> Result<(), Status> {
    let options = data::Options {
        synthetic: faces(),
        ..data::Options::default()
    };
    let loaded = data::load(&Source::Synthetic, &options).expect("faces are drawn");
    let bytes = loaded.dataset.encode();
    let blob = Blob::of(&bytes);
    let header = v1::ObjectContent {
        kind: ObjectKind::Dataset.into(),
        blob: Some(blob.into()),
    };
    let chunks = bytes
        .chunks(CHUNK_SIZE)
        .map(|chunk| Part::Chunk(chunk.to_vec().into()));
    let parts: Vec<_> = std::iter::once(Part::Header(header))
        .chain(chunks)
        .collect();
    let parts = parts
        .into_iter()
        .map(|part| v1::PutObjectRequest { part: Some(part) });
    client.put_object(stream::iter(parts)).await?;
    let request = v1::SubmitRequest {
        experiment: serde_json::to_vec(spec).expect("a spec is JSON").into(),
        dataset: Some(blob.into()),
        priority,
        ..v1::SubmitRequest::default()
    };
    client.submit(request).await.map(drop)
}
