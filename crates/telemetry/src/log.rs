//! Log lines: one flat JSON object each, in which an event carries the fields of all spans around it. So every line
//! inside a request has the request's ids, by their own names, whatever wrote it.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Greatest text of a field, in characters: a line must not outgrow what CloudWatch takes.
const MAX_TEXT: usize = 4000;

/// Fields of the Lambda runtime's own span, in our words.
const RENAMED: [(&str, &str); 2] = [("requestId", "aws.request_id"), ("xrayTraceId", "trace.id")];

/// What is logged: as `RUST_LOG` says, else from the level that Lambda sets, else from info. Spans are kept in any case:
/// an error of a service that logs nothing else still has its ids.
pub fn filter<S>(lookup: &dyn Fn(&str) -> Option<String>) -> impl Filter<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let said = |name: &str| lookup(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let directives = said("RUST_LOG").and_then(|text| EnvFilter::try_new(text).ok());
    let events = directives.unwrap_or_else(|| {
        let level = said("AWS_LAMBDA_LOG_LEVEL").map(|level| level.to_ascii_lowercase());
        EnvFilter::new(match level.as_deref() {
            Some("trace") => "trace",
            Some("debug") => "debug",
            Some("warn") => "warn",
            Some("error" | "fatal") => "error",
            Some(_) | None => "info",
        })
    });
    let is_our_kind = |metadata: &Metadata<'_>| metadata.is_span() && *metadata.level() <= Level::INFO;
    events.or(filter_fn(is_our_kind))
}

/// Writes each event as one line by `write`, which adds its end.
pub struct JsonLines<W>(W);

impl<W: Fn(&str)> JsonLines<W> {
    /// Lines to `write`.
    pub const fn new(write: W) -> Self {
        Self(write)
    }
}

/// The fields of a span.
struct Fields(Map<String, Value>);

impl<S, W> Layer<S> for JsonLines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Map::new();
        attributes.record(&mut Visitor(&mut fields));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(Fields(fields)) = span.extensions_mut().get_mut::<Fields>() {
            values.record(&mut Visitor(fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Map::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Fields(fields)) = span.extensions().get::<Fields>() {
                line.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
        }
        event.record(&mut Visitor(&mut line));
        line.insert("timestamp".to_owned(), json!(format!("{:.3}", Timestamp::now())));
        line.insert("level".to_owned(), json!(event.metadata().level().as_str()));
        line.insert("target".to_owned(), json!(event.metadata().target()));
        (self.0)(&Value::Object(line).to_string());
    }
}

struct Visitor<'a>(&'a mut Map<String, Value>);

impl Visitor<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        let name = RENAMED.iter().find(|(theirs, _)| *theirs == field.name()).map_or(field.name(), |(_, ours)| ours);
        self.0.insert(name.to_owned(), value);
    }

    fn text(&mut self, field: &Field, text: &str) {
        self.put(field, json!(text.chars().take(MAX_TEXT).collect::<String>()));
    }
}

impl Visit for Visitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn logged(environment: &'static [(&'static str, &'static str)], work: impl FnOnce()) -> Vec<Value> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let lookup =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let layer = JsonLines::new(move |line: &str| kept.lock().unwrap().push(line.to_owned()));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter(&lookup)));
        tracing::subscriber::with_default(subscriber, work);
        let lines = lines.lock().unwrap();
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn a_request() {
        let runtime = tracing::info_span!("Lambda runtime invoke", requestId = "r-1", xrayTraceId = "Root=1-a");
        runtime.in_scope(|| {
            let ours = tracing::info_span!("request", request.id = "req_1", job.id = tracing::field::Empty);
            ours.in_scope(|| {
                tracing::debug!("a detail");
                tracing::Span::current().record("job.id", "job_1");
                tracing::info!(http.status = 200, took = 1.5, "answered");
                tracing::error!(error = %"no\nluck", "it broke");
            });
        });
    }

    #[test]
    fn every_line_inside_a_request_carries_its_ids() {
        let lines = logged(&[], a_request);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in &lines {
            for (field, value) in
                [("aws.request_id", "r-1"), ("trace.id", "Root=1-a"), ("request.id", "req_1"), ("job.id", "job_1")]
            {
                assert_eq!(line[field], value, "{line}");
            }
            let at: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
            assert!(Timestamp::now().duration_since(at).as_secs() < 60);
        }
        assert_eq!((&lines[0]["message"], &lines[0]["level"]), (&json!("answered"), &json!("INFO")));
        assert_eq!((&lines[0]["http.status"], &lines[0]["took"]), (&json!(200), &json!(1.5)));
        assert_eq!(lines[1]["error"], "no\nluck");
    }

    #[test]
    fn ids_stay_on_the_lines_that_are_left_when_only_errors_are_logged() {
        for environment in
            [[("AWS_LAMBDA_LOG_LEVEL", "ERROR")], [("AWS_LAMBDA_LOG_LEVEL", "FATAL")], [("RUST_LOG", "error")]]
        {
            let lines = logged(Box::leak(Box::new(environment)), a_request);
            assert_eq!(lines.len(), 1, "{environment:?} {lines:?}");
            assert_eq!((&lines[0]["aws.request_id"], &lines[0]["request.id"]), (&json!("r-1"), &json!("req_1")));
        }
    }

    #[test]
    fn the_operator_s_own_filter_goes_before_lambda_s_level() {
        let own = &[("RUST_LOG", "debug"), ("AWS_LAMBDA_LOG_LEVEL", "ERROR")];
        assert_eq!(logged(own, a_request).len(), 3);
        let unreadable = &[("RUST_LOG", "a=b=c"), ("AWS_LAMBDA_LOG_LEVEL", "error")];
        assert_eq!(logged(unreadable, a_request).len(), 1);
    }

    #[test]
    fn a_text_of_any_length_is_a_line_of_bounded_length() {
        let lines = logged(&[], || tracing::info!(detail = %"x".repeat(1 << 20), "long"));
        assert_eq!(lines[0]["detail"].as_str().unwrap().len(), MAX_TEXT);
    }
}
