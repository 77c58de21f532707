//! `rotoless doctor --remote`: what it says of a service, and of what is none.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{ADMIN_TOKEN, Options, in_a_world, program};

/// Longer than the examination of anything may last.
const PATIENCE: Duration = Duration::from_secs(100);

/// What it uploads.
const CLIP: &[u8] = include_bytes!("../../local/src/doctor/gray.mp4");

struct Said {
    text: String,
    is_well: bool,
}

async fn examined(url: &str, further: &[&str]) -> Said {
    let mut command = tokio::process::Command::new(program());
    command.args(["doctor", "--remote", url]).args(further).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("ROTOLESS_API_KEY").env_remove("ROTOLESS_ADMIN_TOKEN");
    let Output { status, stdout, stderr } = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = format!("{}{}", String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    Said { text, is_well: status.success() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_service_is_found_sound_and_left_as_it_was() {
    in_a_world(Options { no_worker: true, ..Options::default() }, async |world| {
        let client = world.client("acme", 10.0).await;
        let url = client.door.url("");
        let said = examined(&url, &["--api-key", &client.key, "--admin-token", ADMIN_TOKEN]).await;
        assert!(said.is_well && !said.text.contains("FAILED"), "{}", said.text);
        for what in [
            "database, queue and object store answer",
            "clock agrees",
            "(CORS)",
            "an unknown path is a 404",
            "no key is a 401",
            "a wrong key is a 401",
            "a worker without a signature is refused",
            "the key opens: 10 credits",
            "an upload by link",
            "the admin token opens",
            "it knows itself by this URL",
            "no worker was ever heard of",
        ] {
            assert!(said.text.lines().any(|line| line.contains(what)), "{what}: {}", said.text);
        }
        for secret in [client.key.as_str(), ADMIN_TOKEN, "X-Amz-"] {
            assert!(!said.text.contains(secret), "{}", said.text);
        }
        assert_eq!(client.milli_credits().await, [10_000, 0, 0]);
        assert_eq!(client.get("/v1/jobs").await.json["items"], json!([]));
        let mut open = vec![world.files()];
        while let Some(path) = open.pop() {
            match path.is_dir() {
                true => open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path())),
                false => assert!(std::fs::read(&path).unwrap() != CLIP, "{} is left of it", path.display()),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_a_wrong_token_and_a_wrong_name_are_told_with_what_to_do() {
    in_a_world(Options { no_worker: true, ..Options::default() }, async |world| {
        let itself = world.first_client().door.url("");
        let url = itself.replace("127.0.0.1", "localhost");
        let said = examined(&url, &["--api-key", "rtl_wrong-key-canary", "--admin-token", "wrong-token-canary"]).await;
        assert!(!said.is_well, "{}", said.text);
        assert!(said.text.contains("GET /v1/credits with the key: 401"), "{}", said.text);
        assert!(said.text.contains("GET /v1/admin/config: 401"), "{}", said.text);
        assert!(!said.text.contains("canary"), "{}", said.text);
        let said = examined(&url, &["--admin-token", ADMIN_TOKEN]).await;
        assert!(!said.is_well && said.text.contains(&format!("it knows itself as {itself},")), "{}", said.text);
        assert!(said.text.contains("PublicBaseUrl"), "{}", said.text);
    })
    .await;
}

/// A server that is not Rotoless, until the test ends.
async fn stranger<Served>(serve: impl Fn(TcpStream) -> Served + Send + 'static) -> u16
where
    Served: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

async fn answers(mut stream: TcpStream, answer: &'static str) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Said at once, and nothing is asked of a stranger but the one question, which carries no key.
#[tokio::test]
async fn a_plain_web_server_is_told_from_a_service_and_gets_no_key() {
    let heard = Arc::new(std::sync::Mutex::new(String::new()));
    let kept = heard.clone();
    let port = stranger(move |mut stream| {
        let kept = kept.clone();
        async move {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            kept.lock().unwrap().push_str(&String::from_utf8_lossy(&request[..read]));
            let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>hi</html>";
            let _ = stream.write_all(page.as_bytes()).await;
        }
    })
    .await;
    let said = examined(&format!("http://127.0.0.1:{port}"), &["--api-key", "a-key-canary"]).await;
    assert!(!said.is_well && said.text.contains("this is another service"), "{}", said.text);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.matches("HTTP/1.1").count(), 1, "{heard}");
    assert!(heard.starts_with("GET /health ") && !heard.contains("canary"), "{heard}");
}

#[tokio::test]
async fn what_hangs_never_ends_or_is_not_there_gets_a_clear_answer_within_seconds() {
    let silent = stranger(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let endless = stranger(|mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await;
        while stream.write_all(&[b'['; 8192]).await.is_ok() {}
    })
    .await;
    let binary = stranger(|stream| answers(stream, "SSH-2.0-OpenSSH_9.9\r\n")).await;
    let elsewhere = stranger(|stream| {
        answers(stream, "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n")
    })
    .await;
    let gateway = stranger(|stream| {
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 23\r\n\r\n{\"message\":\"Not Found\"}";
        answers(stream, answer)
    })
    .await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (port, expected) in [
        (silent, "no answer within"),
        (endless, "larger than 1 MB"),
        (binary, "not HTTP as it should be"),
        (elsewhere, "302 Found"),
        (gateway, "answered by the gateway and not by Rotoless"),
        (nobody, "nobody listens there"),
    ] {
        let began = Instant::now();
        let said = examined(&format!("http://127.0.0.1:{port}"), &[]).await;
        assert!(!said.is_well && said.text.contains(expected), "{expected}: {}", said.text);
        assert!(began.elapsed() < Duration::from_secs(30), "{expected}: {:?}", began.elapsed());
    }
    let said = examined("https://no-such-host.invalid", &[]).await;
    assert!(!said.is_well && said.text.contains("not known to DNS"), "{}", said.text);
    let refused = examined("ftp://127.0.0.1/?key=canary", &[]).await;
    assert!(!refused.is_well && refused.text.contains("a URL like https://HOST"), "{}", refused.text);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_and_a_port_without_tls_are_told_as_such() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let untrusted = stranger(move |stream| {
        let acceptor = acceptor.clone();
        async move { drop(acceptor.accept(stream).await) }
    })
    .await;
    let plain = stranger(|stream| answers(stream, "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")).await;
    for port in [untrusted, plain] {
        let said = examined(&format!("https://localhost:{port}"), &[]).await;
        assert!(!said.is_well && said.text.contains("GET /health: TLS:"), "{}", said.text);
        assert!(said.text.contains("not trusted"), "{}", said.text);
    }
}
