//! What TensorBoard shows of a run: curves, the spectrum of W_E, and at the end the figures of the page.

use crate::analysis::fourier::Fourier;
use crate::analysis::group::Group;
use crate::analysis::network::Network;
use crate::analysis::spectrum::Spectrum;
use crate::model::Weights;
use crate::plan::Plan;
use crate::report;
use crate::run::RunDir;
use crate::run::events::{Events, Shown};
use crate::train::Evaluation;
use anyhow::{Context, Result};
use resvg::{tiny_skia, usvg};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The board of one run.
pub struct Board {
    events: Events,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl Board {
    /// For a run that goes on from a state after `step` updates: a new file in its directory `tensorboard`, which begins with that state
    /// where it is the first.
    pub fn open(run: &RunDir, step: u64, weights: &Weights<f32>) -> Result<Self> {
        let (events, is_first) = Events::create(&run.path.join("tensorboard"), step, now())?;
        let board = Self { events };
        if is_first {
            board.snapshot(&run.plan, step, weights)?;
        }
        Ok(board)
    }

    /// Writes the numbers of an evaluation.
    pub fn evaluated(&self, row: &Evaluation, ms_per_step: Option<f64>) -> Result<()> {
        let scalars = [
            ("loss/train", Some(row.train_loss)),
            ("loss/test", row.test_loss),
            ("accuracy/train", Some(row.train_accuracy)),
            ("accuracy/test", row.test_accuracy),
            ("weight_norm", Some(row.weight_norm)),
            ("ms_per_step", ms_per_step),
        ];
        let shown = scalars.into_iter().filter_map(|(tag, value)| Some((tag.to_string(), Shown::Scalar(value?))));
        self.events.show(now(), row.step, shown.collect())
    }

    /// The norm of every frequency of W_E as a histogram over frequencies, where the operation has such.
    pub fn snapshot(&self, plan: &Plan, step: u64, weights: &Weights<f32>) -> Result<()> {
        match norms(plan, weights)? {
            Some(norms) => self.events.show(now(), step, vec![("spectrum/W_E".into(), Shown::Histogram(&norms))]),
            None => Ok(()),
        }
    }

    /// Figures, as (name, SVG).
    pub fn figures(&self, step: u64, figures: &[(String, String)]) -> Result<()> {
        let fonts = Arc::new(fonts());
        // Those of the page's explorer stand among the others already.
        for (name, svg) in figures.iter().filter(|(name, _)| !name.starts_with("explorer-")) {
            let tag = format!("figures/{}", name.trim_end_matches(".svg"));
            self.events.show(now(), step, vec![(tag, picture(svg, &fonts).with_context(|| name.clone())?)])?;
        }
        Ok(())
    }
}

/// Norms of the frequencies 0 (nothing), 1, 2, .. of W_E.
fn norms(plan: &Plan, weights: &Weights<f32>) -> Result<Option<Vec<f64>>> {
    let Some(group) = Group::of(plan.op.parse()?, plan.p) else { return Ok(None) };
    let (n, d_model) = (group.order(), plan.d_model);
    let fourier = Fourier::new(n);
    let network = Network::new(plan.shape(), weights, group);
    let spectrum = Spectrum::of_rows(&fourier, &network.get("W_E")[..n * d_model], d_model);
    Ok(Some(std::iter::once(0.0).chain(fourier.frequencies().map(|k| spectrum.merged(k))).collect()))
}

/// The fonts of the machine; a figure's text is left out where it has none.
fn fonts() -> usvg::fontdb::Database {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_system_fonts();
    let names = || fonts.faces().flat_map(|face| face.families.iter().map(|(name, _)| name.clone()));
    let sans = names().find(|name| name.contains("Sans")).or_else(|| names().next());
    if let Some(sans) = sans {
        fonts.set_sans_serif_family(sans);
    }
    fonts
}

/// An SVG as a PNG, twice as large.
fn picture(svg: &str, fonts: &Arc<usvg::fontdb::Database>) -> Result<Shown<'static>> {
    const SCALE: f32 = 2.0;
    let options = usvg::Options { fontdb: fonts.clone(), ..Default::default() };
    let tree = usvg::Tree::from_str(&report::plain(svg), &options)?;
    let (width, height) = ((SCALE * tree.size().width()) as u32, (SCALE * tree.size().height()) as u32);
    let mut pixels = tiny_skia::Pixmap::new(width, height).context("a figure without a size")?;
    pixels.fill(tiny_skia::Color::WHITE);
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(Shown::Image { png: pixels.encode_png()?, width, height })
}
