//! Control groups, version 2, where this process may make some.
//!
//! Here live the search for a place to make them, one group per child, and what it can do: end everyone at once, count
//! its CPU time, limit memory and CPU. What is offered to the outside is in [`crate::limits`].
//!
//! Only a place that is ours is used, since a control group that someone else manages (systemd, a container runtime)
//! must not be changed behind their back: a group with no other process in it (a systemd unit with `Delegate=yes`),
//! or the root of the hierarchy, of which no settings are touched. The kernel lets a group pass controllers on only if
//! it holds no processes itself, so this process first moves into a group of its own below it.

use crate::limits::Limits;
use crate::procfs::{self, ProcessId};
use nix::unistd::{AccessFlags, access};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The group this process moves into. A systemd unit may place it there itself (`DelegateSubgroup=`).
const SUPERVISOR: &str = "quorate-supervisor";
/// Begins the name of a child's group.
const CHILD: &str = "quorate-child-";
/// The period of `cpu.max` in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// A place where groups can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    path: PathBuf,
    /// Memory can be limited there.
    pub memory: bool,
    /// CPU time can be limited there.
    pub cpu: bool,
    /// Whether this process has to move down, and controllers to be passed on, before the first group is made.
    settle: bool,
}

/// Looks for a place and changes nothing. The error says why there is none.
pub(crate) fn find() -> Result<Base, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| e.to_string())?;
    let own = fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
    let here = place(&mounts, &own).ok_or("control groups v2 are not mounted here")?;
    judge(&here, std::process::id() as i32)
}

/// Returns the place for children's groups, made ready on the first call.
pub(crate) fn base() -> Option<&'static Base> {
    static BASE: OnceLock<Option<Base>> = OnceLock::new();
    BASE.get_or_init(|| find().ok().and_then(|base| base.settle().ok())).as_ref()
}

/// Returns the folder of this process's group.
fn place(mounts: &str, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|l| l.strip_prefix("0::"))?;
    let (root, mount) = mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        kind.starts_with("cgroup2 ").then_some((fields.next()?, fields.next()?))
    })?;
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(mount).join(below))
}

/// Decides whether children's groups can be made for a process whose group is `here`.
fn judge(here: &Path, own: i32) -> Result<Base, String> {
    let settled = here.ends_with(SUPERVISOR);
    let path = if settled { here.parent().unwrap_or(here) } else { here };
    if !writable(path) || !writable(&path.join("cgroup.procs")) {
        return Err(format!("the control group {} may not be changed by this user", path.display()));
    }
    let has = |file: &str, word: &str| words(&path.join(file)).iter().any(|w| w == word);
    if !path.join("cgroup.type").exists() {
        let passed_on = |word| has("cgroup.subtree_control", word);
        return Ok(Base {
            path: path.into(),
            memory: passed_on("memory"),
            cpu: passed_on("cpu"),
            settle: false,
        });
    }
    let others = procfs::pids(&fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default());
    if others.iter().any(|pid| *pid != own) {
        return Err(format!("other processes share the control group {}", path.display()));
    }
    let offered = |word| has("cgroup.controllers", word);
    Ok(Base { path: path.into(), memory: offered("memory"), cpu: offered("cpu"), settle: true })
}

fn writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

impl Base {
    fn settle(self) -> io::Result<Base> {
        if !self.settle {
            return Ok(self);
        }
        let home = self.path.join(SUPERVISOR);
        if !home.is_dir() {
            fs::create_dir(&home)?;
        }
        fs::write(home.join("cgroup.procs"), std::process::id().to_string())?;
        let pass_on = |word: &str| fs::write(self.path.join("cgroup.subtree_control"), word).is_ok();
        let (memory, cpu) = (self.memory && pass_on("+memory"), self.cpu && pass_on("+cpu"));
        Ok(Base { memory, cpu, ..self })
    }
}

/// The control group of one child. Dropping it removes it, if it is empty.
#[derive(Debug)]
pub(crate) struct Group {
    path: PathBuf,
}

