//! Every figure of the page, from findings and pictures.

use super::heat::Palette;
use super::scale::Scale;
use super::svg::{self, Axis, Figure, Look, Mark, Plane, Series};
use crate::analysis::Findings;
use crate::analysis::pictures::Pictures;
use crate::analysis::progress::{Measures, Progress};
use crate::analysis::scores::Scores;
use crate::analysis::spectrum::Spectrum;

/// The figures by section of the article.
pub struct Figures {
    /// Loss and accuracy over training.
    pub curves: Vec<Figure>,
    /// What each frequency contributes to the correct logit.
    pub keys: Vec<Figure>,
    /// Planes of W_E by components of the logits, and contributions by path.
    pub causes: Vec<Figure>,
    /// Each head's weight on x over (x, y), and the mean weights.
    pub attention: Vec<Figure>,
    /// Losses with simpler patterns in the place of the attention.
    pub simpler_attention: Vec<Figure>,
    /// Losses with a path of the residual stream taken out.
    pub skips: Vec<Figure>,
    /// Losses of the exact composition and of the simplified equations.
    pub equations: Vec<Figure>,
    /// Spectra of W_attn, W_neur and W_logit.
    pub effective: Vec<Figure>,
    /// Spectrum of W_E, accuracy lost without its frequencies, the circles of W_E and W_U at each key.
    pub embedding: Vec<Figure>,
    /// Neurons' activations and coefficients.
    pub neurons: Vec<Figure>,
    /// Neurons by frequency.
    pub clusters: Vec<Figure>,
    /// alpha_k, and the mean logit by class minus label beside the formula.
    pub logits: Vec<Figure>,
    /// Restricted and excluded loss, Gini coefficients and sums of squared weights over training.
    pub progress: Vec<Figure>,
    /// Measures of Clock or Pizza.
    pub pizza: Vec<Figure>,
    /// The figures that follow the slider and the choice of neuron.
    pub explorer: Vec<Figure>,
    /// Steps that the explorer's slider has.
    pub frames: usize,
    /// The neuron that it shows first.
    pub first_neuron: usize,
}

impl Figures {
    /// Draws all of them.
    pub fn new(findings: &Findings, pictures: &Pictures) -> Self {
        Self {
            curves: findings.progress.as_ref().map_or(Vec::new(), curves),
            keys: vec![super::keys::figure(findings)],
            causes: super::causes::figures(findings),
            attention: attention(findings, pictures),
            simpler_attention: vec![simpler_attention(findings)],
            skips: vec![skips(findings)],
            equations: vec![equations(findings)],
            effective: effective(findings),
            embedding: embedding(findings, pictures),
            neurons: neurons(findings, pictures),
            clusters: clusters(findings),
            logits: logits(findings, pictures),
            progress: findings.progress.as_ref().map_or(Vec::new(), progress),
            pizza: super::pizza::figures(findings),
            explorer: explorer(findings, pictures),
            frames: pictures.frames.len(),
            first_neuron: pictures.tracked[0],
        }
    }

    /// All of them, in the order of the page.
    pub fn all(&self) -> impl Iterator<Item = &Figure> {
        let sections = [
            &self.curves,
            &self.keys,
            &self.causes,
            &self.attention,
            &self.simpler_attention,
            &self.skips,
            &self.equations,
        ];
        let more = [&self.effective, &self.embedding, &self.neurons, &self.clusters, &self.logits, &self.progress];
        sections.into_iter().chain(more).chain([&self.pizza, &self.explorer]).flatten()
    }
}

/// Colour and shape of a key frequency, the same in every figure; the last ones are for what is no key.
pub fn colour_of(keys: &[usize], k: usize) -> usize {
    keys.iter().position(|&key| key == k).map_or(svg::COLOURS - 1, |i| i % (svg::COLOURS - 1))
}

/// What a map over pairs has along its axes.
fn tokens(findings: &Findings) -> Plane {
    if findings.model.order == findings.model.p { Plane::Tokens } else { Plane::Logarithms }
}

