//! fork and exec, with the child in its control group from its first moment.
//!
//! Here live what a child is made of, the search for its program, its few steps between fork and exec, and its reaping.
//! What it is given is decided in [`crate::spawn`].
//!
//! The standard library starts processes too, but a process that moves into a control group after its birth waits until
//! all CPUs have been quiet once: 6 ms, and 20 ms on a busy machine. One that is born there (`CLONE_INTO_CGROUP` of
//! `clone3`, Linux 5.7) is there in 0.3 ms.

use crate::cgroup::Group;
use crate::limits;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc::{self, c_char, c_int, c_long};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::unistd::{Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, getpid, getppid, pipe2, setsid};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;

/// Flags of `clone3` as in `linux/sched.h`; those of the `libc` crate are cut to 32 bits, where they are 0.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Where programs are looked for when the child has no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// What runs a text file that does not say what runs it, as every shell does.
const SHELL: &CStr = c"/bin/sh";

/// What a child becomes: all that exec needs, made before the fork, since a child of a process with threads must not
/// allocate.
#[derive(Debug)]
pub(crate) struct Image {
    /// Where the program may be, in the order to be tried.
    programs: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
    dir: CString,
    /// The limit on the memory of each process by itself, in bytes.
    memory: Option<u64>,
}

impl Image {
    /// Describes a child.
    ///
    /// # Errors
    /// One of the texts has a NUL byte in it.
    pub(crate) fn new(
        program: &OsStr,
        args: &[OsString],
        env: impl Iterator<Item = (OsString, OsString)>,
        dir: &Path,
        memory: Option<u64>,
    ) -> io::Result<Image> {
        let (mut path, mut pairs) = (OsString::from(DEFAULT_PATH), Vec::new());
        for (name, value) in env {
            let pair = CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?;
            if name == "PATH" {
                path = value;
            }
            pairs.push(pair);
        }
        let args = std::iter::once(program).chain(args.iter().map(OsString::as_os_str));
        Ok(Image {
            programs: candidates(program, &path)?,
            args: args.map(|arg| Ok(CString::new(arg.as_bytes())?)).collect::<io::Result<_>>()?,
            env: pairs,
            dir: CString::new(dir.as_os_str().as_bytes())?,
            memory,
        })
    }
}

/// Returns where a program may be: at its path, or in each folder of PATH. An empty folder is the current one.
fn candidates(program: &OsStr, path: &OsStr) -> io::Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![CString::new(program.as_bytes())?]);
    }
    let folders = path.as_bytes().split(|byte| *byte == b':');
    folders
        .map(|folder| {
            Ok(CString::new(Path::new(OsStr::from_bytes(folder)).join(program).into_os_string().into_vec())?)
        })
        .collect()
}

/// A child that was born, and our ends of its pipes. It is not yet known whether it becomes its program.
#[derive(Debug)]
pub(crate) struct Born {
    pub process: Process,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// Ends without a word once it has become its program; else has what [`told`] reads.
    pub report: OwnedFd,
}

/// A child that is not reaped yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(Pid);

impl Process {
    /// Returns its process id, which stays its own until it is reaped.
    pub(crate) fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// Reaps it if it has exited.
    pub(crate) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.reap(libc::WNOHANG)
    }

    /// Ends it at once and reaps it.
    pub(crate) fn abandon(&self) {
        let _ = kill(self.0, Signal::SIGKILL);
        self.wait();
    }

    /// Waits for its exit and reaps it.
    pub(crate) fn wait(&self) {
        while self.reap(0).is_err_and(|e| e.kind() == io::ErrorKind::Interrupted) {}
    }

    /// Not by `nix`, which knows no real-time signals: it reaps who was ended by one and says that it could not.
    fn reap(&self, flags: c_int) -> io::Result<Option<ExitStatus>> {
        let mut status = 0;
        // SAFETY: the kernel writes one number into `status`.
        let pid = Errno::result(unsafe { libc::waitpid(self.pid(), &raw mut status, flags) })?;
        Ok((pid != 0).then(|| ExitStatus::from_raw(status)))
    }
}

/// How a child comes into its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    /// It is born there.
    Birth,
    /// It goes there itself, where the kernel (or a filter of a container runtime) has no `clone3`.
    Door,
}

/// Starts a child, in `group` if there is one. It leads a session and dies with the thread that calls this, which does not
/// wait for it: a folder or a program on a file system that does not answer would keep it.
///
/// # Errors
/// What the system says of the fork. Nothing runs then.
pub(crate) fn start(image: &Image, group: Option<&Group>) -> io::Result<Born> {
    start_by(Entry::Birth, image, group).or_else(|_| start_by(Entry::Door, image, group))
}

