//! The page, its figures and tables, and the summary for a terminal. Sees what the analysis found, never a network.

mod article;
mod causes;
mod data;
mod figures;
mod heat;
mod keys;
mod lattice;
mod math;
mod matrix;
mod pizza;
mod plain;
mod scale;
mod survey;
mod svg;
pub mod sweep;
mod tables;
mod terminal;
pub mod transform;

use crate::analysis::pictures::Pictures;
use crate::analysis::survey::Survey;
use crate::analysis::{Analysis, Findings};
use figures::Figures;
use svg::Figure;
use tables::Table;

/// Style of a figure; the page's own style begins with it.
const FIGURE_STYLE: &str = include_str!("../../assets/report/figure.css");
const PAGE_STYLE: &str = include_str!("../../assets/report/page.css");
const SCRIPT: &str = include_str!("../../assets/report/page.js");

pub use data::shown_frames;
pub use plain::plain;
pub use svg::short;

/// What a page is made of.
pub enum Subject<'a> {
    /// A cyclic group's.
    Findings(&'a Findings, &'a Pictures),
    /// Any other operation's.
    Survey(&'a Survey),
}

/// The page: one self-contained HTML text.
pub fn page(subject: &Subject) -> String {
    match subject {
        Subject::Findings(findings, pictures) => {
            let figures = Figures::new(findings, pictures);
            let data = data::data(findings, pictures);
            article::page(findings, &figures, &data).into_string()
        }
        Subject::Survey(survey) => survey::page(survey),
    }
}

/// Every figure as a file: (name, SVG).
pub fn figure_files(subject: &Subject) -> Vec<(String, String)> {
    let file = |figure: &Figure| (format!("{}.svg", figure.name), svg::standalone(figure));
    match subject {
        Subject::Findings(findings, pictures) => Figures::new(findings, pictures).all().map(file).collect(),
        Subject::Survey(survey) => survey::figures(survey).iter().map(file).collect(),
    }
}

/// Every table.
pub fn tables(analysis: &Analysis) -> Vec<Table> {
    match analysis {
        Analysis::Findings(findings) => tables::tables(findings),
        Analysis::Survey(survey) => survey::tables(survey),
    }
}

/// A screenful for a terminal.
pub fn summary(analysis: &Analysis) -> String {
    match analysis {
        Analysis::Findings(findings) => terminal::summary(findings),
        Analysis::Survey(survey) => survey::summary(survey),
    }
}

/// Whether the network passed its certificate, in a line.
pub fn verdict(analysis: &Analysis) -> String {
    match analysis {
        Analysis::Findings(findings) => terminal::verdict(&findings.certificate),
        Analysis::Survey(_) => survey::VERDICT.into(),
    }
}
