//! The page, its figures and tables, and the summary for a terminal. Sees what the analysis found, never a network.

mod article;
mod data;
mod figures;
mod heat;
mod math;
mod scale;
mod svg;
pub mod tables;
pub mod terminal;

use crate::analysis::Findings;
use crate::analysis::pictures::Pictures;
use figures::Figures;

/// Style of a figure; the page's own style begins with it.
const FIGURE_STYLE: &str = include_str!("../../assets/report/figure.css");
const PAGE_STYLE: &str = include_str!("../../assets/report/page.css");
const SCRIPT: &str = include_str!("../../assets/report/page.js");

pub use data::shown_frames;

/// The page: one self-contained HTML text.
pub fn page(findings: &Findings, pictures: &Pictures) -> String {
    let figures = Figures::new(findings, pictures);
    let data = data::data(findings, pictures);
    article::page(findings, &figures, &data).into_string()
}

/// Every figure as a file: (name, SVG).
pub fn figure_files(findings: &Findings, pictures: &Pictures) -> Vec<(String, String)> {
    let figures = Figures::new(findings, pictures);
    figures.all().map(|figure| (format!("{}.svg", figure.name), svg::standalone(figure))).collect()
}