fn start_by(entry: Entry, image: &Image, group: Option<&Group>) -> io::Result<Born> {
    let pipe = || pipe2(OFlag::O_CLOEXEC);
    let ((stdin, ours), (out, stdout), (err, stderr), (report, reports)) =
        (pipe()?, pipe()?, pipe()?, pipe()?);
    let place = match (group, entry) {
        (None, _) => None,
        (Some(group), Entry::Birth) => Some(group.folder()?),
        (Some(group), Entry::Door) => Some(group.door()?),
    };
    let (birthplace, door) = match entry {
        Entry::Birth => (place, None),
        Entry::Door => (None, place),
    };
    let next = Next {
        args: pointers(&image.args),
        shell: shell_pointers(&image.args),
        env: pointers(&image.env),
        image,
        files: limits::files_before(),
        parent: getpid(),
        stdio: [stdin, stdout, stderr],
        door,
    };
    // SAFETY: the child calls only `Next::run`, which is made for it, and never returns from there.
    let pid = match unsafe { fork(entry, birthplace.as_ref()) }? {
        0 => next.run(reports),
        pid => Pid::from_raw(pid),
    };
    drop((next, reports));
    Ok(Born { process: Process(pid), stdin: ours, stdout: out, stderr: err, report })
}

/// Reads from a child's report why it did not become its program; nothing if it did.
pub(crate) fn told(report: &[u8]) -> Option<io::Error> {
    Some(io::Error::from_raw_os_error(i32::from_ne_bytes(report.try_into().ok()?)))
}