/// A line of the palette's given colour.
pub fn line(name: &str, colour: usize, points: impl Iterator<Item = (f64, f64)>) -> Series {
    Series { name: name.into(), colour, points: points.collect(), look: Look::Line }
}

fn values(series: &[Series]) -> impl Iterator<Item = f64> + Clone {
    series.iter().flat_map(|series| series.points.iter().map(|point| point.1))
}

fn steps(progress: &Progress) -> Axis<'static> {
    let last = progress.checkpoints.last().map_or(1, |row| row.step);
    Axis { name: "step (updates)", scale: Scale::linear(0.0, last as f64) }
}

/// Where the phases begin and end.
pub fn phase_names(progress: &Progress) -> Vec<(&'static str, u64)> {
    let phases = &progress.phases;
    let found = [
        ("circuit formation begins", phases.circuit_formation),
        ("cleanup begins", phases.cleanup),
        ("cleanup has ended", phases.end),
    ];
    found.into_iter().filter_map(|(name, step)| Some((name, step?))).collect()
}

fn marks(progress: &Progress) -> Vec<Mark> {
    phase_names(progress).iter().map(|(name, step)| Mark { at: *step as f64, name: name.to_string() }).collect()
}

/// A curve over the checkpoints where `of` gives a value at each.
fn over_steps(progress: &Progress, name: &str, colour: usize, of: impl Fn(&Measures) -> Option<f64>) -> Series {
    line(name, colour, progress.checkpoints.iter().filter_map(|row| Some((row.step as f64, of(row)?))))
}

fn curves(progress: &Progress) -> Vec<Figure> {
    let train = |row: &Measures| row.scores.train;
    let test = |row: &Measures| row.scores.test;
    let losses = [
        over_steps(progress, "train", 0, |row| Some(train(row)?.loss)),
        over_steps(progress, "test", 1, |row| Some(test(row)?.loss)),
    ];
    let accuracies = [
        over_steps(progress, "train", 0, |row| Some(train(row)?.accuracy)),
        over_steps(progress, "test", 1, |row| Some(test(row)?.accuracy)),
    ];
    let loss = Axis { name: "loss (nats)", scale: Scale::log_over(values(&losses)) };
    let share = Axis { name: "accuracy (share)", scale: Scale::linear(0.0, 1.0) };
    vec![
        svg::chart("loss", "Loss through training", steps(progress), loss, &losses, &marks(progress)),
        svg::chart("accuracy", "Accuracy through training", steps(progress), share, &accuracies, &marks(progress)),
    ]
}

fn attention(findings: &Findings, pictures: &Pictures) -> Vec<Figure> {
    let map = |(head, values): (usize, &Vec<f64>)| {
        let (name, title) = (format!("attention-{head}"), format!("Head {head}: attention from = to x"));
        svg::map(&name, &title, values, pictures.n, Palette::Sequential, tokens(findings), "weight (share)")
    };
    let mut all: Vec<Figure> = pictures.attention.iter().enumerate().map(map).collect();
    let of_head = |(i, head): (usize, &crate::analysis::attention::Head)| {
        (format!("head {i}"), head.mean.iter().map(|&x| Some(x)).collect())
    };
    let rows: Vec<_> = findings.attention.heads.iter().enumerate().map(of_head).collect();
    let share = Axis { name: "mean weight (share)", scale: Scale::linear(0.0, 1.0) };
    all.push(svg::named_bars("attention-means", "Mean attention from =", share, &rows, &["to x", "to y", "to ="]));
    all
}

/// Losses on the pairs not trained on, on an axis from the smallest of them.
fn loss_bars(
    findings: &Findings,
    name: &str,
    title: &str,
    rows: Vec<(String, Vec<Option<f64>>)>,
    series: &[&str],
) -> Figure {
    let axis = format!("loss on {} (nats)", findings.scores.unseen_name());
    let all = rows.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    // Room below the smallest, so that its bar can be seen.
    let smallest = all.clone().filter(|&x| x > 0.0).fold(f64::INFINITY, f64::min) / 3.0;
    let scale = Scale::log_over(all.chain(smallest.is_finite().then_some(smallest)).collect::<Vec<_>>().into_iter());
    svg::named_bars(name, title, Axis { name: &axis, scale }, &rows, series)
}

