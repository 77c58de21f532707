//! Loops over pixels, compiled for the widest vectors that the processor has.
//!
//! A program for x86-64 may use nothing beyond SSE2 unless it asks first. [`widest`] asks, and runs what it is given as
//! compiled for AVX2 where there is AVX2. The results are the same to the bit: integers are integers, and a floating
//! point operation is rounded on its own whatever the vector's width; multiply-add, which rounds once for two, is not
//! among what is enabled, and Rust contracts nothing by itself. Elsewhere (NEON is in every arm64) nothing needs asking.

/// Runs `work`. Mark the closure, and what it calls for each pixel or row, `#[inline(always)]`: what is a function of its
/// own stays compiled for the least processor.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if has_avx2() {
        #[target_feature(enable = "avx2")]
        fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: the processor was just asked whether it has AVX2.
        #[expect(unsafe_code, reason = "calling what is compiled for more than the least processor")]
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn has_avx2() -> bool {
    #[cfg(test)]
    if tests::IS_PLAIN.get() {
        return false;
    }
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        pub(super) static IS_PLAIN: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `work` as on a processor that has nothing but what every one of its kind has.
    pub(crate) fn plain<R>(work: impl FnOnce() -> R) -> R {
        let before = IS_PLAIN.replace(true);
        let result = work();
        IS_PLAIN.set(before);
        result
    }

    #[test]
    fn what_can_be_contracted_is_not() {
        // The product has more bits than fit: kept whole until the sum, it gives another result.
        let one = 1.0_f32 + f32::EPSILON;
        let factors: [f32; 64] = std::array::from_fn(|n| one + n as f32 * f32::EPSILON);
        let sums = || {
            let mut sums = [0.0_f32; 64];
            widest(
                #[inline(always)]
                || sums.iter_mut().zip(&factors).for_each(|(sum, factor)| *sum = factor * factor - 1.0),
            );
            sums.map(f32::to_bits)
        };
        assert_eq!(sums(), plain(sums));
        assert_ne!(sums()[1], factors[1].mul_add(factors[1], -1.0).to_bits());
    }
}
