//! Loss and accuracy on the train pairs, the test pairs and all of them.

use super::network::Network;
use serde::{Deserialize, Serialize};

/// Mean cross-entropy in nats, and the share of pairs whose label has the largest logit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Nats.
    pub loss: f64,
    /// Between 0 and 1.
    pub accuracy: f64,
}

/// Train and test are null where the split is not known, test also where every pair is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Over the pairs that were trained on.
    pub train: Option<Score>,
    /// Over the others.
    pub test: Option<Score>,
    /// Over all pairs of the grid that have a label; of products mod a prime, without those that have a 0.
    pub all: Score,
}

impl Scores {
    /// On pairs that were not trained on; on all pairs where nothing is known of the split.
    pub fn unseen(&self) -> Score {
        self.test.unwrap_or(self.all)
    }

    /// What [`Scores::unseen`] is about.
    pub fn unseen_name(&self) -> &'static str {
        if self.test.is_some() { "test pairs" } else { "all pairs" }
    }

    /// What [`Scores::seen`] is about.
    pub fn seen_name(&self) -> &'static str {
        if self.train.is_some() { "train pairs" } else { "all pairs" }
    }

    /// On pairs that were trained on; on all pairs where nothing is known of the split.
    pub fn seen(&self) -> Score {
        self.train.unwrap_or(self.all)
    }
}

/// Scores logits over the grid of a network.
pub struct Judge {
    labels: Vec<u32>,
    /// For every row of the grid whether it counts.
    graded: Vec<bool>,
    /// For every row of the grid whether it is trained on, where that is known.
    trained: Option<Vec<bool>>,
}

impl Judge {
    /// `trained_on` is in the order x * p + y of the task's own p*p pairs.
    pub fn new(network: &Network, trained_on: Option<&[bool]>) -> Self {
        let (n, elements) = (network.order(), &network.group.elements);
        let trained = trained_on.map(|trained| {
            let p = trained.len().isqrt();
            (0..n * n).map(|row| trained[elements[row / n] * p + elements[row % n]]).collect()
        });
        Self::of(network.labels(), vec![true; n * n], trained)
    }

    /// For a grid with these labels, of which those count that are `graded`.
    pub fn of(labels: Vec<u32>, graded: Vec<bool>, trained: Option<Vec<bool>>) -> Self {
        Self { labels, graded, trained }
    }

    /// The label of each pair of the grid.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Scores of logits [row, class].
    pub fn scores(&self, network: &Network, logits: &[f64]) -> Scores {
        let (losses, correct) = network.losses(logits, &self.labels);
        self.average(|row| (losses[row], correct[row]))
    }

    /// Scores of logits that depend on the label's index alone: [label, class].
    pub fn scores_by_label(&self, network: &Network, table: &[f64]) -> Scores {
        let labels: Vec<u32> = (0..network.order() as u32).collect();
        let (losses, correct) = network.losses(table, &labels);
        self.average(|row| (losses[self.labels[row] as usize], correct[self.labels[row] as usize]))
    }

    fn average(&self, of_row: impl Fn(usize) -> (f64, f64)) -> Scores {
        let over = |wanted: &dyn Fn(usize) -> bool| {
            let (mut sums, mut count) = ((0.0, 0.0), 0);
            for row in (0..self.labels.len()).filter(|&row| self.graded[row] && wanted(row)) {
                let (loss, correct) = of_row(row);
                sums = (sums.0 + loss, sums.1 + correct);
                count += 1;
            }
            (count > 0).then(|| Score { loss: sums.0 / count as f64, accuracy: sums.1 / count as f64 })
        };
        let part = |which: bool| self.trained.as_ref().and_then(|trained| over(&|row| trained[row] == which));
        let all = over(&|_| true).expect("a grid has pairs");
        Scores { train: part(true), test: part(false), all }
    }
}