fn unseen(scores: &Scores) -> Option<f64> {
    Some(scores.unseen().loss)
}

fn simpler_attention(findings: &Findings) -> Figure {
    let attention = &findings.attention;
    let rows = [
        ("as trained", &findings.scores),
        ("\"=\" zeroed", &attention.equals_zeroed),
        ("sigmoid of difference", &attention.sigmoid),
        ("line in difference", &attention.linear),
        ("mean pattern", &attention.mean_pattern),
    ];
    let rows = rows.into_iter().map(|(name, scores)| (name.to_string(), vec![unseen(scores)])).collect();
    loss_bars(findings, "attention-simplified", "Simpler attention", rows, &["loss"])
}

fn skips(findings: &Findings) -> Figure {
    let mut rows = vec![("as trained".to_string(), vec![unseen(&findings.scores), None])];
    rows.extend(findings.ablations.iter().map(|ablation| {
        (ablation.path.clone(), vec![unseen(&ablation.zeroed), ablation.mean.as_ref().and_then(unseen)])
    }));
    loss_bars(findings, "skips", "Paths taken away", rows, &["zeroed", "mean in its place"])
}

fn equations(findings: &Findings) -> Figure {
    let weights = &findings.effective_weights;
    let rows = [
        ("network", &findings.scores),
        ("exact composition", &weights.exact.scores),
        ("simplified, b_out W_U", &weights.simplified.scores),
        ("simplified, mean kept", &weights.simplified_mean_restored.scores),
    ];
    let rows = rows.into_iter().map(|(name, scores)| (name.to_string(), vec![unseen(scores)])).collect();
    loss_bars(findings, "equations", "The three equations", rows, &["loss"])
}

/// Bars of the cosine and sine components of every frequency.
fn spectrum(name: &str, title: &str, spectrum: &Spectrum, y: &str) -> Figure {
    let tallest = spectrum.components[1..].iter().copied().fold(0.0, f64::max);
    spectrum_up_to(name, title, spectrum, y, tallest)
}

/// The same on an axis with room for `tallest`.
fn spectrum_up_to(name: &str, title: &str, spectrum: &Spectrum, y: &str, tallest: f64) -> Figure {
    let frequencies = spectrum.components.len() / 2;
    let of = |offset: usize| {
        let value = move |k: usize| Some((k as f64, *spectrum.components.get(2 * k - 1 + offset)?));
        (1..=frequencies).filter_map(value).collect::<Vec<_>>()
    };
    let series = [
        Series { name: "cos".into(), colour: 0, points: of(0), look: Look::Bars },
        Series { name: "sin".into(), colour: 1, points: of(1), look: Look::Bars },
    ];
    let x = Axis { name: "frequency k", scale: Scale::linear(0.0, frequencies as f64 + 1.0) };
    let y = Axis { name: y, scale: Scale::linear_over(std::iter::once(tallest)) };
    svg::chart(name, title, x, y, &series, &[])
}

fn effective(findings: &Findings) -> Vec<Figure> {
    let weights = &findings.effective_weights;
    let of_heads = |name: &str, spectra: &[Spectrum]| {
        let of_head = |(head, s): (usize, &Spectrum)| {
            let file = format!("spectrum-{}-{head}", name.to_lowercase().replace('_', "-"));
            spectrum(&file, &format!("{name}, head {head}"), s, "norm of component")
        };
        spectra.iter().enumerate().map(of_head).collect::<Vec<_>>()
    };
    let mut all = of_heads("W_attn", &weights.W_attn);
    all.extend(of_heads("W_neur", &weights.W_neur));
    all.push(spectrum("spectrum-w-logit", "W_logit, along the classes", &findings.spectra.W_L, "norm of component"));
    all
}

