//! The work of a storm: a seeded DAG of tasks whose children leave word of themselves in files.
//!
//! Here live the plan's text and the two scripts that its tasks run. A task's child appends one line to a file of its
//! own, does what its kind says, and gives its attempt and term as the result, so that afterwards it can be told
//! whose result was accepted.

use crate::seed::Chance;
use std::fmt::Write as _;

/// Tasks at the beginning that need nothing, so that everyone has work at once.
const ROOTS: usize = 40;
/// The first tasks, which a node takes before it is stopped: their second attempts go on while it wakes up.
pub const LATE: usize = 6;
/// A task needs only some of the tasks that stand shortly before it.
const REACH: u64 = 40;
/// How often a task may fail: more than a storm can make it.
const ATTEMPTS: u64 = 60;

/// What the children of tasks run: `sh work.sh KEY SECONDS WORD…`.
pub const WORK: &str = r#"key=$1 seconds=$2
shift 2
printf '%s %s %s %s\n' "$key" "$QUORATE_ATTEMPT" "$QUORATE_TERM" "$$" >> "out/$key"
for word; do
    case $word in
        late) if [ "$QUORATE_ATTEMPT" = 2 ]; then seconds=5; fi ;;
        litter) sleep 300 > /dev/null 2>&1 < /dev/null & ;;
        progress) printf '{"quorate":"progress","percent":50,"message":"term %s"}\n' "$QUORATE_TERM" ;;
        flaky) if [ "$QUORATE_ATTEMPT" = 1 ]; then sleep "$seconds"; exit 3; fi ;;
    esac
done
sleep "$seconds"
printf '{"quorate":"result","value":{"attempt":%s,"term":%s}}\n' "$QUORATE_ATTEMPT" "$QUORATE_TERM"
"#;

/// What their checks run: `sh check.sh KEY SECONDS WORD…`.
pub const CHECK: &str = r#"test -s "out/$1" || exit 1
case $3 in litter) sleep 300 > /dev/null 2>&1 < /dev/null & ;; esac
sleep "$2"
"#;

/// Writes a plan of `tasks` tasks; some run longer than twice the lease.
pub fn plan(chance: &mut Chance, tasks: usize, lease_ms: u64) -> String {
    let mut text = String::from("goal = \"a storm\"\n");
    for number in 0..tasks {
        task(&mut text, chance, number, lease_ms);
    }
    text
}

fn key(number: usize) -> String {
    format!("t{number:04}")
}

fn task(text: &mut String, chance: &mut Chance, number: usize, lease_ms: u64) {
    let key = key(number);
    let words = words(chance);
    let run = match number {
        0..LATE => format!("sh work.sh {key} 1 late{}", if number + 1 == LATE { " flaky" } else { "" }),
        _ => format!("sh work.sh {key} {}{words}", seconds(duration_ms(chance, number, lease_ms))),
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "[[task]]\nkey = \"{key}\"\nrun = \"{run}\"\nattempts = {ATTEMPTS}");
    if number < LATE {
        let _ = writeln!(text, "priority = \"high\"");
        return;
    }
    let _ = writeln!(text, "priority = \"{}\"", chance.one_of(&["high", "medium", "low"]).unwrap_or(&"low"));
    let needs = needs(chance, number);
    if !needs.is_empty() {
        let _ = writeln!(text, "needs = [{}]", needs.join(", "));
    }
    if is_plain(number) {
        return;
    }
    if chance.percent(30) {
        let _ = writeln!(text, "claims = [\"{}\"]", claim(chance));
    }
    if chance.percent(22) {
        let litter = if chance.percent(25) { " litter" } else { "" };
        let pause = seconds(chance.between(5, 400));
        let _ = writeln!(text, "verify = \"sh check.sh {key} {pause}{litter}\"");
    }
}

/// The late tasks and every third are needed by nobody, claim nothing and have no check: on PostgreSQL such
/// completions may share a transaction.
fn is_plain(number: usize) -> bool {
    number < LATE || number.is_multiple_of(3)
}

fn needs(chance: &mut Chance, number: usize) -> Vec<String> {
    if number < ROOTS {
        return Vec::new();
    }
    let count = chance.between(0, 3);
    let mut needs: Vec<usize> =
        (0..count).map(|_| number - chance.between(1, REACH.min(number as u64)) as usize).collect();
    needs.retain(|need| !is_plain(*need));
    needs.sort_unstable();
    needs.dedup();
    needs.into_iter().map(|need| format!("\"{}\"", key(need))).collect()
}

/// Most tasks are quick, fewer of the plain ones; the fifth of every forty outlasts two leases, so that only a renewed one can end.
fn duration_ms(chance: &mut Chance, number: usize, lease_ms: u64) -> u64 {
    let (short, long) = if is_plain(number) { (0, 70) } else { (50, 88) };
    let drawn = match chance.between(1, 100) {
        roll if roll <= short => chance.between(5, 40),
        roll if roll <= long => chance.between(100, 600),
        _ => chance.between(1_000, 2_000),
    };
    if number % 40 == 5 { lease_ms * 2 + 500 } else { drawn }
}

fn words(chance: &mut Chance) -> String {
    [("litter", 10), ("progress", 25), ("flaky", 8)]
        .into_iter()
        .filter(|(_, percent)| chance.percent(*percent))
        .map(|(word, _)| format!(" {word}"))
        .collect()
}

/// A whole zone, or one file in it: they overlap without having the same name.
fn claim(chance: &mut Chance) -> String {
    let zone = chance.between(1, 6);
    if chance.percent(40) { format!("zone{zone}/**") } else { format!("zone{zone}/file") }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::plan::Plan;

    #[test]
    fn the_plan_is_sound_and_as_long_as_asked() {
        for seed in 1..20 {
            let text = plan(&mut Chance::new(seed), 300, 2_000);
            let read = Plan::parse("plan.toml", text.as_bytes()).expect("the plan is sound");
            assert_eq!(read.tasks.len(), 300);
            assert!(read.tasks.iter().any(|task| task.verify.is_some()));
            assert!(read.tasks.iter().any(|task| !task.claims.is_empty()));
            assert!(read.tasks.iter().any(|task| task.needs.len() > 1));
            assert!(read.tasks[..ROOTS].iter().all(|task| task.needs.is_empty()));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        let text = |seed| plan(&mut Chance::new(seed), 100, 2_000);
        assert_eq!(text(3), text(3));
        assert_ne!(text(3), text(4));
    }

    #[test]
    fn some_tasks_outlast_two_leases() {
        let text = plan(&mut Chance::new(1), 100, 2_000);
        assert!(text.contains("sh work.sh t0045 4.500"), "{text}");
    }
}
