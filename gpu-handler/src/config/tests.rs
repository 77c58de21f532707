use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::*;
use crate::sessions::Start;

fn complete() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/1/jobs"),
        ("CONTROL_URL", "https://api.example.com"),
        ("FLEET_KEY", "0123456789abcdef"),
        ("AWS_REGION", "eu-central-1"),
        ("MODELS_DIR", "/models"),
        ("PATH", "/usr/bin"),
    ])
}

fn read(values: &BTreeMap<&str, &str>) -> Result<Config, ConfigError> {
    Config::from_lookup(|name| values.get(name).map(|value| (*value).to_owned()))
}

#[test]
fn defaults_fill_what_is_not_set() {
    let config = read(&complete()).unwrap();
    assert_eq!(config.visibility, Duration::from_secs(120));
    assert_eq!(config.ffmpeg_path.as_deref(), Some("/usr/bin"));
    assert!(config.credentials.is_none() && !config.allow_http_loopback && config.die_with_parent.is_none());
    assert!(!config.worker_id.is_empty());
}

#[test]
fn all_problems_are_named_at_once_and_none_shows_a_value() {
    let error = read(&BTreeMap::from([
        ("CONTROL_URL", "http://plain.example.com/secret-path"),
        ("FLEET_KEY", "tooshort"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("THREADS", "many"),
        ("VISIBILITY_SECONDS", "1"),
        ("DIE_WITH_PARENT", "me"),
    ]))
    .unwrap_err();
    let text = error.to_string();
    for name in [
        "QUEUE_URL",
        "CONTROL_URL",
        "FLEET_KEY",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "MODELS_DIR",
        "THREADS",
        "VISIBILITY_SECONDS",
        "DIE_WITH_PARENT",
    ] {
        assert!(text.contains(name), "{name} is missing in: {text}");
    }
    for value in ["tooshort", "many", "secret-path", "AKIA"] {
        assert!(!text.contains(value), "{text}");
    }
}

#[test]
fn of_several_fleet_keys_the_first_signs() {
    let mut values = complete();
    values.insert("FLEET_KEY", "fedcba9876543210, 0123456789abcdef");
    assert_eq!(read(&values).unwrap().fleet_key.expose_secret(), "fedcba9876543210");
    values.insert("FLEET_KEY", "short,0123456789abcdef");
    assert!(read(&values).unwrap_err().to_string().contains("FLEET_KEY"));
}

#[test]
fn a_device_is_named_whole_or_the_worker_does_not_start() {
    use rotoless_matting::Device;
    let mut values = complete();
    assert_eq!(read(&values).unwrap().compute, Compute::default());
    values.extend([("DEVICE", "tensorrt:1"), ("BATCH", "4"), ("REDUCED_PRECISION", "true")]);
    let compute = Compute { device: Device::TensorRt(1), batch: 4, reduced_precision: true };
    assert_eq!(read(&values).unwrap().compute, compute);
    values.extend([("DEVICE", "gpu"), ("BATCH", "33"), ("REDUCED_PRECISION", "yes")]);
    let text = read(&values).unwrap_err().to_string();
    assert!(["DEVICE", "BATCH", "REDUCED_PRECISION"].iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn plain_http_needs_the_switch_and_loopback() {
    let mut values = complete();
    values.insert("CONTROL_URL", "http://127.0.0.1:8080");
    assert!(read(&values).is_err());
    values.insert("ALLOW_HTTP_LOOPBACK", "true");
    assert!(read(&values).is_ok());
    values.insert("AWS_ENDPOINT_URL_SQS", "http://10.0.0.7:9324");
    assert!(read(&values).unwrap_err().to_string().contains("AWS_ENDPOINT_URL_SQS"));
}

/// G-37
#[test]
fn a_printed_configuration_shows_no_secret() {
    let mut values = complete();
    values.insert("AWS_ACCESS_KEY_ID", "AKIA");
    values.insert("AWS_SECRET_ACCESS_KEY", "hush-hush");
    let config = read(&values).unwrap();
    assert_eq!(config.fleet_key.expose_secret(), "0123456789abcdef");
    let printed = format!("{config:?}");
    assert!(!printed.contains("0123456789abcdef") && !printed.contains("hush-hush"), "{printed}");
}

#[test]
fn every_key_that_is_read_is_documented() {
    let asked = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let mut values = complete();
    values.extend(RUNPOD);
    Config::from_lookup(|name| {
        asked.borrow_mut().insert(name.to_owned());
        values.get(name).map(|value| (*value).to_owned())
    })
    .unwrap();
    let all = || KEYS.iter().chain(SESSION_KEYS);
    let documented = |name: &str| all().any(|key| key.name == name) || ["PATH", "HOSTNAME"].contains(&name);
    for name in asked.borrow().iter() {
        assert!(documented(name), "{name}");
    }
    for key in all() {
        assert!(asked.borrow().contains(key.name), "{} is documented and never read", key.name);
    }
}

const RUNPOD: [(&str, &str); 6] = [
    ("RUNPOD_WEBHOOK_GET_JOB", "https://api.runpod.ai/v2/ep/job-take/$ID?gpu=x"),
    ("RUNPOD_WEBHOOK_POST_OUTPUT", "https://api.runpod.ai/v2/ep/job-done/$RUNPOD_POD_ID/$ID?gpu=x"),
    ("RUNPOD_WEBHOOK_PING", "https://api.runpod.ai/v2/ep/ping/$RUNPOD_POD_ID?gpu=x"),
    ("RUNPOD_AI_API_KEY", "rpa_hush"),
    ("RUNPOD_POD_ID", "pod7"),
    ("RUNPOD_ENDPOINT_ID", "ep"),
];

#[test]
fn what_looks_like_runpod_never_polls_unless_it_is_told_to() {
    let with = |more: &[(&'static str, &'static str)]| {
        let mut values = complete();
        values.extend(more.iter().copied());
        read(&values)
    };
    assert!(matches!(with(&[]).unwrap().sessions.start, Start::Poll));
    assert!(matches!(with(&RUNPOD).unwrap().sessions.start, Start::RunPod(_)));
    assert!(matches!(with(&[("SESSIONS", "once")]).unwrap().sessions.start, Start::Once));
    // `rotoless up` and its worker.env, wherever they run.
    for own in &RUNPOD {
        assert!(matches!(with(&[*own, ("SESSIONS", "poll"), RUNPOD[1]]).unwrap().sessions.start, Start::Poll));
    }
    for hint in [RUNPOD[4], RUNPOD[5], ("SESSIONS", "runpod")] {
        let text = with(&[hint]).unwrap_err().to_string();
        assert!(text.contains("RUNPOD_WEBHOOK_GET_JOB"), "{text}");
    }
    assert!(with(&[("SESSIONS", "forever")]).unwrap_err().to_string().contains("SESSIONS"));
    assert_eq!(with(&RUNPOD).unwrap().worker_id, "pod7");
}

/// G-37: its addresses authorise the worker, and its key is a key.
#[test]
fn what_is_wrong_with_runpods_environment_is_named_at_once_and_nothing_of_it_is_shown() {
    let mut values = complete();
    values.extend(RUNPOD);
    let shown = format!("{:?}", read(&values).unwrap());
    assert!(!shown.contains("hush") && !shown.contains("runpod.ai"), "{shown}");
    values.extend([
        ("RUNPOD_WEBHOOK_GET_JOB", "http://10.0.0.1/secret"),
        ("RUNPOD_WEBHOOK_POST_OUTPUT", ""),
        ("RUNPOD_PING_INTERVAL", "soon"),
        ("WARM_MODELS", "human,best"),
        ("RECYCLE_JOBS", "-1"),
        ("RUNPOD_MIN_MEMORY_GB", "much"),
    ]);
    let text = read(&values).unwrap_err().to_string();
    for name in ["GET_JOB", "POST_OUTPUT", "PING_INTERVAL", "WARM_MODELS", "RECYCLE_JOBS", "MIN_MEMORY_GB"] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(!text.contains("secret") && !text.contains("10.0.0.1") && !text.contains("soon"), "{text}");
}