fn embedding(findings: &Findings, pictures: &Pictures) -> Vec<Figure> {
    let mut all = vec![spectrum("spectrum-w-e", "W_E, along the tokens", &findings.spectra.W_E, "norm of component")];
    let ablations = &findings.embedding;
    let list = |frequencies: &[usize]| frequencies.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let lost = |scores: &Scores| Some(findings.scores.unseen().accuracy - scores.unseen().accuracy);
    let mut rows = vec![("all keys".to_string(), vec![lost(&ablations.all_keys.scores)])];
    rows.extend(ablations.each_key.iter().map(|r| (format!("key {}", list(&r.frequencies)), vec![lost(&r.scores)])));
    if ablations.each_double.len() > 1 {
        rows.push(("all doubles".into(), vec![lost(&ablations.all_doubles.scores)]));
    }
    let each = ablations.each_double.iter();
    rows.extend(each.map(|r| (format!("double {}", list(&r.frequencies)), vec![lost(&r.scores)])));
    let random = ablations.controls.iter();
    rows.extend(random.map(|r| (format!("random {}", list(&r.frequencies)), vec![lost(&r.scores)])));
    let axis = format!("accuracy lost on {} (share)", findings.scores.unseen_name());
    let share = Axis { name: &axis, scale: Scale::linear(0.0, 1.0) };
    all.push(svg::named_bars("embedding-ablations", "Frequencies taken out of W_E", share, &rows, &["lost"]));
    let Some(last) = pictures.frames.last() else { return all };
    let n = pictures.n;
    for (i, &k) in findings.key_frequencies.iter().enumerate() {
        let places = |all: &[f64]| all[i * 2 * n..][..2 * n].to_vec();
        let (tokens, classes) = (places(&last.embed), places(&last.unembed));
        all.push(svg::circle(
            &format!("embed-{k}"),
            &format!("W_E at frequency {k}"),
            &tokens,
            k,
            "token",
            &pictures.elements,
        ));
        all.push(svg::circle(
            &format!("unembed-{k}"),
            &format!("W_U at frequency {k}"),
            &classes,
            k,
            "class",
            &pictures.elements,
        ));
    }
    all
}

/// A tracked neuron over the pairs and in the 2D basis. Names and titles are those of the two maps.
fn neuron_maps(findings: &Findings, pictures: &Pictures, place: usize, maps: [(&str, &str); 2]) -> [Figure; 2] {
    let (activation, plane, n) = (&pictures.activations[place], &pictures.planes[place], pictures.n);
    let [(over_pairs, first), (in_basis, second)] = maps;
    [
        svg::map(over_pairs, first, activation, n, Palette::Sequential, tokens(findings), "activation"),
        svg::map(in_basis, second, plane, n, Palette::Diverging, Plane::Components, "coefficient"),
    ]
}

fn neurons(findings: &Findings, pictures: &Pictures) -> Vec<Figure> {
    let neurons = &findings.neurons;
    let of_neuron = |(place, &neuron): (usize, &usize)| {
        let title = format!("Neuron {neuron} (k = {}, FVE {:.2})", neurons.frequency[neuron], neurons.fve[neuron]);
        let in_basis = format!("Neuron {neuron} in the 2D Fourier basis");
        let names = [format!("neuron-{neuron}"), format!("neuron-{neuron}-spectrum")];
        neuron_maps(findings, pictures, place, [(&names[0], &title), (&names[1], &in_basis)])
    };
    let mut all: Vec<Figure> = pictures.tracked.iter().enumerate().flat_map(of_neuron).collect();
    all.push(svg::map(
        "neurons-mean-spectrum",
        "All neurons: mean magnitude in the basis",
        &pictures.mean_plane,
        pictures.n,
        Palette::Sequential,
        Plane::Components,
        "mean of |coefficient|",
    ));
    all.push(svg::map(
        "neurons-mean-power",
        "All neurons: mean power in the basis",
        &pictures.power_plane,
        pictures.n,
        Palette::Sequential,
        Plane::Components,
        "mean of coefficient^2",
    ));
    all
}

