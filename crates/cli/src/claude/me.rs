//! Who asks: the agent whose session called us.
//!
//! Here lives how a session is recognised on this machine: by the variable that a node or a person set, by the name that
//! Claude Code gives it, else by the processes above us. What is stored of it is `service::session`'s.

use crate::place::Place;
use quorate_model::name::check_agent;
use quorate_model::{Error, Result};
use quorate_process::{ProcessId, ancestry, boot_id, host, name};
use quorate_service::session::{Find, PROCESSES_MAX, Process};
use quorate_store::Store;

/// Begins the name of an agent that is called after its session.
pub(super) const PROGRAM: &str = "claude";
/// Programs between Claude Code and its hooks.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "zsh", "fish", "ksh", "ash", "busybox"];

/// Returns the agent that is named in the environment.
pub(super) fn named(place: &Place) -> Result<Option<String>> {
    let agent = place.variable("QUORATE_AGENT");
    if let Some(name) = &agent {
        check_agent(name)?;
    }
    Ok(agent)
}

/// Returns whether a node supervises this session: then it keeps its lease and knows its state.
pub(super) fn is_supervised() -> bool {
    std::env::var_os("QUORATE_TASK_ID").is_some_and(|id| !id.is_empty())
}

/// Returns the agent that is named in the environment, else the one whose session started this process.
pub(crate) async fn found(place: &Place, store: &Store) -> Result<Option<String>> {
    if let Some(agent) = named(place)? {
        return Ok(Some(agent));
    }
    let processes = processes()?.into_iter().map(|(process, _)| process).collect();
    Ok(store.read(Find::Processes(processes)).await?.map(|session| session.agent))
}

/// Returns the process of the session: the nearest above us that is no shell.
pub(super) fn session_process() -> Result<Process> {
    let mut above = processes()?;
    let nearest = above.iter().position(|(_, id)| !is_shell(*id)).unwrap_or(0);
    if above.is_empty() {
        return Err(Error::failed("no process has started this one"));
    }
    Ok(above.swap_remove(nearest).0)
}

fn is_shell(id: ProcessId) -> bool {
    name(id.pid).is_some_and(|name| SHELLS.contains(&name.as_str()))
}

/// The processes above this one, the nearest first.
fn processes() -> Result<Vec<(Process, ProcessId)>> {
    let (host, boot) = (host()?, boot_id()?);
    let above = ancestry(PROCESSES_MAX + 1).into_iter().skip(1);
    Ok(above.map(|id| (stored(&host, &boot, id), id)).collect())
}

fn stored(host: &str, boot: &str, id: ProcessId) -> Process {
    Process { host: host.to_owned(), pid: id.pid.into(), started: format!("{boot} {}", id.start_time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_of_a_session_is_above_us_and_runs() {
        let process = session_process().expect("a test was started by somebody");
        assert_ne!(process.pid, i64::from(std::process::id()));
        assert!(process.started.starts_with(&boot_id().expect("it is readable")));
        let above = processes().expect("readable");
        assert!(above.iter().all(|(_, id)| id.is_alive()), "{above:?}");
        assert!(above.iter().any(|(other, _)| *other == process));
    }
}
