//! Bodies from outside, read within bounds: bytes, time, and a least rate, so that a dripping client ends.
//!
//! Owns: the bounds and why reading stopped. Does not own: what the bytes mean. Invariant: time that we spend
//! (storing what came) is not counted against the sender; only time spent waiting for him is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout};

/// A sender must bring [`LEAST_BYTES`] in every [`WINDOW`] that we wait for him: 16 KB/s.
const WINDOW: Duration = Duration::from_secs(30);
const LEAST_BYTES: u64 = 30 * 16 * 1024;

/// A chunk is handed on in pieces of at most this: a connection may bring hundreds of KB at once, and a parser that
/// asks for one piece more than it needed must not thereby have read all of them ahead.
const PIECE: usize = 16 * 1024;

/// Bounds of one body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// No more than this is read.
    pub(crate) bytes: u64,
    /// The whole of it must have come after this time.
    pub(crate) time: Duration,
}

/// Why reading stopped before the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("more bytes than allowed")]
    TooLarge,
    #[error("the body came too slowly")]
    TooSlow,
    #[error("the body broke off")]
    Broken,
    #[error("nothing usable within the bytes allowed for it")]
    Unusable,
}

/// Beside the stream, for whoever parses it: says why it ended, and how far it may be read ahead.
#[derive(Debug, Clone)]
pub(crate) struct Gauge(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fault: OnceLock<Fault>,
    allowance: AtomicU64,
}

impl Gauge {
    fn new() -> Self {
        Self(Arc::new(Inner { fault: OnceLock::new(), allowance: AtomicU64::new(u64::MAX) }))
    }

    /// Why the stream ended early, if it did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.fault.get().copied()
    }

    /// From now on no chunk is read once this many bytes came: a parser that buffers what it does not understand
    /// must not buffer all of it.
    pub(crate) fn allow(&self, bytes: u64) {
        self.0.allowance.store(bytes, Ordering::Relaxed);
    }

    fn spend(&self, bytes: u64) {
        let left = self.0.allowance.load(Ordering::Relaxed);
        if left != u64::MAX {
            self.0.allowance.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }

    fn is_spent(&self) -> bool {
        self.0.allowance.load(Ordering::Relaxed) == 0
    }
}

struct Reading {
    data: BodyDataStream,
    left: u64,
    ends: Instant,
    waited: Duration,
    came: u64,
    /// What came and was not handed on yet.
    held: Bytes,
    gauge: Gauge,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Bytes, Fault>> {
        // A parser that reads on while something is ready gets one chunk at a time, and memory stays bounded.
        tokio::task::yield_now().await;
        let result = self.read().await;
        if let Some(Err(fault)) = &result {
            // The first one counts.
            let _ = self.gauge.0.fault.set(*fault);
        }
        result
    }

    async fn read(&mut self) -> Option<Result<Bytes, Fault>> {
        if self.gauge.is_spent() {
            return Some(Err(Fault::Unusable));
        }
        if !self.held.is_empty() {
            return Some(Ok(self.piece()));
        }
        loop {
            let began = Instant::now();
            let patience = WINDOW.saturating_sub(self.waited).min(self.ends.saturating_duration_since(began));
            let next = timeout(patience, self.data.next()).await;
            self.waited += began.elapsed();
            if let Ok(Some(Ok(bytes))) = &next {
                self.came = self.came.saturating_add(bytes.len() as u64);
            }
            if self.waited >= WINDOW {
                if self.came < LEAST_BYTES && !matches!(next, Ok(None)) {
                    return Some(Err(Fault::TooSlow));
                }
                (self.waited, self.came) = (Duration::ZERO, 0);
            }
            match next {
                Err(_) if Instant::now() >= self.ends => return Some(Err(Fault::TooSlow)),
                Err(_) => {}
                Ok(None) => return None,
                Ok(Some(Err(_))) => return Some(Err(Fault::Broken)),
                Ok(Some(Ok(bytes))) => {
                    let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
                        return Some(Err(Fault::TooLarge));
                    };
                    self.left = left;
                    self.held = bytes;
                    return Some(Ok(self.piece()));
                }
            }
        }
    }
}

impl Reading {
    fn piece(&mut self) -> Bytes {
        let piece = self.held.split_to(PIECE.min(self.held.len()));
        self.gauge.spend(piece.len() as u64);
        piece
    }
}

