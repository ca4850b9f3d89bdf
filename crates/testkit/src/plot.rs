//! Lines and bars in a picture: a small SVG that can be read on light and on dark pages.
//!
//! Here live [`Plot`], named series over two axes, each linear or logarithmic, with ticks, labels and a legend, and
//! what it shares with [`Bars`], one number each for many. A picture brings its own background and follows `prefers-color-scheme`, so it is readable wherever it is shown. What
//! is drawn, and where the picture goes, is the caller's business. Nothing here reads files or knows a ledger.

mod bars;

pub use bars::Bars;

use std::fmt::Write as _;

/// Points of one series that are drawn at most; of more, the highest and lowest of each stretch.
const POINTS_MAX: usize = 400;
/// Series with at most so many points show each of them.
const DOTS_MAX: usize = 24;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 52.0;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#57606a}\
.t{font-size:15px;font-weight:600;fill:#1f2328}\
.b{fill:#fff;stroke:#d8dee4}\
.g{stroke:#eaeef2}\
.a{stroke:#afb8c1}\
.l{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}\
.d{stroke-dasharray:5 4}\
.s0{stroke:#0969da;color:#0969da}.s1{stroke:#bc4c00;color:#bc4c00}.s2{stroke:#1a7f37;color:#1a7f37}\
.s3{stroke:#8250df;color:#8250df}.s4{stroke:#bf3989;color:#bf3989}.s5{stroke:#6e7781;color:#6e7781}\
.p{fill:currentColor;stroke:none}\
@media(prefers-color-scheme:dark){\
text{fill:#9198a1}.t{fill:#f0f6fc}.b{fill:#0d1117;stroke:#30363d}.g{stroke:#21262d}.a{stroke:#484f58}\
.s0{stroke:#58a6ff;color:#58a6ff}.s1{stroke:#f0883e;color:#f0883e}.s2{stroke:#3fb950;color:#3fb950}\
.s3{stroke:#bc8cff;color:#bc8cff}.s4{stroke:#f778ba;color:#f778ba}.s5{stroke:#8b949e;color:#8b949e}}";
/// Colours in [`STYLE`]; further series begin again.
const COLOURS: usize = 6;

/// How places on an axis follow from numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal steps are equally far apart. The axis shows zero, unless it begins elsewhere.
    Linear,
    /// Equal factors are equally far apart. What is not above zero is not drawn.
    Log,
}

/// An axis: what it measures, and how.
#[derive(Debug, Clone)]
pub struct Axis {
    label: String,
    scale: Scale,
    from: Option<f64>,
}

impl Axis {
    /// Measures evenly.
    pub fn linear(label: &str) -> Axis {
        Axis { label: label.to_owned(), scale: Scale::Linear, from: None }
    }

    /// Measures by factors.
    pub fn log(label: &str) -> Axis {
        Axis { label: label.to_owned(), scale: Scale::Log, from: None }
    }

    /// Begins at this number, or below where a point is.
    #[must_use]
    pub fn from(self, from: f64) -> Axis {
        Axis { from: Some(from), ..self }
    }
}

/// A line.
#[derive(Debug, Clone)]
struct Series {
    name: String,
    colour: usize,
    is_dashed: bool,
    points: Vec<(f64, f64)>,
}

/// A picture of lines.
#[derive(Debug, Clone)]
pub struct Plot {
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

impl Plot {
    /// Begins a picture.
    pub fn new(title: &str, x: Axis, y: Axis) -> Plot {
        Plot { title: title.to_owned(), x, y, series: Vec::new() }
    }

    /// Adds a line in the next colour. Where a number is not finite, the line has a gap.
    #[must_use]
    pub fn line(self, name: &str, points: Vec<(f64, f64)>) -> Plot {
        let colour = self.series.iter().filter(|series| !series.is_dashed).count();
        self.add(name, points, colour, false)
    }

    /// Adds a dashed line in the colour of the line before it, for what belongs to that.
    #[must_use]
    pub fn dashed(self, name: &str, points: Vec<(f64, f64)>) -> Plot {
        let colour = self.series.last().map_or(0, |series| series.colour);
        self.add(name, points, colour, true)
    }

    fn add(mut self, name: &str, points: Vec<(f64, f64)>, colour: usize, is_dashed: bool) -> Plot {
        self.series.push(Series { name: name.to_owned(), colour: colour % COLOURS, is_dashed, points });
        self
    }

    /// Draws it: a whole SVG document.
    pub fn svg(&self) -> String {
        let x = Ruler::over(&self.x, self.numbers(|point| point.0), (LEFT, WIDTH - RIGHT));
        let y = Ruler::over(&self.y, self.numbers(|point| point.1), (HEIGHT - BOTTOM, TOP));
        let mut svg = opening(&self.title, HEIGHT);
        self.grid(&mut svg, &x, &y);
        self.legend(&mut svg);
        for series in &self.series {
            draw(&mut svg, series, &x, &y);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn numbers(&self, of: fn(&(f64, f64)) -> f64) -> impl Iterator<Item = f64> {
        let whole = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
        self.series.iter().flat_map(|series| &series.points).filter(whole).map(of)
    }

    // Writing to a String cannot fail: the answers of write! below are of no use.
    fn grid(&self, svg: &mut String, x: &Ruler, y: &Ruler) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                svg,
                "<path class=\"g\" d=\"M{LEFT} {at:.1}H{right}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                number(tick)
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                svg,
                "<path class=\"a\" d=\"M{at:.1} {bottom}v5\"/><text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
                bottom + 19.0,
                number(tick)
            );
        }
        let _ = writeln!(svg, "<path class=\"a\" d=\"M{LEFT} {bottom}H{right}\"/>");
        let middle = f64::midpoint(LEFT, right);
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 12.0,
            escaped(&self.x.label)
        );
        let middle = f64::midpoint(TOP, bottom);
        let _ = writeln!(
            svg,
            "<text transform=\"translate(18 {middle:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.y.label)
        );
    }

    fn legend(&self, svg: &mut String) {
        let mut at = 20.0;
        for series in &self.series {
            let _ = writeln!(
                svg,
                "<path class=\"l s{}{}\" d=\"M{at:.0} 45h22\"/><text x=\"{:.0}\" y=\"49\">{}</text>",
                series.colour,
                if series.is_dashed { " d" } else { "" },
                at + 28.0,
                escaped(&series.name)
            );
            at += 28.0 + legend_width(&series.name);
        }
    }
}

/// Begins a picture: its size, its colours, its background and its title.
fn opening(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <rect class=\"b\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>\n\
         <text class=\"t\" x=\"20\" y=\"27\">{title}</text>\n",
        WIDTH - 1.0,
        height - 1.0,
        title = escaped(title),
    )
}

/// Returns what a name in the legend takes, with the gap after it. Letters differ in width; this is that of a wide one
/// on average.
fn legend_width(name: &str) -> f64 {
    6.8 * name.chars().count() as f64 + 20.0
}

fn draw(svg: &mut String, series: &Series, x: &Ruler, y: &Ruler) {
    let points = thinned(&series.points);
    let (mut path, mut dots, mut is_open) = (String::new(), String::new(), false);
    for (at, value) in &points {
        let (left, top) = (x.place(*at), y.place(*value));
        if !(left.is_finite() && top.is_finite()) {
            is_open = false;
            continue;
        }
        let _ = write!(path, "{}{left:.1} {top:.1}", if is_open { "L" } else { "M" });
        is_open = true;
        if points.len() <= DOTS_MAX {
            let _ = write!(dots, "<circle class=\"p\" cx=\"{left:.1}\" cy=\"{top:.1}\" r=\"3\"/>");
        }
    }
    let dashed = if series.is_dashed { " d" } else { "" };
    let _ = writeln!(
        svg,
        "<g class=\"s{colour}\"><path class=\"l{dashed}\" d=\"{path}\"/>{dots}</g>",
        colour = series.colour
    );
}

/// Where numbers of an axis stand in the picture.
#[derive(Debug)]
struct Ruler {
    scale: Scale,
    from: f64,
    to: f64,
    place: (f64, f64),
}

impl Ruler {
    fn over(axis: &Axis, numbers: impl Iterator<Item = f64>, place: (f64, f64)) -> Ruler {
        let scale = axis.scale;
        let shown = numbers.filter(|number| scale == Scale::Linear || *number > 0.0);
        let (least, most) =
            shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), n| (n.min(least), n.max(most)));
        let (least, most) = if least > most { (1.0, 1.0) } else { (least, most) };
        let (from, to) = match scale {
            Scale::Linear => {
                let from = least.min(axis.from.unwrap_or(0.0));
                (from, if most > from { most } else { from + 1.0 })
            }
            Scale::Log => {
                let from = least.min(axis.from.unwrap_or(least));
                (from, if most > from { most } else { from * 10.0 })
            }
        };
        let mut ruler = Ruler { scale, from, to, place };
        // A vertical axis ends above the highest point, at a tick.
        if place.0 > place.1 {
            ruler.round_up();
        }
        ruler
    }

    fn round_up(&mut self) {
        match self.scale {
            Scale::Linear => {
                let step = step(self.to - self.from);
                self.from = (self.from / step).floor() * step;
                self.to = (self.to / step).ceil() * step;
            }
            Scale::Log => {
                let below = self.from.log10().floor() as i32;
                let steps = |from: i32| {
                    (from..).flat_map(|power| [1.0, 2.0, 5.0].map(|part| part * 10f64.powi(power)))
                };
                let slack = 1.0 + 1e-9;
                self.from =
                    steps(below).take_while(|step| *step <= self.from * slack).last().unwrap_or(self.from);
                self.to = steps(below).find(|step| *step * slack >= self.to).unwrap_or(self.to);
            }
        }
    }

    fn place(&self, number: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (number - self.from) / (self.to - self.from),
            Scale::Log => (number / self.from).log10() / (self.to / self.from).log10(),
        };
        self.place.0 + part * (self.place.1 - self.place.0)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.to - self.from);
                let first = (self.from / step).ceil() as i64;
                let last = (self.to / step + 1e-9).floor() as i64;
                (first..=last).map(|n| n as f64 * step).collect()
            }
            Scale::Log => {
                let decades = (self.to / self.from).log10();
                let parts: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let (first, last) = (self.from.log10().floor() as i32, self.to.log10().ceil() as i32);
                let all =
                    (first..=last).flat_map(|power| parts.iter().map(move |part| part * 10f64.powi(power)));
                let slack = 1e-9;
                all.filter(|n| *n >= self.from * (1.0 - slack) && *n <= self.to * (1.0 + slack)).collect()
            }
        }
    }
}

/// Returns the distance of ticks, 1, 2 or 5 times a power of ten, so that there are four to ten of them.
fn step(span: f64) -> f64 {
    let power = 10f64.powf((span / 5.0).log10().floor());
    let parts = span / 5.0 / power;
    power
        * if parts > 5.0 {
            10.0
        } else if parts > 2.0 {
            5.0
        } else if parts > 1.0 {
            2.0
        } else {
            1.0
        }
}

/// Writes a tick: short, and exact enough for one.
fn number(tick: f64) -> String {
    let (value, unit) = match tick.abs() {
        size if size >= 1e9 => (tick / 1e9, "G"),
        size if size >= 1e6 => (tick / 1e6, "M"),
        size if size >= 1e4 => (tick / 1e3, "k"),
        _ => (tick, ""),
    };
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

/// Leaves of many points the highest and lowest of each stretch, so that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(POINTS_MAX / 2);
    let mut left = Vec::new();
    for part in points.chunks(stretch) {
        let by_height = |one: &&(f64, f64), other: &&(f64, f64)| one.1.total_cmp(&other.1);
        let mut ends: Vec<(f64, f64)> =
            part.iter().min_by(by_height).into_iter().chain(part.iter().max_by(by_height)).copied().collect();
        ends.sort_by(|one, other| one.0.total_cmp(&other.0));
        left.extend(ends);
    }
    left
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruler(axis: &Axis, numbers: &[f64]) -> Ruler {
        Ruler::over(axis, numbers.iter().copied(), (0.0, 100.0))
    }

    #[test]
    fn ticks_are_round_and_few() {
        let check = |axis: Axis, numbers: &[f64], expected: &[f64]| {
            let ticks = ruler(&axis, numbers).ticks();
            let same = ticks.len() == expected.len()
                && ticks.iter().zip(expected).all(|(one, other)| (one - other).abs() < 1e-9);
            assert!(same, "{ticks:?} instead of {expected:?}");
        };
        check(Axis::linear(""), &[3.0, 60.0], &[0.0, 20.0, 40.0, 60.0]);
        check(Axis::linear(""), &[0.3], &[0.0, 0.1, 0.2, 0.3]);
        check(Axis::linear("").from(10.0), &[10.0, 20.0], &[10.0, 12.0, 14.0, 16.0, 18.0, 20.0]);
        check(Axis::log(""), &[1.0, 100.0], &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        check(Axis::log(""), &[1e3, 1e6, 5e7], &[1e3, 1e4, 1e5, 1e6, 1e7]);
    }

    #[test]
    fn equal_factors_are_equally_far_apart_on_a_log_axis() {
        let ruler = ruler(&Axis::log(""), &[1.0, 10_000.0]);
        assert!((ruler.place(100.0) - 50.0).abs() < 1e-9);
        assert!(!ruler.place(0.0).is_finite() && !ruler.place(-1.0).is_finite());
    }

    #[test]
    fn axes_of_nothing_and_of_one_number_have_a_length() {
        for axis in [Axis::linear(""), Axis::log("")] {
            for numbers in [&[][..], &[7.0], &[0.0], &[1.0, 1.0]] {
                let ruler = ruler(&axis, numbers);
                assert!(ruler.to > ruler.from && ruler.ticks().len() < 12, "{ruler:?}");
            }
        }
    }

    #[test]
    fn ticks_are_written_short() {
        let check = |tick, expected: &str| assert_eq!(number(tick), expected);
        check(0.0, "0");
        check(0.25, "0.25");
        check(1500.0, "1500");
        check(10_000.0, "10k");
        check(1_500_000.0, "1.5M");
        check(2e9, "2G");
        check(-0.0, "0");
    }

    #[test]
    fn a_picture_has_its_words_and_a_line_for_each_series() {
        let svg = Plot::new("Memory & <more>", Axis::linear("minutes"), Axis::linear("MiB"))
            .line("sqlite", vec![(0.0, 1.0), (1.0, 2.0)])
            .dashed("its limit", vec![(0.0, 3.0), (1.0, 3.0)])
            .line("postgres", vec![(0.0, 2.0), (1.0, 2.0)])
            .svg();
        for part in
            ["Memory &amp; &lt;more&gt;", ">minutes<", ">MiB<", ">sqlite<", "prefers-color-scheme:dark"]
        {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("<g class=\"s0\">").count(), 2, "what belongs together has one colour");
        assert_eq!(svg.matches("<g class=\"s1\">").count(), 1);
        assert_eq!(svg.matches("<circle").count(), 6, "few points are shown each");
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_number_that_is_none_is_a_gap() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0), (3.0, f64::INFINITY), (4.0, 2.0)];
        let svg = Plot::new("", Axis::linear(""), Axis::linear("")).line("", points).svg();
        let (_, group) = svg.split_once("<g class").expect("there is a line");
        assert_eq!((group.matches('M').count(), group.matches('L').count()), (3, 0));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn of_many_points_peaks_stay_and_the_picture_is_small() {
        let mut points: Vec<(f64, f64)> = (0..36_000).map(|n| (f64::from(n), f64::from(n % 7))).collect();
        points[20_001].1 = 99.0;
        let left = thinned(&points);
        assert!(left.len() <= POINTS_MAX && left.iter().any(|point| point.1 == 99.0));
        assert!(left.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        let plot = Plot::new("", Axis::linear(""), Axis::linear(""));
        let svg = plot
            .line("a", points.clone())
            .line("b", points.clone())
            .line("c", points.clone())
            .line("d", points)
            .svg();
        assert!(svg.len() < 60_000, "{}", svg.len());
    }
}
