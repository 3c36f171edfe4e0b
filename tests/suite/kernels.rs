//! Every kernel against its twin in f64: on random tensors, at sizes below and above each tile, for one model and
//! three with different numbers of rows, with sentinels in all memory that no tensor owns. The comparison and its bounds
//! are the self-check's (`src/self_check`).

use crate::support::{Outcome, gpu, require, shape, test};
use grokscope::gpu::device::{Family, Gpu, TILES};
use grokscope::gpu::kernel::Kernel;
use grokscope::model::CHUNK;
use grokscope::plan::Shape;
use grokscope::program::{Call, Over, Program, composed, layered, method};
use grokscope::self_check::Report;
use grokscope::self_check::cases::{calls_of, method_of, nothing};
pub use grokscope::self_check::cases::{is_of_method, methods, with_method};
use grokscope::self_check::compare::Comparison;
use grokscope::self_check::updates::Updates;
use libtest_mimic::{Failed, Trial};

/// p, d_model, heads, d_mlp, rows of each model. A workgroup covers 16 or 64 rows by 64 columns, a tile 4 by 4.
pub const CASES: &[(usize, usize, usize, usize, &[usize])] = &[
    (3, 1, 1, 1, &[1]),
    (3, 2, 1, 3, &[9]),
    (5, 6, 2, 7, &[9, 25, 4]),
    (7, 8, 8, 16, &[20]),
    (7, 12, 3, 20, &[30, 1, 49]),
    (13, 24, 3, 40, &[101]),
    (17, 68, 4, 130, &[70, 67, 289]),
    // The mutants' shapes: more than one chunk of rows, just one chunk, more than four heads.
    (7, 10, 2, 19, &[30, 1, 49]),
    (7, 10, 5, 19, &[30, 1, 49]),
    (25, 10, 2, 23, &[600, 1, 49]),
    (25, 10, 2, 23, &[CHUNK, 1, 49]),
    // Sums in several parts, and more rows of a slot than a workgroup has lanes.
    (7, 10, 2, 660, &[30, 1, 49]),
    (67, 10, 2, 7, &[67 * 67, 1, 70]),
];

pub fn tests() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (p, d_model, n_heads, d_mlp, rows) in CASES {
        let name = format!("kernels_agree_with_their_twins_at_p{p}_d{d_model}_h{n_heads}_m{d_mlp}_rows{rows:?}");
        let mut shape = shape(*p, *d_model, *n_heads, *d_mlp);
        trials.push(Trial::test(name, move || {
            // Half of the shapes have a class for "=", as the paper's code does.
            shape.d_vocab_out += shape.d_mlp % 2;
            let kernels = grokscope::shaders::kernels()?;
            both(kernels, shape, rows)
        }));
    }
    for seed in 0..4 {
        let (shape, rows) = random_case(seed);
        let name = format!(
            "kernels_agree_with_their_twins_at_random_p{}_d{}_h{}_m{}_c{}_rows{rows:?}",
            shape.p, shape.d_model, shape.n_heads, shape.d_mlp, shape.d_vocab_out
        );
        trials.push(Trial::test(name, move || both(grokscope::shaders::kernels()?, shape, &rows)));
    }
    // The families that the adapter does not take by itself.
    for family in [Family::Wide(Some(TILES[0])), Family::Wide(Some(TILES[1])), Family::Software] {
        for (p, d_model, n_heads, d_mlp, rows) in CASES {
            let name = format!("kernels_{}_agree_at_p{p}_d{d_model}_h{n_heads}_m{d_mlp}_rows{rows:?}", name_of(family));
            let shape = shape(*p, *d_model, *n_heads, *d_mlp);
            trials.push(Trial::test(name, move || {
                let kernels = grokscope::shaders::kernels()?;
                let mut gpu = gpu()?;
                gpu.family = family;
                compare(gpu, kernels, &composed::program(), shape, rows, |_| true)
            }));
        }
    }
    for tiles in TILES {
        trials.push(Trial::test(format!("{tiles}_agrees_with_its_twin_at_every_remainder"), move || {
            let (kernels, mut gpu) = (grokscope::shaders::kernels()?, gpu()?);
            gpu.family = Family::Wide(Some(tiles));
            for (shape, rows) in remainders(None) {
                let is_product = |call: &Call| matches!(call.over, Over::Product(..));
                compare(gpu.clone(), kernels, &composed::program(), shape, &[rows], is_product)
                    .map_err(|e| format!("{shape:?}, {rows} rows: {}", e.message().unwrap_or_default()))?;
            }
            Ok(())
        }));
    }
    // Some tiles and chunks of every sum along each side of every product.
    for family in [Family::Wide(Some(TILES[0])), Family::Wide(Some(TILES[1])), Family::Software] {
        trials.push(Trial::test(format!("kernels_{}_agree_at_the_default_shape", name_of(family)), move || {
            let (kernels, mut gpu) = (grokscope::shaders::kernels()?, gpu()?);
            gpu.family = family;
            compare(gpu, kernels, &composed::program(), shape(113, 128, 4, 512), &[3830], |_| true)
        }));
    }
    for name in ["adamw"].into_iter().chain(methods().map(|(name, _)| name)) {
        trials.push(Trial::test(format!("updates_agree_with_their_twins_{name}"), move || {
            let kernels = grokscope::shaders::kernels()?;
            // Neurons fewer than d_model, and more.
            updates(kernels, shape(7, 12, 3, 20), &[30, 1, 49], name)?;
            updates(kernels, shape(5, 12, 2, 9), &[25], name)
        }));
    }
    // More blocks than a dispatch has workgroups along one dimension.
    trials.push(test("adamw_agrees_where_blocks_are_folded", || {
        updates(grokscope::shaders::kernels()?, shape(3, 1, 1, 1), &[1; 6100], "adamw")
    }));
    for (name, method) in
        methods().into_iter().filter(|(_, method)| layered::program().taught(method).step().any(is_of_method))
    {
        for (p, d_model, n_heads, d_mlp, rows) in [(7, 12, 3, 20, &[30, 1, 49][..]), (5, 10, 1, 7, &[25])] {
            let name = format!("kernels_of_{name}_agree_with_their_twins_at_p{p}_d{d_model}_h{n_heads}_m{d_mlp}");
            let shape = shape(p, d_model, n_heads, d_mlp);
            trials.push(Trial::test(name, move || {
                let kernels = grokscope::shaders::kernels()?;
                compare(gpu()?, kernels, &layered::program().taught(&method), shape, rows, is_of_method)?;
                compare(gpu()?, kernels, &composed::program().taught(&method), shape, rows, is_of_method)
            }));
        }
    }
    trials
}

