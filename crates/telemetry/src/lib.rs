//! What an operator sees of the functions: log lines and metrics, both JSON on standard output.
//!
//! Owns: the names and units of the metrics ([`Metric`]), how a line is written, what of a committed change is counted
//! ([`watched()`]). Does not own: what happens (`rotoless_core`), alarms (`infra`). docs/METRICS.md is for those who read.
//!
//! Invariants: one event is one line, counted when it was committed and never because it was asked for again; no id is a
//! dimension; nothing here can fail a request; no secret and no body is written.

mod emf;
mod log;
mod metric;
mod watched;

pub use emf::Metrics;
pub use log::{JsonLines, filter};
pub use metric::{Metric, Unit};
pub use watched::watched;

use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Environment names that every function reads for its logs and metrics.
pub const KEYS: &[(&str, &str)] = &[
    ("METRICS_STACK", "the dimension of all metrics; without it none is written"),
    ("RUST_LOG", "what is logged; without it AWS_LAMBDA_LOG_LEVEL, which Lambda sets, and without that info"),
];

/// The beginning of every function: logs from here on, and the count of the cold start. `lookup` is the environment.
///
/// Called twice in one process the second call changes nothing but the count.
pub fn begin(lookup: impl Fn(&str) -> Option<String>) -> Metrics {
    let lines = JsonLines::new(emf::print).with_filter(filter(&lookup));
    // Somebody else's subscriber (a test's) stays.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    let metrics = Metrics::from_lookup(lookup);
    metrics.tell(jiff::Timestamp::now(), &[(Metric::ColdStarts, 1.0)], &[]);
    metrics
}
