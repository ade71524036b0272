//! The coordinator's page and what monitoring asks for, on real processes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quartet_tests::http::{self, Answer};
use quartet_tests::job::Job;
use quartet_tests::ports;
use quartet_tests::processes::{Coordinator, LIMIT, output};
use quartet_tests::programs::command;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn address(coordinator: &Coordinator) -> SocketAddr {
    coordinator.address.parse().unwrap()
}

fn get(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    http::request(server, "GET", path, headers, &[]).unwrap()
}

/// Asks until the answer is as wanted.
fn until(wanted: impl Fn(&Answer) -> bool, mut ask: impl FnMut() -> Answer) -> Answer {
    let begin = Instant::now();
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(begin.elapsed() < LIMIT, "{}", answer.text());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_page_shows_the_fleet_while_it_trains() {
    let job = Job::new(500, 4);
    let mut start = job.coordinator(1, "127.0.0.1:0");
    start.args(["--note", "by <night>", "--tag", "half-width"]);
    let coordinator = Coordinator::spawn(start.args(["--heartbeat-interval", "100ms"]));
    let server = address(&coordinator);
    assert_eq!(get(server, "/healthz", &[]).text(), "ok\n");
    assert_eq!(get(server, "/readyz", &[]).status, 200);
    let _worker = coordinator.worker("anna", &job.path("cache"));

    // Whoever has the page open hears of the worker and of epochs without asking again.
    let mut events = TcpStream::connect(server).unwrap();
    events.set_read_timeout(Some(LIMIT)).unwrap();
    write!(events, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut heard = String::new();
    let mut bytes = [0; 4096];
    while !(heard.contains("worker anna joined") && heard.contains("<svg")) {
        let length = events.read(&mut bytes).unwrap();
        assert!(length > 0, "{heard}");
        heard += &String::from_utf8_lossy(&bytes[..length]);
    }

    let page = get(server, "/", &[]);
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    let about = "by &#60;night&#62; #half-width";
    for part in ["anna", "vgg16", "<progress", "<svg", "page.js", about] {
        assert!(
            page.text().contains(part),
            "{part} is not in {}",
            page.text()
        );
    }
    let report = get(server, "/report", &[]).text();
    assert!(
        report.contains("anna") && report.contains("</html>"),
        "{report}"
    );
    let json: serde_json::Value =
        serde_json::from_slice(&get(server, "/snapshot.json", &[]).body).unwrap();
    assert_eq!(json["workers"][0]["name"], "anna");
    let metrics = get(server, "/metrics", &[]);
    assert!(
        metrics
            .header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    for line in [
        "quartet_workers{state=\"busy\"} 1.0\n",
        "quartet_attempts_started_total 1\n",
        "quartet_commit_duration_seconds_count ",
        "# EOF\n",
    ] {
        assert!(
            metrics.text().contains(line),
            "{line} is not in {}",
            metrics.text()
        );
    }
    // A name that anybody may have made leads no browser of this machine here.
    for path in ["/", "/events", "/metrics", "/snapshot.json", "/report"] {
        let stream = TcpStream::connect(server).unwrap();
        let answer = http::request_on(stream, "evil.example", "GET", path, &[], &[]).unwrap();
        assert_eq!(answer.status, 403, "{path}");
    }
    // Nor does a site have a browser call what programs call.
    let path = "/quartet.v1.Status/DrainWorker";
    let frame = [&[0, 0, 0, 0, 6, 10, 4][..], b"anna"].concat();
    for kind in [&[][..], &[("Content-Type", "application/grpc")]] {
        let answer = http::request(server, "POST", path, kind, &frame).unwrap();
        assert_eq!(answer.status, 415);
    }
    assert_eq!(get(server, "/nothing", &[]).status, 404);
    let json: serde_json::Value =
        serde_json::from_slice(&get(server, "/snapshot.json", &[]).body).unwrap();
    assert_eq!(json["workers"][0]["state"], "busy");
}

/// The keys of a fleet, and browsers that trust its authority.
struct Fleet {
    job: Job,
    keys: PathBuf,
    server: SocketAddr,
}

impl Fleet {
    fn new() -> Self {
        let job = Job::new(500, 4);
        let keys = job.path("keys");
        let (_, errors, status) = output(command("coordinator").arg("keys").arg(&keys));
        assert!(status.success(), "{errors}");
        Self {
            job,
            keys,
            server: ports::free(),
        }
    }

    fn coordinator(&self) -> Coordinator {
        let mut start = self.job.coordinator(1, &self.server.to_string());
        Coordinator::spawn(start.arg("--tls").arg(&self.keys))
    }

    /// Asks over TLS, with the keys of a role or without.
    fn get(&self, role: Option<&str>, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.keys.join("ca.pem")) {
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match role {
            None => builder.with_no_client_auth(),
            Some(role) => {
                let chain = certificates(&self.keys.join(format!("{role}.pem")));
                let key = self.keys.join(format!("{role}.key"));
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("coordinator.quartet.internal").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = StreamOwned::new(connection, TcpStream::connect(self.server).unwrap());
        http::request_on(stream, &self.server.to_string(), "GET", path, headers, &[]).unwrap()
    }

    /// The link that `status page` prints, without the address.
    fn link(&self) -> String {
        let mut status = command("status");
        status.args(["page", "--coordinator", &self.server.to_string(), "--tls"]);
        let (text, errors, ended) = output(status.arg(&self.keys));
        assert!(ended.success(), "{errors}");
        let origin = format!("https://{}", self.server);
        text.trim()
            .strip_prefix(&origin)
            .expect("it begins with the address")
            .to_owned()
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let read = CertificateDer::pem_file_iter(path).unwrap();
    read.collect::<Result<_, _>>().unwrap()
}

#[test]
fn browsers_need_a_link_where_keys_are_used() {
    let fleet = Fleet::new();
    let mut coordinator = fleet.coordinator();
    for path in [
        "/",
        "/events",
        "/report",
        "/metrics",
        "/snapshot.json",
        "/page.js",
    ] {
        let refused = fleet.get(None, path, &[]);
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.text().contains("status page"), "{}", refused.text());
    }
    // Probes show no keys; without TLS nothing is shown either.
    assert_eq!(fleet.get(None, "/healthz", &[]).status, 200);
    assert_eq!(get(fleet.server, "/", &[]).status, 403);

    // What looks at a link in advance does not use it up.
    let link = fleet.link();
    let entered = fleet.get(None, &link, &[]);
    assert_eq!(
        (entered.status, entered.header("location")),
        (303, Some("/"))
    );
    let cookie = entered.header("set-cookie").unwrap();
    for part in ["__Host-", "Secure", "HttpOnly", "SameSite", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(
        fleet.get(None, &link, &[]).status,
        403,
        "a link is good once"
    );
    assert_eq!(fleet.get(None, "/?token=0", &[]).status, 403);
    assert_eq!(fleet.get(None, "/", &[("Cookie", cookie)]).status, 200);
    let forged = format!("{}0", &cookie[..cookie.len() - 1]);
    let forged = match forged == cookie {
        true => format!("{}1", &cookie[..cookie.len() - 1]),
        false => forged,
    };
    assert_eq!(fleet.get(None, "/", &[("Cookie", &forged)]).status, 403);

    // Nobody reads a session along, and whoever has one may follow an old link.
    assert_eq!(get(fleet.server, "/", &[("Cookie", cookie)]).status, 403);
    let again = fleet.get(None, &link, &[("Cookie", cookie)]);
    assert_eq!((again.status, again.header("location")), (303, Some("/")));

    // Programs show keys instead, as Prometheus can.
    assert_eq!(fleet.get(Some("viewer"), "/metrics", &[]).status, 200);

    // An open page goes on with the next coordinator.
    coordinator.process.kill();
    let _next = fleet.coordinator();
    let page = until(
        |page| page.status == 200,
        || fleet.get(None, "/", &[("Cookie", cookie)]),
    );
    assert!(page.text().contains("<h1>"), "{}", page.text());
}
