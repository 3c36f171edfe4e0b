//! Networks built by hand from known frequencies: the analysis has to find in them what was put there.
//!
//! The planted network is a Pizza. Attention is even, so the residual at "=" holds E_a + E_b, waves of the key
//! frequencies. For key k, neurons at phases phi see relu(2 cos(w d / 2) cos(w s / 2 - phi)) with s = a + b, d = a - b,
//! w = 2 pi k / n, and write cos(w c - 2 phi) to the logits, which adds up to |cos(w d / 2)| cos(w (s - c)) times a gain.

use crate::support::{Outcome, require, test};
use grokscope::analysis::certificate::Verdict;
use grokscope::analysis::group::Group;
use grokscope::analysis::network::Network;
use grokscope::analysis::pizza::Algorithm;
use grokscope::analysis::{Findings, Model, Subject};
use grokscope::model::{PARAMETERS, Weights, initial_weights};
use grokscope::plan::Shape;
use grokscope::random::Philox;
use grokscope::task::{Op, Pairs};
use libtest_mimic::{Failed, Trial};
use std::f64::consts::PI;

pub fn tests() -> Vec<Trial> {
    vec![
        test("planted_frequencies_are_found_exactly", || found(Op::Add, 59, &[1, 18, 29])),
        test("planted_frequencies_of_an_even_group_are_found", || found(Op::Mul, 31, &[1, 7, 14])),
        test("planted_directions_and_losses_are_as_computed_by_hand", directions_and_losses),
        test("noise_moves_spectra_by_its_size", noise),
        test("a_random_network_has_no_keys_and_fails", random),
        test("a_planted_key_in_the_embedding_alone_is_no_headline", embedding_alone),
        test("a_planted_clock_is_a_clock_and_turns_with_its_planes", clock),
        test("a_key_whose_neurons_hold_two_frequencies_is_found", mixed_neurons),
        test("a_double_that_is_a_key_is_found", || found(Op::Add, 59, &[7, 14, 25])),
        test("no_verdict_depends_on_the_scale_of_the_logits", scale),
    ]
}

/// Neurons for each key, at phases evenly spaced.
const PHASES: usize = 16;
/// Size of the logits.
const GAIN: f64 = 3.0;

fn shape(p: usize, keys: &[usize]) -> Shape {
    // Embedding and output have two dimensions a key, apart from each other.
    Shape { p, d_model: 4 * keys.len(), n_heads: 1, d_mlp: PHASES * keys.len(), d_vocab_out: p }
}

fn phase(j: usize) -> f64 {
    2.0 * PI * (j as f64 + 0.25) / PHASES as f64
}

/// The planted network's weights for a group of residues mod p.
fn planted(group: &Group, p: usize, keys: &[usize]) -> Weights<f32> {
    let shape = shape(p, keys);
    let (n, d, m, count) = (group.order(), shape.d_model, shape.d_mlp, keys.len());
    let angle = |k: usize, t: usize| 2.0 * PI * (k * t % n) as f64 / n as f64;
    let wave = |k: usize, t: usize, part: usize| if part == 0 { angle(k, t).cos() } else { angle(k, t).sin() };
    let tensor = |name: &str, len: usize| {
        let mut x = vec![0.0; len];
        match name {
            "W_E" => {
                for (t, &token) in group.elements.iter().enumerate() {
                    (0..2 * count).for_each(|i| x[token * d + i] = wave(keys[i / 2], t, i % 2));
                }
            }
            "W_V" => (0..d).for_each(|i| x[i * d + i] = 1.0),
            // A third of the attention goes to each position.
            "W_O" => (0..d).for_each(|i| x[i * d + i] = 3.0),
            "W_in" => {
                for (neuron, i) in (0..m).flat_map(|neuron| [(neuron, 0), (neuron, 1)]) {
                    let phi = phase(neuron % PHASES);
                    x[(2 * (neuron / PHASES) + i) * m + neuron] = if i == 0 { phi.cos() } else { phi.sin() };
                }
            }
            "W_out" => {
                for (neuron, i) in (0..m).flat_map(|neuron| [(neuron, 0), (neuron, 1)]) {
                    let phi = 2.0 * phase(neuron % PHASES);
                    x[neuron * d + 2 * count + 2 * (neuron / PHASES) + i] = if i == 0 { phi.cos() } else { phi.sin() };
                }
            }
            "W_U" => {
                for (t, &class) in group.elements.iter().enumerate() {
                    (0..2 * count).for_each(|i| x[(2 * count + i) * p + class] = GAIN * wave(keys[i / 2], t, i % 2));
                }
            }
            _ => {}
        }
        x.into_iter().map(|x| x as f32).collect()
    };
    let tensors = PARAMETERS.iter().map(|parameter| tensor(parameter.name, parameter.dims(&shape).iter().product()));
    Weights { tensors: tensors.collect() }
}

