//! Where the nodes of a network were placed. A provider that loads may still leave nodes to the processor, in silence.

use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};

use ort::AsPointer;
use ort::session::Session;
use ort::sys::{OrtEpAssignedNode, OrtEpAssignedSubgraph, OrtStatusPtr};

use crate::device::{Device, DeviceError};

/// Without this a session does not keep what [`check`] asks it for.
pub(super) const RECORD: &str = "session.record_ep_graph_assignment_info";

/// Operators over whole planes. Others, which reckon with shapes, are better off on the processor, and the runtime
/// places them there.
const HEAVY: [&str; 9] =
    ["AveragePool", "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "Resize", "Sigmoid", "Upsample"];

/// The nodes that one provider got.
#[derive(Debug, PartialEq, Eq)]
struct Placed {
    provider: String,
    operators: Vec<String>,
}

/// Whether the device got what it is there for. The outer error is the runtime's.
pub(super) fn check(session: &Session, device: Device, model: &str) -> Result<Result<(), DeviceError>, ort::Error> {
    Ok(judge(&placed(session)?, device, model))
}

fn judge(placed: &[Placed], device: Device, model: &str) -> Result<(), DeviceError> {
    let ours: &[&str] = match device {
        Device::Cpu => &["CPUExecutionProvider"],
        Device::Cuda(_) => &["CUDAExecutionProvider"],
        Device::TensorRt(_) => &["TensorrtExecutionProvider", "CUDAExecutionProvider"],
    };
    let elsewhere = placed.iter().filter(|part| !ours.contains(&part.provider.as_str()));
    let operators: BTreeSet<&String> =
        elsewhere.flat_map(|part| &part.operators).filter(|operator| HEAVY.contains(&operator.as_str())).collect();
    // A network of constants alone has no nodes at all; whatever has nodes must have some on the device.
    let has_first = placed.is_empty() || placed.iter().any(|part| ours.first() == Some(&part.provider.as_str()));
    if operators.is_empty() && has_first {
        return Ok(());
    }
    let operators = if has_first { operators.into_iter().cloned().collect() } else { vec!["all of it".to_owned()] };
    Err(DeviceError::LeftToProcessor { model: model.to_owned(), operators })
}

/// What the session says, provider by provider.
#[expect(unsafe_code, reason = "the crate has no safe call for it")]
fn placed(session: &Session) -> Result<Vec<Placed>, ort::Error> {
    let api = ort::api();
    // SAFETY: the session is alive, and the lists and names that come back belong to it and live as long.
    unsafe {
        let subgraphs: &[*const OrtEpAssignedSubgraph] =
            list(|first, count| (api.Session_GetEpGraphAssignmentInfo)(session.ptr(), first, count))?;
        let mut placed = Vec::with_capacity(subgraphs.len());
        for &subgraph in subgraphs {
            let provider = text(|out| (api.EpAssignedSubgraph_GetEpName)(subgraph, out))?;
            let nodes: &[*const OrtEpAssignedNode] =
                list(|first, count| (api.EpAssignedSubgraph_GetNodes)(subgraph, first, count))?;
            let operator = |&node: &_| text(|out| (api.EpAssignedNode_GetOperatorType)(node, out));
            placed.push(Placed { provider, operators: nodes.iter().map(operator).collect::<Result<_, _>>()? });
        }
        Ok(placed)
    }
}

/// # Safety
/// `call` gives a list that lives for `'a`, or an error.
#[expect(unsafe_code, reason = "the crate has no safe call for it")]
unsafe fn list<'a, T>(call: impl FnOnce(*mut *const T, *mut usize) -> OrtStatusPtr) -> Result<&'a [T], ort::Error> {
    let (mut first, mut count) = (std::ptr::null(), 0);
    // SAFETY: the status is the call's own; an empty list may have no first.
    unsafe {
        ort::Error::result_from_status(call(&raw mut first, &raw mut count))?;
        Ok(if first.is_null() { &[] } else { std::slice::from_raw_parts(first, count) })
    }
}

/// # Safety
/// `call` gives a C string, or an error.
#[expect(unsafe_code, reason = "the crate has no safe call for it")]
unsafe fn text(call: impl FnOnce(*mut *const c_char) -> OrtStatusPtr) -> Result<String, ort::Error> {
    let mut text = std::ptr::null();
    // SAFETY: the status is the call's own, and a string ends with a zero.
    unsafe {
        ort::Error::result_from_status(call(&raw mut text))?;
        if text.is_null() {
            return Err(ort::Error::new("a name is missing"));
        }
        Ok(CStr::from_ptr(text).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Network, Stored, open_device};
    use super::*;
    use crate::device::{Compute, Hardware};
    use crate::registry::Registry;
    use crate::test_runtime::models_dir;
    use crate::tiny;

    fn part(provider: &str, operators: &[&str]) -> Placed {
        let provider = format!("{provider}ExecutionProvider");
        Placed { provider, operators: operators.iter().map(|&operator| operator.to_owned()).collect() }
    }

    #[test]
    fn a_session_says_where_each_node_was_placed() {
        let hardware = Hardware::new(Compute::default(), 1, &models_dir());
        open_device(&Registry::builtin().unwrap(), &models_dir(), &hardware).unwrap();
        let stored = tiny::luma_threshold_model(0.5, 4.0);
        let Network { session, .. } = Network::load("tiny", Stored::Bytes(&stored, None), &hardware).unwrap();
        let placed = placed(&session).unwrap();
        assert!(placed.iter().all(|part| part.provider == "CPUExecutionProvider"), "{placed:?}");
        assert!(placed.iter().any(|part| part.operators.iter().any(|operator| operator == "Conv")), "{placed:?}");
        assert!(check(&session, Device::Cpu, "tiny").unwrap().is_ok());
        // What would be a silent fall back: the provider was asked for, and the processor got everything.
        assert!(matches!(
            check(&session, Device::Cuda(0), "tiny").unwrap(),
            Err(DeviceError::LeftToProcessor { model, .. }) if model == "tiny"
        ));
    }

    #[test]
    fn shapes_may_be_reckoned_by_the_processor_and_planes_may_not() {
        let light = [part("CUDA", &["Conv", "Resize"]), part("CPU", &["Shape", "Gather", "Concat"])];
        assert!(judge(&light, Device::Cuda(0), "m").is_ok());
        let heavy = [part("CUDA", &["Conv"]), part("CPU", &["Shape", "Resize", "Resize", "Conv"])];
        match judge(&heavy, Device::Cuda(0), "m") {
            Err(DeviceError::LeftToProcessor { operators, .. }) => assert_eq!(operators, ["Conv", "Resize"]),
            other => panic!("{other:?}"),
        }
        // TensorRT may leave to CUDA, but not everything.
        let shared = [part("Tensorrt", &["Conv"]), part("CUDA", &["Resize"])];
        assert!(judge(&shared, Device::TensorRt(0), "m").is_ok());
        assert!(judge(&[part("CUDA", &["Conv"])], Device::TensorRt(0), "m").is_err());
        assert!(judge(&shared, Device::Cpu, "m").is_err());
    }
}
