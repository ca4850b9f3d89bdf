//! Bars in a picture: one number each for many who did the same.

use super::{Axis, COLOURS, Ruler, TOP, WIDTH, escaped, legend_width, number, opening};
use std::fmt::Write as _;

/// Where bars begin: names stand before it.
const LEFT: f64 = 262.0;
/// Numbers stand behind the longest bar.
const RIGHT: f64 = 92.0;
const BOTTOM: f64 = 46.0;
const ROW: f64 = 24.0;

/// A bar: the median, and the line from the lowest to the highest over it.
#[derive(Debug, Clone)]
struct Bar {
    name: String,
    group: usize,
    spread: [f64; 3],
}

/// A picture of bars that lie one below the other.
#[derive(Debug, Clone)]
pub struct Bars {
    title: String,
    axis: Axis,
    groups: Vec<String>,
    bars: Vec<Bar>,
}

impl Bars {
    /// Begins a picture; each group has a colour and stands in the legend.
    pub fn new(title: &str, axis: Axis, groups: &[&str]) -> Bars {
        let groups = groups.iter().map(ToString::to_string).collect();
        Bars { title: title.to_owned(), axis, groups, bars: Vec::new() }
    }

    /// Adds a bar of a group: lowest, median, highest.
    #[must_use]
    pub fn bar(mut self, name: &str, group: usize, spread: [f64; 3]) -> Bars {
        self.bars.push(Bar { name: name.to_owned(), group: group % COLOURS, spread });
        self
    }

    /// Draws it: a whole SVG document.
    pub fn svg(&self) -> String {
        let height = TOP + ROW * self.bars.len() as f64 + BOTTOM;
        let numbers = self.bars.iter().flat_map(|bar| bar.spread).filter(|number| number.is_finite());
        let ruler = Ruler::over(&self.axis, numbers, (LEFT, WIDTH - RIGHT));
        let mut svg = opening(&self.title, height);
        self.grid(&mut svg, &ruler, height - BOTTOM);
        self.legend(&mut svg);
        for (place, bar) in self.bars.iter().enumerate() {
            draw(&mut svg, bar, &ruler, TOP + ROW * place as f64);
        }
        svg.push_str("</svg>\n");
        svg
    }

    // Writing to a String cannot fail: the answers of write! below are of no use.
    fn grid(&self, svg: &mut String, ruler: &Ruler, bottom: f64) {
        for tick in ruler.ticks() {
            let at = ruler.place(tick);
            let _ = writeln!(
                svg,
                "<path class=\"g\" d=\"M{at:.1} {TOP}V{bottom}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                number(tick)
            );
        }
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 36.0,
            escaped(&self.axis.label)
        );
    }

    fn legend(&self, svg: &mut String) {
        let mut at = 20.0;
        for (group, name) in self.groups.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<rect class=\"p s{}\" x=\"{at:.0}\" y=\"40\" width=\"12\" height=\"10\"/>\
                 <text x=\"{:.0}\" y=\"49\">{}</text>",
                group % COLOURS,
                at + 18.0,
                escaped(name)
            );
            at += 18.0 + legend_width(name);
        }
    }
}

fn draw(svg: &mut String, bar: &Bar, ruler: &Ruler, top: f64) {
    let [low, median, high] = bar.spread.map(|value| ruler.place(value));
    let middle = top + ROW / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        LEFT - 8.0,
        middle + 4.0,
        escaped(&bar.name)
    );
    if !(low.is_finite() && median.is_finite() && high.is_finite()) {
        return;
    }
    let _ = writeln!(
        svg,
        "<g class=\"s{}\"><rect class=\"p\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" \
         opacity=\"0.85\"/></g><path class=\"a\" d=\"M{low:.1} {middle:.1}H{high:.1}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        bar.group,
        top + 4.0,
        (median - LEFT).max(0.0),
        ROW - 8.0,
        high.max(median) + 6.0,
        middle + 4.0,
        grouped(bar.spread[1])
    );
}

/// Writes a number with three digits or all before the point, thousands apart.
fn grouped(value: f64) -> String {
    if value < 100.0 {
        return number((value * 100.0).round() / 100.0);
    }
    let digits = format!("{value:.0}");
    let first = (digits.len() - 1) % 3 + 1;
    let (head, rest) = digits.split_at(first);
    let parts = rest.as_bytes().chunks(3).map(|part| String::from_utf8_lossy(part).into_owned());
    std::iter::once(head.to_owned()).chain(parts).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_bar_and_a_number_for_each() {
        let svg = Bars::new("Worked off", Axis::log("tasks a second"), &["kept", "deleted"])
            .bar("one & all", 0, [900.0, 1_000.0, 1_100.0])
            .bar("two", 1, [90_000.0, 100_000.0, 120_000.0])
            .bar("none", 1, [f64::NAN, f64::NAN, f64::NAN])
            .svg();
        for part in [">one &amp; all<", ">1,000<", ">100,000<", ">tasks a second<", ">deleted<", ">none<"] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("<g class=").count(), 2, "what was not measured has none");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn the_longer_bar_is_the_larger_number() {
        let svg = Bars::new("", Axis::linear(""), &[]).bar("", 0, [1.0; 3]).bar("", 0, [2.0; 3]).svg();
        let widths: Vec<f64> = svg
            .split("class=\"p\"")
            .skip(1)
            .filter_map(|part| part.split("width=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert!(widths.len() == 2 && (widths[1] / widths[0] - 2.0).abs() < 0.01, "{widths:?}");
    }

    #[test]
    fn numbers_are_written_to_be_read() {
        let check = |value, expected: &str| assert_eq!(grouped(value), expected);
        check(0.426, "0.43");
        check(99.5, "99.5");
        check(100.4, "100");
        check(1_234_567.0, "1,234,567");
        check(27_182.0, "27,182");
    }
}
