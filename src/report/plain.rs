//! Figures for readers that know no variables of CSS: their style with light colours in the variables' places.

/// Colours that marks choose among by class, c0 to c7.
const OWN: usize = 8;

/// An SVG file of a figure whose style is plain.
pub fn plain(svg: &str) -> String {
    match svg.split_once("<style>").and_then(|(head, rest)| Some((head, rest.split_once("</style>")?))) {
        Some((head, (style, rest))) => format!("{head}<style>{}</style>{rest}", style_of(style)),
        None => svg.into(),
    }
}

/// Selector and declarations of each rule; those that hold for some media or for a pointer are left out.
fn rules(style: &str) -> Vec<(&str, &str)> {
    let (mut rules, mut rest) = (Vec::new(), style);
    while let Some((selector, after)) = rest.split_once('{') {
        let selector = selector.trim();
        let mut depth = 1;
        let end = after.find(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            depth == 0
        });
        let end = end.unwrap_or(after.len());
        if !selector.starts_with('@') && !selector.contains(':') {
            rules.push((selector, &after[..end]));
        }
        rest = after.get(end + 1..).unwrap_or_default();
    }
    rules
}

fn style_of(style: &str) -> String {
    let rules = rules(style);
    let declarations = rules.iter().flat_map(|(_, body)| body.split(';')).filter_map(|one| one.split_once(':'));
    let variables: Vec<(String, &str)> = declarations
        .map(|(name, value)| (name.trim(), value.trim()))
        .filter(|(name, _)| name.starts_with("--") && *name != "--own")
        .map(|(name, value)| (format!("var({name})"), value))
        .collect();
    let resolved =
        |body: &str| variables.iter().fold(body.to_string(), |body, (name, value)| body.replace(name, value));
    let mut plain = String::new();
    for (selector, body) in rules.iter().filter(|(_, body)| !body.contains("--own:")) {
        let body: Vec<&str> =
            body.split(';').map(str::trim).filter(|one| !one.is_empty() && !one.starts_with("--")).collect();
        let body = body.join("; ");
        match body.contains("var(--own)") {
            true => (0..OWN).for_each(|k| {
                let own = resolved(&body.replace("var(--own)", &format!("var(--c{k})")));
                plain += &format!("{selector}.c{k} {{ {own} }}\n");
            }),
            false => plain += &format!("{selector} {{ {} }}\n", resolved(&body)),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_style_has_the_light_colours_and_no_variables() {
        let plain = style_of(super::super::FIGURE_STYLE);
        assert!(!plain.contains("var(") && !plain.contains("--") && !plain.contains('@'), "{plain}");
        assert!(plain.contains("svg.figure text { fill: #1c1c1a }"), "{plain}");
        assert!(plain.contains("svg.figure .bar.c1 { fill: #d55e00 }"), "{plain}");
        assert!(plain.contains("svg.figure .line.c1 { stroke-dasharray: 7 3 }"), "{plain}");
    }
}
