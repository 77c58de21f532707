//! What a route left unread of its request's body.
//!
//! A refusal is often made before the whole body came, or any of it. Whoever is still sending when the connection is
//! closed finds it reset, and the answer with it: most client libraries send everything before they look. So the rest
//! is read and thrown away, within bounds, before the answer goes out. Invariant: who asked to be told first
//! (`Expect: 100-continue`) and was not told to go on sends nothing, and nothing is waited for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, timeout};

/// No more is thrown away for one request, and it takes no longer.
const MOST_BYTES: usize = 1024 * 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(10);
/// Whoever brings less than this in a window is not waited for: he drips, or has stopped.
const WINDOW: Duration = Duration::from_secs(1);
const LEAST_BYTES: usize = 16 * 1024;

/// Reads on after the route has answered.
pub(crate) async fn discard(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let owed = Arc::new(Mutex::new(None));
    let request = request.map(|body| body.into_data_stream());
    let asks_first = request.headers().contains_key(header::EXPECT);
    let request =
        request.map(|data| Body::from_stream(Lent { data: Some(data), is_sent: !asks_first, owed: Arc::clone(&owed) }));
    let response = next.run(request).await;
    let left = owed.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(left) = left {
        // Time over: the connection is closed under the sender after all.
        let _ = timeout(LONGEST, throw_away(left)).await;
    }
    response
}

/// A body on loan to a route: what is left of it comes back when the route drops it.
struct Lent {
    data: Option<BodyDataStream>,
    /// Whether its sender is sending: at once, or once somebody began to read.
    is_sent: bool,
    owed: Arc<Mutex<Option<BodyDataStream>>>,
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.is_sent = true;
        let Some(data) = &mut self.data else { return Poll::Ready(None) };
        let polled = data.poll_next_unpin(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.data = None;
        }
        polled
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_sent {
            *self.owed.lock().unwrap_or_else(PoisonError::into_inner) = self.data.take();
        }
    }
}

async fn throw_away(mut data: BodyDataStream) {
    let mut left = MOST_BYTES;
    loop {
        let (mut came, ends) = (0, Instant::now() + WINDOW);
        while came < LEAST_BYTES {
            let patience = ends.saturating_duration_since(Instant::now());
            let Ok(Some(Ok(bytes))) = timeout(patience, data.next()).await else { return };
            came += bytes.len();
        }
        left = left.saturating_sub(came);
        if left == 0 {
            return;
        }
        // What is already there must not keep the task from everything else.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use futures::stream;
    use tower::ServiceExt as _;

    use super::*;

    /// Sends `pieces` of 16 KiB, one every `every`, to a route that looks at none of them. Gives how many were read,
    /// and how long the answer took.
    async fn refused(pieces: usize, every: Duration, expect: bool) -> (usize, Duration) {
        let read = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&read);
        let pieces = stream::iter(0..pieces).then(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(every).await;
                Ok::<_, Infallible>(Bytes::from(vec![0; LEAST_BYTES]))
            }
        });
        let mut request = Request::post("/");
        if expect {
            request = request.header("Expect", "100-continue");
        }
        let refusing = Router::new().route("/", post(async || "no")).layer(from_fn(discard));
        let began = Instant::now();
        refusing.oneshot(request.body(Body::from_stream(pieces)).unwrap()).await.unwrap();
        (read.load(Ordering::SeqCst), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_of_a_refused_body_is_read_so_that_its_sender_sees_the_answer() {
        assert_eq!(refused(1000, Duration::from_millis(1), false).await.0, 1000);
    }

    /// G-28
    #[tokio::test(start_paused = true)]
    async fn nobody_is_read_for_longer_or_further_than_the_bounds() {
        let (read, _) = refused(1_000_000, Duration::ZERO, false).await;
        assert_eq!(read, MOST_BYTES / LEAST_BYTES);
        let (_, steady) = refused(1_000_000, Duration::from_millis(900), false).await;
        assert_eq!(steady, LONGEST);
        let (_, dripping) = refused(1_000_000, Duration::from_secs(3), false).await;
        assert_eq!(dripping, WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_first_is_refused_at_once() {
        assert_eq!(refused(1000, Duration::from_millis(1), true).await, (0, Duration::ZERO));
    }
}
