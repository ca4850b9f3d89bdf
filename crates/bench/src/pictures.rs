//! Pictures of what was measured, from the JSON document of a run.
//!
//! Here lives which numbers are drawn and how they are grouped. How a picture is drawn lives in `quorate-testkit`; what
//! is not in the document has no picture.

use quorate_testkit::plot::{Axis, Bars, Plot};
use serde_json::Value;
use std::collections::BTreeMap;

/// A picture: the name of its file, and what is in it.
pub(crate) type Picture = (String, String);

/// Draws everything that a document has numbers for.
pub(crate) fn draw(document: &Value) -> Vec<Picture> {
    let heats = list(&document["heats"]);
    let mut pictures = Vec::new();
    for database in ["sqlite", "postgres"] {
        let of: Vec<&Value> = heats.iter().filter(|heat| heat["database"] == database).collect();
        let rates = peers(&of, "drain_per_s");
        if !rates.is_empty() {
            let title = format!("{}: no-op tasks worked off by 10 slots", name(database));
            // The quickest comes first, here and below.
            let svg = bars(&title, "tasks a second", rates.into_iter().rev());
            pictures.push((format!("peers-{database}-drain.svg"), svg));
        }
        let times = peers(&of, "wall_s");
        if !times.is_empty() {
            let title = format!("{}: 1,000 no-op tasks, 8 at once (shorter is better)", name(database));
            pictures
                .push((format!("peers-{database}-thousand.svg"), bars(&title, "seconds", times.into_iter())));
        }
    }
    pictures.extend(growth(list(&document["figures"])));
    pictures
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn name(database: &str) -> &'static str {
    if database == "sqlite" { "SQLite" } else { "PostgreSQL" }
}

/// What becomes of a task that is done, as colours.
const GROUPS: [&str; 3] = ["quorate", "keeps done tasks", "deletes them, or is not durable"];

/// Who, of which group, and the lowest, the median and the highest that was measured.
type Peer = (String, usize, [f64; 3]);

fn bars(title: &str, unit: &str, peers: impl Iterator<Item = Peer> + Clone) -> String {
    let least = peers.clone().map(|(.., spread)| spread[0]).fold(f64::MAX, f64::min);
    let axis = Axis::log(&format!("{unit}, median; the line is from the lowest round to the highest"));
    let bars = Bars::new(title, axis.from(least / 2.0), &GROUPS);
    peers.fold(bars, |bars, (who, group, spread)| bars.bar(&who, group, spread)).svg()
}

/// Gathers one measure of all heats; those that are in several (ourselves) by the median of their medians.
/// The smallest comes first.
fn peers(heats: &[&Value], measure: &str) -> Vec<Peer> {
    let mut spreads: BTreeMap<(&str, usize), Vec<[f64; 3]>> = BTreeMap::new();
    for standing in heats.iter().flat_map(|heat| list(&heat["standings"])) {
        let numbers = &standing["numbers"][measure];
        let spread = ["lowest", "median", "highest"].map(|which| numbers[which].as_f64());
        if let (Some(who), [Some(low), Some(median), Some(high)]) = (standing["who"].as_str(), spread) {
            spreads.entry((who, group(standing))).or_default().push([low, median, high]);
        }
    }
    let lines = spreads.into_iter().map(|((who, group), mut spreads)| {
        let low = spreads.iter().map(|spread| spread[0]).fold(f64::MAX, f64::min);
        let high = spreads.iter().map(|spread| spread[2]).fold(f64::MIN, f64::max);
        spreads.sort_by(|one, other| one[1].total_cmp(&other[1]));
        (who.to_owned(), group, [low, spreads[spreads.len() / 2][1], high])
    });
    let mut lines: Vec<Peer> = lines.collect();
    lines.sort_by(|one, other| one.2[1].total_cmp(&other.2[1]));
    lines
}

fn group(standing: &Value) -> usize {
    let (who, keeps) = (standing["who"].as_str().unwrap_or(""), standing["keeps"].as_str().unwrap_or(""));
    match (who.starts_with("quorate"), keeps.starts_with("kept")) {
        (true, _) => 0,
        (false, true) => 1,
        (false, false) => 2,
    }
}

/// Draws how long a claim takes beside more and more completed tasks.
fn growth(figures: &[Value]) -> Option<Picture> {
    let points = |database: &str| -> Vec<(f64, f64)> {
        let of = figures.iter().filter(|figure| figure["database"] == database);
        let point = |figure: &Value| {
            let count = figure["name"].as_str()?.strip_prefix("claim beside ")?;
            let count = count.strip_suffix(" completed tasks, p50")?;
            Some((count.parse().ok()?, figure["value"].as_f64()?))
        };
        of.filter_map(point).collect()
    };
    let (lite, pg) = (points("sqlite"), points("postgres"));
    if lite.is_empty() && pg.is_empty() {
        return None;
    }
    let (x, y) = (Axis::log("completed tasks in the ledger"), Axis::linear("claim p50, ms"));
    let plot = Plot::new("A claim beside a long history", x, y).line("SQLite", lite).line("PostgreSQL", pg);
    Some(("claim-history.svg".to_owned(), plot.svg()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn standing(who: &str, keeps: &str, rate: f64) -> Value {
        let numbers =
            json!({ "drain_per_s": { "median": rate, "lowest": rate - 1.0, "highest": rate + 1.0 } });
        json!({ "who": who, "keeps": keeps, "numbers": numbers })
    }

    #[test]
    fn what_was_measured_has_a_picture_and_nothing_else() {
        assert!(draw(&json!({ "heats": [], "figures": [] })).is_empty());
        let heat = |rate| {
            json!({ "database": "postgres", "standings":
                    [standing("quorate", "kept", rate), standing("other", "deleted", 9_000.0)] })
        };
        let claim =
            json!({ "database": "sqlite", "name": "claim beside 1000 completed tasks, p50", "value": 0.3 });
        let document = json!({ "heats": [heat(100.0), heat(300.0), heat(200.0)], "figures": [claim] });
        let pictures = draw(&document);
        let names: Vec<&str> = pictures.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["peers-postgres-drain.svg", "claim-history.svg"]);
        let drain = &pictures[0].1;
        assert!(drain.contains(">200<") && !drain.contains(">300<"), "the median of three heats");
        let place = |who: &str| drain.find(&format!(">{who}</text>\n<g")).expect("has a bar");
        assert!(place("other") < place("quorate"), "the quickest comes first");
    }
}