impl Group {
    /// Makes a group and sets those limits that it can hold.
    pub(crate) fn create(base: &Base, limits: &Limits) -> io::Result<Group> {
        let group = Group { path: base.path.join(name()) };
        fs::create_dir(&group.path)?;
        let settings = settings(base, limits);
        settings.into_iter().try_for_each(|(file, value)| fs::write(group.path.join(file), value))?;
        Ok(group)
    }

    /// Finds the group of a process that another supervisor left behind, if it is a child's group.
    pub(crate) fn of(pid: i32) -> Option<Group> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let path = place(&mounts, &fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)?;
        path.file_name()?.to_str()?.starts_with(CHILD).then_some(Group { path })
    }

    /// Opens its folder, for a child to be born there.
    pub(crate) fn folder(&self) -> io::Result<fs::File> {
        fs::File::open(&self.path)
    }

    /// Opens the file to which a process writes `0` to enter.
    pub(crate) fn door(&self) -> io::Result<fs::File> {
        fs::OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Returns who is in it.
    ///
    /// # Errors
    /// The system is short of files or memory.
    pub(crate) fn pids(&self) -> io::Result<Vec<i32>> {
        let list = procfs::readable(fs::read_to_string(self.path.join("cgroup.procs")))?;
        Ok(procfs::pids(&list.unwrap_or_default()))
    }

    /// Returns true if this process, or one that it came from, is in it or below it: then it is nothing for us to end.
    /// True as well where that cannot be told.
    pub(crate) fn holds_us(&self) -> bool {
        let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return true };
        let above = procfs::ancestry(usize::MAX);
        above.is_empty() || above.iter().any(|process| self.holds(&mounts, process.pid))
    }

    fn holds(&self, mounts: &str, pid: i32) -> bool {
        match procfs::readable(fs::read_to_string(format!("/proc/{pid}/cgroup"))) {
            Ok(own) => own.and_then(|own| place(mounts, &own)).is_some_and(|own| own.starts_with(&self.path)),
            Err(_) => true,
        }
    }

    /// Ends everyone in it at once (Linux 5.14; without it, callers kill one by one).
    pub(crate) fn kill(&self) {
        // A file that is missing must not be created as an ordinary one, which `fs::write` cannot do here: the
        // file system of control groups holds no others.
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Returns the CPU time of all that ever were in it, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> Option<u64> {
        Some(number(&fs::read_to_string(self.path.join("cpu.stat")).ok()?, "usage_usec")? / 1000)
    }

    /// Removes it. That fails while someone is in it, which a later supervisor's sweep mends.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_dir(&self.path);
    }

    /// Returns true if the kernel ended processes in it for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        number(&events, "oom_kill").is_some_and(|n| n > 0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The name says who made it, so that it can be told whether they still run.
fn name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let pid = std::process::id();
    let start_time = procfs::start_time(pid as i32).unwrap_or_default();
    format!("{CHILD}{pid}-{start_time}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes the empty groups of supervisors that no longer run.
pub(crate) fn sweep() {
    let Some(base) = base() else { return };
    let Ok(entries) = fs::read_dir(&base.path) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_left_behind)) {
        let _ = fs::remove_dir(entry.path());
    }
}

fn is_left_behind(name: &str) -> bool {
    maker(name).is_some_and(|process| !process.is_alive())
}

fn maker(name: &str) -> Option<ProcessId> {
    let mut parts = name.strip_prefix(CHILD)?.split('-');
    Some(ProcessId { pid: parts.next()?.parse().ok()?, start_time: parts.next()?.parse().ok()? })
}

fn settings(base: &Base, limits: &Limits) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes.filter(|_| base.memory) {
        settings.push(("memory.max", bytes.to_string()));
        // All of it or nothing: half a tree left running is no state to report.
        settings.push(("memory.oom.group", "1".to_owned()));
    }
    if let Some(percent) = limits.cpu_percent.filter(|_| base.cpu) {
        settings.push((
            "cpu.max",
            format!("{} {CPU_PERIOD_US}", u64::from(percent.max(1)) * CPU_PERIOD_US / 100),
        ));
    }
    settings
}

