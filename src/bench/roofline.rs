//! The roofline: what each kernel reaches, by how many operations it does for a byte.

use super::{Device, Kernel, Run};
use maud::{Markup, html};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 50.0;
const TOP: f64 = 40.0;

/// A logarithmic axis.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// Decades that hold the values.
    fn over(values: impl Iterator<Item = f64> + Clone, start: f64, end: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(0.0, f64::max);
        Self { from: least.log10().floor(), to: most.log10().ceil(), start, end }
    }

    fn at(&self, value: f64) -> f64 {
        self.start + (value.log10() - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|e| 10f64.powi(e))
    }
}

fn intensity(kernel: &Kernel) -> f64 {
    kernel.flops / kernel.bytes
}

/// The kernels of a run under the device's ceilings, as an SVG file. Kernels that only move numbers have no place on it.
pub fn svg(device: &Device, run: &Run) -> String {
    let shown: Vec<&Kernel> = run.kernels.iter().filter(|kernel| kernel.flops > 0.0 && kernel.bytes > 0.0).collect();
    let c = &device.ceilings;
    let ridge = c.multiply_add_gflop_s / c.copy_gb_s;
    let x = Axis::over(shown.iter().map(|k| intensity(k)).chain([ridge, 4.0 * ridge]), LEFT, WIDTH - 20.0);
    let speeds = shown.iter().map(|kernel| kernel.gflop_s()).chain([c.multiply_add_gflop_s]);
    let y = Axis::over(speeds, HEIGHT - BOTTOM, TOP);
    let (left, right) = (10f64.powf(x.from), 10f64.powf(x.to));
    let floor = 10f64.powf(y.from);
    // Where the memory's roof comes in: at the left edge, or at the bottom where that lies higher.
    let entry = left.max(floor / c.copy_gb_s);
    let roof = [(entry, entry * c.copy_gb_s), (ridge, c.multiply_add_gflop_s), (right, c.multiply_add_gflop_s)];
    let roof: Vec<String> = roof.iter().map(|&(i, s)| format!("{:.1},{:.1}", x.at(i), y.at(s))).collect();
    let slowest = run.kernels.iter().map(|kernel| kernel.ms.median).fold(0.0, f64::max);
    // The largest have numbers, told in the corner above the memory's roof, which only what a cache serves can reach.
    let mut named: Vec<&Kernel> =
        shown.iter().copied().filter(|kernel| kernel.ms.median > 0.05 * run.kernels_ms).collect();
    named.sort_by(|a, b| b.ms.median.total_cmp(&a.ms.median));
    let text: Markup = html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) font-family="sans-serif" font-size="12" {
            style { "svg{color:#1b1b1b;background:#fff}@media(prefers-color-scheme:dark){svg{color:#eee;background:#181818}}text{fill:currentColor}.grid{stroke:currentColor;opacity:.15}.roof{fill:none;stroke:currentColor;stroke-width:2}circle{fill:#0969da;fill-opacity:.55;stroke:#0969da}" }
            title { "Roofline of " (run.title()) " on " (device.name) }
            text x=(LEFT) y="20" { (run.title()) " on " (device.name) }
            @for tick in x.decades() {
                line .grid x1=(x.at(tick)) x2=(x.at(tick)) y1=(TOP) y2=(HEIGHT - BOTTOM) {}
                text x=(x.at(tick)) y=(HEIGHT - BOTTOM + 18.0) text-anchor="middle" { (tick) }
            }
            @for tick in y.decades() {
                line .grid x1=(LEFT) x2=(WIDTH - 20.0) y1=(y.at(tick)) y2=(y.at(tick)) {}
                text x=(LEFT - 8.0) y=(y.at(tick) + 4.0) text-anchor="end" { (tick) }
            }
            text x=((LEFT + WIDTH) / 2.0) y=(HEIGHT - 10.0) text-anchor="middle" { "floating point operations per byte" }
            text transform=(format!("translate(16 {}) rotate(-90)", HEIGHT / 2.0)) text-anchor="middle" { "GFLOP/s" }
            polyline .roof points=(roof.join(" ")) {}
            @for kernel in &shown {
                circle cx=(format!("{:.1}", x.at(intensity(kernel)))) cy=(format!("{:.1}", y.at(kernel.gflop_s()))) r=(format!("{:.1}", 3.0 + 12.0 * (kernel.ms.median / slowest).sqrt())) {
                    title { (kernel.name) ": " (format!("{:.3} ms, {:.1} GFLOP/s, {:.1} GB/s", kernel.ms.median, kernel.gflop_s(), kernel.gb_s())) }
                }
            }
            @for (n, kernel) in named.iter().enumerate() {
                @let side = if n % 2 == 0 { -12.0 } else { 18.0 };
                text x=(format!("{:.1}", x.at(intensity(kernel)))) y=(format!("{:.1}", y.at(kernel.gflop_s()) + side)) text-anchor="middle" font-weight="bold" { (n + 1) }
                text x=(LEFT + 8.0) y=(TOP + 14.0 + 13.0 * n as f64) font-size="10" { (n + 1) "  " (kernel.name) (format!("  {:.2} ms", kernel.ms.median)) }
            }
        }
    };
    text.into_string()
}
