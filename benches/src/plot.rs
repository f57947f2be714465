//! Plots of figures over time as one SVG: small panels below each other, a few lines in each.
//!
//! Invariant: the text depends on the values alone, so an unchanged figure is an unchanged file.

const WIDTH: f64 = 860.0;
const PANEL_HEIGHT: f64 = 130.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 46.0;
const GAP: f64 = 46.0;
const COLORS: [&str; 4] = ["#1f6feb", "#d4572a", "#2d8a4e", "#8250df"];

/// One line of a panel: a name, and a value a day.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: &'static str,
    /// By day, from 0.
    pub values: Vec<f64>,
}

/// Lines over one axis.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What they are.
    pub title: &'static str,
    /// At most four.
    pub lines: Vec<Line>,
}

/// The panels as an SVG document.
#[must_use]
pub fn svg(title: &str, panels: &[Panel]) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a few panels")]
    let height = TOP + panels.len() as f64 * (PANEL_HEIGHT + GAP);
    let mut svg = String::new();
    let mut put = |text: String| svg.push_str(&text);
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    ));
    for (nth, panel) in panels.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few panels")]
        let top = TOP + nth as f64 * (PANEL_HEIGHT + GAP);
        put(panel_svg(panel, top));
    }
    put("</svg>\n".to_owned());
    svg
}

fn panel_svg(panel: &Panel, top: f64) -> String {
    let values = panel.lines.iter().flat_map(|line| line.values.iter());
    let most = round_up(values.copied().fold(1.0, f64::max));
    let days = panel.lines.iter().map(|line| line.values.len()).max();
    let days = days.unwrap_or(0).max(2);
    let (bottom, right) = (top + PANEL_HEIGHT, WIDTH - RIGHT);
    let mut svg = format!(
        "<text x=\"{LEFT}\" y=\"{:.0}\">{}</text>\n",
        top - 6.0,
        panel.title
    );
    let mut put = |text: String| svg.push_str(&text);
    for share in [0.0, 0.5, 1.0] {
        let y = bottom - share * PANEL_HEIGHT;
        put(format!(
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#d8dee4\"/>\n\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#57606a\">{}</text>\n",
            LEFT - 6.0,
            y + 4.0,
            short(most * share)
        ));
    }
    put(format!(
        "<text x=\"{LEFT}\" y=\"{:.0}\" fill=\"#57606a\">day 0</text>\n\
         <text x=\"{right}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#57606a\">day {}</text>\n",
        bottom + 15.0,
        bottom + 15.0,
        days - 1
    ));
    #[expect(clippy::cast_precision_loss, reason = "a year has few days")]
    let step = (right - LEFT) / (days - 1) as f64;
    for ((line, color), nth) in panel.lines.iter().zip(COLORS).zip(0_u8..) {
        let points = line.values.iter().zip(0_u32..).map(|(value, day)| {
            let x = LEFT + f64::from(day) * step;
            format!("{x:.1},{:.1}", bottom - value / most * PANEL_HEIGHT)
        });
        let points: Vec<String> = points.collect();
        put(format!(
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" points=\"{}\"/>\n\
             <text x=\"{:.0}\" y=\"{:.0}\" fill=\"{color}\">{}</text>\n",
            points.join(" "),
            right + 10.0,
            top + 14.0 + 18.0 * f64::from(nth),
            line.name
        ));
    }
    svg
}

/// The next of 1, 2, 5, 10, 20, … that is not less.
fn round_up(value: f64) -> f64 {
    let mut least = 1.0;
    loop {
        for step in [1.0, 2.0, 5.0] {
            if value <= least * step {
                return least * step;
            }
        }
        least *= 10.0;
    }
}

/// A number for an axis.
fn short(value: f64) -> String {
    match value {
        0.0..1e3 => format!("{value}"),
        1e3..1e6 => format!("{} k", value / 1e3),
        1e6..1e9 => format!("{} M", value / 1e6),
        _ => format!("{} G", value / 1e9),
    }
}