fn analysed(op: Op, shape: Shape, weights: &Weights<f32>) -> Result<Findings, Failed> {
    let group = Group::of(op, shape.p).ok_or("no group")?;
    let model = Model {
        op: op.to_string(),
        p: shape.p,
        order: group.order(),
        d_model: shape.d_model,
        n_heads: shape.n_heads,
        d_mlp: shape.d_mlp,
        d_vocab_out: shape.d_vocab_out,
        parameters: 0,
        step: None,
        weights_sha256: String::new(),
        train_pairs: None,
    };
    let train = Pairs::train(&"philox:0".parse()?, 0.4, op, shape.p, None)?;
    let subject = Subject::new(Network::new(shape, weights, group), Some(&train.membership(shape.p)));
    Ok(subject.findings(model, || {}))
}

fn found(op: Op, p: usize, keys: &[usize]) -> Outcome {
    let group = Group::of(op, p).ok_or("no group")?;
    let findings = analysed(op, shape(p, keys), &planted(&group, p, keys))?;
    require!(findings.key_frequencies == keys, "found {:?}, planted {keys:?}", findings.key_frequencies);
    let rules = &findings.key_rules;
    require!(rules.W_E == keys && rules.W_L == keys && rules.gap == keys, "the rules say {rules:?}");
    for (i, (&frequency, &fve)) in findings.neurons.frequency.iter().zip(&findings.neurons.fve).enumerate() {
        require!(frequency == keys[i / PHASES] && fve > 0.85, "neuron {i} is at {frequency} with {fve}");
    }
    for cluster in &findings.neurons.clusters {
        require!(cluster.neurons == PHASES, "cluster {} has {} neurons", cluster.frequency, cluster.neurons);
        // relu of a symmetric wave is positive on half of the inputs, give or take the zeros.
        require!((cluster.mean_fires - 0.5).abs() < 0.02, "they fire on {}", cluster.mean_fires);
    }
    require!(findings.neurons.clusters.len() == keys.len(), "{:?}", findings.neurons.clusters);
    // At even n every odd key vanishes where a - b = n / 2, and even keys do not tell c from c + n / 2: a Pizza guesses
    // between two classes on one pair in n.
    let accuracy = findings.scores.all.accuracy;
    match group.order() % 2 {
        0 => {
            require!((accuracy - 1.0 + 0.5 / group.order() as f64).abs() < 0.01, "accuracy at even n is {accuracy}");
        }
        _ => {
            require!(findings.certificate.passed, "the certificate fails: {:?}", findings.certificate);
        }
    }
    // Nothing goes round the MLP, and "=" carries nothing: taking them away changes nothing.
    let skip = &findings.ablations[0];
    require!(skip.zeroed == findings.scores, "{} carries something: {:?}", skip.path, skip.zeroed);
    let zeroed = findings.attention.equals_zeroed.all;
    let same =
        zeroed.accuracy == findings.scores.all.accuracy && (zeroed.loss / findings.scores.all.loss - 1.0).abs() < 1e-9;
    require!(same, "attention to = carries something: {zeroed:?}");
    // The article's simplification gives x and y half each instead of a third, which the gain of 3 turns into 1.5.
    require!(findings.effective_weights.exact.relative < 1e-12, "{:?}", findings.effective_weights.exact);
    let pizza = &findings.clock_or_pizza;
    let symmetric = pizza.gradient_symmetricity.ok_or("no symmetricity")?;
    require!((symmetric - 1.0).abs() < 1e-12, "gradient symmetricity of a Pizza is {symmetric}");
    match pizza.distance_irrelevance {
        Some(irrelevance) => require_small(irrelevance, group.order())?,
        None => {
            require!(group.order() % 2 == 0, "no distance irrelevance at odd n");
        }
    }
    Ok(())
}

