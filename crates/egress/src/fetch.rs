//! One bounded GET of a user's URL into a file of ours.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::{Egress, EgressError, classify};

/// Caps of one fetch.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Bytes of the body.
    pub bytes: u64,
    /// From the look-up to the last byte.
    pub total: Duration,
    /// The body must bring [`FetchLimits::least_bytes`] in every window of this length.
    pub window: Duration,
    /// Least bytes a window.
    pub least_bytes: u64,
}

impl FetchLimits {
    /// At most this many bytes, within 15 minutes, at 16 KB/s over 30 s (G-28).
    #[must_use]
    pub const fn of_bytes(bytes: u64) -> Self {
        let window = Duration::from_secs(30);
        Self { bytes, total: Duration::from_secs(15 * 60), window, least_bytes: 30 * 16 * 1024 }
    }
}

/// Why nothing whole was fetched. What the sink has got until then is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no answer.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// The answer is not 200. Redirects are not followed.
    #[error("status {0}")]
    Status(u16),
    /// The body is longer than allowed.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// The body came too slowly.
    #[error("too slow")]
    TooSlow,
    /// Our own disk.
    #[error("the file could not be written")]
    Sink(#[from] io::Error),
}

impl FetchError {
    /// Whether the same fetch may succeed later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Egress(
                EgressError::Name(_)
                | EgressError::Timeout
                | EgressError::ConnectionRefused
                | EgressError::Connect(_)
                | EgressError::Reply(_),
            )
            | Self::TooSlow => true,
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..),
            Self::Egress(
                EgressError::Refused(_)
                | EgressError::Resolved(_)
                | EgressError::Header
                | EgressError::Tls(_)
                | EgressError::Setup(_),
            )
            | Self::TooLarge(_)
            | Self::Sink(_) => false,
        }
    }
}

impl Egress {
    /// Writes the body of the URL's answer to `sink`, bounded while it comes. Nothing but the URL is sent.
    ///
    /// # Errors
    /// [`FetchError`]
    pub async fn fetch<W: AsyncWrite + Unpin>(
        &self,
        url: &str,
        limits: &FetchLimits,
        sink: &mut W,
    ) -> Result<u64, FetchError> {
        timeout(limits.total, self.fetch_whole(url, limits, sink)).await.map_err(|_| FetchError::TooSlow)?
    }

    async fn fetch_whole<W: AsyncWrite + Unpin>(
        &self,
        url: &str,
        limits: &FetchLimits,
        sink: &mut W,
    ) -> Result<u64, FetchError> {
        let target = self.check(url).map_err(EgressError::from)?;
        let parsed = target.url().clone();
        let asked = self.client(target)?.get(parsed).send();
        // The head of the answer has the time that a whole exchange has elsewhere.
        let answer = timeout(self.patience(), asked).await.map_err(|_| EgressError::Timeout)?;
        let mut response = answer.map_err(classify)?;
        if response.status().as_u16() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        if response.content_length().is_some_and(|length| length > limits.bytes) {
            return Err(FetchError::TooLarge(limits.bytes));
        }
        let (mut got, mut in_window) = (0, 0);
        let mut window_ends = Instant::now() + limits.window;
        loop {
            let chunk = match timeout_at(window_ends, response.chunk()).await {
                Ok(chunk) => chunk.map_err(classify)?,
                Err(_) if in_window >= limits.least_bytes => {
                    (window_ends, in_window) = (Instant::now() + limits.window, 0);
                    continue;
                }
                Err(_) => return Err(FetchError::TooSlow),
            };
            let Some(chunk) = chunk else { break };
            got += chunk.len() as u64;
            in_window += chunk.len() as u64;
            if got > limits.bytes {
                return Err(FetchError::TooLarge(limits.bytes));
            }
            // A sender that drips must not slip through between time-outs.
            if Instant::now() >= window_ends {
                if in_window < limits.least_bytes {
                    return Err(FetchError::TooSlow);
                }
                (window_ends, in_window) = (Instant::now() + limits.window, 0);
            }
            sink.write_all(&chunk).await?;
        }
        sink.flush().await?;
        Ok(got)
    }
}
