//! What a second of a worker costs, as RunPod publishes it for workers that scale to zero
//! (`snippets/serverless-gpu-pricing-table.mdx` of runpod/docs at a900806, 2026-08-20). An estimate, never a bill.

/// Millionths of a dollar a second, by the management API's name of a GPU.
const PRICES: &[(u32, &[&str])] = &[
    (160, &["NVIDIA RTX A4000", "NVIDIA RTX A4500", "NVIDIA RTX 4000 Ada Generation"]),
    (190, &["NVIDIA L4", "NVIDIA RTX A5000", "NVIDIA GeForce RTX 3090"]),
    (310, &["NVIDIA GeForce RTX 4090"]),
    (340, &["NVIDIA RTX A6000", "NVIDIA A40"]),
    (530, &["NVIDIA L40", "NVIDIA L40S", "NVIDIA RTX 6000 Ada Generation"]),
    (760, &["NVIDIA A100 80GB PCIe", "NVIDIA A100-SXM4-80GB"]),
    (1110, &["NVIDIA RTX PRO 6000 Blackwell Server Edition", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"]),
    (1160, &["NVIDIA H100 80GB HBM3", "NVIDIA H100 PCIe", "NVIDIA H100 NVL"]),
    (1550, &["NVIDIA H200"]),
    (2400, &["NVIDIA B200"]),
];

/// Dollars an hour of one worker on the dearest of these GPUs; `None` where the price of one is not known.
pub(crate) fn an_hour<'a>(gpus: impl IntoIterator<Item = &'a str>) -> Option<f64> {
    let price = |gpu: &str| PRICES.iter().find(|(_, names)| names.contains(&gpu)).map(|(price, _)| *price);
    let mut dearest = None;
    for gpu in gpus {
        dearest = dearest.max(Some(price(gpu)?));
    }
    dearest.map(|millionths| f64::from(millionths) * 3600.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_that_of_the_dearest_gpu() {
        let hour = an_hour(["NVIDIA L4", "NVIDIA GeForce RTX 4090"]).unwrap();
        assert!((hour - 1.116).abs() < 1e-9, "{hour}");
        assert_eq!(an_hour(["NVIDIA L4", "AMD Instinct MI300X OAM"]), None);
        assert_eq!(an_hour([]), None);
    }
}
