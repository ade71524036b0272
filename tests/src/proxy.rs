//! A TCP proxy that can be a bad network: it holds bytes back, refuses, cuts or slows connections while it
//! runs.

mod pump;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// What becomes of connections and their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All goes through.
    Pass,
    /// The network is gone: connections are accepted and stay open, but no byte, no FIN and no RST comes
    /// through. What is sent meanwhile arrives once the mode is another one, as TCP's retransmissions would.
    Blackhole,
    /// The other side is gone: open connections are reset, new ones are closed at once.
    Refuse,
    /// All goes through, late and slowly.
    Slow {
        /// Of each connection and direction.
        bytes_per_second: u32,
        /// Of each piece of data.
        delay: Duration,
    },
    /// What servers send goes through slowly, what clients send as fast as ever.
    SlowAnswers {
        /// Of each connection.
        bytes_per_second: u32,
    },
}

/// What a proxy has done so far: a test asserts with them that its fault really happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections accepted, refused ones included.
    pub connections: u64,
    /// Connections closed at once.
    pub refused: u64,
    /// Connections that came while the network was gone.
    pub stranded: u64,
    /// Open connections that were reset.
    pub reset: u64,
    /// Bytes that went through.
    pub forwarded: u64,
    /// Bytes that were held back by [`Mode::Blackhole`].
    pub withheld: u64,
    /// Bytes that [`Mode::Slow`] or [`Mode::SlowAnswers`] slowed down.
    pub slowed: u64,
}

/// A proxy on a port of its own. Dropped, it resets its connections and ends.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Both sockets of a connection; the first is the client's.
type Connection = [Arc<TcpStream>; 2];

#[derive(Debug)]
struct State {
    mode: Mode,
    counters: Counters,
    open: HashMap<u64, Connection>,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`, which need not be there yet.
    ///
    /// # Panics
    /// If no port can be opened.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = State {
            mode: Mode::Pass,
            counters: Counters::default(),
            open: HashMap::new(),
            ended: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accept(&listener, upstream, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of connections, those that are open included.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        if mode == Mode::Refuse {
            state.reset();
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Resets all open connections, as a router that loses its memory does.
    pub fn reset(&self) {
        self.shared.lock().reset();
        self.shared.changed.notify_all();
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.lock().counters
    }

    /// Waits until the counters are as wanted.
    ///
    /// # Panics
    /// If they are not within `limit`.
    pub fn wait_until(&self, limit: Duration, wanted: impl Fn(&Counters) -> bool) {
        let started = Instant::now();
        let mut state = self.shared.lock();
        while !wanted(&state.counters) {
            let left = limit.saturating_sub(started.elapsed());
            assert!(!left.is_zero(), "{:?} after {limit:?}", state.counters);
            state = self.shared.wait(state, Some(left));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        state.reset();
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn reset(&mut self) {
        for (_, connection) in self.open.drain() {
            self.counters.reset += 1;
            for socket in connection {
                cut(&socket);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change, or for so long.
    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match limit {
            Some(limit) => {
                let waited = self.changed.wait_timeout(state, limit);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.changed.wait(state);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        }
    }

    /// Counts something, and wakes those who wait for it.
    fn count(&self, count: impl FnOnce(&mut Counters)) {
        count(&mut self.lock().counters);
        self.changed.notify_all();
    }
}

/// Has a socket closed by a reset once its last handle is gone, and wakes a thread that reads from it. This
/// sends nothing yet.
fn cut(socket: &TcpStream) {
    // The other side may have reset it already.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(std::net::Shutdown::Read);
}

fn accept(listener: &TcpListener, upstream: SocketAddr, shared: &Arc<Shared>) {
    for number in 0.. {
        let client = match listener.accept() {
            Ok((client, _)) => Arc::new(client),
            // Such as a client that has given up already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => return,
        };
        let refused = {
            let mut state = shared.lock();
            if state.ended {
                return;
            }
            let refused = state.mode == Mode::Refuse;
            state.counters.connections += 1;
            state.counters.refused += u64::from(refused);
            refused
        };
        shared.changed.notify_all();
        if refused {
            cut(&client);
            continue;
        }
        let shared = Arc::clone(shared);
        std::thread::spawn(move || pump::connect(number, client, upstream, &shared));
    }
}
