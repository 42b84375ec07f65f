//! Plots: small SVG pictures with no script and no font of their own, readable on light and on dark.

use std::fmt::Write;

use crate::figures::Figure;

const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.small { font-size: 10.5px; fill: #57606a }
.axis { stroke: #8c959f; stroke-width: 1 }
.grid { stroke: #d0d7de; stroke-width: 1 }
.goal { stroke: #1a7f37; stroke-width: 1.5; stroke-dasharray: 4 3 }
.c0 { color: #0969da } .c1 { color: #bc4c00 } .c2 { color: #8250df } .c3 { color: #1a7f37 } .c4 { color: #57606a } .c5 { color: #cf222e }
.dot { fill: currentColor; opacity: .35 } .mid { stroke: currentColor; stroke-width: 3 } .span { stroke: currentColor; stroke-width: 1.5 }
.line { stroke: currentColor; stroke-width: 2; fill: none } .mark { fill: currentColor }
@media (prefers-color-scheme: dark) {
 text { fill: #e6edf3 } .small { fill: #9198a1 } .axis { stroke: #6e7681 } .grid { stroke: #30363d } .goal { stroke: #3fb950 }
 .c0 { color: #58a6ff } .c1 { color: #f0883e } .c2 { color: #bc8cff } .c3 { color: #3fb950 } .c4 { color: #9198a1 } .c5 { color: #ff7b72 }
}
</style>";
const ROW: f64 = 26.0;
const PANEL: f64 = 160.0;
const GAP: f64 = 24.0;
const TOP: f64 = 46.0;

/// One figure of all arms.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Each arm's values, one for each round.
    pub(crate) values: Vec<Vec<f64>>,
    /// Where the goal lies.
    pub(crate) goal: Option<f64>,
    pub(crate) logarithmic: bool,
}

/// Panels side by side, an arm in each row: a dot for each round, a bar for the median, a line for its interval.
pub(crate) fn panels(arms: &[(String, usize)], panels: &[Panel]) -> String {
    let left = 8.0 + 6.6 * arms.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0) as f64;
    let height = TOP + ROW * arms.len() as f64 + 30.0;
    let width = left + panels.len() as f64 * (PANEL + GAP) + 8.0;
    let mut svg = open(width, height);
    for (row, (name, _)) in arms.iter().enumerate() {
        text(&mut svg, left - 8.0, middle(row) + 4.0, "end", "", name);
    }
    for (column, panel) in panels.iter().enumerate() {
        let x = left + 8.0 + column as f64 * (PANEL + GAP);
        let axis = Axis::new(
            panel.values.iter().flatten().copied().chain(panel.goal),
            panel.logarithmic,
            x,
            x + PANEL,
        );
        text(&mut svg, x, 18.0, "start", "", &panel.title);
        let (top, bottom) = (TOP - 12.0, height - 26.0);
        for (value, name) in axis.ticks() {
            line(&mut svg, "grid", [axis.at(value), top, axis.at(value), bottom]);
            text(&mut svg, axis.at(value), height - 10.0, "middle", "small", &name);
        }
        if let Some(goal) = panel.goal {
            line(&mut svg, "goal", [axis.at(goal), top, axis.at(goal), bottom]);
        }
        for (row, (values, (_, colour))) in panel.values.iter().zip(arms).enumerate() {
            if values.is_empty() {
                continue;
            }
            let y = middle(row);
            let _ = write!(svg, "<g class=\"c{colour}\">");
            for (n, value) in values.iter().enumerate() {
                let y = y + (n % 5) as f64 * 2.0 - 4.0;
                let _ = write!(
                    svg,
                    "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>",
                    axis.at(*value)
                );
            }
            let figure = Figure::of(values.iter().copied());
            line(&mut svg, "span", [axis.at(figure.low), y, axis.at(figure.high), y]);
            line(&mut svg, "mid", [axis.at(figure.median), y - 8.0, axis.at(figure.median), y + 8.0]);
            svg += "</g>\n";
        }
    }
    svg + "</svg>\n"
}

/// An arm's name, its colour, and its points.
pub(crate) type Line = (String, usize, Vec<(f64, f64)>);

/// A line of each arm's points, both axes logarithmic; under the title and the axes' names.
pub(crate) fn lines(title: [&str; 3], arms: &[Line]) -> String {
    let (width, height, left, right, bottom) = (720.0, 330.0, 70.0, 500.0, 280.0);
    let mut svg = open(width, height);
    let points = || arms.iter().flat_map(|(_, _, points)| points);
    let across = Axis::new(points().map(|p| p.0), true, left, right);
    let up = Axis::new(points().map(|p| p.1), true, bottom, TOP);
    text(&mut svg, left, 18.0, "start", "", title[0]);
    text(&mut svg, f64::midpoint(left, right), height - 12.0, "middle", "small", title[1]);
    text(&mut svg, 8.0, 36.0, "start", "small", title[2]);
    for (value, name) in across.ticks() {
        line(&mut svg, "grid", [across.at(value), TOP, across.at(value), bottom]);
        text(&mut svg, across.at(value), bottom + 16.0, "middle", "small", &name);
    }
    for (value, name) in up.ticks() {
        line(&mut svg, "grid", [left, up.at(value), right, up.at(value)]);
        text(&mut svg, left - 6.0, up.at(value) + 4.0, "end", "small", &name);
    }
    for (n, (name, colour, points)) in arms.iter().enumerate() {
        let path: Vec<String> =
            points.iter().map(|p| format!("{:.1},{:.1}", across.at(p.0), up.at(p.1))).collect();
        let y = TOP + 16.0 * n as f64;
        let _ =
            write!(svg, "<g class=\"c{colour}\"><polyline class=\"line\" points=\"{}\"/>", path.join(" "));
        line(&mut svg, "mid", [right + 12.0, y, right + 30.0, y]);
        svg += "</g>";
        text(&mut svg, right + 36.0, y + 4.0, "start", "small", name);
    }
    svg + "</svg>\n"
}

fn middle(row: usize) -> f64 {
    TOP + ROW * (row as f64 + 0.5) - 6.0
}

/// From values to places.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, logarithmic: bool, from: f64, to: f64) -> Self {
        let values: Vec<f64> = values.filter(|v| v.is_finite() && (!logarithmic || *v > 0.0)).collect();
        let high = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        let low = if logarithmic { values.iter().copied().fold(high, f64::min).max(high / 1e6) } else { 0.0 };
        // A little room, and never a line without length.
        let (low, high) = if logarithmic { (low / 1.15, high * 1.15) } else { (low, high * 1.05 + 1e-9) };
        Self { low, high, logarithmic, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Round values, and how they are written.
    fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = Vec::new();
        if self.logarithmic {
            let decades = (self.high / self.low).log10();
            let steps: &[f64] = if decades > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            for power in (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32) {
                ticks.extend(steps.iter().map(|step| step * 10_f64.powi(power)));
            }
        } else {
            let rough = self.high / 4.0;
            let power = 10_f64.powf(rough.log10().floor());
            let step =
                [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
            ticks.extend((0..6).map(|n| f64::from(n) * step));
        }
        let inside = ticks.into_iter().filter(|t| (self.low..=self.high).contains(t));
        inside.map(|t| (t, short(t))).collect()
    }
}

/// A number without the noise of binary fractions.
fn short(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn open(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" role=\"img\">{STYLE}\n"
    )
}

fn line(svg: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, class: &str, words: &str) {
    let words = super::escaped(words);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}
