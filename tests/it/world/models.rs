//! Models of a world: real weights where they were fetched to, or a free model whose matte is known.

use std::path::{Path, PathBuf};

use rotoless_contract::Model;
use rotoless_matting::registry::Registry;
use rotoless_matting::tiny;

/// The free model takes for subject what is brighter than this, of 1.
pub(crate) const THRESHOLD: f32 = 0.5;
/// A tenth of the range around it is soft.
pub(crate) const SLOPE: f32 = 10.0;

/// Where the set-up put weights and ONNX Runtime: `ROTOLESS_MODELS`, else `models` in the repository.
#[expect(clippy::disallowed_methods, reason = "make tells the tests where it put the models")]
pub(crate) fn fetched() -> PathBuf {
    match std::env::var("ROTOLESS_MODELS") {
        Ok(dir) => dir.into(),
        Err(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../models"),
    }
}

/// A models directory whose only weights are the free model's, in the role `light`.
pub(crate) fn install_free_model(dir: &Path) {
    let model = tiny::luma_threshold_model(THRESHOLD, SLOPE);
    let entry = tiny::registry_entry("bright", Some(Model::Light), "bright.onnx", &model);
    install(dir, "bright.onnx", &model, &entry);
}

/// The same, with another threshold in the role `human`.
pub(crate) fn install_two_free_models(dir: &Path) {
    let (light, human) = (tiny::luma_threshold_model(THRESHOLD, SLOPE), tiny::luma_threshold_model(0.7, SLOPE));
    let entries = [
        tiny::registry_entry("bright", Some(Model::Light), "bright.onnx", &light),
        tiny::registry_entry("brighter", Some(Model::Human), "brighter.onnx", &human),
    ];
    install(dir, "bright.onnx", &light, &entries.concat());
    std::fs::write(dir.join("brighter.onnx"), human).unwrap();
}

/// The same of the model whose mattes depend on all frames before.
pub(crate) fn install_lingering_model(dir: &Path) {
    let entry = tiny::lingering_entry("lingering", Some(Model::Light), "lingering.onnx");
    install(dir, "lingering.onnx", &tiny::lingering_model(), &entry);
}

fn install(dir: &Path, file: &str, model: &[u8], entry: &str) {
    std::fs::create_dir(dir).unwrap();
    let runtime = Registry::builtin().unwrap().runtime_path(&fetched()).expect("a runtime for this machine");
    assert!(runtime.is_file(), "{} is missing: run `make setup`", runtime.display());
    let runtime = runtime.canonicalize().unwrap();
    std::os::unix::fs::symlink(&runtime, dir.join(runtime.file_name().unwrap())).unwrap();
    std::fs::write(dir.join(file), model).unwrap();
    std::fs::write(dir.join("registry.toml"), entry).unwrap();
}
