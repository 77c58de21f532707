//! A client library in its own language, driven over a pipe: one call, one outcome.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::world::ADMIN_TOKEN;
use crate::world::client::Client;

/// Of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Node,
}

/// Both.
pub(crate) const LANGUAGES: [Language; 2] = [Language::Python, Language::Node];

/// The repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The interpreter that has what Python clients need.
pub(crate) fn python() -> PathBuf {
    let python = repository().join(".cache/python/bin/python");
    assert!(python.is_file(), "{} is missing: run scripts/setup-python", python.display());
    python
}

/// A program that holds a client of the library.
pub(crate) struct Library {
    pub(crate) language: Language,
    process: Child,
    calls: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

/// What a user of the library sees of an error.
#[derive(Debug)]
pub(crate) struct Raised {
    /// Of the exception.
    pub(crate) class: String,
    pub(crate) message: Value,
    pub(crate) whole: Value,
}

impl Raised {
    /// Checks for an error of the service, with its request id.
    pub(crate) fn is(&self, class: &str, status: u16, code: &str) {
        let seen = (self.class.as_str(), &self.whole["status"], &self.whole["code"]);
        assert_eq!(seen, (class, &json!(status), &json!(code)), "{:#}", self.whole);
        assert!(self.whole["request_id"].as_str().is_some_and(|id| id.starts_with("req_")), "{:#}", self.whole);
        assert!(self.message.as_str().is_some_and(|text| !text.is_empty()), "{:#}", self.whole);
    }
}

impl Library {
    /// A library in the hands of the owner of a key.
    pub(crate) fn of(language: Language, client: &Client) -> Self {
        let clients = repository().join("tests/clients");
        let mut command = match language {
            Language::Python => {
                let mut command = Command::new(python());
                command.arg("-B").arg(clients.join("python/drive.py"));
                command
            }
            Language::Node => {
                let mut command = Command::new("node");
                command.arg(clients.join("node/drive.mjs"));
                command
            }
        };
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut calls = process.stdin.take().unwrap();
        let outcomes = BufReader::new(process.stdout.take().unwrap());
        let connect = json!({"api_key": client.key, "base_url": client.door.url(""), "admin_token": ADMIN_TOKEN});
        writeln!(calls, "{connect}").unwrap();
        Self { language, process, calls, outcomes }
    }

    fn outcome(&mut self, name: &str, args: &Value) -> Value {
        let mut line = String::new();
        // A receiver in this process must go on while the library waits.
        tokio::task::block_in_place(|| {
            writeln!(self.calls, "{}", json!({"call": name, "args": args})).unwrap();
            self.outcomes.read_line(&mut line).unwrap();
        });
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{:?} died over {name}", self.language))
    }

    /// A call that must succeed.
    pub(crate) fn call(&mut self, name: &str, args: &Value) -> Value {
        let mut outcome = self.outcome(name, args);
        assert!(outcome.get("ok").is_some(), "{:?}: {name} raised {outcome:#}", self.language);
        outcome["ok"].take()
    }

    /// A call that must raise.
    pub(crate) fn raises(&mut self, name: &str, args: &Value) -> Raised {
        let whole = self.outcome(name, args);
        let class = whole["raised"].as_str().unwrap_or_else(|| panic!("{:?}: {name} gave {whole:#}", self.language));
        Raised { class: class.to_owned(), message: whole["message"].clone(), whole }
    }

    /// Uploads a file. Gives the URL to order with.
    pub(crate) fn upload(&mut self, file: &Path) -> String {
        self.call("upload", &json!({"path": file})).as_str().expect("a URL").to_owned()
    }

    /// Creates a job as the library does when it is told nothing but the free model. Gives its id and the answer.
    pub(crate) fn create(&mut self, video_url: &str, options: Value) -> (String, Value) {
        let mut args = json!({"video_url": video_url, "model": "light"});
        args.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let mut created = self.call("create_job", &args);
        (created[0].as_str().expect("an id").to_owned(), created[1].take())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
