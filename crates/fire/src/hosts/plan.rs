//! The work of several hosts: what the first node is at when it is cut off, and work for everyone.
//!
//! Here live the plan's text and the script of its tasks.

use crate::seed::Chance;
use std::fmt::Write as _;

/// Makes the configuration. The grace is longer than the lease: a child that will not end must be gone all the same
/// before another may have its task.
pub fn config(lease_ms: i64) -> String {
    format!(
        "[health]\ninterval = \"500ms\"\nlease = \"{lease_ms}ms\"\nretry_after = \"100ms\"\ngrace = \"{}ms\"\n\
         timeout = \"120s\"\nmax_attempts = 60\nmax_respawns = 1000\n",
        lease_ms + 2_000
    )
}

/// Tasks that the first node has when it is cut off: those that go on until they are stopped …
pub const BEATING: [&str; 3] = ["beat1", "beat2", "beat3"];
/// … and those that end while it is cut off.
pub const LATE: [&str; 3] = ["late1", "late2", "late3"];
/// All of them.
pub const HELD: usize = BEATING.len() + LATE.len();

/// What the children run: `sh work.sh KEY SECONDS WORD…`. The last child of the set piece cannot be ended with TERM.
pub const WORK: &str = r#"key=$1 seconds=$2
shift 2
printf '%s %s %s %s\n' "$key" "$QUORATE_ATTEMPT" "$QUORATE_TERM" "$$" >> "out/$key"
for word; do
    case $word in
        progress) printf '{"quorate":"progress","percent":50,"message":"term %s"}\n' "$QUORATE_TERM" ;;
        stubborn) trap '' TERM ;;
        beat) while [ "$QUORATE_ATTEMPT" = 1 ]; do date +%s%3N >> "beats/$key"; sleep 0.05; done ;;
        late) until [ "$QUORATE_ATTEMPT" != 1 ] || [ -e cut ]; do sleep 0.05; done ;;
    esac
done
sleep "$seconds"
printf '{"quorate":"result","value":{"attempt":%s,"term":%s}}\n' "$QUORATE_ATTEMPT" "$QUORATE_TERM"
"#;

/// What there is to do.
#[derive(Debug, Clone, Copy)]
pub struct Work {
    /// Whether it begins with what the first node is to have.
    pub has_set_piece: bool,
    /// Tasks for everyone.
    pub others: usize,
    /// How long every twentieth of them goes on, in milliseconds.
    pub long_ms: u64,
    /// How many of a hundred claim something.
    pub claiming: u64,
}

/// Writes the plan.
pub fn plan(chance: &mut Chance, work: Work) -> String {
    let mut text = String::from("goal = \"several hosts\"\n");
    if work.has_set_piece {
        for key in BEATING.into_iter().chain(LATE) {
            let words = match key {
                "beat3" => "stubborn beat",
                key if key.starts_with("beat") => "beat",
                _ => "late",
            };
            task(&mut text, key, &format!("0.3 {words}"), "high", &[]);
        }
    }
    (0..work.others).for_each(|number| other(&mut text, chance, number, work));
    text
}

fn other(text: &mut String, chance: &mut Chance, number: usize, work: Work) {
    let ms = if number % 20 == 7 { work.long_ms } else { chance.between(100, 1_200) };
    let word = if chance.percent(25) { " progress" } else { "" };
    let zone = chance.percent(work.claiming).then(|| format!("zone{}/**", chance.between(1, 3)));
    let run = format!("{}.{:03}{word}", ms / 1_000, ms % 1_000);
    task(text, &format!("t{number:04}"), &run, "medium", zone.as_slice());
}

fn task(text: &mut String, key: &str, work: &str, priority: &str, claims: &[String]) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[[task]]\nkey = \"{key}\"\nrun = \"sh work.sh {key} {work}\"\nattempts = 60");
    let _ = writeln!(text, "priority = \"{priority}\"\nclaims = {claims:?}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::config::Config;
    use quorate_model::plan::Plan;

    #[test]
    fn the_plan_is_sound_and_begins_with_what_the_cut_node_has() {
        let work = Work { has_set_piece: true, others: 40, long_ms: 6_500, claiming: 20 };
        for seed in 1..20 {
            let text = plan(&mut Chance::new(seed), work);
            let read = Plan::parse("plan.toml", text.as_bytes()).expect("the plan is sound");
            assert_eq!(read.tasks.len(), HELD + 40);
            assert!(read.tasks.iter().any(|task| !task.claims.is_empty()));
        }
        assert!(plan(&mut Chance::new(1), work).contains("sh work.sh t0007 6.500"));
    }

    #[test]
    fn a_child_may_be_given_more_grace_than_its_lease_has() {
        let config = Config::parse("quorate.toml", config(3_000).as_bytes()).expect("it is sound");
        assert_eq!(config.health.lease_ms, 3_000);
        assert!(config.health.grace_ms > 3_000);
    }
}