/// The correct logit of a Pizza depends on a - b alone, but for the waves that finitely many phases leave over.
fn require_small(irrelevance: f64, n: usize) -> Outcome {
    require!(n % 2 == 1 && irrelevance < 0.05, "distance irrelevance of a Pizza is {irrelevance}");
    Ok(())
}

/// Steps of a straight line that stand for the square of a number between -2 and 2.
const STEPS: usize = 32;

/// A Clock: heads that look at one operand each give both embeddings to the neurons, which multiply their waves and so have
/// cos and sin of w (a + b). A product is a difference of squares, and a square is a sum of relu at evenly spaced biases.
fn planted_clock(p: usize, keys: &[usize]) -> (Shape, Weights<f32>) {
    let count = keys.len();
    // Dimensions: waves of the token as heads read them, the same of a and of b, waves of the class, and the position.
    let (of_token, of_a, of_b, of_class) = (0, 2 * count, 4 * count, 6 * count);
    let (position, d) = (8 * count, 8 * count + 2);
    let e = d / 2;
    let neurons = count * 4 * 2 * 2 * STEPS;
    let shape = Shape { p, d_model: d, n_heads: 2, d_mlp: neurons, d_vocab_out: p };
    let angle = |k: usize, t: usize| 2.0 * PI * (k * t % p) as f64 / p as f64;
    let wave = |k: usize, t: usize, part: usize| if part == 0 { angle(k, t).cos() } else { angle(k, t).sin() };
    let mut weights: Vec<Vec<f64>> =
        PARAMETERS.iter().map(|parameter| vec![0.0; parameter.dims(&shape).iter().product()]).collect();
    let rank = |name: &str| PARAMETERS.iter().position(|parameter| parameter.name == name).expect("a parameter");
    for t in 0..p {
        for i in 0..2 * count {
            weights[rank("W_E")][t * d + of_token + i] = wave(keys[i / 2], t, i % 2);
            weights[rank("W_U")][(of_class + i) * p + t] = GAIN * wave(keys[i / 2], t, i % 2);
        }
    }
    // "=" asks; head 0 looks at position 0 and head 1 at position 1, all but entirely.
    weights[rank("W_E")][p * d + position] = 1.0;
    weights[rank("W_pos")][position + 1] = 1.0;
    weights[rank("W_pos")][d + position + 1] = -1.0;
    for head in 0..2 {
        let at = |row: usize, column: usize| (head * d + row) * e + column;
        weights[rank("W_Q")][at(position, 0)] = 40.0 * (e as f64).sqrt();
        weights[rank("W_K")][at(position + 1, 0)] = if head == 0 { 1.0 } else { -1.0 };
        for i in 0..2 * count {
            weights[rank("W_V")][at(of_token + i, i)] = 1.0;
            let to = if head == 0 { of_a } else { of_b } + i;
            weights[rank("W_O")][(head * e + i) * d + to] = 1.0;
        }
    }
    // cos(u + v) = cos u cos v - sin u sin v, sin(u + v) = sin u cos v + cos u sin v, each product ((u + v)^2 - (u - v)^2) / 4.
    let step = 4.0 / (2 * STEPS) as f64;
    let mut neuron = 0;
    for key in 0..count {
        for (a, b, into, sign) in [(0, 0, 0, 1.0), (1, 1, 0, -1.0), (1, 0, 1, 1.0), (0, 1, 1, 1.0)] {
            for of_b_too in [1.0, -1.0] {
                for side in [1.0, -1.0] {
                    for i in 0..STEPS {
                        // side * (u + of_b_too v) - i step; the slope of the square grows by 2 step at each of these.
                        weights[rank("W_in")][(of_a + 2 * key + a) * neurons + neuron] = side;
                        weights[rank("W_in")][(of_b + 2 * key + b) * neurons + neuron] = side * of_b_too;
                        weights[rank("b_in")][neuron] = -(i as f64) * step;
                        let slope = if i == 0 { step } else { 2.0 * step };
                        weights[rank("W_out")][neuron * d + of_class + 2 * key + into] = sign * of_b_too * slope / 4.0;
                        neuron += 1;
                    }
                }
            }
        }
    }
    let tensors = weights.into_iter().map(|tensor| tensor.into_iter().map(|x| x as f32).collect()).collect();
    (shape, Weights { tensors })
}

