//! The list of metrics is a contract between those who count, those who are alarmed, and those who read.

use super::architecture::{root, sources};

/// The names, as the code declares them.
fn names() -> Vec<String> {
    let declared = std::fs::read_to_string(root().join("crates/telemetry/src/metric.rs")).unwrap();
    let list = declared.split("metrics! {\n").nth(1).and_then(|rest| rest.split("\n}").next()).unwrap();
    let declarations = list.lines().map(str::trim).filter(|line| !line.starts_with("///"));
    declarations.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
}

/// Nothing but tests may speak of a metric that nobody counts.
#[test]
fn every_metric_is_counted_by_somebody() {
    let is_counting = |path: &str| {
        (path.starts_with("functions") || path.starts_with("crates/telemetry"))
            && !path.ends_with("telemetry/src/metric.rs")
    };
    let code: Vec<String> = sources()
        .into_iter()
        .filter(|(path, _)| is_counting(&path.to_string_lossy()) && path.iter().any(|part| part == "src"))
        .map(|(_, text)| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned())
        .collect();
    let names = names();
    assert!(names.len() >= 18, "the list is not where it was: {names:?}");
    for name in names {
        let counted = format!("Metric::{name}");
        let is_word = |rest: &str| rest.chars().next().is_none_or(|c| !c.is_alphanumeric());
        let is_counted = code.iter().any(|text| text.split(&counted).skip(1).any(is_word));
        assert!(is_counted, "nobody counts {name}");
    }
}

#[test]
fn every_metric_is_explained_and_none_that_does_not_exist() {
    let page = std::fs::read_to_string(root().join("docs/METRICS.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name));
    let explained: Vec<&str> = rows.filter(|name| name.starts_with(|c: char| c.is_ascii_uppercase())).collect();
    assert_eq!(explained, names());
}

/// An alarm on a name that nobody counts is silent for ever.
#[test]
fn an_alarm_is_on_a_metric_that_exists() {
    let names = names();
    let mut open = vec![root().join("infra"), root().join("template.yaml")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let is_ours = line.contains("Namespace: Rotoless");
            let near = lines[number.saturating_sub(4)..(number + 5).min(lines.len())].iter();
            let named: Vec<&str> =
                near.filter_map(|line| line.split_once("MetricName: ")).map(|(_, rest)| rest).collect();
            let of = |rest: &str| rest.chars().take_while(char::is_ascii_alphanumeric).collect::<String>();
            let is_known = named.iter().any(|rest| names.contains(&of(rest)));
            assert!(!is_ours || is_known, "{}:{}: {named:?}", path.display(), number + 1);
        }
    }
}
