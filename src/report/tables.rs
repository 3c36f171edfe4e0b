//! Every table as CSV.

use crate::analysis::Findings;
use crate::analysis::certificate::Verdict;
use crate::analysis::scores::{Score, Scores};

type Row = Vec<String>;

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Fails => "fails",
        Verdict::Unknown => "unknown",
        Verdict::DoesNotApply => "does-not-apply",
    }
}

/// Name, and lines of the table with its header.
pub struct Table {
    /// File name without `.csv`.
    pub name: &'static str,
    /// Names of the columns.
    pub header: Row,
    /// As many cells each.
    pub rows: Vec<Row>,
}

impl Table {
    /// The text of a CSV file.
    pub fn to_csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in std::iter::once(&self.header).chain(&self.rows) {
            writer.write_record(row).expect("rows are as wide as their header");
        }
        let bytes = writer.into_inner().expect("memory takes what is written to it");
        String::from_utf8(bytes).expect("fields are text")
    }
}

const SPLITS: &[&str] = &["train_loss", "train_accuracy", "test_loss", "test_accuracy", "all_loss", "all_accuracy"];

/// The six numbers of scores; empty where a split has none.
fn six(scores: &Scores) -> Row {
    let two = |score: Option<Score>| {
        score.map_or([String::new(), String::new()], |score| [score.loss.to_string(), score.accuracy.to_string()])
    };
    [scores.train, scores.test, Some(scores.all)].into_iter().flat_map(two).collect()
}

/// A header of some columns, then loss and accuracy of the train, the test and all pairs.
pub fn losses_header(first: &[&str]) -> Row {
    first.iter().chain(SPLITS).map(|name| name.to_string()).collect()
}

/// A header of these columns alone.
pub fn plain(names: &[&str]) -> Row {
    names.iter().map(|name| name.to_string()).collect()
}

fn set(frequencies: &[usize]) -> String {
    frequencies.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
}

/// A row of a label and the scores; empty cells where nothing is known.
pub fn labelled(label: impl Into<String>, scores: &Scores) -> Row {
    std::iter::once(label.into()).chain(six(scores)).collect()
}