fn clock() -> Outcome {
    let keys = [3, 10, 17];
    let (shape, weights) = planted_clock(59, &keys);
    let findings = analysed(Op::Add, shape, &weights)?;
    require!(findings.key_frequencies == keys && findings.keys.clear, "found {:?}", findings.keys);
    let pizza = &findings.clock_or_pizza;
    require!(pizza.algorithm == Algorithm::Clock, "a planted Clock is {pizza:?}");
    require!(pizza.gradient_symmetricity_wide.abs() < 0.1, "its gradients are at right angles on average: {pizza:?}");
    for &key in &keys {
        let own = findings.rotation.own(key).ok_or("no rotation")?;
        require!(own >= 0.999, "key {key} follows its plane to {own}");
        require!(findings.rotation.followed(key) == Some((key, own)), "{:?}", findings.rotation);
    }
    let others = findings
        .rotation
        .changed
        .iter()
        .enumerate()
        .flat_map(|(i, row)| row.iter().enumerate().filter(move |(j, _)| i != *j).map(|(_, changed)| *changed));
    let most = others.fold(0.0, f64::max);
    require!(most < 1e-3, "a plane changes the component of another key by {most}");
    require!(findings.keys.decided == 1.0, "the keys are all there is: {}", findings.keys.decided);
    require!(findings.logits.explained > 0.999, "the logits are cosines: {}", findings.logits.explained);
    let planted = analysed(Op::Add, self::shape(59, &keys), &planted(&Group::residues(59), 59, &keys))?;
    require!(planted.clock_or_pizza.algorithm == Algorithm::Pizza, "a planted Pizza is {:?}", planted.clock_or_pizza);
    Ok(())
}

/// The neurons of the second key also hold waves of the third in equal measure, so that none of them is above 0.85.
fn mixed_neurons() -> Outcome {
    let (p, keys) = (59, [1, 18, 29]);
    let group = Group::of(Op::Add, p).ok_or("no group")?;
    let (shape, mut weights) = (shape(p, &keys), planted(&group, p, &keys));
    let rank = |name: &str| PARAMETERS.iter().position(|parameter| parameter.name == name).expect("a parameter");
    let m = shape.d_mlp;
    for neuron in PHASES..2 * PHASES {
        let angle = 2.0 * PI * (neuron * 7 % PHASES) as f64 / PHASES as f64;
        weights.tensors[rank("W_in")][4 * m + neuron] = (0.75 * angle.cos()) as f32;
        weights.tensors[rank("W_in")][5 * m + neuron] = (0.75 * angle.sin()) as f32;
    }
    let findings = analysed(Op::Add, shape, &weights)?;
    let has_cluster = findings.neurons.clusters.iter().any(|cluster| cluster.frequency == 18);
    require!(!has_cluster, "a neuron of key 18 is pure: {:?}", findings.neurons.clusters);
    require!(findings.key_frequencies == keys && findings.keys.clear, "found {:?}", findings.keys);
    Ok(())
}