/// What the kernel is told of a child to be made: `struct clone_args` of `linux/sched.h`, its version of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a child that goes on from here with a copy of all memory, and returns 0 in it.
///
/// # Safety
/// Where there are other threads, the child may only do what is safe in a signal handler: they may have held locks.
unsafe fn fork(entry: Entry, birthplace: Option<&File>) -> nix::Result<i32> {
    if entry == Entry::Door {
        // SAFETY: as of this function.
        return Errno::result(unsafe { libc::fork() });
    }
    let args = CloneArgs {
        flags: CLONE_CLEAR_SIGHAND | birthplace.map_or(0, |_| CLONE_INTO_CGROUP),
        exit_signal: Signal::SIGCHLD as u64,
        cgroup: birthplace.map_or(0, |folder| folder.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    // SAFETY: the arguments live through the call and their size is given. Without CLONE_VM the child has its own copy of
    // this stack, as after `fork`.
    let pid: c_long = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    Errno::result(pid).map(|pid| pid as i32)
}

/// Pointers to texts, and a null at the end.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// The arguments of a shell that runs a file; which, is filled in at its place.
fn shell_pointers(args: &[CString]) -> Vec<*const c_char> {
    let rest = args.iter().skip(1).map(|text| text.as_ptr());
    [SHELL.as_ptr(), ptr::null()].into_iter().chain(rest).chain([ptr::null()]).collect()
}

/// What a child does next. Its steps are system calls only; nothing here allocates, or takes a lock.
struct Next<'a> {
    image: &'a Image,
    args: Vec<*const c_char>,
    shell: Vec<*const c_char>,
    env: Vec<*const c_char>,
    /// How many files it may open, if that is not what we may.
    files: Option<u64>,
    parent: Pid,
    /// The child's ends of its pipes. None of them is 0, 1 or 2: Rust's start opens those.
    stdio: [OwnedFd; 3],
    door: Option<File>,
}

impl Next<'_> {
    /// Becomes the program, or says why not and exits.
    fn run(mut self, reports: OwnedFd) -> ! {
        let errno = match self.settle() {
            Ok(()) => self.exec(),
            Err(errno) => errno,
        };
        let said = (errno as i32).to_ne_bytes();
        // SAFETY: `write` reads the four bytes that are there; `_exit` ends the process without running anything of ours.
        unsafe {
            libc::write(reports.as_raw_fd(), said.as_ptr().cast(), said.len());
            libc::_exit(127)
        }
    }

    fn settle(&mut self) -> nix::Result<()> {
        // First: a Ctrl-C in the terminal is for us, and not yet for those whom we may let finish.
        setsid()?;
        let [stdin, stdout, stderr] = &self.stdio;
        dup2_stdin(stdin)?;
        dup2_stdout(stdout)?;
        dup2_stderr(stderr)?;
        // Rust ignores it; programs expect not to.
        // SAFETY: no handler is set.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }?;
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        set_pdeathsig(Signal::SIGKILL)?;
        if getppid() != self.parent {
            // The parent died before the signal was set; nobody waits for this child.
            return Err(Errno::ESRCH);
        }
        if let Some(door) = &self.door {
            let mut door: &File = door;
            door.write_all(b"0").map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        }
        self.files.map_or(Ok(()), limits::limit_files)?;
        self.image.memory.map_or(Ok(()), limits::limit_data)?;
        chdir(self.image.dir.as_c_str())
    }

    /// Tries each place where the program may be, as `execvp` does, and returns why none did.
    fn exec(&mut self) -> Errno {
        let mut denied = false;
        for program in &self.image.programs {
            match self.try_exec(program) {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV | Errno::ESTALE | Errno::ETIMEDOUT => {}
                Errno::EACCES => denied = true,
                Errno::ENOEXEC => {
                    self.shell[1] = program.as_ptr();
                    // SAFETY: as below.
                    unsafe { libc::execve(SHELL.as_ptr(), self.shell.as_ptr(), self.env.as_ptr()) };
                    return Errno::last();
                }
                other => return other,
            }
        }
        if denied { Errno::EACCES } else { Errno::ENOENT }
    }

    fn try_exec(&self, program: &CStr) -> Errno {
        // SAFETY: all are NUL-terminated texts of the image, which outlives this; both lists end with a null.
        unsafe { libc::execve(program.as_ptr(), self.args.as_ptr(), self.env.as_ptr()) };
        Errno::last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup;
    use crate::limits::Limits;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    fn image(program: &str, args: &[&str], path: &str) -> Image {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let env = [("PATH".into(), path.into())].into_iter();
        Image::new(OsStr::new(program), &args, env, Path::new("/"), None).expect("has no NUL")
    }

    /// Runs it to its end and returns what it wrote and its exit code.
    fn run(entry: Entry, image: &Image, group: Option<&Group>) -> (String, Option<i32>) {
        let born = start_by(entry, image, group).expect("is made");
        drop(born.stdin);
        let mut said = String::new();
        File::from(born.stdout).read_to_string(&mut said).expect("is read");
        let status = loop {
            if let Some(status) = born.process.try_wait().expect("is ours") {
                break status;
            }
            std::thread::yield_now();
        };
        (said, status.code())
    }

    #[test]
    fn a_child_runs_its_program_whichever_way_it_is_made() {
        for entry in [Entry::Birth, Entry::Door] {
            let echo = image(
                "sh",
                &["-c", "cat; trap; echo \"$0\" $#; pwd; exit 3", "a b", "", "c"],
                "/nowhere:/usr/bin:/bin",
            );
            assert_eq!(run(entry, &echo, None), ("a b 2\n/\n".into(), Some(3)), "{entry:?}");
        }
    }

    #[test]
    fn a_child_is_in_its_group_whichever_way_it_is_made() {
        let Some(base) = cgroup::base() else {
            eprintln!("not run: no control groups can be made here");
            return;
        };
        for entry in [Entry::Birth, Entry::Door] {
            let group = Group::create(base, &Limits::default()).expect("is made");
            let (said, code) =
                run(entry, &image("grep", &["0::", "/proc/self/cgroup"], "/usr/bin:/bin"), Some(&group));
            assert!(said.contains("/quorate-child-") && code == Some(0), "{entry:?}: {said}");
        }
    }

    #[test]
    fn who_is_ended_by_a_real_time_signal_was_ended_by_it() {
        let born = start_by(Entry::Birth, &image("sh", &["-c", "kill -40 $$"], "/usr/bin:/bin"), None)
            .expect("is made");
        let status = loop {
            if let Some(status) = born.process.try_wait().expect("is ours") {
                break status;
            }
            std::thread::yield_now();
        };
        assert_eq!(status.signal(), Some(40));
    }

    #[test]
    fn a_program_is_looked_for_where_the_path_says() {
        let check = |program: &str, path: &str, expected: &[&str]| {
            let found = candidates(OsStr::new(program), OsStr::new(path)).expect("has no NUL");
            assert_eq!(found.iter().map(|c| c.to_str().expect("is text")).collect::<Vec<_>>(), expected);
        };
        check("ls", "/bin:/usr/bin/", &["/bin/ls", "/usr/bin/ls"]);
        check("ls", ":/bin", &["ls", "/bin/ls"]);
        check("./ls", "/bin", &["./ls"]);
    }

    #[test]
    fn why_a_program_did_not_start_is_what_exec_said() {
        let folder = std::env::temp_dir().join(format!("quorate-fork-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("is made");
        let (text, plain) = (folder.join("text"), folder.join("plain"));
        fs::write(&text, "echo $1\n").expect("is written");
        fs::write(&plain, "").expect("is written");
        fs::set_permissions(&text, fs::Permissions::from_mode(0o755)).expect("is set");
        let path = format!("/nowhere:{}", folder.display());
        for entry in [Entry::Birth, Entry::Door] {
            let fails = |program: &str| {
                let born = start_by(entry, &image(program, &[], &path), None).expect("is made");
                let mut report = Vec::new();
                File::from(born.report).read_to_end(&mut report).expect("is read");
                born.process.wait();
                told(&report).and_then(|e| e.raw_os_error()).map(Errno::from_raw)
            };
            assert_eq!(fails("nobody"), Some(Errno::ENOENT));
            assert_eq!(fails("plain"), Some(Errno::EACCES));
            assert_eq!(run(entry, &image("text", &["said"], &path), None), ("said\n".into(), Some(0)));
        }
        fs::remove_dir_all(&folder).expect("is removed");
        assert!(Image::new(OsStr::new("a\0b"), &[], std::iter::empty(), Path::new("/"), None).is_err());
    }
}
