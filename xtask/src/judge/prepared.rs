//! What exists on a node before it is judged: a team, tasks that it has, runs, a claim, a memory, a message, a saved state.
//!
//! The one idea: a request that is made up finds nothing by itself, and is refused for that alone. So there is one thing for
//! each operation that no other operation of the judge is led to.

use super::served::Served;
use crate::Outcome;
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

/// How many tasks stand before those that are prepared: ids that are made up are small.
const FILLERS: usize = 60;
/// How long a node may take to check a plan; far more than it does.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a planner answers with.
const PLAN: &str = r#"{"tasks":[{"key":"a","title":"a","prompt":"words"}]}"#;

/// Makes it; answers with lines `OPERATION FIELD VALUE` that say what each operation finds.
pub fn on(node: &Served) -> Outcome<String> {
    let mut ground = Ground { node, lines: String::new() };
    // First what is long, so that no id behind it is small; it is kept for who is not there, so a planner is given its own.
    ground.runs()?;
    ground.plans()?;
    ground.team()?;
    ground.tasks()?;
    ground.rest()?;
    Ok(ground.lines)
}

struct Ground<'a> {
    node: &'a Served,
    lines: String,
}

impl Ground<'_> {
    fn post(&self, path: &str, body: &str) -> Outcome<String> {
        self.node.post(&format!("/api/v1{path}"), body)
    }

    /// Adds something; answers with its id.
    fn add(&self, path: &str, body: &str) -> Outcome<u64> {
        let answer = self.post(path, body)?;
        id_of(&answer).ok_or(format!("POST {path} answers with no id: {answer}"))
    }

    fn is(&mut self, operation: &str, field: &str, value: &str) {
        writeln!(self.lines, "{operation} {field} {value}").expect("a text takes what is written");
    }

    /// Two plans that wait for a person: one is approved as a run, of the other a task is let go.
    fn plans(&mut self) -> Outcome {
        let mut runs = Vec::new();
        for _ in 0..2 {
            runs.push(self.add("/runs", r#"{"goal":"reach it","approve":true}"#)?);
            let task = self.add("/tasks/next", r#"{"agent":"planner"}"#)?;
            self.post(&format!("/tasks/{task}/done"), &format!(r#"{{"term":1,"result":{PLAN}}}"#))?;
        }
        let [approved, parked] = runs[..] else { return Err("two runs were begun".into()) };
        self.is("approveRun", "id", &approved.to_string());
        let begun = Instant::now();
        loop {
            let waits = self.node.get(&format!("/api/v1/tasks?run_id={parked}&state=parked"))?;
            if let Some(task) = id_of(&waits) {
                self.is("unparkTask", "id", &task.to_string());
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!(
                    "the plan of run {parked} does not wait for a person: {}",
                    self.node.get(&format!("/api/v1/tasks?run_id={parked}"))?
                ));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs whose tasks nobody takes: one to be shown, which is long; others to be called off, and to be gone on with.
    fn runs(&mut self) -> Outcome {
        for (operation, length) in [("showRun", FILLERS), ("cancelRun", 1), ("resumeRun", 1)] {
            let tasks: Vec<String> = (0..length)
                .map(|n| format!(r#"{{"key":"k{n}","prompt":"words","agent":"nobody"}}"#))
                .collect();
            let plan = format!(r#"{{"plan":{{"goal":"for {operation}","task":[{}]}}}}"#, tasks.join(","));
            let run = self.add("/runs", &plan)?;
            self.is(operation, "id", &run.to_string());
            if operation == "resumeRun" {
                self.post(&format!("/runs/{run}/cancel"), "{}")?;
            }
        }
        Ok(())
    }

    fn team(&mut self) -> Outcome {
        for (name, operations) in [
            ("ada", ["showAgent", "giveToken", "readInbox"].as_slice()),
            ("eve", &["pauseAgent", "resumeAgent", "showInbox"]),
            ("ida", &["killAgent", "revokeTokens"]),
            ("max", &["removeAgent"]),
        ] {
            self.post("/agents", &format!(r#"{{"name":"{name}"}}"#))?;
            for operation in operations {
                self.is(operation, "name", &format!("\"{name}\""));
            }
        }
        Ok(())
    }

    /// A task for each operation that changes one; some need an owner, and an owner has one at a time.
    fn tasks(&mut self) -> Outcome {
        for operation in ["reportProgress", "finishTask", "failTask", "showOutput"] {
            let agent = operation.to_lowercase();
            self.post("/agents", &format!(r#"{{"name":"{agent}"}}"#))?;
            let task = self.task(operation, &format!(r#","agent":"{agent}""#))?;
            let taken = self.add("/tasks/next", &format!(r#"{{"agent":"{agent}","lease":"1h"}}"#))?;
            if taken != task {
                return Err(format!("{agent} was given task {taken}, not {task}"));
            }
            if operation != "showOutput" {
                self.is(operation, "term", "1");
                self.is(operation, "usage", "[]");
            }
        }
        for operation in ["showTask", "cancelTask", "reassignTask", "retryTask"] {
            let task = self.task(operation, "")?;
            if operation == "retryTask" {
                self.post(&format!("/tasks/{task}/cancel"), "{}")?;
            }
        }
        Ok(())
    }

    fn task(&mut self, operation: &str, more: &str) -> Outcome<u64> {
        let task = self.add("/tasks", &format!(r#"{{"title":"for {operation}","prompt":"words"{more}}}"#))?;
        self.is(operation, "id", &task.to_string());
        Ok(task)
    }

    fn rest(&mut self) -> Outcome {
        let memory = self.add("/memories", r#"{"agent":"ada","text":"the port is 7331"}"#)?;
        self.is("forget", "id", &memory.to_string());
        // Two that may say the same: somebody is asked about them.
        for text in [
            "the disk of the runner is full and the upload stopped",
            "build failed since the disk of the runner is full",
        ] {
            self.post("/memories", &format!(r#"{{"agent":"ada","kind":"episode","text":"{text}"}}"#))?;
        }
        let state = self.add("/checkpoints", r#"{"agent":"ada","state":"so far"}"#)?;
        self.is("showCheckpoint", "id", &state.to_string());
        self.post("/messages", r#"{"from":"ada","to":"eve","text":"hello"}"#)?;
        // What a request is made of whose fields exclude each other, or have a grammar of their own.
        for (operation, body) in [
            ("addTask", r#"{"title":"one more","prompt":"words"}"#),
            ("startRun", r#"{"plan":{"goal":"one more","task":[{"key":"a","prompt":"words"}]}}"#),
            ("claim", r#"{"agent":"ada","resources":["src/**"]}"#),
            ("release", r#"{"agent":"ada","resources":["src/**"]}"#),
            ("log", r#"{"agent":"ada","action":"build","message":"built"}"#),
            ("consolidate", r#"{"agent":"ada"}"#),
            ("send", r#"{"from":"ada","to":"eve","text":"hello"}"#),
        ] {
            self.is(operation, "*", body);
        }
        Ok(())
    }
}

/// Returns the first id of an answer.
fn id_of(answer: &str) -> Option<u64> {
    let (_, rest) = answer.split_once("\"id\":")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_an_answer_is_read() {
        assert_eq!(id_of(r#"{"id":7}"#), Some(7));
        assert_eq!(id_of(r#"[{"agent":"ada","id":12,"state":"parked"}]"#), Some(12));
        assert_eq!(id_of("[]"), None);
        assert_eq!(id_of(r#"{"run_id":3}"#), None);
    }
}