/// W_U times 0.03 gives the same answers with other losses.
fn scale() -> Outcome {
    let (p, keys) = (59, [1, 18, 29]);
    let group = Group::of(Op::Add, p).ok_or("no group")?;
    let shape = shape(p, &keys);
    let mut weights = planted(&group, p, &keys);
    let whole = analysed(Op::Add, shape, &weights)?;
    let rank = PARAMETERS.iter().position(|parameter| parameter.name == "W_U").expect("a parameter");
    weights.tensors[rank].iter_mut().for_each(|x| *x *= 0.03);
    let small = analysed(Op::Add, shape, &weights)?;
    require!(small.scores.all.loss > 2.0 * whole.scores.all.loss, "the loss is the same");
    for (a, b) in whole.certificate.claims.iter().zip(&small.certificate.claims) {
        require!(a.verdict == b.verdict, "{}: {:?} becomes {:?}", a.name, a.verdict, b.verdict);
    }
    require!(small.key_frequencies == whole.key_frequencies && small.keys.clear, "{:?}", small.keys);
    Ok(())
}

/// u_k, v_k, alpha_k and the restricted loss against closed forms.
fn directions_and_losses() -> Outcome {
    let (p, keys) = (59, [1, 18, 29]);
    let group = Group::of(Op::Add, p).ok_or("no group")?;
    let findings = analysed(Op::Add, shape(p, &keys), &planted(&group, p, &keys))?;
    let mean_over_d = |f: &dyn Fn(f64) -> f64| (0..p).map(|d| f(d as f64)).sum::<f64>() / p as f64;
    // relu(r cos(theta - phi)) has the second harmonic r 2/(3 pi) cos 2 (theta - phi); PHASES / 2 of it add up.
    let second = 2.0 / (3.0 * PI) * PHASES as f64 / 2.0;
    let mut alphas = Vec::new();
    for (&k, direction) in keys.iter().zip(&findings.logits.directions) {
        let r = |d: f64| 2.0 * (PI * k as f64 * d / p as f64).cos().abs();
        // W_L of neuron phi is GAIN cos(w c - 2 phi): its cosine direction is GAIN sqrt(p / 2) cos 2 phi.
        let norm = GAIN * (p as f64 / 2.0).sqrt() * (PHASES as f64 / 2.0).sqrt();
        require!((direction.u_norm / norm - 1.0).abs() < 1e-6, "|u_{k}| is {}, not {norm}", direction.u_norm);
        require!((direction.v_norm / norm - 1.0).abs() < 1e-6, "|v_{k}| is {}, not {norm}", direction.v_norm);
        // Along u_k the neurons hold |r| cos w s, of which cos w s explains mean(|r|)^2 / mean(r^2), near 8 / pi^2.
        let explained = mean_over_d(&r).powi(2) / mean_over_d(&|d| r(d).powi(2));
        let values = [Some(direction.u_explained), direction.v_explained];
        for value in values {
            let value = value.ok_or("no sine")?;
            require!((value - explained).abs() < 0.01, "at {k} a wave explains {value}, not {explained}");
        }
        let alpha = GAIN * second * mean_over_d(&r);
        let measured = findings.logits.alpha[k - 1];
        require!((measured / alpha - 1.0).abs() < 0.01, "alpha_{k} is {measured}, not {alpha}");
        alphas.push(measured);
    }
    for (i, alpha) in findings.logits.alpha.iter().enumerate().filter(|(i, _)| !keys.contains(&(i + 1))) {
        require!(alpha.abs() < 1e-5, "alpha_{} is {alpha}, and nothing was planted there", i + 1);
    }
    // Restricted to the keys, the logits are the sum of alpha_k cos w_k (s - c): the same loss for every pair. Finitely
    // many phases also write harmonic 46 of key 18, which folds to key 1, at 3 / 46^2 of it: hence 1e-4.
    let logit = |t: usize| -> f64 {
        let wave = |k: usize| (2.0 * PI * (k * t % p) as f64 / p as f64).cos();
        keys.iter().zip(&alphas).map(|(&k, alpha)| alpha * wave(k)).sum()
    };
    let loss = (1..p).map(|t| (logit(t) - logit(0)).exp()).sum::<f64>().ln_1p();
    let restricted = &findings.restricted.logits.all.restricted;
    for (split, score) in [("train", restricted.train), ("test", restricted.test), ("all", Some(restricted.all))] {
        let score = score.ok_or("no score")?;
        require!((score.loss / loss - 1.0).abs() < 1e-4, "restricted {split} loss is {}, not {loss}", score.loss);
    }
    let formula = findings.logits.formula.all.loss;
    require!((formula / loss - 1.0).abs() < 1e-9, "the formula's loss is {formula}, not {loss}");
    Ok(())
}

