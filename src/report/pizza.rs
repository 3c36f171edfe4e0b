//! Clock or Pizza: the measures beside the distributions of published networks, and the sentence that follows from them.

use super::article::{show, table, text};
use super::scale::Scale;
use super::svg::{self, Axis, Figure, short};
use crate::analysis::Findings;
use crate::analysis::pizza::{Algorithm, ClockOrPizza, PIZZA};
use crate::analysis::published::{self, Ends};
use maud::{Markup, html};

/// A measure with its standard error, and the distributions to compare it with.
struct Measure {
    name: &'static str,
    value: Option<f64>,
    error: Option<f64>,
    ends: Ends,
}

fn measures(of: &ClockOrPizza) -> [Measure; 4] {
    [
        Measure {
            name: "gradient symmetricity (100 published triples)",
            value: of.gradient_symmetricity,
            error: of.gradient_symmetricity_error,
            ends: published::gradient_symmetricity(),
        },
        Measure {
            name: "gradient symmetricity (256 inputs, all classes)",
            value: Some(of.gradient_symmetricity_wide),
            error: Some(of.gradient_symmetricity_wide_error),
            ends: published::gradient_symmetricity(),
        },
        Measure {
            name: "distance irrelevance",
            value: of.distance_irrelevance,
            error: None,
            ends: published::distance_irrelevance(),
        },
        Measure { name: "circularity", value: of.circularity, error: None, ends: published::circularity() },
    ]
}

/// The measures beside the medians of the published networks.
pub fn figures(findings: &Findings) -> Vec<Figure> {
    let measures = measures(&findings.clock_or_pizza);
    let row = |measure: &Measure| {
        let name = measure.name.split(" (256").next().unwrap_or(measure.name);
        (name.to_string(), vec![measure.value, Some(measure.ends.clock.values[2]), Some(measure.ends.pizza.values[2])])
    };
    let rows: Vec<_> = measures[1..].iter().map(row).collect();
    let lowest = rows.iter().flat_map(|(_, values)| values.iter().flatten()).fold(0.0f64, |lo, &x| lo.min(x));
    let axis = Axis { name: "value of the measure", scale: Scale::linear(lowest, 1.0) };
    let series = ["this network", "median, full attention", "median, constant attention"];
    vec![svg::named_bars("clock-or-pizza", "Clock or Pizza", axis, &rows, &series)]
}

/// Says which algorithm the measures are those of. The error is that of symmetricity, the only sampled one of the two.
pub fn sentence(of: &ClockOrPizza) -> String {
    let (symmetricity, irrelevance) = (of.gradient_symmetricity_wide, of.distance_irrelevance);
    let symmetricity = format!("{} ± {}", short(symmetricity), short(of.gradient_symmetricity_wide_error));
    let told = match irrelevance {
        Some(x) => format!("symmetricity {symmetricity}, irrelevance {}", short(x)),
        None => format!("symmetricity {symmetricity}"),
    };
    let bound = short(published::gradient_symmetricity().clock.values[4]);
    let irrelevance_of = |which: &str| match irrelevance {
        Some(_) => format!(", and its irrelevance is {which}"),
        None => String::new(),
    };
    match of.algorithm {
        Algorithm::Clock => format!(
            "This network is a Clock ({told}): its symmetricity is clearly below {bound}, the 95th percentile of published networks with full attention{}.",
            irrelevance_of("at least their 5th percentile")
        ),
        Algorithm::Pizza => format!(
            "This network is a Pizza ({told}): its symmetricity is clearly above {PIZZA}{}.",
            irrelevance_of("at most the 95th percentile of published networks with constant attention")
        ),
        Algorithm::Between => format!(
            "This network is neither a Clock nor a Pizza, but between the two ({told}): its symmetricity is not clearly (by two standard errors) below {bound}, the 95th percentile of published networks with full attention, nor clearly above {PIZZA}, the threshold of a Pizza."
        ),
        Algorithm::DoesNotApply => {
            "This network answers too few pairs to be a Clock or a Pizza, whatever the measures are.".into()
        }
        Algorithm::Neither => format!(
            "This network is neither a Clock nor a Pizza ({told}): its symmetricity is that of one of them, but its irrelevance is not."
        ),
    }
}

/// The section of the page.
pub fn section(findings: &Findings, figures: &[Figure]) -> Markup {
    let of = &findings.clock_or_pizza;
    let row = |measure: &Measure| {
        let value = match (measure.value, measure.error) {
            (Some(value), Some(error)) => format!("{} ± {}", short(value), short(error)),
            (Some(value), None) => short(value),
            (None, _) => "does not apply".into(),
        };
        let place = |percentiles: &published::Percentiles| {
            let range = format!("{} to {}", short(percentiles.values[0]), short(percentiles.values[4]));
            match measure.value {
                Some(value) => html! { (range) br; small { (percentiles.place(value)) " percentile" } },
                None => html! { (range) },
            }
        };
        vec![text(measure.name), text(value), place(&measure.ends.clock), place(&measure.ends.pizza)]
    };
    html! {
        p {
            "There are two known ways to add on circles. A Clock multiplies the waves of a and b and adds their angles; a Pizza adds the embeddings and reads the "
            "angle off their mean. Gradient symmetricity is near 1 where only the sum of the embeddings counts; distance irrelevance is near 1 where the correct logit does not depend on a - b. "
            strong { (sentence(of)) }
        }
        (table(&["measure", "this network", "full attention", "constant attention"], measures(of).iter().map(row).collect()))
        (show(figures))
        p { small {
            "± is the standard error of a sampled mean. Right: 5th to 95th percentile of the one-layer networks without “=” of Zhong et al. 2023 (p = 59), with an attention rate above 0.9 and below 0.1. "
            "A negative symmetricity, which some published networks have too, means that the two gradients point apart. Where keys are equally strong they mix in the principal components, so a low circularity proves nothing."
        } }
    }
}
