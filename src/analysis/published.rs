//! Measures of published networks: percentiles over the one-layer networks of Zhong et al. 2023, by attention rate.
//!
//! Source: `result/1l_fixedwidth.csv` of github.com/fjzzq2002/pizza, networks of one layer with shared vocabulary and a
//! validation accuracy of at least 99.9 % (p = 59, d_model 128, 20,000 epochs), in `assets/clock_pizza.csv`. Their attention
//! is 1 - rate + rate x softmax: at rate 0 it is constant, which gives Pizzas, and at rate 1 it is a transformer's, which
//! gives networks near the Clock. Only the networks without "=" are compared with: the authors measure those with "=" at
//! the position of b, on an input without "=" that they were not trained on (docs/analysis.md).

use std::sync::OnceLock;

const TABLE: &str = include_str!("../../assets/clock_pizza.csv");

/// A distribution over networks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// How many networks there are.
    pub networks: usize,
    /// The 5th, 25th, 50th, 75th and 95th percentile.
    pub values: [f64; 5],
}

impl Percentiles {
    /// "below the 5th percentile", "between the 25th and the 50th", "above the 95th".
    pub fn place(&self, value: f64) -> String {
        const NAMES: [&str; 5] = ["5th", "25th", "50th", "75th", "95th"];
        match self.values.iter().position(|&percentile| value < percentile) {
            Some(0) => "below the 5th".into(),
            Some(i) => format!("{} to {}", NAMES[i - 1], NAMES[i]),
            None => "above the 95th".into(),
        }
    }
}

/// The two ends of the attention rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ends {
    /// Rates below 0.1.
    pub pizza: Percentiles,
    /// Rates above 0.9.
    pub clock: Percentiles,
}

/// Returns percentiles of gradient symmetricity.
pub fn gradient_symmetricity() -> Ends {
    ends("gradient_symmetricity")
}

/// Returns percentiles of distance irrelevance.
pub fn distance_irrelevance() -> Ends {
    ends("distance_irrelevance")
}

/// Returns percentiles of circularity.
pub fn circularity() -> Ends {
    ends("circularity")
}

fn ends(measure: &str) -> Ends {
    type Row = (u32, f64, String, Percentiles);
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    let rows = ROWS.get_or_init(|| {
        TABLE.lines().skip(1).map(|line| row(line).expect("the table is part of the program")).collect()
    });
    let at = |rate: f64| {
        let is_wanted = |(equals, from, name, _): &&Row| *equals == 0 && *from == rate && name == measure;
        rows.iter().find(is_wanted).expect("every measure has every rate").3
    };
    Ends { pizza: at(0.0), clock: at(0.9) }
}

/// equals_token, rate_from, rate_to, networks, measure, p05, p25, p50, p75, p95
fn row(line: &str) -> Option<(u32, f64, String, Percentiles)> {
    let cells: Vec<&str> = line.split(',').collect();
    let [equals, from, _, networks, measure, percentiles @ ..] = &cells[..] else { return None };
    let values: Vec<f64> = percentiles.iter().map(|x| x.parse().ok()).collect::<Option<_>>()?;
    let percentiles = Percentiles { networks: networks.parse().ok()?, values: values.try_into().ok()? };
    Some((equals.parse().ok()?, from.parse().ok()?, measure.to_string(), percentiles))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measure_has_both_ends_in_rising_order() {
        for (ends, clock) in
            [(gradient_symmetricity(), 0.4831), (distance_irrelevance(), 0.8527), (circularity(), 0.991)]
        {
            assert_eq!(ends.clock.values[2], clock);
            for percentiles in [ends.pizza, ends.clock] {
                assert!(percentiles.values.windows(2).all(|pair| pair[0] <= pair[1]) && percentiles.networks > 200);
            }
        }
        let clock = gradient_symmetricity().clock;
        assert_eq!(
            (clock.place(0.1), clock.place(0.5), clock.place(0.9)),
            ("below the 5th".into(), "50th to 75th".into(), "above the 95th".into())
        );
    }
}
