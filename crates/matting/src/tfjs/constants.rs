//! Constants: their reading, and the change of their axes.

use crate::onnx_writer::{Data, Tensor};

/// The tensor with its axes in the order of `axes`, as in NumPy's `transpose`.
///
/// `axes` must be a permutation of the tensor's axes.
pub(super) fn transposed(tensor: &Tensor, axes: &[usize]) -> Tensor {
    let mut strides = vec![1; tensor.shape.len()];
    for axis in (1..strides.len()).rev() {
        strides[axis - 1] = strides[axis] * tensor.shape[axis];
    }
    let shape: Vec<usize> = axes.iter().map(|axis| tensor.shape[*axis]).collect();
    let strides: Vec<usize> = axes.iter().map(|axis| strides[*axis]).collect();
    let data = match &tensor.data {
        Data::F32(values) => Data::F32(gather(values, &shape, &strides)),
        Data::I64(values) => Data::I64(gather(values, &shape, &strides)),
    };
    Tensor { shape, data }
}

fn gather<T: Copy>(values: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let mut gathered = Vec::with_capacity(values.len());
    let mut position = vec![0; shape.len()];
    let mut offset = 0;
    for _ in 0..values.len() {
        gathered.push(values[offset]);
        for axis in (0..shape.len()).rev() {
            position[axis] += 1;
            offset += strides[axis];
            if position[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            position[axis] = 0;
        }
    }
    gathered
}

/// The form in which a constant meets pictures that are kept as planes: TensorFlow lines shapes up at the channels, so
/// a list is one value per channel.
pub(super) fn as_planes(tensor: &Tensor) -> Option<Tensor> {
    match tensor.shape.len() {
        0 => Some(tensor.clone()),
        rank @ 1..=4 => {
            let mut shape = vec![1; 4 - rank];
            shape.extend(&tensor.shape);
            Some(transposed(&Tensor { shape, data: tensor.data.clone() }, &[0, 3, 1, 2]))
        }
        _ => None,
    }
}

/// Integers of a tensor, whatever its shape.
pub(super) fn integers(tensor: &Tensor) -> Option<&[i64]> {
    match &tensor.data {
        Data::I64(values) => Some(values),
        Data::F32(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_move_as_numpy_moves_them() {
        let tensor = Tensor { shape: vec![2, 1, 3], data: Data::I64(vec![0, 1, 2, 3, 4, 5]) };
        let moved = transposed(&tensor, &[2, 0, 1]);
        assert_eq!(moved, Tensor { shape: vec![3, 2, 1], data: Data::I64(vec![0, 3, 1, 4, 2, 5]) });
    }

    #[test]
    fn a_list_is_one_value_per_channel() {
        let planes = as_planes(&Tensor::floats(&[1.0, 2.0])).unwrap();
        assert_eq!(planes.shape, [1, 2, 1, 1]);
        let column = Tensor { shape: vec![2, 1], data: Data::I64(vec![7, 8]) };
        assert_eq!(as_planes(&column).unwrap().shape, [1, 1, 1, 2], "[width, channels]");
    }
}
