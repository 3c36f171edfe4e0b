//! Maps of n * n values as pictures: a colour for each value, packed as PNG so that a page holds many of them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Which colours values get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Palette {
    /// From nothing to much: dark blue over green to yellow, rising in lightness.
    Sequential,
    /// Below zero blue, zero near white, above zero red.
    Diverging,
}

/// Colours at even distances; those between are mixed. Both are told apart by readers with any colour vision, the first
/// by lightness alone (after viridis), the second by blue against red-brown (after ColorBrewer's RdBu).
const SEQUENTIAL: &[[u8; 3]] = &[
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];
const DIVERGING: &[[u8; 3]] = &[
    [33, 60, 120],
    [67, 113, 178],
    [146, 187, 217],
    [222, 233, 240],
    [246, 246, 246],
    [248, 220, 202],
    [236, 156, 122],
    [200, 84, 66],
    [122, 24, 42],
];

impl Palette {
    /// 256 colours, three bytes each.
    pub fn colours(self) -> Vec<u8> {
        let stops = match self {
            Self::Sequential => SEQUENTIAL,
            Self::Diverging => DIVERGING,
        };
        let mixed = |level: usize| {
            let along = level as f64 / 255.0 * (stops.len() - 1) as f64;
            let (i, share) =
                ((along as usize).min(stops.len() - 2), along - (along as usize).min(stops.len() - 2) as f64);
            [0, 1, 2].map(|c| (stops[i][c] as f64 * (1.0 - share) + stops[i + 1][c] as f64 * share).round() as u8)
        };
        (0..256).flat_map(mixed).collect()
    }

    /// Name in the page's data.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Diverging => "diverging",
        }
    }

    /// The ends of the colours for values: from the least to the largest, or as far below zero as above.
    pub fn ends(self, values: &[f64]) -> (f64, f64) {
        let (lo, hi) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &x| (lo.min(x), hi.max(x)));
        let (lo, hi) = match self {
            Self::Sequential => (lo, hi),
            Self::Diverging => (-lo.abs().max(hi.abs()), lo.abs().max(hi.abs())),
        };
        match (self, hi > lo) {
            (_, true) => (lo, hi),
            (Self::Sequential, false) => (lo, lo + 1.0),
            (Self::Diverging, false) => (-1.0, 1.0),
        }
    }
}

/// A [n, n] map as a PNG in a data URL: first index downwards, second to the right.
pub fn picture(values: &[f64], n: usize, palette: Palette, (lo, hi): (f64, f64)) -> String {
    let level = |x: &f64| ((x - lo) / (hi - lo) * 255.0).round().clamp(0.0, 255.0) as u8;
    let levels: Vec<u8> = values.iter().map(level).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, n as u32, n as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette.colours());
    encoder.set_compression(png::Compression::High);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&levels));
    written.expect("a picture of n * n levels goes into memory");
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_colour_of_its_own() {
        for palette in [Palette::Sequential, Palette::Diverging] {
            let colours = palette.colours();
            let mut seen: Vec<&[u8]> = colours.chunks_exact(3).collect();
            assert_eq!(seen.len(), 256);
            seen.sort();
            seen.dedup();
            assert!(seen.len() > 250, "a value must be found again by its colour: {}", seen.len());
        }
    }

    #[test]
    fn a_picture_decodes_to_its_levels() {
        let url = picture(&[0.0, 0.5, 1.0, 0.25], 2, Palette::Sequential, (0.0, 1.0));
        let bytes = STANDARD.decode(url.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut levels = vec![0; 4];
        reader.next_frame(&mut levels).unwrap();
        assert_eq!(levels, [0, 128, 255, 64]);
        assert_eq!(Palette::Diverging.ends(&[-3.0, 1.0]), (-3.0, 3.0));
    }
}
