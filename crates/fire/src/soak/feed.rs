//! The work of a soak: short tasks of several kinds, added one by one at a steady rate.
//!
//! Here live the kinds, the script that their children run, and the words with which each is added. A child's first
//! act is to write its task, attempt and term into a named pipe, so that its start is seen without a second clock.

/// The pipe that children write to.
pub const PIPE: &str = "beat";

/// Whom messages are for.
pub const LISTENER: &str = "listener";

/// What the children of tasks run: `sh work.sh KIND`.
pub const WORK: &str = r#"printf '%s %s %s\n' "$QUORATE_TASK_ID" "$QUORATE_ATTEMPT" "$QUORATE_TERM" > beat
case $1 in
    progress)
        printf '{"quorate":"progress","percent":30,"message":"term %s"}\n' "$QUORATE_TERM"
        sleep 0.2
        printf '{"quorate":"progress","percent":60,"message":"term %s"}\n' "$QUORATE_TERM" ;;
    message) quorate send --from "$QUORATE_AGENT" --to listener "task $QUORATE_TASK_ID is on its way" ;;
    claim) sleep 0.1 ;;
    flaky) if [ "$QUORATE_ATTEMPT" = 1 ]; then exit 3; fi ;;
    words) i=0; while [ $i -lt 40 ]; do echo "line $i of the output of task $QUORATE_TASK_ID"; i=$((i + 1)); done ;;
esac
printf '{"quorate":"result","value":{"attempt":%s,"term":%s}}\n' "$QUORATE_ATTEMPT" "$QUORATE_TERM"
"#;

/// A run of several tasks, one of which fails at first, added as a whole.
pub const PLAN: &str = r#"goal = "a small plan"
[[task]]
key = "a"
run = "sh work.sh plain"
[[task]]
key = "b"
run = "sh work.sh flaky"
needs = ["a"]
[[task]]
key = "c"
run = "sh work.sh progress"
needs = ["a"]
[[task]]
key = "d"
run = "sh work.sh plain"
needs = ["b", "c"]
verify = "true"
"#;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing but its first act and its result.
    Plain,
    /// Tells progress.
    Progress,
    /// Sends a message.
    Message,
    /// Claims a resource that others want.
    Claim,
    /// Fails at first.
    Flaky,
    /// Has a check.
    Verified,
    /// Needs the last of its kind.
    Chain,
    /// Says much.
    Words,
}

/// The order in which they come, again and again.
const ROUND: [Kind; 20] = [
    Kind::Plain,
    Kind::Progress,
    Kind::Plain,
    Kind::Claim,
    Kind::Plain,
    Kind::Flaky,
    Kind::Words,
    Kind::Plain,
    Kind::Verified,
    Kind::Plain,
    Kind::Progress,
    Kind::Plain,
    Kind::Claim,
    Kind::Chain,
    Kind::Plain,
    Kind::Message,
    Kind::Plain,
    Kind::Claim,
    Kind::Plain,
    Kind::Words,
];

impl Kind {
    /// Returns the kind of the task that is added as this one.
    pub fn of(number: usize) -> Kind {
        ROUND[number % ROUND.len()]
    }

    /// Whether nothing but a free agent is between its being added and its start.
    pub fn starts_at_once(self) -> bool {
        !matches!(self, Kind::Claim | Kind::Chain)
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Plain | Kind::Verified | Kind::Chain => "plain",
            Kind::Progress => "progress",
            Kind::Message => "message",
            Kind::Claim => "claim",
            Kind::Flaky => "flaky",
            Kind::Words => "words",
        }
    }

    /// Returns the words after `quorate` that add a task of this kind; `last` is the last of a chain.
    pub fn add(self, number: usize, last: Option<i64>) -> Vec<String> {
        let run = format!("sh work.sh {}", self.word());
        let mut words = vec!["task".to_owned(), "add".into(), format!("soak {number}"), "--run".into(), run];
        let mut with = |option: &str, value: String| words.extend([option.to_owned(), value]);
        match self {
            Kind::Claim if number.is_multiple_of(2) => with("--claims", format!("zone{}/**", number % 3)),
            Kind::Claim => with("--claims", format!("zone{}/file", number % 3)),
            Kind::Verified => with("--verify", "true".into()),
            Kind::Chain => last.into_iter().for_each(|last| with("--needs", last.to_string())),
            _ => {}
        }
        words.push("--json".into());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::plan::Plan;

    #[test]
    fn a_round_has_every_kind() {
        for kind in [
            Kind::Plain,
            Kind::Progress,
            Kind::Message,
            Kind::Claim,
            Kind::Flaky,
            Kind::Verified,
            Kind::Chain,
            Kind::Words,
        ] {
            assert!(ROUND.contains(&kind), "{kind:?}");
            let known = kind.word() == "plain" || WORK.contains(&format!("    {})", kind.word()));
            assert!(known, "{kind:?}");
        }
    }

    #[test]
    fn the_plan_is_sound() {
        let plan = Plan::parse("plan.toml", PLAN.as_bytes()).expect("it is");
        assert_eq!(plan.tasks.len(), 4);
    }

    #[test]
    fn tasks_are_added_with_what_their_kind_wants() {
        let words = |kind: Kind, number, last| kind.add(number, last).join(" ");
        assert_eq!(words(Kind::Plain, 7, None), "task add soak 7 --run sh work.sh plain --json");
        assert!(words(Kind::Claim, 4, None).contains("--claims zone1/**"));
        assert!(words(Kind::Chain, 4, Some(9)).contains("--needs 9"));
        assert!(!words(Kind::Chain, 4, None).contains("--needs"));
    }

    #[test]
    fn the_script_writes_to_the_pipe_and_its_listener_has_its_name() {
        assert!(WORK.contains(&format!("> {PIPE}\n")) && WORK.contains(&format!("--to {LISTENER} ")));
    }
}
