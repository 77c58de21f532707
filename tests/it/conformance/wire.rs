//! A connection as a client without manners uses it: bytes out, an answer in.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::world::client::Client;

/// Longer than any answer of ours may take.
const PATIENCE: Duration = Duration::from_secs(60);
const BOUNDARY: &str = "a-boundary-that-no-clip-contains";

/// A form with one file.
pub(crate) struct Form {
    pub(crate) body: Vec<u8>,
}

impl Form {
    pub(crate) fn content_type(&self) -> String {
        format!("Content-Type: multipart/form-data; boundary={BOUNDARY}")
    }

    pub(crate) fn content_length(&self) -> String {
        format!("Content-Length: {}", self.body.len())
    }
}

/// What stands before the file in a form, and what after it.
pub(crate) fn around(name: &str) -> (String, String) {
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n");
    (head, format!("\r\n--{BOUNDARY}--\r\n"))
}

pub(crate) fn form(name: &str, file: &[u8]) -> Form {
    let (head, tail) = around(name);
    Form { body: [head.as_bytes(), file, tail.as_bytes()].concat() }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} with {:?}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

pub(crate) struct Wire {
    stream: BufStream<TcpStream>,
    host: String,
    key: Option<String>,
}

impl Wire {
    pub(crate) async fn connect(client: &Client) -> Self {
        let url = client.door.url("");
        let host = url.strip_prefix("http://").unwrap().to_owned();
        let stream = BufStream::new(TcpStream::connect(&host).await.unwrap());
        Self { stream, host, key: Some(client.key.clone()) }
    }

    pub(crate) fn without_key(&mut self) -> &mut Self {
        self.key = None;
        self
    }

    /// Sends the request line and headers: those given, where to, and the key.
    pub(crate) async fn send_head(&mut self, method: &str, path: &str, headers: &[&str]) -> bool {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some(key) = &self.key {
            head += &format!("X-Api-Key: {key}\r\n");
        }
        for header in headers {
            head += &format!("{header}\r\n");
        }
        self.send((head + "\r\n").as_bytes()).await
    }

    /// Sends bytes as they are. Whether they went: the other side may have had enough.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sending = async { self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok() };
        timeout(PATIENCE, sending).await.expect("the service reads or closes")
    }

    /// Nothing more will be sent.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.get_mut().shutdown().await;
    }

    /// The next answer with its body.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    /// The next answer, unless the connection was closed instead.
    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        timeout(PATIENCE, self.read(true)).await.expect("an answer or an end in time")
    }

    /// The next answer without a body: to HEAD, or one that only says to go on.
    pub(crate) async fn head_answer(&mut self) -> Answer {
        timeout(PATIENCE, self.read(false)).await.expect("an answer in time").expect("an answer")
    }

    /// One line of an answer that does not end, without its end; none at its end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        let read = timeout(PATIENCE, self.stream.read_until(b'\n', &mut line)).await.expect("a line in time").ok()?;
        (read > 0).then(|| String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    async fn read(&mut self, with_body: bool) -> Option<Answer> {
        let first = self.line().await?;
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if with_body {
            answer.body = self.body(&answer).await?;
        }
        Some(answer)
    }

    async fn body(&mut self, answer: &Answer) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).await.ok()?;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line().await?, 16).unwrap();
                let mut chunk = vec![0; size + 2];
                self.stream.read_exact(&mut chunk).await.ok()?;
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        } else {
            self.stream.read_to_end(&mut body).await.ok()?;
        }
        Some(body)
    }
}
