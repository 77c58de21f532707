//! Receivers and sources that do what no honest one does.

use super::*;

/// G-23, G-28, TD-2: fifty endpoints that drip, at once; the fifty-first is served as if they were not there.
#[tokio::test]
async fn fifty_dripping_endpoints_do_not_delay_another_one() {
    let drips = Receiver::start(|mut stream| async move {
        read_head(&mut stream).await;
        let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await.is_ok();
        while open {
            tokio::time::sleep(Duration::from_millis(50)).await;
            open = stream.write_all(b"x").await.is_ok();
        }
    })
    .await;
    let good = Receiver::answering(OK).await;
    let both = Arc::new(egress(&[drips.port, good.port], names(&[&[]]), RootCertStore::empty()));
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let (egress, url) = (both.clone(), drips.url());
            tokio::spawn(async move { post(&egress, &url).await })
        })
        .collect();
    let began = Instant::now();
    while drips.connections() < 50 {
        assert!(began.elapsed() < Duration::from_secs(5), "{} connected", drips.connections());
        tokio::task::yield_now().await;
    }
    assert_eq!(post(&both, &good.url()).await.unwrap().status, 200);
    assert!(slow.iter().all(|one| !one.is_finished()), "the good one waited for the others");
    for one in slow {
        assert!(matches!(one.await.unwrap(), Err(EgressError::Timeout)));
    }
}

/// G-28, TD-2, TD-6: interim answers without end are no answer; a few before the answer do no harm.
#[tokio::test]
async fn interim_answers_without_end_are_no_answer() {
    let endless = Receiver::start(|mut stream| async move {
        read_head(&mut stream).await;
        while stream
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <https://a.example>\r\n\r\n")
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let err = post(&endless.egress(), &endless.url()).await.unwrap_err();
    assert!(matches!(err, EgressError::Timeout | EgressError::Reply(_)), "{err:?}");
    let few = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 Done\r\n\r\n";
    let few = Receiver::answering(few).await;
    assert_eq!(post(&few.egress(), &few.url()).await.unwrap().status, 204);
    assert_eq!(few.connections(), 1);
}

/// G-27, TD-3: wherever it points, by whatever header.
#[tokio::test]
async fn no_status_and_no_header_makes_a_second_request() {
    for status in [300, 301, 302, 303, 304, 305, 307, 308, 401, 503] {
        for location in [
            "self",
            "http://169.254.169.254/latest/meta-data/",
            "//127.0.0.1:9001/",
            "file:///etc/passwd",
            "https://example.com/",
            "\\\\host\\share",
        ] {
            let port = Arc::new(AtomicUsize::new(0));
            let own = port.clone();
            let receiver = Receiver::start(move |mut stream| {
                let own = own.clone();
                async move {
                    read_head(&mut stream).await;
                    let own = format!("http://127.0.0.1:{}/again", own.load(Ordering::SeqCst));
                    let location = if location == "self" { own.as_str() } else { location };
                    let reply = format!(
                        "HTTP/1.1 {status} Go\r\nlocation: {location}\r\nrefresh: 0; url={location}\r\n\
                         content-location: {location}\r\nwww-authenticate: Basic\r\ncontent-length: 0\r\n\r\n"
                    );
                    let _ = stream.write_all(reply.as_bytes()).await;
                }
            })
            .await;
            port.store(usize::from(receiver.port), Ordering::SeqCst);
            let lookups = names(&[&["127.0.0.1"]]);
            let egress = egress(&[receiver.port], lookups.clone(), RootCertStore::empty());
            assert_eq!(post(&egress, &receiver.url()).await.unwrap().status, status, "{location}");
            assert_eq!((receiver.connections(), lookups.1.load(Ordering::SeqCst)), (1, 0), "{status} {location}");
        }
    }
}

/// G-27, TD-4: the address may be of the new kind, and then it is the one dialled.
#[tokio::test]
async fn a_name_with_an_ipv6_address_alone_is_dialled_there() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = read_head(&mut stream).await;
        stream.write_all(OK).await.unwrap();
        head
    });
    let policy = Policy { allow_http: true, allow_addresses_dangerous: vec![format!("[::1]:{port}").parse().unwrap()] };
    let egress = Egress::with(policy, quick(), names(&[&["::1"]]), tls(RootCertStore::empty()));
    assert_eq!(post(&egress, &format!("http://six.example.com:{port}/")).await.unwrap().status, 200);
    assert!(served.await.unwrap().to_lowercase().contains(&format!("host: six.example.com:{port}")));
}

/// G-27, G-28, TD-4: look-ups that do not end, and lists that do not.
#[tokio::test]
async fn a_look_up_is_bounded_and_every_address_of_it_is_judged() {
    struct Silent;
    #[async_trait]
    impl Resolve for Silent {
        async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }
    let began = Instant::now();
    let silent = egress(&[], Arc::new(Silent), RootCertStore::empty());
    let err = post(&silent, "https://slow.example.com/").await.unwrap_err();
    assert!(matches!(err, EgressError::Timeout), "{err:?}");
    assert!(began.elapsed() < Duration::from_secs(3));

    let mut many = vec!["1.1.1.1"; 10_000];
    many.push("10.0.0.1");
    let egress = egress(&[], names(&[&many]), RootCertStore::empty());
    let err = post(&egress, "https://many.example.com/").await.unwrap_err();
    assert!(matches!(err, EgressError::Resolved(Refused::Address(Forbidden::Private))), "{err:?}");
}