/// The body as a stream within bounds. It ends with the first fault.
pub(crate) fn bounded(
    body: Body,
    bounds: Bounds,
) -> (impl Stream<Item = Result<Bytes, Fault>> + Send + Unpin + 'static, Gauge) {
    let gauge = Gauge::new();
    let reading = Reading {
        data: body.into_data_stream(),
        left: bounds.bytes,
        ends: Instant::now() + bounds.time,
        waited: Duration::ZERO,
        came: 0,
        held: Bytes::new(),
        gauge: gauge.clone(),
    };
    let stream = stream::unfold(Some(reading), async |reading| {
        let mut reading = reading?;
        match reading.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some(reading))),
            Err(fault) => Some((Err(fault), None)),
        }
    });
    (Box::pin(stream), gauge)
}

/// The whole body.
pub(crate) async fn whole(body: Body, bounds: Bounds) -> Result<Bytes, Fault> {
    let (mut stream, _) = bounded(body, bounds);
    let mut whole = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        whole.extend_from_slice(&chunk?);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tokio::time::sleep;

    use super::*;

    const BOUNDS: Bounds = Bounds { bytes: 1 << 30, time: Duration::from_secs(900) };

    /// A sender who brings `size` bytes every `every`.
    fn dripping(size: usize, every: Duration, pieces: usize) -> Body {
        let pieces = stream::iter(0..pieces).then(move |_| async move {
            sleep(every).await;
            Ok::<_, Infallible>(Bytes::from(vec![0; size]))
        });
        Body::from_stream(pieces)
    }

    /// G-28
    #[tokio::test(start_paused = true)]
    async fn a_dripping_sender_ends_after_one_window_and_a_slow_but_steady_one_does_not() {
        let began = Instant::now();
        let drip = dripping(1, Duration::from_secs(1), 1000);
        assert_eq!(whole(drip, BOUNDS).await, Err(Fault::TooSlow));
        assert!(began.elapsed() <= WINDOW + Duration::from_secs(1), "{:?}", began.elapsed());

        let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        assert_eq!(whole(silent, BOUNDS).await, Err(Fault::TooSlow));

        let steady = dripping(17 * 1024, Duration::from_secs(1), 300);
        assert_eq!(whole(steady, BOUNDS).await.map(|body| body.len()), Ok(300 * 17 * 1024));
        // A short body needs no rate.
        let short = dripping(1, Duration::from_secs(7), 3);
        assert_eq!(whole(short, BOUNDS).await.map(|body| body.len()), Ok(3));
    }

    /// G-28
    #[tokio::test(start_paused = true)]
    async fn the_whole_body_must_come_in_its_time_whatever_its_rate() {
        let began = Instant::now();
        let steady = dripping(20 * 1024, Duration::from_secs(1), 100_000);
        let bounds = Bounds { time: Duration::from_secs(100), ..BOUNDS };
        assert_eq!(whole(steady, bounds).await, Err(Fault::TooSlow));
        assert_eq!(began.elapsed(), bounds.time);
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_we_spend_is_not_counted_against_the_sender() {
        let (mut stream, gauge) = bounded(dripping(1024, Duration::from_millis(10), 50), BOUNDS);
        let mut came = 0;
        while let Some(chunk) = stream.next().await {
            came += chunk.unwrap().len();
            sleep(Duration::from_secs(10)).await;
        }
        assert_eq!((came, gauge.fault()), (50 * 1024, None));
    }

    #[tokio::test]
    async fn a_body_ends_at_its_cap_and_a_parser_at_its_allowance() {
        let body = || Body::from_stream(stream::iter(vec![Ok::<_, Infallible>(Bytes::from(vec![0; 100])); 10]));
        let bounds = |bytes| Bounds { bytes, ..BOUNDS };
        assert_eq!(whole(body(), bounds(1000)).await.map(|body| body.len()), Ok(1000));
        assert_eq!(whole(body(), bounds(999)).await, Err(Fault::TooLarge));

        let (mut stream, gauge) = bounded(body(), bounds(1000));
        gauge.allow(250);
        let mut pieces = 0;
        while let Some(Ok(_)) = stream.next().await {
            pieces += 1;
        }
        assert_eq!((pieces, gauge.fault()), (3, Some(Fault::Unusable)));
    }
}
