//! The exchange against receivers that misbehave, over real sockets on loopback. Names and exceptions are explicit:
//! without them nothing here could be dialled.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hostile;
mod spellings;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rotoless_egress::{
    Answer, Egress, EgressError, FetchError, FetchLimits, Forbidden, Limits, Policy, Refused, Resolve, TlsFault,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Answers each look-up with the next list; the last one stays.
struct Names(Vec<Vec<IpAddr>>, AtomicUsize);

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        let nth = self.1.fetch_add(1, Ordering::SeqCst).min(self.0.len() - 1);
        Ok(self.0[nth].clone())
    }
}

fn names(answers: &[&[&str]]) -> Arc<Names> {
    let list = |ips: &&[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
    Arc::new(Names(answers.iter().map(list).collect(), AtomicUsize::new(0)))
}

fn tls(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    tls.with_root_certificates(roots).with_no_client_auth()
}

fn quick() -> Limits {
    Limits { connect: Duration::from_millis(400), exchange: Duration::from_millis(800), ..Limits::default() }
}

/// May dial `ports` of 127.0.0.1 and the public internet.
fn egress(ports: &[u16], resolver: Arc<dyn Resolve>, roots: RootCertStore) -> Egress {
    let exceptions = ports.iter().map(|port| format!("127.0.0.1:{port}").parse().unwrap()).collect();
    let policy = Policy { allow_http: true, allow_addresses_dangerous: exceptions };
    Egress::with(policy, quick(), resolver, tls(roots))
}

async fn post(egress: &Egress, url: &str) -> Result<Answer, EgressError> {
    egress.post(url, &[("content-type", "application/json")], Bytes::from_static(b"{}")).await
}

/// A receiver on loopback; `serve` gets each connection after the request's head was read.
struct Receiver {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let seen = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { port, connections }
    }

    async fn answering(reply: &'static [u8]) -> Self {
        Self::start(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(reply).await;
        })
        .await
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn egress(&self) -> Egress {
        egress(&[self.port], names(&[&[]]), RootCertStore::empty())
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn body_and_headers_arrive_as_given() {
    let (sent, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut stream| {
        let sent = sent.clone();
        async move {
            let head = read_head(&mut stream).await;
            let mut body = [0; 11];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(b"HTTP/1.1 202 Accepted\r\nretry-after: 7\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            sent.send((head, body)).unwrap();
        }
    })
    .await;
    let body = Bytes::from_static("{\"ü\":\"\\0\"}".as_bytes());
    let answer = receiver.egress().post(&receiver.url(), &[("x-webhook-event", "job.started")], body.clone()).await;
    assert_eq!(answer.unwrap(), Answer { status: 202, retry_after: Some("7".to_owned()) });
    let (head, received) = seen.recv().await.unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-webhook-event: job.started\r\n") && head.contains("content-length: 11\r\n"), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");
    assert_eq!(received[..], body[..]);
}

/// G-27, TD-3.
#[tokio::test]
async fn a_redirect_is_an_answer_and_its_target_is_never_visited() {
    let second = Receiver::answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let location = second.url();
        let first = Receiver::start(move |mut stream| {
            let reply = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
            async move {
                read_head(&mut stream).await;
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        })
        .await;
        let egress = egress(&[first.port, second.port], names(&[&[]]), RootCertStore::empty());
        assert_eq!(post(&egress, &first.url()).await.unwrap().status, status);
        assert_eq!(first.connections(), 1);
    }
    assert_eq!(second.connections(), 0);
}

/// G-27, TD-4.
#[tokio::test]
async fn a_name_with_any_forbidden_address_is_not_dialled_at_all() {
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://hook.example.com:{}/", receiver.port);
    for (answer, why) in [
        (["127.0.0.1", "10.0.0.1"], Refused::Address(Forbidden::Private)),
        (["127.0.0.1", "169.254.169.254"], Refused::Address(Forbidden::LinkLocal)),
        (["127.0.0.1", "::1"], Refused::Address(Forbidden::ThisHost)),
        (["127.0.0.1", "::ffff:10.0.0.1"], Refused::Address(Forbidden::Private)),
        (["127.0.0.1", "1.1.1.1"], Refused::Port),
    ] {
        let egress = egress(&[receiver.port], names(&[&answer]), RootCertStore::empty());
        let err = post(&egress, &url).await.unwrap_err();
        assert!(matches!(&err, EgressError::Resolved(refused) if *refused == why), "{answer:?}: {err:?}");
        assert_eq!(err.in_words(), "address not allowed");
    }
    assert_eq!(receiver.connections(), 0);
}

/// G-27, TD-4.
#[tokio::test]
async fn the_address_that_was_judged_is_the_one_dialled_and_each_exchange_judges_anew() {
    let receiver = Receiver::answering(OK).await;
    let url = format!("http://hook.example.com:{}/", receiver.port);
    let rebinding = names(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = egress(&[receiver.port], rebinding.clone(), RootCertStore::empty());
    assert_eq!(post(&egress, &url).await.unwrap().status, 200);
    assert_eq!(rebinding.1.load(Ordering::SeqCst), 1, "one look-up an exchange: none between judging and dialling");
    assert!(matches!(post(&egress, &url).await, Err(EgressError::Resolved(_))));
    assert_eq!((rebinding.1.load(Ordering::SeqCst), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn a_literal_forbidden_address_is_refused_without_a_connection() {
    let receiver = Receiver::answering(OK).await;
    let nobody = egress(&[], names(&[&[]]), RootCertStore::empty());
    for host in ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let err = post(&nobody, &format!("http://{host}:{}/", receiver.port)).await.unwrap_err();
        assert!(matches!(err, EgressError::Refused(Refused::Address(_))), "{host}: {err:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

/// G-23, G-28, TD-2.
#[tokio::test]
async fn a_receiver_that_never_answers_or_drips_is_cut_at_the_deadline() {
    let silent = Receiver::start(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let drip = |head: &'static [u8]| {
        Receiver::start(move |mut stream| async move {
            read_head(&mut stream).await;
            let mut open = stream.write_all(head).await.is_ok();
            while open {
                tokio::time::sleep(Duration::from_millis(50)).await;
                open = stream.write_all(b"x").await.is_ok();
            }
        })
    };
    let body = drip(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
    let head = drip(b"HTTP/1.1 200 OK\r\nx-a: ").await;
    for receiver in [silent, body, head] {
        let started = Instant::now();
        let err = post(&receiver.egress(), &receiver.url()).await.unwrap_err();
        assert!(matches!(err, EgressError::Timeout), "{err:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

/// G-23, G-28, TD-2.
#[tokio::test]
async fn a_reply_of_ten_gigabytes_is_cut_at_the_byte_cap() {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    let receiver = Receiver::start(move |mut stream| {
        let sent = counter.clone();
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n").await;
            while stream.write_all(&[b'x'; 65536]).await.is_ok() {
                sent.fetch_add(65536, Ordering::SeqCst);
            }
            sent.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    assert_eq!(post(&receiver.egress(), &receiver.url()).await.unwrap().status, 200);
    // The receiver is hung up on: its next write fails, and it stops.
    let deadline = Instant::now() + Duration::from_secs(10);
    while sent.load(Ordering::SeqCst).is_multiple_of(65536) {
        assert!(Instant::now() < deadline, "still connected");
        tokio::task::yield_now().await;
    }
    assert!(sent.load(Ordering::SeqCst) < 64 << 20, "{sent:?}");
}

/// G-28, TD-2.
#[tokio::test]
async fn a_compressed_reply_is_not_decompressed() {
    // Not gzip at all: whoever unpacks it fails.
    let reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nbomb";
    let receiver = Receiver::answering(reply).await;
    assert_eq!(post(&receiver.egress(), &receiver.url()).await.unwrap().status, 200);
}

/// TD-2, TD-6.
#[tokio::test]
async fn what_is_not_http_or_never_ends_its_head_is_no_reply() {
    let garbage = Receiver::answering(b"SSH-2.0-OpenSSH_9.2\r\n").await;
    let nothing = Receiver::answering(b"").await;
    let endless = Receiver::start(|mut stream| async move {
        read_head(&mut stream).await;
        let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\n").await.is_ok();
        while open {
            open = stream.write_all(b"x-padding: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").await.is_ok();
        }
    })
    .await;
    for receiver in [garbage, nothing, endless] {
        let err = post(&receiver.egress(), &receiver.url()).await.unwrap_err();
        assert!(matches!(err, EgressError::Reply(_)), "{err:?}");
    }
    let odd = Receiver::answering(b"HTTP/1.1 600 Odd\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(post(&odd.egress(), &odd.url()).await.unwrap().status, 600);
}

#[tokio::test]
async fn a_closed_port_is_a_refused_connection() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let egress = egress(&[port], names(&[&[]]), RootCertStore::empty());
    let err = post(&egress, &format!("http://127.0.0.1:{port}/")).await.unwrap_err();
    assert!(matches!(err, EgressError::ConnectionRefused), "{err:?}");
}

#[tokio::test]
async fn a_name_that_leads_nowhere_is_not_found() {
    struct Nowhere;
    #[async_trait]
    impl Resolve for Nowhere {
        async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            Err(io::Error::other("no such name"))
        }
    }
    let egress = egress(&[], Arc::new(Nowhere), RootCertStore::empty());
    let err = post(&egress, "https://nowhere.example.com/").await.unwrap_err();
    assert!(matches!(err, EgressError::Name(_)), "{err:?}");
}

/// G-21, TD-7.
#[tokio::test]
async fn a_tls_fault_has_a_reason_that_its_owner_can_read() {
    let (good, key) = certificate("hook.example.com", 2999);
    let (expired, expired_key) = certificate("hook.example.com", 2001);
    let mut roots = RootCertStore::empty();
    roots.add(good.clone()).unwrap();
    roots.add(expired.clone()).unwrap();
    let trusted = secure(good, key).await;
    let expired = secure(expired, expired_key).await;
    let (stranger, stranger_key) = certificate("hook.example.com", 2999);
    let stranger = secure(stranger, stranger_key).await;
    let plain = Receiver::start(|mut stream| async move {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        let _ = stream.read_u8().await;
    })
    .await;

    let ports = [trusted.port, expired.port, stranger.port, plain.port];
    let egress = egress(&ports, names(&[&["127.0.0.1"]]), roots);
    let at = |host: &str, receiver: &Receiver| format!("https://{host}:{}/", receiver.port);
    assert_eq!(post(&egress, &at("hook.example.com", &trusted)).await.unwrap().status, 200);
    for (url, fault) in [
        (at("other.example.com", &trusted), TlsFault::WrongName),
        (at("hook.example.com", &expired), TlsFault::Expired),
        (at("hook.example.com", &stranger), TlsFault::Untrusted),
        (at("hook.example.com", &plain), TlsFault::Handshake),
    ] {
        let err = post(&egress, &url).await.unwrap_err();
        assert!(matches!(err, EgressError::Tls(found) if found == fault), "{fault:?}: {err:?}");
        assert!(err.in_words().starts_with("TLS error: "));
    }
}

fn certificate(name: &str, last_year: i32) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

async fn secure(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Receiver {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    Receiver::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(OK).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

/// Bytes of a body of this length, sent like this.
async fn send_body(mut stream: TcpStream, head: &str, chunks: usize, pause: Duration) {
    read_head(&mut stream).await;
    let _ = stream.write_all(head.as_bytes()).await;
    for _ in 0..chunks {
        if stream.write_all(&[7; 1000]).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

fn caps(bytes: u64) -> FetchLimits {
    FetchLimits { bytes, total: Duration::from_secs(5), window: Duration::from_millis(200), least_bytes: 4000 }
}

async fn fetch(receiver: &Receiver, caps: FetchLimits) -> (Result<u64, FetchError>, Vec<u8>) {
    let mut file = Vec::new();
    let result = receiver.egress().fetch(&receiver.url(), &caps, &mut file).await;
    (result, file)
}

#[tokio::test]
async fn a_fetch_brings_the_whole_body_and_sends_nothing_but_the_url() {
    let receiver = Receiver::start(|stream| {
        send_body(stream, "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n", 9, Duration::ZERO)
    })
    .await;
    let (result, file) = fetch(&receiver, caps(9000)).await;
    assert_eq!((result.unwrap(), file), (9000, vec![7; 9000]));
}

/// G-28, TF-2: by what is announced, and by what comes.
#[tokio::test]
async fn a_fetch_ends_at_its_byte_cap_whatever_was_announced() {
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n", "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"] {
        let receiver = Receiver::start(move |stream| send_body(stream, head, 1_000_000, Duration::ZERO)).await;
        let (result, file) = fetch(&receiver, caps(8999)).await;
        assert!(matches!(result, Err(FetchError::TooLarge(8999))), "{result:?}");
        assert!(file.len() <= 8999);
    }
}

/// G-28, TF-2
#[tokio::test]
async fn a_fetch_from_a_dripping_sender_ends_and_one_that_is_slow_enough_does_not() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let drips = Receiver::start(move |stream| send_body(stream, head, 1000, Duration::from_millis(120))).await;
    let began = Instant::now();
    let (result, _) = fetch(&drips, caps(1_000_000)).await;
    assert!(matches!(result, Err(FetchError::TooSlow)), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
    let flows = Receiver::start(move |stream| send_body(stream, head, 40, Duration::from_millis(15))).await;
    assert_eq!(fetch(&flows, caps(1_000_000)).await.0.unwrap(), 40_000);
}

/// G-27, TD-3, TF-2, TF-5: a redirect is a status, a body cut short an error, a silent host a time-out.
#[tokio::test]
async fn a_fetch_follows_no_redirect_and_takes_no_half_file() {
    let second = Receiver::answering(OK).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", second.url());
    let reply: &'static [u8] = redirect.leak().as_bytes();
    let first = Receiver::answering(reply).await;
    assert!(matches!(fetch(&first, caps(10)).await.0, Err(FetchError::Status(302))));
    assert_eq!(second.connections(), 0);

    let short = "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n";
    let cut = Receiver::start(move |stream| send_body(stream, short, 5, Duration::ZERO)).await;
    let (result, _) = fetch(&cut, caps(9000)).await;
    assert!(result.as_ref().is_err_and(FetchError::may_pass), "{result:?}");

    let silent = Receiver::start(|stream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    assert!(matches!(fetch(&silent, caps(10)).await.0, Err(FetchError::Egress(EgressError::Timeout))));
}

/// G-27
#[tokio::test]
async fn a_fetch_dials_only_what_may_be_dialled() {
    let receiver = Receiver::answering(OK).await;
    let strict = egress(&[], names(&[&["127.0.0.1"]]), RootCertStore::empty());
    for url in [receiver.url(), "http://rebinding.example/".to_owned(), "ftp://example.com/".to_owned()] {
        let result = strict.fetch(&url, &caps(10), &mut Vec::new()).await;
        let refused = matches!(result, Err(FetchError::Egress(EgressError::Refused(_) | EgressError::Resolved(_))));
        assert!(refused, "{url}: {result:?}");
    }
    assert_eq!(receiver.connections(), 0);
}