fn number(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                          41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_place_is_found_below_the_mount() {
        let check = |mounts: &str, own: &str, expected: Option<&str>| {
            assert_eq!(place(mounts, own), expected.map(PathBuf::from), "{own}");
        };
        check(MOUNTS, "4:memory:/x\n0::/\n", Some("/sys/fs/cgroup/unified"));
        check(MOUNTS, "0::/user.slice/a.scope\n", Some("/sys/fs/cgroup/unified/user.slice/a.scope"));
        check(MOUNTS, "4:memory:/x\n", None);
        check("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw", "0::/", None);
        check(
            "1 2 0:3 /docker/7 /sys/fs/cgroup rw - cgroup2 c rw",
            "0::/docker/7/a",
            Some("/sys/fs/cgroup/a"),
        );
        check("1 2 0:3 /docker/7 /sys/fs/cgroup rw - cgroup2 c rw", "0::/elsewhere", None);
    }

    /// Makes a folder that looks like a control group and judges it for process 7.
    fn check(name: &str, files: &[(&str, &str)], expected: Result<(bool, bool, bool), &str>) {
        let folder = std::env::temp_dir().join(format!("quorate-cgroup-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(file, text)| fs::write(folder.join(file), text).unwrap());
        let judged = judge(&folder, 7).map(|b| (b.memory, b.cpu, b.settle));
        fs::remove_dir_all(&folder).unwrap();
        match expected {
            Ok(expected) => assert_eq!(judged, Ok(expected), "{name}"),
            Err(part) => assert!(judged.unwrap_err().contains(part), "{name}"),
        }
    }

    #[test]
    fn only_a_group_that_is_ours_alone_is_used() {
        let controllers = ("cgroup.controllers", "cpu memory pids\n");
        let inner = ("cgroup.type", "domain\n");
        check("alone", &[inner, controllers, ("cgroup.procs", "7\n")], Ok((true, true, true)));
        check("shared", &[inner, controllers, ("cgroup.procs", "7\n8\n")], Err("other processes share"));
        check("closed", &[inner, controllers], Err("may not be changed"));
        check(
            "bare",
            &[inner, ("cgroup.controllers", "pids"), ("cgroup.procs", "7")],
            Ok((false, false, true)),
        );
        let root = [controllers, ("cgroup.procs", "1\n7\n"), ("cgroup.subtree_control", "memory")];
        check("root", &root, Ok((true, false, false)));
    }

    #[test]
    fn limits_become_settings_only_where_they_can_be_held() {
        let limits = Limits { memory_bytes: Some(1 << 20), cpu_percent: Some(50) };
        let check = |memory, cpu, expected: &[(&'static str, &str)]| {
            let base = Base { path: PathBuf::new(), memory, cpu, settle: false };
            let expected: Vec<_> = expected.iter().map(|(f, v)| (*f, v.to_string())).collect();
            assert_eq!(settings(&base, &limits), expected);
        };
        check(
            true,
            true,
            &[("memory.max", "1048576"), ("memory.oom.group", "1"), ("cpu.max", "50000 100000")],
        );
        check(false, true, &[("cpu.max", "50000 100000")]);
        check(false, false, &[]);
    }

    #[test]
    fn a_group_is_left_behind_when_its_maker_is_gone() {
        assert!(!is_left_behind(&name()));
        assert!(is_left_behind("quorate-child-1-999999999999-1"));
        assert!(!is_left_behind("quorate-supervisor"));
    }

    #[test]
    fn counters_are_read_by_name() {
        assert_eq!(number("oom 3\noom_kill 2\n", "oom_kill"), Some(2));
        assert_eq!(number("oom_group_kill 2\n", "oom_kill"), None);
    }
}