/// Normal noise of deviation sigma adds sigma^2 d to the square of every component of W_E, and to W_L's sigma^2 times the
/// squares of W_out.
fn noise() -> Outcome {
    let (p, keys, sigma) = (59, [1, 18, 29], 0.02);
    let shape = shape(p, &keys);
    let group = Group::of(Op::Add, p).ok_or("no group")?;
    let mut weights = planted(&group, p, &keys);
    let clean = analysed(Op::Add, shape, &weights)?;
    let philox = Philox::new(5);
    for (rank, parameter) in
        PARAMETERS.iter().enumerate().filter(|(_, parameter)| ["W_E", "W_U"].contains(&parameter.name))
    {
        for (i, x) in weights.tensors[rank].iter_mut().enumerate() {
            *x += (sigma * philox.normal(100 + parameter.name.len() as u32 * 10 + rank as u32, i)) as f32;
        }
    }
    let noisy = analysed(Op::Add, shape, &weights)?;
    let w_out: f64 = weights.get("W_out").iter().map(|&x| (x as f64).powi(2)).sum();
    let cases = [
        ("W_E", &clean.spectra.W_E, &noisy.spectra.W_E, sigma * sigma * shape.d_model as f64, shape.d_model as f64),
        // W_out has rank 2 a key with equal singular values, so that many independent squares add up.
        ("W_L", &clean.spectra.W_L, &noisy.spectra.W_L, sigma * sigma * w_out, 2.0 * keys.len() as f64),
    ];
    for (name, before, after, expected, freedom) in cases {
        let planted = |row: usize| keys.contains(&row.div_ceil(2));
        let silent: Vec<f64> = (1..p).filter(|&row| !planted(row)).map(|row| after.components[row].powi(2)).collect();
        let mean = silent.iter().sum::<f64>() / silent.len() as f64;
        // A square of `freedom` normal numbers has the relative deviation sqrt(2 / freedom); five standard errors.
        let error = expected * (2.0 / freedom / silent.len() as f64).sqrt();
        require!(
            (mean - expected).abs() < 5.0 * error,
            "{name}: silent components have {mean}, not {expected} +- {error}"
        );
        for row in (1..p).filter(|&row| planted(row)) {
            let (was, is) = (before.components[row], after.components[row]);
            // The noise along the planted direction moves the norm by some sigma (times the weight it goes through).
            let step = (expected / freedom).sqrt();
            require!(
                (is - was).abs() < 6.0 * step,
                "{name}: component {row} went from {was} to {is}, by over 6 x {step}"
            );
            require!(is != was, "{name}: component {row} did not notice the noise");
        }
    }
    require!(noisy.key_frequencies == keys, "in noise {:?} were found", noisy.key_frequencies);
    require!(noisy.spectra.W_E.gini < clean.spectra.W_E.gini, "noise made W_E sparser");
    Ok(())
}

