//! Equations, written in LaTeX and typeset as MathML.

use math_core::{LatexToMathML, MathCoreConfig, MathDisplay};
use maud::{Markup, PreEscaped};

/// An equation on a line of its own.
pub fn block(latex: &str) -> Markup {
    typeset(latex, MathDisplay::Block)
}

/// A symbol within a sentence.
pub fn inline(latex: &str) -> Markup {
    typeset(latex, MathDisplay::Inline)
}

fn typeset(latex: &str, display: MathDisplay) -> Markup {
    let converter = LatexToMathML::new(MathCoreConfig::default()).expect("the default configuration is a good one");
    let result = converter.convert_with_local_state(latex, display);
    PreEscaped(result.unwrap_or_else(|problem| panic!("the equation {latex} is not LaTeX: {problem}")).mathml)
}
