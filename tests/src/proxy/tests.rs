use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Mode, Proxy};

const LIMIT: Duration = Duration::from_secs(30);

/// A server that answers every byte with the same byte.
fn echo() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        for stream in accepting.incoming().map_while(Result::ok) {
            std::thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    listener
}

fn start() -> Proxy {
    Proxy::start(echo().local_addr().unwrap())
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

fn answer(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).unwrap();
    receive(stream, text.len())
}

fn receive(stream: &mut TcpStream, size: usize) -> String {
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// How a connection that must be closed is.
fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0]).map_err(|error| error.kind())
}

#[test]
fn bytes_and_ends_go_through_both_ways() {
    let proxy = start();
    let mut stream = client(&proxy);
    assert_eq!(answer(&mut stream, "hello"), "hello");
    let large = "0123456789".repeat(100_000);
    let mut sending = stream.try_clone().unwrap();
    let sent = large.clone();
    let sender = std::thread::spawn(move || {
        sending.write_all(sent.as_bytes()).unwrap();
        sending.shutdown(std::net::Shutdown::Write).unwrap();
    });
    assert!(receive(&mut stream, large.len()) == large);
    sender.join().unwrap();
    assert_eq!(end(&mut stream), Ok(0), "the end, not a reset");
    let counters = proxy.counters();
    assert_eq!(counters.connections, 1);
    assert_eq!(counters.forwarded, 2 * (5 + large.len() as u64));
    assert_eq!((counters.withheld, counters.slowed), (0, 0));
}

#[test]
fn a_blackhole_holds_bytes_and_connections_back_and_delivers_them_late() {
    let proxy = start();
    let mut open = client(&proxy);
    assert_eq!(answer(&mut open, "before"), "before");
    proxy.set(Mode::Blackhole);
    open.write_all(b"during").unwrap();
    proxy.wait_until(LIMIT, |counters| counters.withheld == 6);
    let mut new = client(&proxy);
    new.write_all(b"new").unwrap();
    proxy.wait_until(LIMIT, |counters| counters.stranded == 1);
    for stream in [&mut open, &mut new] {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert_eq!(end(stream), Err(ErrorKind::WouldBlock), "no byte, no end");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
    }
    proxy.set(Mode::Pass);
    assert_eq!(receive(&mut open, 6), "during");
    assert_eq!(receive(&mut new, 3), "new");
}

#[test]
fn an_end_does_not_come_through_a_blackhole() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap());
    let stream = client(&proxy);
    let (mut server, _) = listener.accept().unwrap();
    proxy.set(Mode::Blackhole);
    drop(stream);
    server
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert_eq!(end(&mut server), Err(ErrorKind::WouldBlock));
    server.set_read_timeout(Some(LIMIT)).unwrap();
    proxy.set(Mode::Pass);
    assert_eq!(end(&mut server), Ok(0));
}

#[test]
fn refused_connections_are_closed_at_once_and_open_ones_are_reset() {
    let proxy = start();
    let mut open = client(&proxy);
    assert_eq!(answer(&mut open, "before"), "before");
    proxy.set(Mode::Refuse);
    assert_eq!(end(&mut open), Err(ErrorKind::ConnectionReset));
    // The reset may come before the connection is ours.
    if let Ok(mut new) = TcpStream::connect(proxy.address()) {
        assert_ne!(end(&mut new), Err(ErrorKind::WouldBlock));
    }
    proxy.wait_until(LIMIT, |counters| counters.refused == 1);
    assert_eq!(proxy.counters().reset, 1);
    proxy.set(Mode::Pass);
    assert_eq!(answer(&mut client(&proxy), "after"), "after");
}

#[test]
fn a_reset_cuts_open_connections_even_in_a_blackhole() {
    let proxy = start();
    let mut streams = [client(&proxy), client(&proxy)];
    for stream in &mut streams {
        assert_eq!(answer(stream, "before"), "before");
    }
    proxy.set(Mode::Blackhole);
    streams[0].write_all(b"lost").unwrap();
    proxy.wait_until(LIMIT, |counters| counters.withheld == 4);
    proxy.reset();
    for stream in &mut streams {
        assert_eq!(end(stream), Err(ErrorKind::ConnectionReset));
    }
    assert_eq!(proxy.counters().reset, 2);
    proxy.set(Mode::Pass);
    assert_eq!(answer(&mut client(&proxy), "after"), "after");
}

#[test]
fn slow_means_late_and_slow() {
    let proxy = start();
    let mut stream = client(&proxy);
    proxy.set(Mode::Slow {
        bytes_per_second: 100_000,
        delay: Duration::from_millis(20),
    });
    let started = Instant::now();
    let text = "x".repeat(10_000);
    assert!(answer(&mut stream, &text) == text);
    // 100 ms there, 100 ms back, and the delays.
    assert!(started.elapsed() >= Duration::from_millis(220));
    assert_eq!(proxy.counters().slowed, 20_000);
}

#[test]
fn slow_answers_do_not_slow_down_what_is_asked() {
    let proxy = start();
    let mut stream = client(&proxy);
    proxy.set(Mode::SlowAnswers {
        bytes_per_second: 100_000,
    });
    let started = Instant::now();
    let text = "x".repeat(10_000);
    assert!(answer(&mut stream, &text) == text);
    // 100 ms back.
    assert!(started.elapsed() >= Duration::from_millis(100));
    assert_eq!(proxy.counters().slowed, 10_000);
}

#[test]
fn a_missing_other_side_is_a_reset_connection() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let proxy = Proxy::start(address);
    assert!(matches!(
        end(&mut client(&proxy)),
        Ok(0) | Err(ErrorKind::ConnectionReset)
    ));
}
