//! One connection of a proxy: its two directions, each on a thread.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Mode, Shared, cut};

/// Bytes that are moved at once.
const PIECE: usize = 16 * 1024;
/// How often a thread that cannot write looks whether its connection was reset.
const WRITE_TIMEOUT: Duration = Duration::from_millis(100);
/// Longest time that the other side may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection was reset, or the proxy has ended.
struct Gone;

/// Joins a client with the other side, once the network lets it through.
pub(super) fn connect(
    number: u64,
    client: Arc<TcpStream>,
    upstream: SocketAddr,
    shared: &Arc<Shared>,
) {
    // Where the other side is not there, the client hears so by its connection being reset.
    let joined = join(number, &client, upstream, shared);
    let Some(server) = joined else {
        cut(&client);
        return;
    };
    let up = Pump {
        number,
        answers: false,
        from: Arc::clone(&client),
        to: Arc::clone(&server),
        shared: Arc::clone(shared),
    };
    let down = Pump {
        number,
        answers: true,
        from: server,
        to: client,
        shared: Arc::clone(shared),
    };
    let up = std::thread::spawn(move || up.run());
    down.run();
    let _ = up.join();
    shared.lock().open.remove(&number);
}

fn join(
    number: u64,
    client: &Arc<TcpStream>,
    upstream: SocketAddr,
    shared: &Shared,
) -> Option<Arc<TcpStream>> {
    let mut state = shared.lock();
    // Registered before there is another side, so that a reset reaches it.
    let both = [Arc::clone(client), Arc::clone(client)];
    state.open.insert(number, both);
    if state.mode == Mode::Blackhole {
        state.counters.stranded += 1;
        shared.changed.notify_all();
    }
    while state.mode == Mode::Blackhole && state.open.contains_key(&number) && !state.ended {
        state = shared.wait(state, None);
    }
    drop(state);
    let server = TcpStream::connect_timeout(&upstream, CONNECT_TIMEOUT).map(Arc::new);
    let mut state = shared.lock();
    let was_open = state.open.remove(&number).is_some();
    let server = server.ok().filter(|_| was_open)?;
    for socket in [&**client, &*server] {
        let ready = socket
            .set_nodelay(true)
            .and_then(|()| socket.set_write_timeout(Some(WRITE_TIMEOUT)));
        ready.ok()?;
    }
    let both = [Arc::clone(client), Arc::clone(&server)];
    state.open.insert(number, both);
    Some(server)
}

fn sending_time(bytes: u64, bytes_per_second: u32) -> Duration {
    Duration::from_secs_f64(bytes as f64 / f64::from(bytes_per_second))
}

/// One direction of a connection.
struct Pump {
    number: u64,
    /// It carries what the server sends.
    answers: bool,
    from: Arc<TcpStream>,
    to: Arc<TcpStream>,
    shared: Arc<Shared>,
}

impl Pump {
    fn run(self) {
        let mut piece = vec![0; PIECE];
        loop {
            let read = (&*self.from).read(&mut piece);
            let size = match &read {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Ok(size) => *size,
                Err(_) => 0,
            };
            if self.pass(size).is_err() {
                return;
            }
            match read {
                Ok(0) => {
                    let _ = self.to.shutdown(Shutdown::Write);
                    return;
                }
                Ok(_) if self.write(&piece[..size]).is_ok() => {}
                // One side has reset the connection: so hears the other.
                _ => {
                    if let Some(connection) = self.shared.lock().open.remove(&self.number) {
                        connection.iter().for_each(|socket| cut(socket));
                    }
                    return;
                }
            }
        }
    }

    /// Waits until the network lets so many bytes through; 0 stands for the end of the connection.
    fn pass(&self, size: usize) -> Result<(), Gone> {
        let shared = &*self.shared;
        let bytes = size as u64;
        let arrived = Instant::now();
        let (mut withheld, mut slowed) = (false, false);
        let mut state = shared.lock();
        loop {
            if !state.open.contains_key(&self.number) {
                return Err(Gone);
            }
            let left = match state.mode {
                Mode::Pass | Mode::Refuse => Some(Duration::ZERO),
                Mode::Blackhole => None,
                Mode::Slow {
                    bytes_per_second,
                    delay,
                } => {
                    let late = delay + sending_time(bytes, bytes_per_second);
                    Some(late.saturating_sub(arrived.elapsed()))
                }
                Mode::SlowAnswers { bytes_per_second } if self.answers => {
                    let late = sending_time(bytes, bytes_per_second);
                    Some(late.saturating_sub(arrived.elapsed()))
                }
                Mode::SlowAnswers { .. } => Some(Duration::ZERO),
            };
            match left {
                Some(Duration::ZERO) => break,
                None if !withheld => {
                    withheld = true;
                    state.counters.withheld += bytes;
                    shared.changed.notify_all();
                }
                Some(_) if !slowed => {
                    slowed = true;
                    state.counters.slowed += bytes;
                    shared.changed.notify_all();
                }
                _ => {}
            }
            state = shared.wait(state, left);
        }
        drop(state);
        shared.count(|counters| counters.forwarded += bytes);
        Ok(())
    }

    /// Writes all bytes, unless the connection is reset meanwhile.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match (&*self.to).write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) =>
                {
                    if !self.shared.lock().open.contains_key(&self.number) {
                        return Err(ErrorKind::ConnectionReset.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
