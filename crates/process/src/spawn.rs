//! The start of a child, and the handle that ends its tree when it is dropped.
//!
//! Here live fork and exec, the clean environment, the errors of starting, and the reaping.
//!
//! A child leads a session of its own. So its whole job can be signalled and found, and a program that wants to ask
//! for a password finds no terminal and fails, in place of waiting for ever for a person who is not there.
//!
//! A child dies with us: the kernel sends it KILL when the *thread* that started it ends (`PR_SET_PDEATHSIG`). Threads
//! of an async runtime come and go, so one thread, which ends only with the process, starts all children. What the
//! child has started itself lives on and is ended by [`crate::orphan`] at the next start.

use crate::cgroup::{self, Group};
use crate::command::{Command, inherited};
use crate::control::{Control, Pulse, Request};
use crate::exit::ExitKind;
use crate::keep::{Keeper, SharedTail};
use crate::limits;
use crate::log::Log;
use crate::orphan;
use crate::output::{Pump, Source};
use crate::procfs::{self, ProcessId};
use crate::tree::Tree;
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{AccessFlags, Pid, access, getpid, getppid, setsid};
use quorate_model::{Error, Result};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// The reason given when a child ended and the kernel does not say how.
pub(crate) const LOST: &str = "its exit status was lost";

/// A child that was started. Give it to [`crate::supervise`], at once: nobody reads its output before that.
///
/// Dropping it ends its tree at once.
#[derive(Debug)]
pub struct Child {
    pub(crate) control: Control,
    pub(crate) tree: Tree,
    pub(crate) started: Instant,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Duration,
    /// `None` once it runs.
    pub(crate) pump: Option<Pump>,
    /// `None` once it is reaped.
    process: Option<process::Child>,
    exits: tokio::signal::unix::Signal,
    input: JoinHandle<()>,
}

impl Command {
    /// Starts the child. Must be called within a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// `failed`, saying what cannot be started, why and where: the program or folder is missing or may not be used, the
    /// arguments are too long, the log cannot be made, the system has no more processes. Nothing runs then.
    pub async fn spawn(self) -> Result<Child> {
        check_dir(&self)?;
        let log = Log::open(&self.log)?;
        // Before the start, so that no exit is missed.
        let exits =
            signal(SignalKind::child()).map_err(|e| Error::failed(format!("cannot watch children: {e}")))?;
        let started = Instant::now();
        let (process, group) = start(&self).await?;
        Child::new(self, process, group, log, exits, started)
    }
}

impl Child {
    fn new(
        command: Command,
        mut process: process::Child,
        group: Option<Arc<Group>>,
        log: Log,
        exits: tokio::signal::unix::Signal,
        started: Instant,
    ) -> Result<Child> {
        let (input, out, err) = match pipes(&mut process) {
            Ok(pipes) => pipes,
            Err(e) => return Err(abandon(process, &format!("cannot read from it: {e}"))),
        };
        let pid = process.id() as i32;
        let Some(start_time) = procfs::start_time(pid) else {
            return Err(abandon(process, "/proc does not show it"));
        };
        let id = ProcessId { pid, start_time };
        let (pulse, tail, mut mask) = (Pulse::new(), SharedTail::default(), command.mask);
        mask.add_env(command.env);
        let keeper = Keeper::new(mask.clone(), tail.clone());
        let (out, err) = (Source::new(out), Source::new(err));
        let request = watch::Sender::new(Request::None);
        Ok(Child {
            pump: Some(Pump { out, err, keeper, pulse: pulse.clone(), log: Some(log) }),
            tree: Tree { root: id, marker: command.marker, group: group.clone() },
            control: Control { id, group, request, pulse, tail, mask },
            started,
            timeout: command.timeout,
            grace: command.grace,
            process: Some(process),
            exits,
            input: tokio::spawn(write_input(input, command.stdin)),
        })
    }

