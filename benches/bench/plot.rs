//! Small line plots in one SVG: a logarithmic x axis, a y axis from 0, a mark for each point.

use std::fmt::Write as _;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 34.0;
const COLOURS: [&str; 3] = ["#1b6ca8", "#d1495b", "#3d8361"];

/// One line of a plot.
pub(crate) struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Series {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            points: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, x: f64, y: f64) {
        self.points.push((x, y));
    }
}

/// One plot.
pub(crate) struct Panel {
    title: String,
    x_name: String,
    series: Vec<Series>,
}

impl Panel {
    pub(crate) fn new(title: &str, x_name: &str) -> Self {
        Self {
            title: title.to_owned(),
            x_name: x_name.to_owned(),
            series: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, series: Series) {
        self.series.push(series);
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series
            .iter()
            .flat_map(|series| series.points.iter().copied())
    }

    fn draw(&self, out: &mut String) {
        let top = self.points().map(|(_, y)| y).fold(0.0, f64::max) * 1.1;
        let (first, last) = self
            .points()
            .fold((f64::MAX, f64::MIN), |(low, high), (x, _)| {
                (low.min(x.ln()), high.max(x.ln()))
            });
        let x_of =
            |x: f64| LEFT + (x.ln() - first) / (last - first).max(0.1) * (WIDTH - LEFT - 20.0);
        let y_of = |y: f64| TOP + (1.0 - y / top) * (HEIGHT - TOP - 36.0);
        let title = format!("{} by {}", self.title, self.x_name);
        let _ = write!(out, r#"<text x="8" y="16" class="t">{title}</text>"#);
        for share in [0.0, 0.5, 1.0] {
            let (y, label) = (y_of(top * share), short(top * share));
            let _ = write!(
                out,
                r##"<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}" stroke="#ddd"/><text x="{:.0}" y="{:.1}" class="s" text-anchor="end">{label}</text>"##,
                LEFT - 6.0,
                y + 4.0
            );
        }
        for (x, _) in &self.series[0].points {
            let _ = write!(
                out,
                r#"<text x="{:.1}" y="{}" class="s" text-anchor="middle">{}</text>"#,
                x_of(*x),
                HEIGHT - 18.0,
                short(*x)
            );
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: Vec<String> = series
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", x_of(*x), y_of(*y)))
                .collect();
            let _ = write!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
                path.join(" ")
            );
            for (x, y) in &series.points {
                let _ = write!(
                    out,
                    r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#,
                    x_of(*x),
                    y_of(*y)
                );
            }
            let _ = write!(
                out,
                r#"<text x="{}" y="{}" class="s" fill="{colour}">{}</text>"#,
                LEFT + 8.0 + 130.0 * index as f64,
                HEIGHT - 2.0,
                series.name
            );
        }
    }
}

/// All panels, two in a row.
pub(crate) fn svg(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(2) as f64;
    let (width, height) = (WIDTH * 2.0 + 20.0, rows * (HEIGHT + 12.0));
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"><style>text{{font-family:sans-serif}}.s{{font-size:10px}}.t{{font-size:12px;font-weight:bold}}</style><rect width="100%" height="100%" fill="#fff"/>"##
    );
    for (index, panel) in panels.iter().enumerate() {
        let (x, y) = (
            (index % 2) as f64 * (WIDTH + 20.0),
            (index / 2) as f64 * (HEIGHT + 12.0),
        );
        let _ = write!(out, r#"<g transform="translate({x},{y})">"#);
        panel.draw(&mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e3 => format!("{:.0}k", v / 1e3),
        v if v >= 10.0 || v == v.trunc() => format!("{v:.0}"),
        v => format!("{v:.1}"),
    }
}
