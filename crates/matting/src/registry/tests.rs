use super::*;
use crate::test_runtime::{Array, load, models_dir, run};
use crate::tiny;

const ENTRY: &str = r#"
[[model]]
name = "own"
family = "still"
file = "own.onnx"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
licence = "MIT"
[model.input]
name = "in"
size = [256, 144]
[model.output]
matte = "out"
"#;

fn problems(text: &str) -> Vec<String> {
    match Registry::parse("test", text) {
        Err(RegistryError::Invalid { problems, .. }) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

fn matte_spec(entry: &ModelEntry) -> &MatteSpec {
    match &entry.work {
        Work::Matte(spec) => spec,
        Work::Ground(_) => panic!("{} makes no matte", entry.name),
    }
}

fn with_file(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(REGISTRY_FILE), text).unwrap();
    dir
}

#[test]
fn the_builtin_registry_is_valid_and_fills_the_default_roles() {
    let registry = Registry::builtin().unwrap();
    for role in [Model::Human, Model::Original, Model::Light] {
        assert!(registry.for_role(role).is_some_and(|entry| entry.in_default_set && entry.source.is_some()), "{role}");
    }
    for arch in ["x86_64", "aarch64"] {
        assert!(
            registry.runtime_for("linux", arch, RuntimeBuild::Cpu).is_some_and(|entry| entry.source.is_some()),
            "{arch}"
        );
    }
}

/// The GPU's provider is looked for beside the library, under names that the library knows.
#[test]
fn the_gpus_runtime_brings_its_providers_out_of_one_package() {
    let registry = Registry::builtin().unwrap();
    let entry = registry.runtime_for("linux", "x86_64", RuntimeBuild::Gpu).unwrap();
    let cpu = registry.runtime_for("linux", "x86_64", RuntimeBuild::Cpu).unwrap();
    assert_ne!(entry.file.name, cpu.file.name);
    assert_eq!(entry.version, cpu.version);
    let names: Vec<_> = entry.parts.iter().map(|part| part.file.name.as_str()).collect();
    let expected = ["shared", "cuda", "tensorrt"].map(|name| format!("libonnxruntime_providers_{name}.so"));
    assert_eq!(names, expected);
    let package = &entry.source.as_ref().unwrap().package;
    assert!(entry.parts.iter().all(|part| part.source.as_ref().is_some_and(|source| &source.package == package)));
}

/// Everyone may use the default set in a business, and is told what the licence asks for where it asks.
#[test]
fn the_default_set_allows_commercial_use_and_copyleft_is_announced() {
    let registry = Registry::builtin().unwrap();
    for entry in registry.models().iter().filter(|entry| entry.in_default_set) {
        match entry.licence.as_str() {
            "Apache-2.0" | "MIT" => {}
            "GPL-3.0-only" => assert!(entry.notice.as_ref().is_some_and(|notice| notice.contains("GPL-3.0"))),
            other => panic!("{}: {other} is not known to allow commercial use", entry.name),
        }
    }
}

#[test]
fn defaults_fill_what_an_entry_does_not_say() {
    let registry = Registry::parse("test", ENTRY).unwrap();
    let entry = registry.by_name("own").unwrap();
    assert_eq!(entry.input.size, InputSize::Fixed { width: 256, height: 144, fit: PictureFit::Stretch });
    assert_eq!((entry.input.layout, entry.input.channels), (Layout::Nchw, ChannelOrder::Rgb));
    assert_eq!((entry.input.scale, entry.input.mean, entry.input.std), (1.0 / 255.0, [0.0; 3], [1.0; 3]));
    let output = &matte_spec(entry).output;
    assert_eq!((output.activation, &output.foreground), (Activation::None, &None));
    assert_eq!((entry.role, entry.in_default_set, &entry.source), (None, false, &None));
    assert_eq!(entry.path(Path::new("/m")), Path::new("/m/own.onnx"));
}

#[test]
fn everything_wrong_is_said_at_once() {
    let text = r#"
        [[model]]
        name = "Bad Name"
        role = "king"
        family = "lively"
        file = "../../etc/passwd"
        sha256 = "beef"
        [model.input]
        name = "in"
        size = [0, 99999]
        std = [1.0, 0.0, 1.0]
        layout = "hwc"
        [[model]]
        name = "typed"
        default = "yes"
        [[model]]
        familly = "still"
        [[runtime]]
        os = "linux"
    "#;
    let found = problems(text);
    let expected = [
        "model Bad Name: name: ",
        "model Bad Name: role: must be one of",
        "model Bad Name: family: must be one of: still, recurrent, grounded",
        "model Bad Name: file: must be a plain file name",
        "model Bad Name: sha256: a SHA-256 is 64",
        "model Bad Name: licence: is missing",
        "model Bad Name: input.size: must be 1 to",
        "model Bad Name: input.std: must be positive",
        "model Bad Name: input.layout: must be one of: nchw, nhwc",
        "model Bad Name: output: is missing",
        "model typed: invalid type",
        "model #3: unknown field `familly`",
        "runtime #1: arch: is missing",
        "runtime #1: sha256: is missing",
    ];
    for expected in expected {
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected:?} not in {found:#?}");
    }
}

#[test]
fn a_name_a_role_and_a_file_belong_to_one_entry() {
    let role = ENTRY.replace("family", "role = \"pro\"\nfamily");
    let other = role.replace("\"own\"", "\"other\"").replace("000\"", "001\"");
    assert_eq!(
        problems(&format!("{role}{other}{ENTRY}")),
        [
            "model other: role: is filled by own already",
            "model other: file: is also own's, with another sha256",
            "model own: name: is used twice",
            "model own: file: is also other's, with another sha256",
        ]
    );
}

#[test]
fn a_file_is_never_outside_the_models_directory() {
    for name in ["../x", "a/b", "/etc/passwd", ".hidden", "..", "", "-rf", "a b", REGISTRY_FILE] {
        let found = problems(&ENTRY.replace("own.onnx", name));
        assert!(found.len() == 1 && found[0].contains("file: must be a plain file name"), "{name}: {found:?}");
    }
}

#[test]
fn a_package_is_a_name_and_never_an_option_an_address_or_a_path() {
    let source = |index: &str, package: &str, version: &str, member: &str| {
        format!(
            "{ENTRY}[model.source]\nindex = \"{index}\"\npackage = \"{package}\"\nversion = \"{version}\"\n\
             sha256 = \"{}\"\nmember = \"{member}\"\n",
            "0".repeat(64)
        )
    };
    assert!(Registry::parse("test", &source("npm", "@scope/name", "1.0.0-rc.1", "package/a.onnx")).is_ok());
    assert!(Registry::parse("test", &source("pypi", "a_b.c-d", "2", "a.onnx")).is_ok());
    for package in ["-r", "--index-url=x", "a@git", "git+ssh", "../a", "./a", "file:a", "a b", "@a/b/c", "https://a"] {
        for index in ["npm", "pypi"] {
            let found = problems(&source(index, package, "1", "m"));
            assert!(found.len() == 1 && found[0].contains("source.package"), "{index} {package}: {found:?}");
        }
    }
    assert!(problems(&source("pypi", "@scope/name", "1", "m"))[0].contains("source.package"));
    for version in ["latest", ">1", "1 || 2", "^1", "npm:x", "-1"] {
        assert!(problems(&source("npm", "a", version, "m"))[0].contains("source.version"), "{version}");
    }
    for member in ["../m", "a/../m", "/m", "./m", "a//m"] {
        assert!(problems(&source("npm", "a", "1", member))[0].contains("source.member"), "{member}");
    }
}

#[test]
fn states_and_family_agree() {
    assert!(problems(&ENTRY.replace("still", "recurrent"))[0].contains("state: is missing"));
    let state = "[[model.state]]\ninput = \"i\"\noutput = \"o\"\n";
    assert!(problems(&format!("{ENTRY}{state}"))[0].contains("is for the family recurrent"));
    let recurrent = format!("{}{state}", ENTRY.replace("still", "recurrent"));
    let registry = Registry::parse("test", &recurrent).unwrap();
    assert_eq!(matte_spec(registry.by_name("own").unwrap()).states[0].initial, [1, 1, 1, 1]);
    let huge = format!("{recurrent}initial = [1, 9223372036854775807, 9]\n");
    assert!(problems(&huge)[0].contains("must be a small shape"));
}

const SOURCE: &str = r#"
[model.source]
index = "npm"
package = "p"
version = "1.0"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"#;

#[test]
fn what_a_conversion_left_out_is_never_needed() {
    let entry = |input: &str, multiple: u32| {
        let conversion = format!(
            "graph = \"g\"\nweights = [\"w\"]\n[model.source.conversion]\nblocked_layout = true\noutputs = []\n\
             inputs = [{{ node = \"in\", shape = [1, 3, \"h\", \"w\"], multiple_of = {multiple} }}]\n"
        );
        let fed = ENTRY.replace("size = [256, 144]", input);
        Registry::parse("test", &format!("{fed}{SOURCE}{conversion}"))
    };
    let free = |multiple| format!("long_side = 512\nmultiple_of = {multiple}");
    for (input, multiple) in [(free(8), 8), (free(16), 8), (free(1), 1), ("size = [256, 144]".to_owned(), 16)] {
        assert!(entry(&input, multiple).is_ok(), "{input}, {multiple}");
    }
    for (input, multiple) in [(free(8), 16), (free(1), 8), (free(8), 0), ("size = [256, 144]".to_owned(), 32)] {
        assert!(matches!(entry(&input, multiple), Err(RegistryError::Invalid { .. })), "{input}, {multiple}");
    }
}

#[test]
fn a_rewriting_says_of_what_file_it_is_and_what_is_kept() {
    let rewriting = |text: &str| format!("{ENTRY}{SOURCE}member = \"m.onnx\"\n[model.source.rewriting]\n{text}");
    let sha256 = format!("sha256 = \"{}\"\n", "0".repeat(64));
    let whole = format!("{sha256}changes = [\"half_pixel\"]\noutputs = [\"out\"]\n");
    let registry = Registry::parse("test", &rewriting(&whole)).unwrap();
    let content = &registry.by_name("own").unwrap().source.as_ref().unwrap().content;
    assert!(matches!(content, Content::Rewritten { rewriting, .. } if rewriting.outputs == ["out"]));
    for (text, wrong) in [
        ("outputs = [\"out\"]\n".to_owned(), "source.rewriting.sha256: "),
        (sha256.clone(), "source.rewriting.outputs: "),
        (format!("{sha256}outputs = [\"out\"]\nchanges = [\"magic\"]\n"), "unknown variant"),
    ] {
        assert!(problems(&rewriting(&text)).iter().any(|problem| problem.contains(wrong)), "{text}");
    }
    let graph = rewriting(&whole).replace("member = \"m.onnx\"", "graph = \"g\"");
    assert!(problems(&graph).iter().any(|problem| problem.contains("go without graph")));
}

#[test]
fn every_published_graph_is_an_entry_of_its_own() {
    let registry = Registry::builtin().unwrap();
    for entry in registry.models().iter().filter(|entry| entry.published.is_some()) {
        let plain = registry.by_name(entry.published.as_deref().unwrap()).unwrap();
        assert_eq!((plain.role, plain.in_default_set), (None, false), "{}", plain.name);
        assert_eq!(plain.source.as_ref().unwrap().package, entry.source.as_ref().unwrap().package);
        assert_ne!(plain.file, entry.file);
    }
    let dangling = with_file(&ENTRY.replace("family", "published = \"nothing\"\nfamily"));
    assert!(matches!(Registry::load(dangling.path()), Err(RegistryError::Invalid { .. })));
}

#[test]
fn an_operators_entry_is_added_takes_the_place_of_its_name_and_takes_its_role_over() {
    let new = ENTRY.replace("family", "role = \"light\"\nfamily");
    let replaced = ENTRY.replace("\"own\"", "\"u2net\"").replace("own.onnx", "mine.onnx");
    let dir = with_file(&format!("{new}{replaced}"));
    let registry = Registry::load(dir.path()).unwrap();
    assert_eq!(registry.for_role(Model::Light).unwrap().name, "own");
    assert!(registry.by_name("u2netp").is_some_and(|entry| entry.role.is_none()), "still there by its name");
    assert_eq!(registry.by_name("u2net").unwrap().file.name, "mine.onnx");
    assert!(registry.for_role(Model::Original).is_none(), "the new u2net says of no role");
    assert_eq!(registry.for_role(Model::Human).unwrap().name, "rvm");
    let names: std::collections::HashSet<_> = registry.models().iter().map(|entry| &entry.name).collect();
    assert_eq!(names.len(), registry.models().len());
}

#[test]
fn an_operators_entry_cannot_share_a_file_with_another_model_of_ours() {
    let dir = with_file(&ENTRY.replace("own.onnx", "u2net.onnx"));
    match Registry::load(dir.path()) {
        Err(RegistryError::Invalid { problems, .. }) => assert!(problems[0].to_string().contains("is also own's")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operators_runtime_takes_the_place_of_ours() {
    let dir = with_file(&format!(
        "[[runtime]]\nos = \"{}\"\narch = \"{}\"\nversion = \"9\"\nlicence = \"MIT\"\nfile = \"libown.so\"\nsha256 = \"{}\"\n",
        std::env::consts::OS,
        std::env::consts::ARCH,
        "0".repeat(64)
    ));
    let registry = Registry::load(dir.path()).unwrap();
    assert_eq!(registry.runtime_path(dir.path()), Some(dir.path().join("libown.so")));
    assert_eq!(registry.runtime().unwrap().source, None);
    // The GPU's is another one.
    assert_eq!(registry.gpu_runtime(), Registry::builtin().unwrap().gpu_runtime());
}

#[test]
fn a_registry_that_is_broken_is_an_error_and_one_that_is_not_there_is_none() {
    assert_eq!(Registry::load(Path::new("/nonexistent")).unwrap(), Registry::builtin().unwrap());
    let missing = Registry::load_file(Path::new("/nonexistent/registry.toml"));
    assert!(matches!(missing, Err(RegistryError::Read { .. })), "who names a file means it");
    let dir = with_file("[[model");
    assert!(matches!(Registry::load(dir.path()), Err(RegistryError::Syntax { .. })));
    let dir = with_file(&format!("#{}", "x".repeat(1 << 20)));
    assert!(matches!(Registry::load(dir.path()), Err(RegistryError::Read { .. })), "too large");
}

/// The generic way to run a model, as the engine does it: what is fed and read comes from the entry alone.
fn mattes(entry: &ModelEntry, model: &[u8], frames: &[Array]) -> Vec<Array> {
    let mut session = load(model);
    let mut states: Vec<_> = matte_spec(entry).states.iter().map(|state| Array::zeros(&state.initial)).collect();
    let ratio = Array { shape: vec![1], values: vec![1.0] };
    let mut outputs = vec![matte_spec(entry).output.matte.as_str()];
    outputs.extend(matte_spec(entry).states.iter().map(|state| state.output.as_str()));
    let mut mattes = Vec::new();
    for frame in frames {
        let mut inputs = vec![(entry.input.name.as_str(), frame)];
        inputs.extend(matte_spec(entry).states.iter().map(|state| state.input.as_str()).zip(&states));
        inputs.extend(matte_spec(entry).downsample_ratio.as_deref().map(|name| (name, &ratio)));
        let mut answers = run(&mut session, &inputs, &outputs).into_iter();
        mattes.extend(answers.next());
        states = answers.collect();
    }
    mattes
}

#[test]
fn the_human_model_runs_by_its_entry_and_remembers() {
    let registry = Registry::builtin().unwrap();
    let entry = registry.for_role(Model::Human).unwrap();
    let model = std::fs::read(entry.path(&models_dir())).expect("make has fetched the default models");
    assert_eq!(Sha256::of(&model), entry.file.sha256);
    // Sides that are no multiple of more than they must be.
    let InputSize::Free { multiple_of, .. } = entry.input.size else { panic!("RVM takes any size") };
    let [height, width] = [17, 21].map(|times| times * multiple_of as usize);
    let frame = Array::noise(&[1, 3, height, width]);
    let mattes = mattes(entry, &model, &[frame.clone(), frame.clone(), frame.clone()]);
    for matte in &mattes {
        assert_eq!(matte.shape, [1, 1, height, width]);
        assert!(matte.values.iter().all(|value| (0.0..=1.0).contains(value)));
    }
    assert!(mattes[0].max_difference(&mattes[1]) > 1e-4, "the second frame knows of the first");
}

#[test]
fn the_light_model_runs_by_its_entry() {
    let registry = Registry::builtin().unwrap();
    let entry = registry.for_role(Model::Light).unwrap();
    let model = std::fs::read(entry.path(&models_dir())).expect("make has fetched the default models");
    assert_eq!(Sha256::of(&model), entry.file.sha256);
    let InputSize::Fixed { width, height, .. } = entry.input.size else { panic!("U²-Net's size is fixed") };
    let mattes = mattes(entry, &model, &[Array::noise(&[1, 3, height as usize, width as usize])]);
    assert_eq!(mattes[0].shape, [1, 1, height as usize, width as usize]);
    assert!(mattes[0].values.iter().all(|value| (0.0..=1.0).contains(value)));
}

#[test]
fn a_free_model_is_installed_by_an_entry_and_gives_the_matte_it_promises() {
    let model = tiny::luma_threshold_model(0.5, 8.0);
    let dir = with_file(&tiny::registry_entry("tiny", Some(Model::Human), "tiny.onnx", &model));
    std::fs::write(dir.path().join("tiny.onnx"), &model).unwrap();
    let registry = Registry::load(dir.path()).unwrap();
    let entry = registry.for_role(Model::Human).unwrap();
    assert!(crate::fetch::is_installed(&entry.file, dir.path()).unwrap());

    let frame = Array::noise(&[1, 3, 7, 9]);
    let matte = mattes(entry, &std::fs::read(entry.path(dir.path())).unwrap(), std::slice::from_ref(&frame)).remove(0);
    assert_eq!(matte.shape, [1, 1, 7, 9]);
    for (index, alpha) in matte.values.iter().enumerate() {
        let luma: f32 = (0..3).map(|channel| tiny::LUMA[channel] * frame.values[channel * 63 + index]).sum();
        assert!((alpha - ((luma - 0.5) * 8.0).clamp(0.0, 1.0)).abs() < 1e-5, "pixel {index}");
    }
    assert_eq!(model, tiny::luma_threshold_model(0.5, 8.0), "the same bytes every time");
}
