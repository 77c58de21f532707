//! ONNX Runtime for the unit tests: models in, numbers out. The set-up of `make test` fetches the library; a test that
//! does not find it fails.

use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;

use crate::registry::Registry;

/// Shape and values, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Array {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Array {
    /// Values in 0..1 that look random and are the same every time.
    pub(crate) fn noise(shape: &[usize]) -> Self {
        let mut state = 0x2545_f491u32;
        let values = (0..shape.iter().product()).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        });
        Self { values: values.collect(), shape: shape.to_vec() }
    }

    pub(crate) fn zeros(shape: &[usize]) -> Self {
        Self { values: vec![0.0; shape.iter().product()], shape: shape.to_vec() }
    }

    pub(crate) fn max_difference(&self, other: &Self) -> f32 {
        assert_eq!(self.shape, other.shape);
        self.values.iter().zip(&other.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    }
}

/// `ROTOLESS_MODELS`, else `models` in the repository.
#[expect(clippy::disallowed_methods, reason = "make tells the tests where it put the models")]
pub(crate) fn models_dir() -> PathBuf {
    match std::env::var("ROTOLESS_MODELS") {
        Ok(dir) => dir.into(),
        Err(_) => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models"),
    }
}

fn environment() -> Environment {
    let path = Registry::builtin().unwrap().runtime_path(&models_dir()).unwrap();
    assert!(path.is_file(), "{} is missing: run `rotoless models fetch`, or `make test`", path.display());
    // The engine's own: a process has one.
    crate::model::runtime_for_tests(&path)
}

/// A session on one thread.
pub(crate) fn load(model: &[u8]) -> Session {
    let mut builder = Session::builder(&environment()).unwrap().with_intra_threads(1).unwrap();
    builder.commit_from_memory(model).unwrap()
}

/// Runs once; gives the named outputs.
pub(crate) fn run(session: &mut Session, inputs: &[(&str, &Array)], outputs: &[&str]) -> Vec<Array> {
    let inputs: Vec<(String, SessionInputValue<'_>)> = inputs
        .iter()
        .map(|(name, array)| {
            let tensor = Tensor::from_array((array.shape.clone(), array.values.clone())).unwrap();
            ((*name).to_owned(), tensor.into())
        })
        .collect();
    let answers = session.run(inputs).unwrap();
    let array = |name: &&str| {
        let (shape, values) = answers[*name].try_extract_tensor::<f32>().unwrap();
        Array { shape: shape.iter().map(|side| *side as usize).collect(), values: values.to_vec() }
    };
    outputs.iter().map(array).collect()
}