/// All tables of the findings.
pub fn tables(findings: &Findings) -> Vec<Table> {
    let neurons = &findings.neurons;
    let mut ablations = vec![labelled("as trained", &findings.scores)];
    for ablation in &findings.ablations {
        ablations.push(labelled(format!("{}, zeroed", ablation.path), &ablation.zeroed));
        ablations.extend(ablation.mean.as_ref().map(|mean| labelled(format!("{}, mean", ablation.path), mean)));
    }
    let attention = &findings.attention;
    ablations.extend([
        labelled("attention to =, zeroed", &attention.equals_zeroed),
        labelled("attention, sigmoid of the score difference", &attention.sigmoid),
        labelled("attention, line in the score difference", &attention.linear),
        labelled("attention, mean pattern", &attention.mean_pattern),
    ]);
    let embedding = &findings.embedding;
    let single = [("all keys", &embedding.all_keys), ("all doubles", &embedding.all_doubles)];
    let groups = [("key", &embedding.each_key), ("double", &embedding.each_double), ("random", &embedding.controls)];
    let removed =
        single.into_iter().chain(groups.into_iter().flat_map(|(kind, all)| all.iter().map(move |r| (kind, r))));
    let mut losses: Vec<Row> = Vec::new();
    let restricted = &findings.restricted;
    let places = [("logits", &restricted.logits), ("neurons", &restricted.neurons)];
    for (place, kind, loss) in places
        .into_iter()
        .flat_map(|(place, of)| {
            std::iter::once((place, "keys", &of.all)).chain(of.each.iter().map(move |loss| (place, "key", loss)))
        })
        .chain(restricted.controls.iter().map(|loss| ("logits", "random", loss)))
    {
        for (what, scores) in [("restricted", &loss.restricted), ("excluded", &loss.excluded)] {
            losses.push([plain(&[what, place, kind, &set(&loss.frequencies)]), six(scores)].concat());
        }
    }
    let components = findings.spectra.W_E.components.len();
    let part = |i: usize| {
        if i == 0 {
            "constant"
        } else if i % 2 == 1 {
            "cos"
        } else {
            "sin"
        }
    };
    let weights = &findings.effective_weights;
    let spectrum_row = |i: usize| {
        let mut row = vec![i.div_ceil(2).to_string(), part(i).into()];
        let all =
            [&findings.spectra.W_E, &findings.spectra.W_L].into_iter().chain(&weights.W_attn).chain(&weights.W_neur);
        row.extend(all.map(|spectrum| spectrum.components[i].to_string()));
        row
    };
    let heads = |name: &str| (0..weights.W_attn.len()).map(|h| format!("{name}_{h}")).collect::<Vec<_>>();
    let claims = &findings.certificate.claims;
    let (rotation, paths) = (&findings.rotation, &findings.paths);
    let optional = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let mut all = vec![
        Table {
            name: "neurons",
            header: plain(&["neuron", "frequency", "fve", "fires"]),
            rows: (0..neurons.fve.len())
                .map(|i| {
                    vec![
                        i.to_string(),
                        neurons.frequency[i].to_string(),
                        neurons.fve[i].to_string(),
                        neurons.fires[i].to_string(),
                    ]
                })
                .collect(),
        },
        Table {
            name: "clusters",
            header: plain(&["frequency", "neurons", "mean_fve", "mean_fires"]),
            rows: (neurons.clusters.iter())
                .map(|c| {
                    vec![
                        c.frequency.to_string(),
                        c.neurons.to_string(),
                        c.mean_fve.to_string(),
                        c.mean_fires.to_string(),
                    ]
                })
                .collect(),
        },
        Table {
            name: "contributions",
            header: [plain(&["frequency", "key", "contribution"]), paths.paths.clone()].concat(),
            rows: (findings.keys.contributions.iter().zip(&paths.contributions).enumerate())
                .map(|(i, (contribution, by_path))| {
                    let is_key = findings.key_frequencies.contains(&(i + 1));
                    let own = vec![(i + 1).to_string(), is_key.to_string(), contribution.to_string()];
                    own.into_iter().chain(by_path.iter().map(f64::to_string)).collect()
                })
                .collect(),
        },
        Table {
            name: "rotation",
            header: plain(&["plane", "component", "explained", "changed"]),
            rows: (rotation.planes.iter().enumerate())
                .flat_map(|(j, plane)| {
                    let cells = rotation.components.iter().enumerate();
                    cells.map(move |(k, component)| {
                        let values = (rotation.explained[j][k], rotation.changed[j][k]);
                        vec![plane.to_string(), component.to_string(), values.0.to_string(), values.1.to_string()]
                    })
                })
                .collect(),
        },
        Table {
            name: "coherence",
            header: plain(&["frequency", "neurons", "coherence", "angle", "permuted", "unrelated"]),
            rows: (findings.coherence.iter())
                .map(|c| {
                    let numbers = [c.coherence, c.angle, c.permuted, c.unrelated];
                    let counts = [c.frequency.to_string(), c.neurons.to_string()];
                    counts.into_iter().chain(numbers.iter().map(f64::to_string)).collect()
                })
                .collect(),
        },
        Table { name: "ablations", header: losses_header(&["what"]), rows: ablations },
        Table {
            name: "embedding-ablations",
            header: losses_header(&["kind", "frequencies"]),
            rows: removed.map(|(kind, r)| [plain(&[kind, &set(&r.frequencies)]), six(&r.scores)].concat()).collect(),
        },
        Table { name: "restricted", header: losses_header(&["what", "at", "kind", "frequencies"]), rows: losses },
        Table {
            name: "spectra",
            header: [plain(&["frequency", "part", "W_E", "W_L"]), heads("W_attn"), heads("W_neur")].concat(),
            rows: (0..components).map(spectrum_row).collect(),
        },
        Table {
            name: "directions",
            header: plain(&["frequency", "alpha", "u_norm", "v_norm", "u_explained", "v_explained"]),
            rows: (findings.logits.directions.iter())
                .map(|d| {
                    let numbers = [findings.logits.alpha[d.frequency - 1], d.u_norm, d.v_norm, d.u_explained];
                    let numbers = numbers.iter().map(f64::to_string);
                    std::iter::once(d.frequency.to_string()).chain(numbers).chain([optional(d.v_explained)]).collect()
                })
                .collect(),
        },
        Table {
            name: "certificate",
            header: plain(&[
                "kind",
                "claim",
                "measure",
                "value",
                "at_least",
                "at_most",
                "control",
                "control_value",
                "passed",
                "verdict",
            ]),
            rows: (claims.iter())
                .map(|c| {
                    let control = c.control.as_ref();
                    vec![
                        format!("{:?}", c.kind).to_lowercase(),
                        c.claim.clone(),
                        c.measure.clone(),
                        optional(c.value),
                        optional(c.expected.at_least),
                        optional(c.expected.at_most),
                        control.map_or(String::new(), |control| control.what.clone()),
                        optional(control.and_then(|control| control.value)),
                        c.passed.to_string(),
                        verdict(c.verdict).into(),
                    ]
                })
                .collect(),
        },
    ];
    if let Some(progress) = &findings.progress {
        let tensors: Vec<String> = findings.squares.tensors.keys().map(|name| format!("squares_{name}")).collect();
        let first = ["step", "restricted_test_loss", "excluded_train_loss", "gini_W_E", "gini_W_L"];
        let rows = progress.checkpoints.iter().map(|row| {
            let measures = [
                row.step.to_string(),
                optional(row.restricted.map(|scores| scores.unseen().loss)),
                optional(row.excluded.map(|scores| scores.seen().loss)),
                row.W_E.gini.to_string(),
                row.W_L.gini.to_string(),
            ];
            let squares = row.squares.tensors.values().map(f64::to_string);
            measures.into_iter().chain(six(&row.scores)).chain(squares).collect()
        });
        all.push(Table { name: "progress", header: [losses_header(&first), tensors].concat(), rows: rows.collect() });
    }
    all
}