fn random() -> Outcome {
    let shape = Shape { p: 59, d_model: 64, n_heads: 4, d_mlp: 128, d_vocab_out: 60 };
    for seed in 0..3 {
        let findings = analysed(Op::Add, shape, &initial_weights("paper", seed, &shape))?;
        require!(!findings.keys.clear, "seed {seed} has clear keys: {:?}", findings.keys);
        let certificate = &findings.certificate;
        require!(certificate.verdict == Verdict::Fails && !certificate.passed, "seed {seed} passes: {certificate:?}");
        let failed = certificate.claims.iter().filter(|claim| claim.verdict == Verdict::Fails).count();
        require!(failed >= 7, "only {failed} claims fail: {:?}", certificate.claims);
        // Normal numbers: every component of W_E has norm near 1.
        require!(findings.spectra.W_E.gini < 0.1, "W_E of random numbers has Gini {}", findings.spectra.W_E.gini);
    }
    Ok(())
}

/// A frequency that stands out in W_E, but that no neuron computes and no logit reads.
fn embedding_alone() -> Outcome {
    let (p, keys) = (59, [1, 18, 29]);
    let shape = Shape { d_model: 14, ..shape(p, &keys) };
    let group = Group::of(Op::Add, p).ok_or("no group")?;
    let narrow = planted(&group, p, &keys);
    // Two more dimensions, which only the embedding uses.
    let widen = |name: &str, tensor: &[f32]| -> Vec<f32> {
        let (d, wide) = (12, 14);
        let columns =
            |rows: usize| (0..rows * wide).map(|i| if i % wide < d { tensor[i / wide * d + i % wide] } else { 0.0 });
        match name {
            "W_E" => columns(p + 1)
                .enumerate()
                .map(|(i, x)| match (i / wide, i % wide) {
                    (token, 12) if token < p => (2.0 * PI * (5 * token % p) as f64 / p as f64).cos() as f32,
                    (token, 13) if token < p => (2.0 * PI * (5 * token % p) as f64 / p as f64).sin() as f32,
                    _ => x,
                })
                .collect(),
            "W_pos" => columns(3).collect(),
            "W_out" => columns(tensor.len() / d).collect(),
            "b_out" => columns(1).collect(),
            "W_Q" | "W_K" | "W_V" | "W_O" => (0..wide * wide)
                .map(|i| if i / wide < d && i % wide < d { tensor[i / wide * d + i % wide] } else { 0.0 })
                .collect(),
            "W_in" | "W_U" => tensor.iter().copied().chain(vec![0.0; 2 * tensor.len() / d]).collect(),
            _ => tensor.to_vec(),
        }
    };
    let tensors = PARAMETERS.iter().zip(&narrow.tensors).map(|(parameter, tensor)| widen(parameter.name, tensor));
    let findings = analysed(Op::Add, shape, &Weights { tensors: tensors.collect() })?;
    require!(findings.key_rules.W_E == [1, 5, 18, 29], "W_E shows {:?}", findings.key_rules.W_E);
    require!(findings.key_frequencies == keys, "the headline is {:?}", findings.key_frequencies);
    // 2 * 29 folds to 1, a key in its own right; doubles of keys are 2 and 23.
    require!(findings.embedding.all_doubles.frequencies == [2, 23], "{:?}", findings.embedding.all_doubles);
    require!(findings.embedding.all_doubles.scores.all.accuracy == 1.0, "{:?}", findings.embedding.all_doubles);
    require!(findings.embedding.all_keys.scores.all.accuracy < 0.1, "{:?}", findings.embedding.all_keys);
    Ok(())
}
