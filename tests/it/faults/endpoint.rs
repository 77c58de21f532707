//! A client's webhook endpoint that behaves as it is told, byte by byte.
//!
//! Owns: one port, what came to it, how it answers. Does not own: what should follow from that.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::world::processes;

/// What it does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Status(u16),
    /// Takes the connection and reads nothing.
    Deaf,
    /// Reads everything and says nothing.
    Mute,
    /// The head of an answer, then a byte of its body a second.
    Drips,
    /// An answer of ten gigabytes.
    Floods,
    /// Headers without end.
    Rambles,
    /// A body of a few bytes that unpacks to gigabytes, as it says.
    Bomb,
    /// `100 Continue` for ever.
    Continues,
    /// To the port of another endpoint.
    Redirects(u16, u16),
    /// 200, later than anybody waits.
    Late,
}

/// A webhook as it came.
#[derive(Debug, Clone)]
pub(crate) struct Came {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) job: String,
}

struct Shared {
    manner: Mutex<Manner>,
    connections: AtomicUsize,
    came: Mutex<Vec<Came>>,
}

pub(crate) struct Endpoint {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Endpoint {
    pub(crate) async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, came) = (AtomicUsize::new(0), Mutex::default());
        let shared = Arc::new(Shared { manner: Mutex::new(manner), connections, came });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { port, shared, server }
    }

    /// Arguments of a service that may reach these.
    pub(crate) fn allowed<'a>(all: impl IntoIterator<Item = &'a Self>) -> Vec<String> {
        let each = |endpoint: &Self| ["--allow-egress-dangerous".to_owned(), format!("127.0.0.1:{}", endpoint.port)];
        all.into_iter().flat_map(each).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// From the next connection on.
    pub(crate) fn behaves(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    pub(crate) fn manner(&self) -> Manner {
        *self.shared.manner.lock().unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Everything that was read whole.
    pub(crate) fn came(&self) -> Vec<Came> {
        self.shared.came.lock().unwrap().clone()
    }

    /// How often each event came.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for came in self.came() {
            *counts.entry(came.id).or_default() += 1;
        }
        counts
    }

    pub(crate) async fn wait(&self, what: &str, limit: Duration, wanted: impl Fn(&Self) -> bool) {
        processes::eventually(what, limit, || wanted(self).then_some(())).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut exchanges = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        exchanges.spawn(exchange(stream, Arc::clone(&shared)));
    }
}

async fn exchange(mut stream: TcpStream, shared: Arc<Shared>) {
    let manner = *shared.manner.lock().unwrap();
    if manner == Manner::Deaf {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    let Some(came) = read(&mut stream).await else { return };
    shared.came.lock().unwrap().push(came);
    // Whoever we talk to hangs up, sooner or later.
    let _ = answer(&mut stream, manner).await;
}

async fn read(stream: &mut TcpStream) -> Option<Came> {
    let mut request = Vec::new();
    let end = loop {
        if let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
    let length: usize = head.split_once("content-length: ")?.1.split("\r\n").next()?.parse().ok()?;
    while request.len() < end + length {
        if stream.read_buf(&mut request).await.ok()? == 0 {
            return None;
        }
    }
    let event: serde_json::Value = serde_json::from_slice(&request[end..]).ok()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let (id, name, job) = (text(&event["delivery_id"])?, text(&event["event"])?, text(&event["data"]["id"])?);
    Some(Came { id, event: name, job })
}

async fn answer(stream: &mut TcpStream, manner: Manner) -> std::io::Result<()> {
    let ever = Duration::from_secs(3600);
    match manner {
        Manner::Status(status) => {
            let text = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(text.as_bytes()).await
        }
        Manner::Redirects(status, port) => {
            let text = format!(
                "HTTP/1.1 {status} There\r\nlocation: http://127.0.0.1:{port}/hook\r\ncontent-length: 0\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).await
        }
        Manner::Deaf | Manner::Mute => {
            tokio::time::sleep(ever).await;
            Ok(())
        }
        Manner::Late => {
            tokio::time::sleep(Duration::from_secs(13)).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await
        }
        Manner::Drips => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
            repeat(stream, b"x", Duration::from_secs(1)).await
        }
        Manner::Floods => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n").await?;
            repeat(stream, &[b'x'; 65536], Duration::ZERO).await
        }
        Manner::Rambles => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            repeat(stream, b"x-more: and more and more and more\r\n", Duration::ZERO).await
        }
        Manner::Bomb => {
            // Stored blocks of zeros would be as long as themselves; what it says is enough to be believed.
            let head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1048576\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03";
            stream.write_all(head).await?;
            repeat(stream, &[0xec, 0xc1, 0x01, 0x01], Duration::ZERO).await
        }
        Manner::Continues => repeat(stream, b"HTTP/1.1 100 Continue\r\n\r\n", Duration::from_millis(10)).await,
    }
}

async fn repeat(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> std::io::Result<()> {
    loop {
        stream.write_all(bytes).await?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}