    /// Returns which process it is, to be stored for [`crate::orphan::end`].
    pub fn id(&self) -> ProcessId {
        self.control.id
    }

    /// Returns a handle to look at it and to stop it.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits for its exit and leaves it a zombie, so that its number stays its own.
    pub(crate) async fn exited(&mut self) {
        while self.is_running() {
            if self.exits.recv().await.is_none() {
                return;
            }
        }
    }

    fn is_running(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let pid = Pid::from_raw(self.control.id.pid);
        matches!(waitid(Id::Pid(pid), flags), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR))
    }

    /// Waits for its exit and reaps it.
    pub(crate) async fn reap(&mut self) -> ExitKind {
        self.exited().await;
        match self.process.as_mut().map(|process| process.try_wait()) {
            Some(Ok(Some(status))) => {
                self.process = None;
                status.into()
            }
            _ => ExitKind::Stopped(LOST.to_owned()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.input.abort();
        if let Some(mut process) = self.process.take() {
            self.tree.signal(Signal::SIGKILL);
            let tree = self.tree.clone();
            // Reaped on a thread of its own, since it may take its time and a drop must not.
            let _ = thread::Builder::new().name("quorate-reap".to_owned()).spawn(move || {
                let _ = process.wait();
                tree.signal(Signal::SIGKILL);
            });
        }
    }
}

/// Ends a child that was started and cannot be used.
fn abandon(mut process: process::Child, why: &str) -> Error {
    let _ = process.kill();
    let _ = process.wait();
    Error::failed(format!("cannot supervise process {}: {why}", process.id()))
}

type Pipes = (pipe::Sender, pipe::Receiver, pipe::Receiver);

fn pipes(process: &mut process::Child) -> io::Result<Pipes> {
    let missing = || io::Error::other("a pipe is missing");
    let input = OwnedFd::from(process.stdin.take().ok_or_else(missing)?);
    let out = OwnedFd::from(process.stdout.take().ok_or_else(missing)?);
    let err = OwnedFd::from(process.stderr.take().ok_or_else(missing)?);
    Ok((
        pipe::Sender::from_owned_fd(input)?,
        pipe::Receiver::from_owned_fd(out)?,
        pipe::Receiver::from_owned_fd(err)?,
    ))
}

/// Writes all of the input and closes the pipe. A child need not read it: it may close its end, or leave it.
async fn write_input(mut pipe: pipe::Sender, input: Vec<u8>) {
    let _ = pipe.write_all(&input).await;
}

/// Starts the process, in a control group if there is one.
///
/// If that fails it is tried again without: the reason may be the group, and if not, the error is the program's own.
async fn start(command: &Command) -> Result<(process::Child, Option<Arc<Group>>)> {
    if let Some((group, door)) = make_group(command)
        && let Ok(process) = run_on_spawner(prepare(command, Some(door))).await?
    {
        return Ok((process, Some(Arc::new(group))));
    }
    let process = run_on_spawner(prepare(command, None)).await?.map_err(|e| explain(command, &e))?;
    Ok((process, None))
}

fn make_group(command: &Command) -> Option<(Group, File)> {
    let group = Group::create(cgroup::base()?, &command.limits).ok()?;
    let door = group.door().ok()?;
    Some((group, door))
}

fn prepare(command: &Command, door: Option<File>) -> process::Command {
    let mut prepared = process::Command::new(&command.program);
    prepared
        .args(&command.args)
        .current_dir(&command.dir)
        .env_clear()
        .envs(inherited())
        .envs(command.env.iter().cloned())
        .envs(command.marker.iter().cloned())
        .envs(orphan::supervisor().ok().map(|name| (orphan::SUPERVISOR, name)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let grouped = door.is_some() && cgroup::base().is_some_and(|base| base.memory);
    let memory = command.limits.memory_bytes.filter(|_| !grouped);
    let parent = getpid();
    let become_child = move || {
        setsid()?;
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != parent {
            // The parent died before the signal was set; nobody waits for this child.
            return Err(Errno::ESRCH.into());
        }
        if let Some(door) = &door {
            (&*door).write_all(b"0")?;
        }
        memory.map_or(Ok(()), limits::limit_data)?;
        Ok(())
    };
    // SAFETY: between fork and exec only functions may run that are safe in a signal handler, because other threads may
    // have held locks. `become_child` makes system calls only (setsid, prctl, getppid, write, getrlimit, setrlimit);
    // it takes no lock and allocates nothing, and its errors are plain numbers.
    unsafe { prepared.pre_exec(become_child) };
    prepared
}

struct Job {
    command: process::Command,
    answer: oneshot::Sender<io::Result<process::Child>>,
}

/// Starts the process on the one thread that lives as long as we do. The outer error is that thread's.
async fn run_on_spawner(command: process::Command) -> Result<io::Result<process::Child>> {
    let (answer, answered) = oneshot::channel();
    let lost = || Error::failed("the thread that starts children is gone");
    spawner()?.send(Job { command, answer }).map_err(|_| lost())?;
    answered.await.map_err(|_| lost())
}

fn spawner() -> Result<mpsc::Sender<Job>> {
    static SPAWNER: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(jobs) = &*spawner {
        return Ok(jobs.clone());
    }
    let (jobs, inbox) = mpsc::channel::<Job>();
    let run = move || inbox.into_iter().for_each(Job::run);
    let thread = thread::Builder::new().name("quorate-spawn".to_owned()).spawn(run);
    thread.map_err(|e| Error::failed(format!("cannot start the thread that starts children: {e}")))?;
    Ok(spawner.insert(jobs).clone())
}

impl Job {
    fn run(mut self) {
        if let Err(Ok(mut unwanted)) = self.answer.send(self.command.spawn()) {
            // Whoever wanted it was cancelled in the meantime.
            let _ = unwanted.kill();
            let _ = unwanted.wait();
        }
    }
}

fn check_dir(command: &Command) -> Result<()> {
    let dir = command.dir.display();
    let why = if !command.dir.exists() {
        format!("the folder {dir} does not exist")
    } else if !command.dir.is_dir() {
        format!("{dir} is not a folder")
    } else if access(&command.dir, AccessFlags::X_OK).is_err() {
        format!("the folder {dir} may not be entered by this user")
    } else {
        return Ok(());
    };
    Err(Error::failed(format!("cannot start {}: {why}", name(command))))
}

/// Says in the user's words why a program could not be started.
fn explain(command: &Command, error: &io::Error) -> Error {
    let fail = |why: &str| {
        Error::failed(format!("cannot start {}: {why} (in {})", name(command), command.dir.display()))
    };
    let program = command.program.to_string_lossy();
    let is_path = program.contains('/');
    let file = command.dir.join(&command.program);
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) if is_path && file.exists() => {
            fail("the interpreter in its first line (`#!`) does not exist")
        }
        Some(Errno::ENOENT) if is_path => fail("no such file or directory"),
        Some(Errno::ENOENT) => fail("no such program on the PATH"),
        Some(Errno::EACCES) if !is_path => {
            fail("no program of that name on the PATH may be run by this user")
        }
        Some(Errno::EACCES) if is_executable(&file) => fail("permission denied"),
        Some(Errno::EACCES) => fail("permission denied").hint(format!("chmod +x {}", file.display())),
        Some(Errno::E2BIG) => fail("its arguments and environment are too long")
            .hint("hand over long input on standard input or in a file"),
        Some(Errno::EAGAIN) => {
            fail("the system allows no more processes for this user").hint("see `ulimit -u`")
        }
        _ => fail(&error.to_string()),
    }
}

fn is_executable(file: &Path) -> bool {
    access(file, AccessFlags::X_OK).is_ok()
}

fn name(command: &Command) -> String {
    format!("`{}`", command.program.to_string_lossy())
}