/// G-21, G-27, TD-7: a server that knows nothing newer than TLS 1.0, one that says nothing, one whose certificate is
/// not yet good.
#[tokio::test]
async fn a_server_of_old_tls_or_none_has_a_reason_that_its_owner_can_read() {
    let saying = |bytes: Vec<u8>| {
        Receiver::start(move |mut stream| {
            let bytes = bytes.clone();
            async move {
                let mut hello = [0; 2048];
                let _ = stream.read(&mut hello).await;
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read(&mut hello).await;
            }
        })
    };
    // An alert: protocol_version. And a ServerHello of TLS 1.0 with an RSA suite.
    let alert = saying(vec![0x15, 3, 1, 0, 2, 2, 70]).await;
    let mut hello = vec![0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    let old = saying(hello).await;
    let (early, early_key) = early_certificate("hook.example.com");
    let mut roots = RootCertStore::empty();
    roots.add(early.clone()).unwrap();
    let early = secure(early, early_key).await;
    let ports = [alert.port, old.port, early.port];
    let egress = egress(&ports, names(&[&["127.0.0.1"]]), roots);
    for (receiver, fault) in [(&alert, TlsFault::Handshake), (&old, TlsFault::Handshake), (&early, TlsFault::Expired)] {
        let err = post(&egress, &format!("https://hook.example.com:{}/", receiver.port)).await.unwrap_err();
        assert!(matches!(err, EgressError::Tls(found) if found == fault), "{err:?}");
        assert!(err.in_words().starts_with("TLS error: "), "{}", err.in_words());
    }
    let silent = Receiver::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let egress = self::egress(&[silent.port], names(&[&["127.0.0.1"]]), RootCertStore::empty());
    let err = post(&egress, &format!("https://hook.example.com:{}/", silent.port)).await.unwrap_err();
    assert!(matches!(err, EgressError::Timeout), "{err:?}");
}

fn early_certificate(name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2990, 1, 1);
    params.not_after = rcgen::date_time_ymd(2999, 1, 1);
    let certificate = params.self_signed(&key).unwrap().der().clone();
    (certificate, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

/// G-28, TF-2: lengths that lie in every way. Nothing hangs, and nothing but a whole body counts.
#[tokio::test]
async fn a_length_that_lies_is_never_a_whole_file() {
    const BODY: &str = "0123456789";
    for (head, whole) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", true),
        // Longer than announced: what was announced is the body.
        ("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0x0a\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 4\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10, 4\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n01234\r\n", false),
        ("HTTP/1.1 206 Partial\r\ncontent-range: bytes 0-9/10\r\ncontent-length: 10\r\n\r\n", false),
        ("HTTP/1.1 204 Nothing\r\n\r\n", false),
    ] {
        let receiver = Receiver::start(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(format!("{head}{BODY}").as_bytes()).await;
            let _ = stream.shutdown().await;
        })
        .await;
        let began = Instant::now();
        let (result, file) = fetch(&receiver, caps(1000)).await;
        assert_eq!(result.is_ok(), whole, "{head:?}: {result:?}");
        assert!(began.elapsed() < Duration::from_secs(4) && file.len() <= BODY.len(), "{head:?}");
    }
}

/// G-28, TF-2: chunks without end, and a stall before the last byte.
#[tokio::test]
async fn chunks_without_end_and_a_stall_at_the_end_are_cut() {
    let endless = Receiver::start(|mut stream| async move {
        read_head(&mut stream).await;
        let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.is_ok();
        while open {
            open = stream.write_all(&b"5;x=y\r\n01234\r\n".repeat(1000)).await.is_ok();
        }
    })
    .await;
    let (result, file) = fetch(&endless, caps(9999)).await;
    assert!(matches!(result, Err(FetchError::TooLarge(9999))), "{result:?}");
    assert!(file.len() <= 9999);
    let stalls = Receiver::start(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n").await;
        let _ = stream.write_all(&[7; 9999]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let began = Instant::now();
    let (result, _) = fetch(&stalls, caps(20_000)).await;
    assert!(matches!(result, Err(FetchError::TooSlow)), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

/// TF-5: a source is asked for whole, once a fetch, and never for a part to go with an older one.
#[tokio::test]
async fn a_source_that_resets_is_asked_for_from_its_first_byte() {
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = heads.clone();
    let receiver = Receiver::start(move |mut stream| {
        let seen = seen.clone();
        async move {
            let head = read_head(&mut stream).await;
            let nth = {
                let mut heads = seen.lock().unwrap();
                heads.push(head.to_lowercase());
                heads.len()
            };
            let reply =
                format!("HTTP/1.1 200 OK\r\netag: \"{nth}\"\r\naccept-ranges: bytes\r\ncontent-length: 6\r\n\r\n");
            let _ = stream.write_all(reply.as_bytes()).await;
            if nth == 1 {
                let _ = stream.write_all(b"aaa").await;
                stream.set_zero_linger().unwrap();
            } else {
                let _ = stream.write_all(b"bbbbbb").await;
            }
        }
    })
    .await;
    let (first, _) = fetch(&receiver, caps(100)).await;
    assert!(first.as_ref().is_err_and(FetchError::may_pass), "{first:?}");
    let (second, file) = fetch(&receiver, caps(100)).await;
    assert_eq!((second.unwrap(), file), (6, b"bbbbbb".to_vec()));
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    for name in ["range:", "if-range:", "if-match:", "cookie:", "authorization:", "referer:", "accept-encoding:"] {
        assert!(heads.iter().all(|head| !head.contains(&format!("\r\n{name}"))), "{name}");
    }
}
