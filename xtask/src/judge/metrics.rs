//! promtool, which reads the metrics of a node as Prometheus would.

use super::served::Served;
use crate::{Outcome, setup};
use std::io::Write;
use std::process::{Command, Stdio};

/// Asks it; answers why that cannot be done here, if it cannot.
pub fn judge(node: &Served) -> Outcome<Option<String>> {
    if !setup::has("promtool") {
        return Ok(Some("promtool was not found: on Debian and Ubuntu: apt-get install prometheus".into()));
    }
    let metrics = node.get("/metrics")?;
    let mut judge = Command::new("promtool");
    judge.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut judge = judge.spawn().map_err(|e| format!("promtool could not be run: {e}"))?;
    let input = judge.stdin.take().ok_or("promtool takes no input")?;
    { input }.write_all(metrics.as_bytes()).map_err(|e| format!("promtool took no metrics: {e}"))?;
    let judged = judge.wait_with_output().map_err(|e| format!("promtool did not end: {e}"))?;
    let words = [judged.stdout, judged.stderr].concat();
    if judged.status.success() && words.is_empty() {
        return Ok(None);
    }
    Err(format!("promtool check metrics ({}): {}", judged.status, String::from_utf8_lossy(&words)))
}
