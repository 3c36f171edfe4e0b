//! Random numbers, drawn on the host so that every device starts from the same bits.
//!
//! Philox4x32-10 (Salmon et al. 2011): a counter in, four words out, nothing to carry along. Counter word 3 is the
//! purpose: 0 for splits, 1 for initial weights, 2 for random labels.

/// A generator with its key; drawing does not change it.
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The seed's two halves are the key.
    pub fn new(seed: u64) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The four words at a counter.
    pub fn block(&self, counter: [u32; 4]) -> [u32; 4] {
        let [mut c0, mut c1, mut c2, mut c3] = counter;
        let [mut k0, mut k1] = self.key;
        for _ in 0..10 {
            let a = 0xD251_1F53_u64 * c0 as u64;
            let b = 0xCD9E_8D57_u64 * c2 as u64;
            (c0, c1, c2, c3) = ((b >> 32) as u32 ^ c1 ^ k0, b as u32, (a >> 32) as u32 ^ c3 ^ k1, a as u32);
            (k0, k1) = (k0.wrapping_add(0x9E37_79B9), k1.wrapping_add(0xBB67_AE85));
        }
        [c0, c1, c2, c3]
    }

    /// Standard normal number `index` of stream `stream`: Box and Muller on two 53-bit uniforms of the block at counter
    /// (index / 2, 0, stream, 1). In float64 with functions that are the same on every platform.
    pub fn normal(&self, stream: u32, index: usize) -> f64 {
        let [a, b, c, d] = self.block([(index / 2) as u32, 0, stream, 1]);
        let uniform = |low: u32, high: u32| (((high as u64) << 32 | low as u64) >> 11) as f64 / (1u64 << 53) as f64;
        // 1 - u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - uniform(a, b))).sqrt();
        let angle = 2.0 * std::f64::consts::PI * uniform(c, d);
        radius * if index.is_multiple_of(2) { libm::cos(angle) } else { libm::sin(angle) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that Random123 ships for philox4x32-10.
    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(Philox::new(0).block([0; 4]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(Philox::new(u64::MAX).block([u32::MAX; 4]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let counter = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
        let key = 0xa4093822 | 0x299f31d0 << 32;
        assert_eq!(Philox::new(key).block(counter), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let philox = Philox::new(7);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|i| philox.normal(2, i)).collect();
        let mean = draws.iter().sum::<f64>() / n as f64;
        let variance = draws.iter().map(|x| x * x).sum::<f64>() / n as f64;
        // Five standard errors: 1/sqrt(n) of the mean, sqrt(2/n) of the variance.
        assert!(mean.abs() < 5.0 / (n as f64).sqrt() && (variance - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt());
        let lag: f64 = draws.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n as f64;
        assert!(lag.abs() < 5.0 / (n as f64).sqrt());
    }
}
