//! Plots as SVG: lines over a logarithmic scale, drawn in the colours of the page.

use std::fmt::Write as _;

/// One line.
pub(super) struct Line {
    /// Whose.
    pub(super) name: String,
    /// Which of the colours it has. Those beyond [`COLOURS`] are drawn dotted in the first ones again.
    pub(super) colour: usize,
    /// Whether it is a limit, which is drawn dashed.
    pub(super) dashed: bool,
    /// Its points: the place on the x axis, counted from 0, and the value.
    pub(super) points: Vec<(usize, f64)>,
}

/// What is drawn.
pub(super) struct Plot {
    /// What the values are.
    pub(super) unit: String,
    /// The places on the x axis, in order.
    pub(super) places: Vec<String>,
    /// The lines.
    pub(super) lines: Vec<Line>,
    /// How a value is written.
    pub(super) label: fn(f64) -> String,
    /// How a power of ten is written.
    pub(super) tick: fn(f64) -> String,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 96.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 30.0;

/// Lines that can be told apart: the page has so many colours.
pub(super) const COLOURS: usize = 10;

impl Plot {
    /// The drawing, with a legend below it; nothing if there is nothing to draw.
    pub(super) fn svg(&self) -> String {
        let values = self.lines.iter().flat_map(|line| &line.points);
        let values: Vec<f64> = values
            .map(|(_, value)| *value)
            .filter(|v| *v > 0.0)
            .collect();
        if values.is_empty() || self.places.is_empty() {
            return String::new();
        }
        let least = values
            .iter()
            .copied()
            .fold(f64::INFINITY, f64::min)
            .log10()
            .floor();
        let most = values
            .iter()
            .copied()
            .fold(0.0, f64::max)
            .log10()
            .ceil()
            .max(least + 1.0);
        let x = |place: usize| {
            let room = WIDTH - LEFT - RIGHT;
            LEFT + room * (place as f64 + 0.5) / self.places.len() as f64
        };
        let y = |value: f64| {
            let share = (value.log10() - least) / (most - least);
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = format!(
            "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            self.unit
        );
        let _ = write!(
            svg,
            "<text class=\"unit\" x=\"4\" y=\"18\">{}</text>",
            self.unit
        );
        for decade in least as i32..=most as i32 {
            let value = 10_f64.powi(decade);
            let at = y(value);
            let right = WIDTH - RIGHT;
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                (self.tick)(value)
            );
        }
        for (place, name) in self.places.iter().enumerate() {
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
                x(place),
                HEIGHT - 10.0
            );
        }
        for line in &self.lines {
            let class = class(line);
            let mut path = String::new();
            for (number, (place, value)) in line.points.iter().enumerate() {
                let command = if number == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{:.1} {:.1}", x(*place), y(*value));
            }
            let _ = write!(svg, "<path class=\"{class}\" d=\"{path}\"/>");
            for (place, value) in &line.points {
                let _ = write!(
                    svg,
                    "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{}, {}: {}</title></circle>",
                    x(*place),
                    y(*value),
                    line.name,
                    self.places[*place],
                    (self.label)(*value)
                );
            }
        }
        svg += "</svg><figcaption>";
        for line in &self.lines {
            let class = class(line);
            let _ = write!(
                svg,
                "<span><svg class=\"key\" viewBox=\"0 0 24 8\"><path class=\"{class}\" d=\"M1 4H23\"/></svg>{}</span>",
                line.name
            );
        }
        svg + "</figcaption></figure>"
    }
}

fn class(line: &Line) -> String {
    let stroke = match (line.dashed, line.colour < COLOURS) {
        (true, _) => " dashed",
        (false, true) => "",
        (false, false) => " dotted",
    };
    format!("line c{}{stroke}", line.colour % COLOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch a point that is drawn outside the picture, or upside down.
    #[test]
    fn larger_values_are_drawn_higher_and_inside() {
        let line = Line {
            name: "a".into(),
            colour: 0,
            dashed: false,
            points: vec![(0, 1.0), (1, 1000.0)],
        };
        let plot = Plot {
            unit: "ns".into(),
            places: vec!["p50".into(), "p99".into()],
            lines: vec![line],
            label: |value| format!("{value}"),
            tick: |value| format!("{value}"),
        };
        let svg = plot.svg();
        let heights: Vec<f64> = svg
            .split("cy=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights, [HEIGHT - BOTTOM, TOP]);
        assert!(
            Plot {
                lines: vec![],
                ..plot
            }
            .svg()
            .is_empty()
        );
    }
}
