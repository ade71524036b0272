//! People who have the coordinator's page open, and a Prometheus that asks each second.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How often the metrics are asked for.
const SCRAPE: Duration = Duration::from_secs(1);

/// Opens so many pages, each of which has heard something when this returns, and begins to ask for metrics.
/// Dropped, they are closed.
pub(super) async fn open(
    address: &str,
    pages: usize,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut tasks = JoinSet::new();
    if pages == 0 {
        return Ok(tasks);
    }
    for _ in 0..pages {
        let mut page = ask(address, "/events").await?;
        let mut bytes = [0; 16 * 1024];
        let length = page.read(&mut bytes).await?;
        let begin = String::from_utf8_lossy(&bytes[..length]);
        ensure!(begin.starts_with("HTTP/1.1 200"), "{begin}");
        tasks.spawn(async move {
            while page.read(&mut bytes).await? > 0 {}
            Ok(())
        });
    }
    let address = address.to_owned();
    tasks.spawn(async move {
        loop {
            let mut answer = String::new();
            let mut metrics = ask(&address, "/metrics").await?;
            metrics.read_to_string(&mut answer).await?;
            ensure!(answer.trim_end().ends_with("# EOF"), "{answer}");
            tokio::time::sleep(SCRAPE).await;
        }
    });
    Ok(tasks)
}

async fn ask(address: &str, path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.context("the page")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}