/// What tests call a family of kernels.
pub fn name_of(family: Family) -> String {
    match family {
        Family::Wide(tiles) => format!("wide_{}", tiles.unwrap_or("any")),
        Family::Software => "software".into(),
        Family::SoftwareEights => "in_subgroups".into(),
    }
}

/// A shape drawn from a seed, the same on every machine.
fn random_case(seed: u64) -> (Shape, Vec<usize>) {
    let draws = grokscope::random::Philox::new(seed);
    let draw = |i: u32, range: std::ops::RangeInclusive<usize>| {
        range.start() + draws.block([i, 0, 0, 9])[0] as usize % (range.end() - range.start() + 1)
    };
    let (p, n_heads) = (draw(0, 3..=23), draw(1, 1..=5));
    let shape = shape(p, n_heads * draw(2, 1..=17), n_heads, draw(3, 1..=90));
    let models = if seed.is_multiple_of(2) { 1 } else { 3 };
    let rows = (0..models).map(|k| draw(10 + k, 1..=p * p)).collect();
    (Shape { d_vocab_out: p + draw(4, 0..=1), ..shape }, rows)
}

/// Returns shapes and numbers of rows that give the sums of products every number of terms from 1 to 32: every remainder of a stage's 16
/// terms, in one stage and in two. All shapes have the given `p`; without one, `p` varies too.
pub fn remainders(p: Option<usize>) -> impl Iterator<Item = (Shape, usize)> {
    (0..32).map(move |n| {
        let of = shape(p.unwrap_or(3 + n), 2 * (1 + n), 2, 1 + 5 * n % 32);
        (of, 1 + 7 * n % 32)
    })
}

/// Every call of both programs.
fn both(kernels: &[Kernel], shape: Shape, rows: &[usize]) -> Outcome {
    compare(gpu()?, kernels, &layered::program(), shape, rows, |_| true)?;
    compare(gpu()?, kernels, &composed::program(), shape, rows, |_| true)
}

/// Launches the calls of a program that `chosen` picks, and fails on the first wrong element.
pub fn compare(
    gpu: Gpu,
    kernels: &[Kernel],
    program: &Program,
    shape: Shape,
    rows: &[usize],
    chosen: impl Fn(&Call) -> bool,
) -> Outcome {
    passed(&compared(gpu, kernels, program, shape, rows, chosen)?)
}

/// Launches the calls of a program that `chosen` picks, and returns the report.
pub fn compared(
    gpu: Gpu,
    kernels: &[Kernel],
    program: &Program,
    shape: Shape,
    rows: &[usize],
    chosen: impl Fn(&Call) -> bool,
) -> Result<Report, Failed> {
    let calls = calls_of(program, chosen);
    let mut comparison = pollster::block_on(Comparison::compile(gpu, kernels, shape, rows, calls))?;
    Ok(pollster::block_on(comparison.run())?)
}

/// Three updates with gradients of many sizes, on both machines, as a method makes them.
pub fn updates(kernels: &[Kernel], shape: Shape, rows: &[usize], method: &str) -> Outcome {
    passed(&updated(gpu()?, kernels, shape, rows, method)?)
}

/// Runs the updates of a method, and returns the report.
pub fn updated(gpu: Gpu, kernels: &[Kernel], shape: Shape, rows: &[usize], name: &str) -> Result<Report, Failed> {
    let taught = method_of(name);
    let program =
        Program { update: method::update(&taught), grad_copies: taught.filter.copies(), ..nothing("updates") };
    let mut updates = pollster::block_on(Updates::compile(gpu, kernels, program, shape, rows))?;
    Ok(pollster::block_on(updates.run(name, &[]))?)
}

/// Fails with the first finding.
pub fn passed(report: &Report) -> Outcome {
    require!(report.cases > 0, "nothing was compared");
    match report.wrong.first() {
        Some(finding) => Err(finding.to_string().into()),
        None => Ok(()),
    }
}
