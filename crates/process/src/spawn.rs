//! The start of a child, and the handle that ends its tree when it is dropped.
//!
//! Here live the clean environment, the errors of starting, and the thread that starts. How is in [`crate::fork`].
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
use crate::fork::{self, Born, Image, Process};
use crate::keep::{Keeper, SharedTail, SharedWord};
use crate::log::Log;
use crate::orphan;
use crate::output::{Pump, Source};
use crate::pen::Pen;
use crate::procfs::{self, ProcessId};
use crate::tree::Tree;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{AccessFlags, Pid, access};
use quorate_model::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long a child may take until it has become its program: entering its folder and reading the program's file.
const START_MAX: Duration = Duration::from_secs(20);
/// More than a child ever reports, in bytes.
const REPORT_MAX: u64 = 64;
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
    pub(crate) word: SharedWord,
    /// `None` once it runs.
    pub(crate) pump: Option<Pump>,
    /// `None` once it is reaped.
    process: Option<Process>,
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
        let (born, group) = start(&self).await?;
        Child::new(self, born, group, log, exits, started)
    }
}

impl Child {
    fn new(
        command: Command,
        born: Born,
        group: Option<Arc<Group>>,
        log: Log,
        exits: tokio::signal::unix::Signal,
        started: Instant,
    ) -> Result<Child> {
        let Born { process, stdin, stdout, stderr, .. } = born;
        let readers = pipe::Receiver::from_owned_fd(stdout).and_then(|out| {
            Ok((pipe::Sender::from_owned_fd(stdin)?, out, pipe::Receiver::from_owned_fd(stderr)?))
        });
        let (input, out, err) = match readers {
            Ok(pipes) => pipes,
            Err(e) => return Err(abandon(&process, group.as_deref(), &format!("cannot read from it: {e}"))),
        };
        let id = match procfs::look(process.pid()) {
            Ok(Some(found)) => found.id(),
            Ok(None) => return Err(abandon(&process, group.as_deref(), "/proc does not show it")),
            Err(e) => return Err(abandon(&process, group.as_deref(), &format!("cannot look at it: {e}"))),
        };
        let (pulse, tail, mut mask) = (Pulse::new(), SharedTail::default(), command.mask);
        mask.add_env(command.env);
        let word = SharedWord::default();
        let keeper = Keeper::new(mask.clone(), tail.clone(), word.clone());
        let (out, err) = (Source::new(out), Source::new(err));
        let request = watch::Sender::new(Request::None);
        Ok(Child {
            pump: Some(Pump { out, err, keeper, pulse: pulse.clone(), pen: Pen::Idle(log) }),
            tree: Tree { root: id, marker: command.marker, group: group.clone() },
            control: Control { id, group, request, pulse, tail, mask },
            started,
            timeout: command.timeout,
            grace: command.grace,
            word,
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
        match self.process.as_ref().map(Process::try_wait) {
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
        if let Some(process) = self.process.take() {
            // Who cannot be seen now is found by the second, or as a stray at the next start.
            let _ = self.tree.signal(Signal::SIGKILL);
            let tree = self.tree.clone();
            // Reaped on a thread of its own, since it may take its time and a drop must not.
            let _ = thread::Builder::new().name("quorate-reap".to_owned()).spawn(move || {
                process.wait();
                let _ = tree.signal(Signal::SIGKILL);
            });
        }
    }
}

/// Ends a child that was started and cannot be used.
fn abandon(process: &Process, group: Option<&Group>, why: &str) -> Error {
    if let Some(group) = group {
        group.kill();
    }
    process.abandon();
    Error::failed(format!("cannot supervise process {}: {why}", process.pid()))
}

/// Writes all of the input and closes the pipe. A child need not read it: it may close its end, or leave it.
async fn write_input(mut pipe: pipe::Sender, input: Vec<u8>) {
    let _ = pipe.write_all(&input).await;
}

/// Starts the process, in a control group if there is one.
///
/// If that fails it is tried again without: the reason may be the group, and if not, the error is the program's own.
async fn start(command: &Command) -> Result<(Born, Option<Arc<Group>>)> {
    let base = cgroup::base();
    let group = base.and_then(|base| Group::create(base, &command.limits).ok()).map(Arc::new);
    if group.is_some() {
        let grouped = base.is_some_and(|base| base.memory);
        let image = image(command, command.limits.memory_bytes.filter(|_| !grouped))?;
        match born(image, group.clone()).await? {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(explain(command, &e)),
            Err(_) => {}
            Ok(born) => return Ok((born, group)),
        }
    }
    let image = image(command, command.limits.memory_bytes)?;
    let born = born(image, None).await?.map_err(|e| explain(command, &e))?;
    Ok((born, None))
}

/// A child that may not become its program: then it is ended, on a thread of its own, since the kernel may hold it for as
/// long as a file system does not answer.
struct Begun {
    process: Process,
    became: bool,
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.became {
            let process = self.process;
            let _ = thread::Builder::new().name("quorate-reap".to_owned()).spawn(move || process.abandon());
        }
    }
}

/// Starts the process and waits until it has become its program. The outer error is the spawner's.
async fn born(image: Image, group: Option<Arc<Group>>) -> Result<io::Result<Born>> {
    let born = match run_on_spawner(image, group).await? {
        Ok(born) => born,
        Err(e) => return Ok(Err(e)),
    };
    let mut begun = Begun { process: born.process, became: false };
    let report = born.report.try_clone().and_then(pipe::Receiver::from_owned_fd);
    let read = async {
        let mut said = Vec::new();
        report?.take(REPORT_MAX).read_to_end(&mut said).await.map(|_| said)
    };
    let error = match tokio::time::timeout(START_MAX, read).await {
        Ok(Ok(said)) => fork::told(&said),
        Ok(Err(e)) => Some(e),
        Err(_) => Some(io::ErrorKind::TimedOut.into()),
    };
    begun.became = error.is_none();
    Ok(error.map_or(Ok(born), Err))
}

/// Puts together what the child becomes; `memory` is the limit on each of its processes.
fn image(command: &Command, memory: Option<u64>) -> Result<Image> {
    let own = |(name, value): &(String, String)| (name.into(), value.into());
    let mut env: BTreeMap<OsString, OsString> = inherited().into_iter().collect();
    env.extend(command.env.iter().map(own));
    env.extend(command.marker.iter().map(own));
    env.extend(orphan::supervisor().ok().map(|name| (orphan::SUPERVISOR.into(), name.into())));
    Image::new(&command.program, &command.args, env.into_iter(), &command.dir, memory)
        .map_err(|e| explain(command, &e))
}

struct Job {
    image: Image,
    group: Option<Arc<Group>>,
    answer: oneshot::Sender<io::Result<Born>>,
}

/// Starts the process on the one thread that lives as long as we do. The outer error is that thread's.
async fn run_on_spawner(image: Image, group: Option<Arc<Group>>) -> Result<io::Result<Born>> {
    let (answer, answered) = oneshot::channel();
    let lost = || Error::failed("the thread that starts children is gone");
    spawner()?.send(Job { image, group, answer }).map_err(|_| lost())?;
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
    fn run(self) {
        if let Err(Ok(unwanted)) = self.answer.send(fork::start(&self.image, self.group.as_deref())) {
            // Whoever wanted it was cancelled in the meantime.
            drop(Begun { process: unwanted.process, became: false });
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
        None if error.kind() == io::ErrorKind::TimedOut => fail(&format!(
            "it has not begun within {} s: its folder or its file does not answer",
            START_MAX.as_secs()
        )),
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
