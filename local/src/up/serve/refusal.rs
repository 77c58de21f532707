//! What hyper answers by itself, to bytes that are no request, becomes an envelope on its way out.
//!
//! hyper writes such an answer alone, as one short head with `content-length: 0`, then ends the connection; no hook lets
//! us say more. No answer of ours looks like that: each has a body and a request id.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rotoless_aws::system::SystemEntropy;
use rotoless_contract::{ErrorBody, ErrorCode, ErrorEnvelope};
use rotoless_core::ports::Entropy as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Heads of hyper's own are shorter.
const LONGEST: usize = 256;
/// Who is refused may still be sending, and would find his connection reset before he sees the answer: so much, and for
/// so long, is read and thrown away.
const LINGER_BYTES: usize = 8 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(2);

/// A connection on which hyper's own refusals are replaced.
pub(super) struct Refusing {
    stream: TcpStream,
    /// Of the envelope, what is still to be written.
    unsent: Vec<u8>,
    lingers: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Refusing {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, unsent: Vec::new(), lingers: None }
    }

    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..written);
        }
        Poll::Ready(Ok(()))
    }

    fn refuse(&mut self, reason: &'static str) {
        self.unsent = envelope(reason);
        self.lingers = Some((Box::pin(sleep(LINGER)), LINGER_BYTES));
    }
}

/// Why hyper refused, if these bytes are a refusal of its own.
fn refusal(bytes: &[u8]) -> Option<&'static str> {
    let head = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= LONGEST)?.strip_suffix("\r\n\r\n")?;
    let (status, headers) = head.split_once("\r\n")?;
    let reason = match status.strip_prefix("HTTP/1.1 ").or_else(|| status.strip_prefix("HTTP/1.0 "))?.get(..3)? {
        "400" => "malformed_request",
        "414" => "uri_too_long",
        "431" => "headers_too_large",
        _ => return None,
    };
    let is_hypers = headers.split("\r\n").all(|header| {
        header == "content-length: 0" || header.starts_with("connection: ") || header.starts_with("date: ")
    });
    is_hypers.then_some(reason)
}

/// A whole answer. The status is always that of the code.
fn envelope(reason: &'static str) -> Vec<u8> {
    let request_id = format!("req_{}", hex::encode(SystemEntropy.id_bits()));
    tracing::info!(request.id = %request_id, reason, "refused what is no request");
    let error = ErrorBody {
        code: ErrorCode::InvalidRequest,
        message: "The request is not HTTP/1.1, or its head is too large".to_owned(),
        request_id: request_id.clone(),
        reason: Some(reason.to_owned()),
        param: None,
        retryable: Some(false),
        retry_after_seconds: None,
    };
    let body = serde_json::to_string(&ErrorEnvelope { error }).unwrap_or_default();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nx-request-id: {request_id}\r\n\
         x-content-type-options: nosniff\r\ncache-control: no-store\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl AsyncRead for Refusing {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Refusing {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        if let Some(reason) = refusal(buf) {
            self.refuse(reason);
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = bufs.iter().filter(|buf| !buf.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            return self.poll_write(cx, only);
        }
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        let Self { stream, lingers, .. } = &mut *self;
        let Some((time, left)) = lingers else { return Poll::Ready(Ok(())) };
        let mut space = [0; 16 * 1024];
        while *left > 0 && time.as_mut().poll(cx).is_pending() {
            let mut read = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut *stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => *left = left.saturating_sub(read.filled().len()),
                // He has ended as well, or is gone.
                Ok(()) | Err(_) => break,
            }
        }
        *lingers = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_head_of_hypers_own_is_a_refusal() {
        let date = "date: Sun, 22 Nov 2026 07:39:35 GMT";
        let head = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\nconnection: close\r\n{more}{date}\r\n\r\n");
        let bare = "content-length: 0\r\n";
        assert_eq!(refusal(head("400 Bad Request", bare).as_bytes()), Some("malformed_request"));
        assert_eq!(refusal(head("431 Request Header Fields Too Large", bare).as_bytes()), Some("headers_too_large"));
        for other in [
            head("404 Not Found", bare),
            head("200 OK", bare),
            head("400 Bad Request", "content-length: 0\r\nx-request-id: req_1\r\n"),
            head("400 Bad Request", "content-length: 2\r\n"),
            head("400 Bad Request", bare) + "{}",
            "x".to_owned(),
        ] {
            assert_eq!(refusal(other.as_bytes()), None, "{other}");
        }
    }
}
