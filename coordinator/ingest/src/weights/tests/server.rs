//! A hub for tests: it sends whoever asks for a file to its storage, another server, as the real one does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use quartet_shared::blob::Checksum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The commit of every repository.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What happens to a request for a part of a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// None.
    Fine,
    /// The connection ends after so many bytes.
    Cut(usize),
    /// The bytes are others.
    Wrong,
    /// There is no answer, as long as the other side waits.
    Hang,
}

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// First and last byte.
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) is_to_storage: bool,
}

#[derive(Debug, Default)]
struct State {
    /// By path: their bytes.
    files: BTreeMap<String, Arc<[u8]>>,
    token: Option<String>,
    /// Statuses that the hub answers with, before it does its work.
    statuses: VecDeque<u16>,
    faults: VecDeque<Fault>,
    /// Parts whose next request is cut.
    cuts: BTreeSet<usize>,
    seen: Vec<Seen>,
}

/// Both servers; they end with the test's runtime.
#[derive(Clone, Debug)]
pub(crate) struct FakeHub {
    pub(crate) endpoint: String,
    storage: String,
    state: Arc<Mutex<State>>,
    /// How many requests hang, and how many of them the other side gave up.
    hanging: Arc<watch::Sender<(u32, u32)>>,
}

/// The bytes of a small file of weights.
pub(crate) fn weights(size: usize) -> Vec<u8> {
    let mut bytes = 2_u64.to_le_bytes().to_vec();
    bytes.extend(b"{}");
    bytes.extend((bytes.len()..size).map(|i| (i % 251) as u8));
    bytes
}

impl FakeHub {
    pub(crate) async fn start() -> Self {
        let [hub, storage] = [bind().await, bind().await];
        let address = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let this = Self {
            endpoint: address(&hub),
            storage: address(&storage),
            state: Arc::default(),
            hanging: Arc::new(watch::Sender::new((0, 0))),
        };
        for (listener, is_storage) in [(hub, false), (storage, true)] {
            let this = this.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let this = this.clone();
                    // An error is a client that went away, or one that is to have one.
                    tokio::spawn(async move { this.serve(stream, is_storage).await });
                }
            });
        }
        this
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Publishes a file.
    pub(crate) fn publish(&self, repository: &str, revision: &str, file: &str, bytes: &[u8]) {
        let path = format!("/{repository}/resolve/{revision}/{file}");
        self.state().files.insert(path, bytes.into());
    }

    pub(crate) fn require_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    pub(crate) fn answer_with(&self, statuses: impl IntoIterator<Item = u16>) {
        self.state().statuses.extend(statuses);
    }

    /// What happens to the next requests for parts.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.extend(faults);
    }

    /// Ends the connection of the next request for each of these parts, named by their first bytes.
    pub(crate) fn cut(&self, parts: impl IntoIterator<Item = usize>) {
        self.state().cuts.extend(parts);
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// The first bytes of all parts that were asked for, in order.
    pub(crate) fn parts(&self) -> Vec<usize> {
        let parts = self.seen().into_iter().filter(|seen| seen.is_to_storage);
        let ranges = parts.filter_map(|seen| seen.range);
        ranges
            .filter(|range| *range != (0, 0))
            .map(|range| range.0)
            .collect()
    }

    /// Waits until a request hangs.
    pub(crate) async fn hangs(&self) {
        let mut hanging = self.hanging.subscribe();
        hanging.wait_for(|(hung, _)| *hung > 0).await.unwrap();
    }

    /// Waits until the other side gave up a request that hangs.
    pub(crate) async fn is_given_up(&self) {
        let mut hanging = self.hanging.subscribe();
        hanging.wait_for(|(_, ended)| *ended > 0).await.unwrap();
    }

    async fn serve(&self, mut stream: TcpStream, is_storage: bool) -> io::Result<()> {
        let Some(mut seen) = read(&mut stream).await? else {
            return Ok(());
        };
        seen.is_to_storage = is_storage;
        self.state().seen.push(seen.clone());
        match is_storage {
            true => self.send_part(&mut stream, &seen).await,
            false => stream.write_all(self.redirect(&seen).as_bytes()).await,
        }
    }

    fn redirect(&self, seen: &Seen) -> String {
        let mut state = self.state();
        let known = |prefix: &str| state.files.keys().any(|path| path.starts_with(prefix));
        let (repository, rest) = seen.path.split_once("/resolve/").unwrap();
        let revision = rest.split_once('/').unwrap().0;
        let refusal = |status: u16, code: &str| {
            format!(
                "HTTP/1.1 {status} No\r\nX-Error-Code: {code}\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            )
        };
        if state.token.is_some() && seen.token != state.token {
            return refusal(401, "RepoNotFound");
        }
        let Some(bytes) = state.files.get(&seen.path).cloned() else {
            let code = match () {
                () if !known(&format!("{repository}/")) => "RepoNotFound",
                () if !known(&format!("{repository}/resolve/{revision}/")) => "RevisionNotFound",
                () => "EntryNotFound",
            };
            return refusal(404, code);
        };
        if let Some(status) = state.statuses.pop_front() {
            return refusal(status, "");
        }
        let (storage, sum, size) = (&self.storage, Checksum::of(&bytes), bytes.len());
        format!(
            "HTTP/1.1 302 Found\r\nLocation: {storage}{}\r\nX-Repo-Commit: {COMMIT}\r\n\
             X-Linked-Etag: \"{sum}\"\r\nX-Linked-Size: {size}\r\nETag: \"of the redirection\"\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            seen.path
        )
    }

    async fn send_part(&self, stream: &mut TcpStream, seen: &Seen) -> io::Result<()> {
        let bytes = Arc::clone(&self.state().files[&seen.path]);
        let (first, last) = seen.range.unwrap();
        let last = last.min(bytes.len() - 1);
        let mut part = bytes[first..=last].to_vec();
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            bytes.len(),
            part.len()
        );
        let is_probe = last == 0;
        let fault = match is_probe {
            true => Fault::Fine,
            false => self.state().next_fault(first),
        };
        match fault {
            Fault::Fine => {}
            Fault::Cut(size) => part.truncate(size),
            Fault::Wrong => part[0] ^= 1,
            Fault::Hang => {
                self.hanging.send_modify(|(hung, _)| *hung += 1);
                let end = stream.read(&mut [0]).await;
                self.hanging.send_modify(|(_, ended)| *ended += 1);
                return end.map(drop);
            }
        }
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&part).await
    }
}

impl State {
    fn next_fault(&mut self, part: usize) -> Fault {
        match self.cuts.remove(&part) {
            true => Fault::Cut(9),
            false => self.faults.pop_front().unwrap_or(Fault::Fine),
        }
    }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Reads a request without a body.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let header = |name: &str| {
        let mut named = lines.clone().filter_map(|line| line.split_once(": "));
        named
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    };
    let range = header("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let token = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    Ok(Some(Seen {
        path,
        token: token.map(str::to_owned),
        range,
        is_to_storage: false,
    }))
}