fn clusters(findings: &Findings) -> Vec<Figure> {
    let (neurons, keys) = (&findings.neurons, &findings.key_frequencies);
    let mut order: Vec<usize> = (0..neurons.fve.len()).collect();
    order.sort_by(|&a, &b| neurons.fve[b].total_cmp(&neurons.fve[a]));
    // Frequencies that are no keys share one look.
    let mut groups: Vec<(String, usize, Vec<usize>)> = Vec::new();
    for &k in keys {
        let of = order.iter().copied().filter(|&i| neurons.frequency[i] == k).collect();
        groups.push((format!("k = {k}"), colour_of(keys, k), of));
    }
    let others: Vec<usize> = order.iter().copied().filter(|&i| !keys.contains(&neurons.frequency[i])).collect();
    groups.push(("other".into(), svg::COLOURS - 1, others));
    groups.retain(|(_, _, of)| !of.is_empty());
    let series = |place: &dyn Fn(usize) -> (f64, f64)| -> Vec<Series> {
        let one = |(name, colour, of): &(String, usize, Vec<usize>)| Series {
            name: name.clone(),
            colour: *colour,
            points: of.iter().map(|&i| place(i)).collect(),
            look: Look::Points,
        };
        groups.iter().map(one).collect()
    };
    // One cluster after the other, so that none hides another.
    let mut rank = vec![0; order.len()];
    groups.iter().flat_map(|(_, _, of)| of).enumerate().for_each(|(place, &neuron)| rank[neuron] = place + 1);
    let by_rank = series(&|i| (rank[i] as f64, neurons.fve[i]));
    let by_fires = series(&|i| (neurons.fires[i], neurons.fve[i]));
    let share = || Axis { name: "FVE of best k (share)", scale: Scale::linear(0.0, 1.0) };
    let ranks = Axis { name: "neuron, by frequency and falling FVE", scale: Scale::linear(0.0, order.len() as f64) };
    let fires = Axis { name: "inputs it fires on (share)", scale: Scale::linear(0.0, 1.0) };
    vec![
        svg::chart("neurons-fve", "Variance explained by one frequency", ranks, share(), &by_rank, &[]),
        svg::chart("neurons-fires", "How often neurons fire", fires, share(), &by_fires, &[]),
    ]
}

fn logits(findings: &Findings, pictures: &Pictures) -> Vec<Figure> {
    let (keys, alpha, n) = (&findings.key_frequencies, &findings.logits.alpha, pictures.n);
    let bars = [Series {
        name: String::new(),
        colour: 0,
        points: alpha.iter().enumerate().map(|(i, &a)| ((i + 1) as f64, a)).collect(),
        look: Look::Bars,
    }];
    let x = Axis { name: "frequency k", scale: Scale::linear(0.0, alpha.len() as f64 + 1.0) };
    let y = Axis { name: "alpha_k (logits)", scale: Scale::linear_over(alpha.iter().copied()) };
    let wave = |k: usize, t: usize| (2.0 * std::f64::consts::PI * (k * t % n) as f64 / n as f64).cos();
    let formula = |t: usize| keys.iter().map(|&k| alpha[k - 1] * wave(k, t)).sum::<f64>();
    // Differences from -n/2 to n/2.
    let shift = |i: usize| (i as f64 - (n / 2) as f64, (i + n - n / 2) % n);
    let curve = |name: &str, colour: usize, of: &dyn Fn(usize) -> f64| {
        line(name, colour, (0..n).map(|i| (shift(i).0, of(shift(i).1))))
    };
    let mean = &pictures.logit_by_difference;
    let curves = [
        curve("mean logit", 0, &|t| mean[t]),
        curve("formula", 1, &formula),
        curve("difference of both", 2, &|t| mean[t] - formula(t)),
    ];
    let differences =
        Axis { name: "class minus label", scale: Scale::linear(-((n / 2) as f64), (n - 1 - n / 2) as f64) };
    let height = Axis { name: "logit", scale: Scale::linear_over(values(&curves).collect::<Vec<_>>().into_iter()) };
    vec![
        svg::chart("alpha", "Strength of each cosine in the logits", x, y, &bars, &[]),
        svg::chart("logit-formula", "Logits and their formula", differences, height, &curves, &[]),
    ]
}

