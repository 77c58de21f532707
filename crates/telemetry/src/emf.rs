//! Metrics as CloudWatch takes them out of logs: the embedded metric format, one JSON object a line.

use std::io::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::Metric;

/// Values that CloudWatch takes of one metric in one line.
const MOST_VALUES: usize = 100;

type Write = dyn Fn(&str) + Send + Sync;

/// Where metrics go: to standard output, to a test, or nowhere. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Out>>);

struct Out {
    stack: String,
    /// The function's name, where Lambda says it.
    function: Option<String>,
    write: Box<Write>,
}

impl Metrics {
    /// To standard output, under the stack that the environment names; nowhere where it names none.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let stack = lookup("METRICS_STACK").filter(|stack| !stack.trim().is_empty());
        let out = |stack| Out { stack, function: lookup("AWS_LAMBDA_FUNCTION_NAME"), write: Box::new(print) };
        Self(stack.map(|stack| Arc::new(out(stack))))
    }

    /// Lines to `write`, each without its end.
    pub fn to(stack: impl Into<String>, write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Out { stack: stack.into(), function: None, write: Box::new(write) })))
    }

    /// Whether nobody hears them.
    #[must_use]
    pub const fn is_silent(&self) -> bool {
        self.0.is_none()
    }

    /// One event as one line. `properties` can be searched for in the logs; they are no dimensions. Several figures of
    /// one metric become its values. Nothing is written of an event without figures.
    pub fn tell(&self, at: Timestamp, figures: &[(Metric, f64)], properties: &[(&'static str, Value)]) {
        let Some(out) = &self.0 else { return };
        if figures.is_empty() {
            return;
        }
        let mut line: Map<String, Value> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if let Some(function) = &out.function {
            line.insert("function".to_owned(), json!(function));
        }
        let mut declared = Vec::new();
        for metric in Metric::ALL.iter().copied() {
            let of_it = figures.iter().filter(|(other, _)| *other == metric);
            // What is no number JSON cannot carry, and CloudWatch would not take.
            let values: Vec<f64> = of_it.map(|(_, value)| *value).filter(|v| v.is_finite()).take(MOST_VALUES).collect();
            let value = match values.as_slice() {
                [] => continue,
                [value] => json!(value),
                values => json!(values),
            };
            declared.push(json!({"Name": metric.name(), "Unit": metric.unit().as_str()}));
            line.insert(metric.name().to_owned(), value);
        }
        line.insert(Metric::DIMENSION.to_owned(), json!(out.stack));
        let directive =
            json!({"Namespace": Metric::NAMESPACE, "Dimensions": [[Metric::DIMENSION]], "Metrics": declared});
        line.insert("_aws".to_owned(), json!({"Timestamp": at.as_millisecond(), "CloudWatchMetrics": [directive]}));
        (out.write)(&Value::Object(line).to_string());
    }
}

/// One line on standard output, whole: nobody else's comes between.
pub(crate) fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    // A log that cannot be written is no reason to fail what it tells of.
    let _ = out.write_all(format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn told(figures: &[(Metric, f64)]) -> Vec<Value> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let metrics = Metrics::to("prod", move |line| kept.lock().unwrap().push(line.to_owned()));
        metrics.tell(Timestamp::from_millisecond(1_795_000_000_123).unwrap(), figures, &[("job.id", json!("job_1"))]);
        lines.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_event_is_one_line_that_declares_every_metric_it_carries() {
        let lines = told(&[(Metric::JobsCompleted, 1.0), (Metric::AttemptSeconds, 2.5), (Metric::AttemptSeconds, 4.0)]);
        assert_eq!(
            lines,
            [json!({
                "_aws": {"Timestamp": 1_795_000_000_123_i64, "CloudWatchMetrics": [{
                    "Namespace": "Rotoless", "Dimensions": [["Stack"]],
                    "Metrics": [{"Name": "JobsCompleted", "Unit": "Count"}, {"Name": "AttemptSeconds", "Unit": "Seconds"}],
                }]},
                "Stack": "prod", "job.id": "job_1", "JobsCompleted": 1.0, "AttemptSeconds": [2.5, 4.0],
            })]
        );
    }

    #[test]
    fn an_event_without_figures_is_no_line_and_what_is_no_number_is_left_out() {
        assert!(told(&[]).is_empty());
        let lines = told(&[(Metric::WorkerSecondsPerOutputSecond, f64::NAN), (Metric::JobsCompleted, 1.0)]);
        assert!(lines[0].get("WorkerSecondsPerOutputSecond").is_none());
        assert_eq!(lines[0]["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn without_a_stack_nothing_is_told() {
        assert!(Metrics::from_lookup(|_| None).is_silent());
        assert!(Metrics::from_lookup(|name| (name == "METRICS_STACK").then(String::new)).is_silent());
        assert!(!Metrics::from_lookup(|name| (name == "METRICS_STACK").then(|| "prod".to_owned())).is_silent());
    }
}
