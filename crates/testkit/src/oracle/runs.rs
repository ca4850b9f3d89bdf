//! Runs: begun with tasks, ended when those have ended, called off and let go on by a person.

use super::picture::RunRow;
use super::{Answer, Oracle, Wish};
use quorate_model::{Kind, TaskState};

#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) state: &'static str,
    reason: Option<String>,
    finished_at: Option<i64>,
}

impl Oracle {
    pub(super) fn start(&mut self, wishes: &[Wish]) -> Answer {
        self.runs.push(Run { state: "running", reason: None, finished_at: None });
        let run = self.runs();
        self.add_all(Some(run), wishes)?;
        Ok(format!("run {run} of {}", wishes.len()))
    }

    pub(super) fn run(&self, id: i64) -> Result<&Run, Kind> {
        let place = usize::try_from(id - 1).map_err(|_| Kind::NotFound)?;
        self.runs.get(place).ok_or(Kind::NotFound)
    }

    fn run_mut(&mut self, id: i64) -> &mut Run {
        &mut self.runs[id as usize - 1]
    }

    fn open_of(&self, run: i64) -> Vec<i64> {
        self.where_task(|_, task| task.run == Some(run) && !task.state.is_over())
    }

    pub(super) fn settle_run(&mut self, id: i64) -> Answer {
        if self.run(id)?.state == "running" && self.open_of(id).is_empty() {
            self.finish_run(id);
        }
        Ok(self.run(id)?.state.into())
    }

    fn finish_run(&mut self, id: i64) {
        let count = |state| self.where_task(|_, task| task.run == Some(id) && task.state == state).len();
        let (completed, failed) = (count(TaskState::Completed), count(TaskState::Failed));
        let cancelled = count(TaskState::Cancelled);
        let now = self.now;
        let run = self.run_mut(id);
        run.state = if failed + cancelled == 0 { "completed" } else { "failed" };
        run.reason = Some(format!("{completed} completed, {failed} failed, {cancelled} cancelled"));
        run.finished_at = Some(now);
    }

    /// Ends every run whose tasks have ended.
    pub(super) fn settle_all(&mut self) -> usize {
        let over: Vec<i64> = self.open_runs().into_iter().filter(|id| self.open_of(*id).is_empty()).collect();
        over.iter().for_each(|id| self.finish_run(*id));
        over.len()
    }

    pub(super) fn cancel_run(&mut self, id: i64) -> Answer {
        if self.run(id)?.state != "running" {
            return Err(Kind::Conflict);
        }
        let open = self.open_of(id);
        self.cancel_all(&open);
        let now = self.now;
        *self.run_mut(id) = Run { state: "cancelled", reason: Some("r".into()), finished_at: Some(now) };
        Ok("cancelled".into())
    }

    pub(super) fn resume_run(&mut self, id: i64) -> Answer {
        let was_running = match self.run(id)?.state {
            "completed" => return Err(Kind::Conflict),
            state => state == "running",
        };
        // Those cancelled because of a need follow that need by themselves.
        let ended = self.where_task(|_, task| {
            let is_lost = matches!(task.state, TaskState::Failed | TaskState::Cancelled);
            task.run == Some(id) && is_lost && task.blocked_by.is_none()
        });
        self.try_anew(&ended);
        if !was_running && self.open_of(id).is_empty() {
            return Err(Kind::Conflict);
        }
        self.reopen_run(id);
        Ok(self.run(id)?.state.into())
    }

    pub(super) fn reopen_run(&mut self, id: i64) {
        *self.run_mut(id) = Run { state: "running", reason: None, finished_at: None };
    }

    pub(super) fn run_rows(&self) -> Vec<RunRow> {
        let rows = (1..).zip(&self.runs);
        rows.map(|(id, run)| RunRow {
            id,
            state: run.state.into(),
            reason: run.reason.clone(),
            finished_at: run.finished_at,
        })
        .collect()
    }
}