fn progress(progress: &Progress) -> Vec<Figure> {
    let marks = marks(progress);
    let losses = [
        over_steps(progress, "test", 1, |row| Some(row.scores.test?.loss)),
        over_steps(progress, "restricted (test)", 2, |row| Some(row.restricted?.unseen().loss)),
        over_steps(progress, "excluded (train)", 3, |row| Some(row.excluded?.seen().loss)),
        over_steps(progress, "train", 0, |row| Some(row.scores.train?.loss)),
    ];
    let ginis = [
        over_steps(progress, "W_E", 0, |row| Some(row.W_E.gini)),
        over_steps(progress, "W_L", 1, |row| Some(row.W_L.gini)),
    ];
    let names: Vec<&String> =
        progress.checkpoints.first().map_or(Vec::new(), |row| row.squares.tensors.keys().collect());
    let largest = |name: &str| {
        progress.checkpoints.iter().filter_map(|row| row.squares.tensors.get(name)).copied().fold(0.0, f64::max)
    };
    // The tensors that weigh most; all of them stand in the table.
    let mut heavy: Vec<&&String> = names.iter().collect();
    heavy.sort_by(|a, b| largest(b).total_cmp(&largest(a)));
    let mut norms: Vec<Series> = (heavy.iter().take(7).enumerate())
        .map(|(i, name)| over_steps(progress, name, i, |row| row.squares.tensors.get(name.as_str()).copied()))
        .collect();
    norms.sort_by(|a, b| a.name.cmp(&b.name));
    let loss = Axis { name: "loss (nats)", scale: Scale::log_over(values(&losses).collect::<Vec<_>>().into_iter()) };
    let gini = Axis { name: "Gini coefficient", scale: Scale::linear(0.0, 1.0) };
    let norm =
        Axis { name: "sum of squares", scale: Scale::linear_over(values(&norms).collect::<Vec<_>>().into_iter()) };
    vec![
        svg::chart("progress", "Restricted and excluded loss", steps(progress), loss, &losses, &marks),
        svg::chart("gini", "Sparsity of the spectra", steps(progress), gini, &ginis, &marks),
        svg::chart("squares", "Squared weights of the heaviest tensors", steps(progress), norm, &norms, &marks),
    ]
}

/// Figures that the page's slider and its choice of neuron redraw.
fn explorer(findings: &Findings, pictures: &Pictures) -> Vec<Figure> {
    let checkpoints = findings.progress.iter().flat_map(|progress| &progress.checkpoints);
    let (w_e, w_l) = (&findings.spectra.W_E, &findings.spectra.W_L);
    let tallest = |spectra: Vec<&Spectrum>| {
        spectra.iter().flat_map(|spectrum| &spectrum.components[1..]).copied().fold(0.0, f64::max)
    };
    let of_w_e = tallest(checkpoints.clone().map(|row| &row.W_E).chain([w_e]).collect());
    let of_w_l = tallest(checkpoints.map(|row| &row.W_L).chain([w_l]).collect());
    let mut all = vec![
        spectrum_up_to("explorer-w-e", "W_E at this step", w_e, "norm of component", of_w_e),
        spectrum_up_to("explorer-w-l", "W_L at this step", w_l, "norm of component", of_w_l),
    ];
    if let Some(last) = pictures.frames.last() {
        let n = pictures.n;
        for (i, &k) in findings.key_frequencies.iter().enumerate() {
            let places = &last.embed[i * 2 * n..][..2 * n];
            all.push(svg::circle(
                &format!("explorer-embed-{k}"),
                &format!("W_E at frequency {k}"),
                places,
                k,
                "token",
                &pictures.elements,
            ));
        }
    }
    let maps = [
        ("explorer-activation", "The neuron over (x, y)"),
        ("explorer-spectrum", "The neuron in the 2D Fourier basis"),
    ];
    all.extend(neuron_maps(findings, pictures, 0, maps));
    all
}
