//! Who works at a goal: a planner and specialists that ask models, and one that runs a command.
//!
//! Here live their seats and the configuration that is made of them. Each provider is spoken to by one of them, under a path
//! and with a model and a price of its own, so that a request tells whose it is.

use quorate_testkit::model::wire::Format;

/// The variable that holds the models' key, and the key.
pub const KEY_VARIABLE: &str = "FIRE_MODEL_KEY";
/// The key.
pub const KEY: &str = "a-key-of-the-fire";
/// What one answer of a model says that it used: read anew, read from a cache, written.
pub const ANSWER: Tokens = Tokens { input: 60, cached: 40, output: 10 };
/// What one answer costs by the prices of the configuration, in millionths of a dollar.
pub const ANSWER_MICROS: i64 = 100;
/// The capability of those who run a command.
pub const MEASUREMENT: &str = "measurement";

/// Tokens of one or several answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read anew.
    pub input: i64,
    /// Read from a cache.
    pub cached: i64,
    /// Written by the model.
    pub output: i64,
}

impl Tokens {
    /// Returns what so many answers use.
    pub fn of(answers: i64) -> Tokens {
        let Tokens { input, cached, output } = ANSWER;
        Tokens { input: input * answers, cached: cached * answers, output: output * answers }
    }
}

/// What an agent with a model is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It is asked for plans.
    Planner,
    /// It does tasks.
    Specialist,
    /// It writes the report.
    Writer,
}

/// Agents that ask a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The name of their table, with which their names begin.
    pub name: &'static str,
    /// What they are there for.
    pub role: Role,
    /// What they can do.
    pub capability: &'static str,
    /// Whose model they ask.
    provider: &'static str,
    /// How it is spoken to.
    pub format: Format,
    /// Where that begins, behind the address and the seat's name.
    path: &'static str,
}

/// All of them.
pub const SEATS: [Seat; 4] = [
    Seat {
        name: "planner",
        role: Role::Planner,
        capability: "orchestration",
        provider: "anthropic",
        format: Format::Messages,
        path: "",
    },
    Seat {
        name: "research",
        role: Role::Specialist,
        capability: "research",
        provider: "openai",
        format: Format::Responses,
        path: "/v1",
    },
    Seat {
        name: "analysis",
        role: Role::Specialist,
        capability: "analysis",
        provider: "openai-chat",
        format: Format::Chat,
        path: "/v1",
    },
    Seat {
        name: "writer",
        role: Role::Writer,
        capability: "synthesis",
        provider: "gemini",
        format: Format::Gemini,
        path: "/v1beta",
    },
];

impl Seat {
    /// Finds the seat that asks under a path.
    pub fn of_path(path: &str) -> Option<&'static Seat> {
        SEATS.iter().find(|seat| path.split('/').nth(1) == Some(seat.name))
    }

    /// Finds the seat of an agent.
    pub fn of_agent(agent: &str) -> Option<&'static Seat> {
        SEATS.iter().find(|seat| agent.starts_with(seat.name))
    }

    /// Returns the name of their model.
    pub fn model(&self) -> String {
        format!("fire-{}", self.name)
    }
}

/// Two of each: a retry prefers another agent, and waits for one for a while.
pub const COUNT: usize = 2;

/// Makes the configuration for models at an address.
pub fn config(url: &str) -> String {
    let health = "[health]\ninterval = \"500ms\"\nlease = \"2s\"\nretry_after = \"100ms\"\ngrace = \"500ms\"\ntimeout = \"60s\"\n\
                  max_attempts = 60\nmax_respawns = 1000\n";
    let measure = format!(
        "[agents.measure]\ncommand = [\"sh\", \"measure.sh\"]\ncapabilities = [\"{MEASUREMENT}\"]\ncount = {COUNT}\n"
    );
    let seats = SEATS.iter().map(|seat| {
        let Seat { name, capability, provider, path, .. } = seat;
        let model = seat.model();
        format!(
            "[agents.{name}]\ndriver = \"model\"\nprovider = \"{provider}\"\nmodel = \"{model}\"\n\
             base_url = \"{url}/{name}{path}\"\nkey_env = \"{KEY_VARIABLE}\"\ncapabilities = [\"{capability}\"]\ncount = {COUNT}\n\
             [prices.\"{model}\"]\ninput = 1.0\ncache_read = 0.5\noutput = 2.0\n"
        )
    });
    seats.fold(health.to_owned() + &measure, |text, seat| text + &seat)
}

/// What the command of a specialist does: it leaves its line, and now and then a process behind.
pub const MEASURE: &str = r#"cat > /dev/null
printf '%s %s %s %s\n' "$QUORATE_TASK_ID" "$QUORATE_ATTEMPT" "$QUORATE_TERM" "$$" >> "out/$QUORATE_TASK_ID"
case $((QUORATE_TASK_ID % 2)) in 0) sleep 300 > /dev/null 2>&1 < /dev/null & ;; esac
printf '{"quorate":"progress","percent":50,"message":"term %s"}\n' "$QUORATE_TERM"
sleep 0.6
printf '{"quorate":"result","value":"measured, by attempt %s under term %s"}\n' "$QUORATE_ATTEMPT" "$QUORATE_TERM"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::LEASE_MS;
    use quorate_model::config::Config;
    use quorate_model::goal::{Mate, ORCHESTRATION, SYNTHESIS, somebody_can};
    use quorate_model::price::find;
    use quorate_model::usage::Tokens as Used;

    #[test]
    fn the_configuration_is_sound_and_has_who_plans_and_who_reports() {
        let config =
            Config::parse("quorate.toml", config("http://127.0.0.1:1").as_bytes()).expect("it is sound");
        assert_eq!(config.health.lease_ms, LEASE_MS as i64);
        let team = Mate::of(&config);
        assert_eq!(team.len(), (SEATS.len() + 1) * COUNT);
        assert!([ORCHESTRATION, SYNTHESIS, MEASUREMENT].iter().all(|can| somebody_can(&team, can).is_some()));
        assert_eq!(Seat::of_agent("planner-1@7").map(|seat| seat.role), Some(Role::Planner));
    }

    #[test]
    fn an_answer_costs_the_same_by_each_models_price() {
        let config =
            Config::parse("quorate.toml", config("http://127.0.0.1:1").as_bytes()).expect("it is sound");
        for seat in &SEATS {
            let price = find(&config.prices, &seat.model()).expect("it has a price");
            let Tokens { input, cached, output } = Tokens::of(3);
            let used = Used { input, output, cache_read: cached, cache_write: 0 };
            assert_eq!(price.of(used), 3 * ANSWER_MICROS, "{}", seat.name);
        }
    }
}
