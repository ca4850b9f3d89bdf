//! Real children and what becomes of them.
//!
//! Here lives the behaviour of the whole crate, shown with shell scripts that misbehave in every way we know of.
//! Pure decisions are tested beside their code.

// The helpers of the tests are tests too, which the lint's own exception does not see.
#![allow(clippy::unwrap_used)]

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use quorate_process::limits::{self, Mechanism};
use quorate_process::{
    Command, Control, Exit, ExitKind, INHERITED, Mask, Message, ProcessId, orphan, own_process, start_time,
    supervise,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::mem::ManuallyDrop;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longer than any test may take, and what a script sleeps that is to be ended.
const LONG: Duration = Duration::from_secs(60);

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("quorate-process-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn command(&self, text: &str) -> Command {
        let mut command = Command::shell(text, &self.0, self.0.join("logs/1.log"));
        command.marker = self.marker();
        command.grace = LONG;
        command
    }

    fn marker(&self) -> Vec<(String, String)> {
        vec![("QUORATE_TASK_ID".into(), "7".into()), ("QUORATE_STORE".into(), self.0.display().to_string())]
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("logs/1.log")).unwrap()
    }

    /// Waits until a script has written a process number into a file.
    async fn process(&self, file: &str) -> ProcessId {
        loop {
            let text = fs::read_to_string(self.0.join(file)).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n').and_then(|t| t.parse().ok()) {
                return ProcessId { pid, start_time: start_time(pid).unwrap() };
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Running {
    control: Control,
    exit: JoinHandle<Exit>,
    messages: mpsc::Receiver<Message>,
}

impl Running {
    async fn start(command: Command) -> Running {
        let child = command.spawn().await.unwrap();
        let control = child.control();
        let (sender, messages) = mpsc::channel(64);
        Running { control, exit: tokio::spawn(supervise(child, sender)), messages }
    }

    async fn exit(self) -> Exit {
        tokio::time::timeout(LONG, self.exit).await.expect("the child should have ended long ago").unwrap()
    }
}

async fn run(command: Command) -> Exit {
    Running::start(command).await.exit().await
}

async fn check(text: &str, expected: ExitKind) {
    let exit = run(Folder::new().command(text)).await;
    assert_eq!(exit.kind, expected, "{text}");
    assert_eq!((exit.leaked, exit.survivors), (0, 0), "{text}");
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    check("exit 0", ExitKind::Exited(0)).await;
    check("exit 3", ExitKind::Exited(3)).await;
    check("kill -9 $$", ExitKind::Signalled(9)).await;
    check("kill -TERM 0", ExitKind::Signalled(15)).await;
    check("true | false", ExitKind::Exited(1)).await;
}

#[tokio::test]
async fn output_of_both_streams_is_kept_in_a_private_log() {
    let folder = Folder::new();
    let exit = run(folder.command("echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three")).await;
    assert_eq!(exit.tail, "one\ntwo\nthree");
    assert_eq!(folder.log(), "one\ntwo\nthree\n");
    assert_eq!((exit.log_bytes, exit.dropped_bytes, exit.log_error), (14, 0, None));
    let mode = |path: &str| fs::metadata(folder.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("logs"), mode("logs/1.log")), (0o700, 0o600));
}

#[tokio::test]
async fn a_child_reads_its_input_and_may_leave_it() {
    let folder = Folder::new();
    let with = |text: &str, input: &[u8]| {
        let mut command = folder.command(text);
        command.stdin = input.to_vec();
        command
    };
    assert_eq!(run(with("cat", b"the task")).await.tail, "the task");
    let large = vec![b'x'; 4 << 20];
    assert_eq!(run(with("wc -c", &large)).await.tail.trim(), "4194304");
    assert!(run(with("exec <&-; sleep 0.1; echo closed", &large)).await.is_success());
    assert!(run(with("true", &large)).await.is_success());
}

#[tokio::test]
async fn the_environment_is_clean() {
    let folder = Folder::new();
    let mut command = folder.command("exec env");
    command.env = vec![("GIVEN".into(), "yes".into()), ("LANG".into(), "C".into())];
    run(command).await;
    let log = folder.log();
    let given =
        ["GIVEN", "QUORATE_TASK_ID", "QUORATE_STORE", "QUORATE_SUPERVISOR", "PWD", "OLDPWD", "SHLVL", "_"];
    let names: BTreeSet<&str> = log.lines().filter_map(|l| Some(l.split_once('=')?.0)).collect();
    let strange: Vec<_> = names
        .iter()
        .filter(|n| !given.contains(n) && !INHERITED.contains(n) && !n.starts_with("LC_"))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "cargo sets it, so it shows what is held back");
    assert!(names.contains("PATH") && log.contains("GIVEN=yes\n") && log.contains("LANG=C\n"), "{log}");
}

#[tokio::test]
async fn secrets_are_masked_wherever_output_is_kept() {
    let folder = Folder::new();
    let mut command = folder.command(
        r#"printf 'a hunt'; sleep 0.1; echo "er22 b $THE_TOKEN"
           echo '{"quorate":"progress","message":"hunter22"}'
           echo '{"quorate":"result","value":{"k":"hunter22"}}'"#,
    );
    command.mask = Mask::from_env([("DB_PASSWORD", "hunter22")]);
    command.env = vec![("THE_TOKEN".into(), "swordfish".into())];
    let mut running = Running::start(command).await;
    let progress = running.messages.recv().await;
    let exit = running.exit().await;
    assert_eq!(
        progress,
        Some(Message::Progress { percent: None, message: Some("***".into()), findings: vec![] })
    );
    assert_eq!(exit.result, Some(json!({"k": "***"})));
    assert_eq!(exit.tail, "a *** b ***");
    let log = folder.log();
    assert!(log.starts_with("a *** b ***\n") && !log.contains("hunter22"), "{log}");
}

#[tokio::test]
async fn messages_come_while_the_child_runs_and_bad_ones_do_not_end_it() {
    let folder = Folder::new();
    let script = r#"echo '{"quorate":"progress","percent":40}'; read go < go
                    echo '{"quorate":"nonsense"}'; echo '{"quorate":"result","value":[1]}'; exit 0"#;
    nix::unistd::mkfifo(&folder.0.join("go"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut running = Running::start(folder.command(script)).await;
    assert_eq!(
        running.messages.recv().await,
        Some(Message::Progress { percent: Some(40), message: None, findings: vec![] })
    );
    fs::write(folder.0.join("go"), "on\n").unwrap();
    assert!(matches!(running.messages.recv().await, Some(Message::Bad(_))));
    assert_eq!(running.messages.recv().await, Some(Message::Result(json!([1]))));
    let exit = running.exit().await;
    assert!(exit.is_success());
    assert_eq!((exit.result, exit.tail.as_str()), (Some(json!([1])), r#"{"quorate":"nonsense"}"#));
}

#[tokio::test]
async fn a_receiver_that_never_listens_does_not_hold_up_the_child() {
    let folder = Folder::new();
    let script = r#"i=0; while [ $i -lt 3000 ]; do echo '{"quorate":"progress","percent":1}'; i=$((i+1)); done
                    echo '{"quorate":"result","value":7}'"#;
    let child = folder.command(script).spawn().await.unwrap();
    let (sender, mut messages) = mpsc::channel(1);
    let exit = supervise(child, sender).await;
    assert!(exit.is_success());
    assert_eq!(exit.result, Some(json!(7)));
    assert!(messages.recv().await.is_some());
}

#[tokio::test]
async fn a_flood_of_short_lines_is_drained_and_the_log_is_bounded() {
    let folder = Folder::new();
    let exit = run(folder.command("yes | head -c 100000000; echo; echo the end")).await;
    assert!(exit.is_success());
    assert!(exit.tail.ends_with("y\n\nthe end"), "{}", exit.tail);
    let log = fs::metadata(folder.0.join("logs/1.log")).unwrap().len();
    assert!(log <= quorate_process::MAX_LOG as u64 && log == exit.log_bytes, "{log}");
    assert!(exit.dropped_bytes > 100_000_000 - quorate_process::MAX_LOG as u64);
    assert!(folder.log().ends_with("y\n\nthe end\n"));
}

#[tokio::test]
async fn a_line_of_ten_megabytes_is_cut() {
    let folder = Folder::new();
    let exit = run(folder.command("head -c 10000000 /dev/zero | tr '\\0' x; echo; echo after")).await;
    assert!(exit.is_success());
    assert_eq!(exit.dropped_bytes, 10_000_000 - quorate_process::MAX_LINE as u64);
    let log = folder.log();
    assert!(log.len() < quorate_process::MAX_LINE + 100);
    assert!(log.ends_with("x[quorate: 9934464 more bytes of this line left out]\nafter\n"));
}

#[tokio::test]
async fn a_result_of_nearly_one_mebibyte_comes_through() {
    let folder = Folder::new();
    let script =
        r#"printf '{"quorate":"result","value":"'; head -c 1048000 /dev/zero | tr '\0' x; echo '"}'"#;
    let exit = run(folder.command(script)).await;
    assert_eq!(exit.result.and_then(|r| Some(r.as_str()?.len())), Some(1_048_000));
}

#[tokio::test]
async fn output_that_is_not_utf_8_is_kept_as_well_as_can_be() {
    let exit = run(Folder::new().command(r"printf 'a\377\000b\n'")).await;
    assert_eq!(exit.tail, "a\u{fffd}\u{fffd}b");
}

#[tokio::test]
async fn a_full_disk_does_not_end_the_child() {
    let folder = Folder::new();
    let mut command = folder.command("echo one; echo two");
    command.log = "/dev/full".into();
    let exit = run(command).await;
    assert!(exit.is_success());
    assert_eq!(exit.tail, "one\ntwo");
    assert!(exit.log_error.unwrap().contains("No space left"));
}

/// A log whose disk does not answer until it is read: a pipe that takes a page and no more.
struct SlowDisk {
    log: PathBuf,
    pipe: fs::File,
}

impl SlowDisk {
    fn new(folder: &Folder) -> SlowDisk {
        let log = folder.0.join("slow.log");
        nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // In both directions, so that neither end waits for the other to be opened.
        let pipe = fs::File::options().read(true).write(true).open(&log).unwrap();
        fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        SlowDisk { log, pipe }
    }

    /// Answers from now on, until the log ends so; returns all of it.
    async fn read_until(mut self, end: &'static str) -> String {
        let reading = tokio::task::spawn_blocking(move || {
            let (mut text, mut piece) = (String::new(), [0; 4096]);
            while !text.ends_with(end) {
                let length = self.pipe.read(&mut piece).unwrap();
                text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
            }
            text
        });
        tokio::time::timeout(LONG, reading).await.expect("all is written").unwrap()
    }
}

#[tokio::test]
async fn a_result_counts_although_the_disk_of_the_log_does_not_answer() {
    let folder = Folder::new();
    let disk = SlowDisk::new(&folder);
    let mut command = folder.command(
        r#"head -c 20000 /dev/zero | tr '\0' x; echo; sleep 0.3; echo '{"quorate":"result","value":7}'"#,
    );
    command.log = disk.log.clone();
    let exit = run(command).await;
    assert!(exit.is_success(), "{exit:?}");
    assert_eq!(exit.result, Some(json!(7)));
    assert_eq!(exit.log_error.as_deref(), Some("it could not be written in time"));
    let log = disk.read_until("\"value\":7}\n").await;
    assert!(log.len() > 20_000, "what nobody waited for is written all the same: {}", log.len());
}

#[tokio::test]
async fn a_flood_waits_for_a_slow_disk_and_nothing_is_lost() {
    let folder = Folder::new();
    let disk = SlowDisk::new(&folder);
    let mut command = folder.command("seq 400000");
    command.log = disk.log.clone();
    let running = Running::start(command).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(running.control.id().is_alive(), "more than what may wait for the disk is not read");
    let log = disk.read_until("\n400000\n").await;
    let exit = running.exit().await;
    assert_eq!((exit.kind, exit.log_error), (ExitKind::Exited(0), None));
    assert_eq!((exit.log_bytes, exit.dropped_bytes), (log.len() as u64, 0));
    assert_eq!(log.lines().count(), 400_000);
}

#[tokio::test]
async fn a_timeout_stops_a_child_that_ignores_term() {
    let folder = Folder::new();
    let mut command = folder.command("trap '' TERM; echo ready; while :; do sleep 1000; done");
    command.timeout = Some(Duration::from_millis(300));
    command.grace = Duration::from_millis(200);
    let began = Instant::now();
    let exit = run(command).await;
    assert_eq!(exit.kind, ExitKind::TimedOut);
    assert_eq!((exit.tail.as_str(), exit.leaked, exit.survivors), ("ready", 0, 0));
    assert!(began.elapsed() >= Duration::from_millis(500) && exit.duration_ms >= 500);
}

#[tokio::test]
async fn a_child_may_use_its_grace_to_end_in_order() {
    let folder = Folder::new();
    let mut running = Running::start(folder.command(
        r#"trap 'echo saved; exit 0' TERM; echo '{"quorate":"progress"}'; while :; do sleep 0.01; done"#,
    ))
    .await;
    running.messages.recv().await;
    running.control.stop("cancelled");
    running.control.stop("again");
    let exit = running.exit().await;
    assert_eq!(exit.kind, ExitKind::Stopped("cancelled".into()));
    // The shell may also say, on its other stream, that its `sleep` was ended.
    assert!(exit.tail.lines().any(|line| line == "saved"), "{}", exit.tail);
}

#[tokio::test]
async fn a_kill_cuts_the_grace_short() {
    let folder = Folder::new();
    let mut running =
        Running::start(folder.command(r#"trap '' TERM; echo '{"quorate":"progress"}'; sleep 1000"#)).await;
    running.messages.recv().await;
    running.control.stop("first");
    running.control.kill("second");
    assert_eq!(running.exit().await.kind, ExitKind::Stopped("first".into()));
}

#[tokio::test]
async fn a_stopped_child_takes_its_whole_tree_with_it() {
    let folder = Folder::new();
    let running = Running::start(folder.command(
        "sh -c 'echo $$ > a; exec sleep 1000' & setsid sh -c 'echo $$ > b; exec sleep 1000' &
         (setsid sh -c '(trap \"\" TERM; sleep 1000) & echo $! > c; exec sleep 1000' &); sleep 1000",
    ))
    .await;
    let mut processes = vec![running.control.id()];
    for file in ["a", "b", "c"] {
        processes.push(folder.process(file).await);
    }
    assert!(processes.iter().all(|p| p.is_alive()));
    running.control.kill("enough");
    let exit = running.exit().await;
    assert_eq!(exit.survivors, 0);
    assert!(!processes.iter().any(|p| p.is_alive()));
}

#[tokio::test]
async fn what_a_child_leaves_behind_is_ended_and_counted() {
    let folder = Folder::new();
    let script =
        "setsid sh -c 'echo $$ > left; exec sleep 1000' & while ! [ -s left ]; do sleep 0.01; done; exit 4";
    let running = Running::start(folder.command(script)).await;
    let left = folder.process("left").await;
    let exit = running.exit().await;
    assert_eq!((exit.kind, exit.leaked, exit.survivors), (ExitKind::Exited(4), 1, 0));
    assert!(!left.is_alive());
}

#[tokio::test]
async fn one_that_hides_its_marker_is_found_where_there_are_control_groups() {
    let folder = Folder::new();
    let script = "setsid env -i sh -c 'echo $$ > left; exec sleep 1000' &
                  while ! [ -s left ]; do sleep 0.01; done; cat /proc/self/cgroup";
    let running = Running::start(folder.command(script)).await;
    let left = folder.process("left").await;
    let exit = running.exit().await;
    let grouped = exit.tail.contains("/quorate-child-");
    assert_eq!((exit.leaked, left.is_alive()), if grouped { (1, false) } else { (0, true) });
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(left.pid), nix::sys::signal::Signal::SIGKILL).ok();
}

#[tokio::test]
async fn what_ends_by_itself_soon_after_its_parent_is_not_leaked() {
    check("sleep 0.05 & exit 0", ExitKind::Exited(0)).await;
}

#[tokio::test]
async fn a_pipe_that_is_held_open_does_not_hold_up_the_end() {
    let folder = Folder::new();
    let began = Instant::now();
    let exit = run(folder.command("(sleep 1000 &) ; echo done")).await;
    assert_eq!((exit.tail.as_str(), exit.leaked), ("done", 1));
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_child_that_is_stopped_by_a_signal_still_ends() {
    let folder = Folder::new();
    let running = Running::start(folder.command("echo $$ > me; kill -STOP $$; sleep 1000")).await;
    folder.process("me").await;
    running.control.stop("enough");
    assert_eq!(running.exit().await.kind, ExitKind::Stopped("enough".into()));
}

#[tokio::test]
async fn a_child_has_no_terminal_and_a_session_of_its_own() {
    check("true < /dev/tty", ExitKind::Exited(2)).await;
    let folder = Folder::new();
    let exit = run(folder.command("cut -d' ' -f5,6 /proc/$$/stat; echo $$ $$")).await;
    let lines: Vec<&str> = exit.tail.lines().collect();
    assert_eq!(lines[0], lines[1]);
}

#[tokio::test]
async fn dropping_a_child_ends_its_tree() {
    let folder = Folder::new();
    let child =
        folder.command("setsid sh -c 'echo $$ > inner; exec sleep 1000' & sleep 1000").spawn().await.unwrap();
    let inner = folder.process("inner").await;
    let outer = child.id();
    drop(child);
    until(|| !outer.is_alive() && !inner.is_alive()).await;
}

#[tokio::test]
async fn a_supervision_that_is_dropped_ends_the_tree() {
    let folder = Folder::new();
    let running = Running::start(folder.command("echo $$ > me; sleep 1000")).await;
    let me = folder.process("me").await;
    running.exit.abort();
    until(|| !me.is_alive()).await;
}

#[tokio::test]
async fn output_and_cpu_time_are_signs_of_life() {
    let folder = Folder::new();
    let mut running = Running::start(
        folder.command(r#"echo '{"quorate":"progress"}'; (while :; do :; done) & sleep 1000"#),
    )
    .await;
    let started = running.control.activity();
    running.messages.recv().await;
    assert!(running.control.activity().last_output > started.last_output);
    until(|| running.control.activity().cpu_ms >= started.cpu_ms + 50).await;
    running.control.kill("enough");
    running.exit().await;
}

#[tokio::test]
async fn the_tail_of_a_running_child_can_be_read() {
    let folder = Folder::new();
    let running = Running::start(folder.command("echo hello; sleep 1000")).await;
    until(|| running.control.tail() == "hello").await;
    running.control.kill("enough");
    assert_eq!(running.exit().await.tail, "hello");
}

#[tokio::test]
async fn a_start_that_fails_says_what_why_and_where() {
    let folder = Folder::new();
    let dir = folder.0.display().to_string();
    fs::write(folder.0.join("plain.sh"), "echo\n").unwrap();
    fs::write(folder.0.join("strange.sh"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(folder.0.join("strange.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let check = async |program: &str, sub: &str, arg: String, expected: &str| {
        let mut command = Command::new(program, folder.0.join(sub), folder.0.join("log"));
        command.args = vec![arg.into()];
        command.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let error = command.spawn().await.unwrap_err();
        assert_eq!(error.message, expected.replace("DIR", &dir));
        error.hint
    };
    check("./x.sh", "", String::new(), "cannot start `./x.sh`: no such file or directory (in DIR/)").await;
    check("no-such", "", String::new(), "cannot start `no-such`: no such program on the PATH (in DIR/)")
        .await;
    let hint =
        check("./plain.sh", "", String::new(), "cannot start `./plain.sh`: permission denied (in DIR/)")
            .await;
    assert_eq!(hint, Some(format!("chmod +x {dir}/./plain.sh")));
    let interpreter =
        "cannot start `./strange.sh`: the interpreter in its first line (`#!`) does not exist (in DIR/)";
    check("./strange.sh", "", String::new(), interpreter).await;
    check("sh", "gone", String::new(), "cannot start `sh`: the folder DIR/gone does not exist").await;
    check("sh", "plain.sh", String::new(), "cannot start `sh`: DIR/plain.sh is not a folder").await;
    let long = "cannot start `sh`: its arguments and environment are too long (in DIR/)";
    check("sh", "", "x".repeat(1 << 20), long).await;
}

#[tokio::test]
async fn a_log_that_cannot_be_made_is_an_error_before_the_start() {
    let folder = Folder::new();
    fs::write(folder.0.join("logs"), "a file").unwrap();
    let error = folder.command("touch started").spawn().await.unwrap_err();
    assert!(error.message.starts_with("cannot write the log "), "{error}");
    assert!(!folder.0.join("started").exists());
}

/// `tail` keeps all of its input in memory.
const HUNGRY: &str = "head -c 300000000 /dev/zero | tail -c 300000000 > /dev/null";

#[tokio::test]
async fn a_memory_limit_is_held_where_support_says_so() {
    let folder = Folder::new();
    assert!(run(folder.command(HUNGRY)).await.is_success());
    let mut command = folder.command(HUNGRY);
    command.limits.memory_bytes = Some(64 << 20);
    let exit = run(command).await;
    let support = limits::support();
    match support.memory {
        Mechanism::CgroupV2 => assert!(!exit.is_success() && exit.out_of_memory, "{exit:?}"),
        Mechanism::Rlimit => assert!(!exit.is_success() && exit.tail.contains("memory"), "{exit:?}"),
        Mechanism::None => assert!(exit.is_success(), "{exit:?}"),
    }
    assert!(!support.why.is_empty());
}

#[tokio::test]
async fn a_cpu_limit_is_held_where_support_says_so() {
    let folder = Folder::new();
    let mut command = folder.command("while :; do :; done");
    command.limits.cpu_percent = Some(10);
    command.timeout = Some(Duration::from_secs(1));
    let running = Running::start(command).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    let cpu_ms = running.control.activity().cpu_ms;
    running.exit().await;
    match limits::support().cpu {
        Mechanism::CgroupV2 => assert!(cpu_ms < 300, "{cpu_ms}"),
        Mechanism::Rlimit | Mechanism::None => assert!(cpu_ms > 100, "{cpu_ms}"),
    }
}

/// Starts a daemon as a supervisor that died would have left it: no child of ours, in a session of its own.
fn daemon(folder: &Folder, script: &str) {
    let mut command = std::process::Command::new("setsid");
    command
        .args(["--fork", "sh", "-c", script])
        .current_dir(&folder.0)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    assert!(command.envs(folder.marker()).status().unwrap().success());
}

#[tokio::test]
async fn an_orphan_is_ended_with_all_it_started() {
    let folder = Folder::new();
    daemon(&folder, "setsid sh -c 'echo $$ > inner; exec sleep 1000' & echo $$ > outer; wait");
    let (outer, inner) = (folder.process("outer").await, folder.process("inner").await);
    assert!(orphan::is_alive(outer));
    let ended = orphan::end(outer, &[], LONG).await;
    assert_eq!((ended.ended, ended.left), (2, 0));
    assert!(!outer.is_alive() && !inner.is_alive());
    assert_eq!(orphan::end(outer, &folder.marker(), LONG).await, orphan::Ended::default());
}

#[tokio::test]
async fn what_an_orphan_left_is_known_by_its_marker_alone() {
    let folder = Folder::new();
    daemon(&folder, "setsid sh -c 'echo $$ > inner; exec sleep 1000' & echo $$ > outer; exec sleep 1000");
    let (outer, inner) = (folder.process("outer").await, folder.process("inner").await);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(outer.pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    until(|| !outer.is_alive()).await;
    let other = vec![("QUORATE_TASK_ID".to_owned(), "8".to_owned())];
    assert_eq!(orphan::end(outer, &other, LONG).await.ended, 0);
    assert!(inner.is_alive());
    orphan::end(outer, &folder.marker(), LONG).await;
    assert!(!inner.is_alive());
}

#[tokio::test]
async fn an_orphan_that_ignores_term_is_killed_after_its_grace() {
    let folder = Folder::new();
    daemon(&folder, "trap '' TERM; echo $$ > outer; while :; do sleep 1000; done");
    let outer = folder.process("outer").await;
    let ended = orphan::end(outer, &folder.marker(), Duration::from_millis(50)).await;
    assert!(ended.ended >= 1 && ended.left == 0);
    assert!(!outer.is_alive());
}

#[tokio::test]
async fn a_process_that_is_no_orphan_of_that_start_is_left_alone() {
    let folder = Folder::new();
    daemon(&folder, "echo $$ > outer; exec sleep 1000");
    let outer = folder.process("outer").await;
    let earlier = ProcessId { start_time: outer.start_time - 1, ..outer };
    assert_eq!(orphan::end(earlier, &[], LONG).await.ended, 0);
    assert!(outer.is_alive());
    orphan::end(outer, &[], LONG).await;
}

#[tokio::test]
async fn a_process_that_was_noted_and_has_not_the_marker_is_left_alone() {
    let folder = Folder::new();
    daemon(&folder, "echo $$ > outer; exec sleep 1000");
    let outer = folder.process("outer").await;
    let other = vec![("QUORATE_TASK_ID".to_owned(), "a forged note".to_owned())];
    assert_eq!(orphan::end(outer, &other, LONG).await, orphan::Ended::default());
    assert!(outer.is_alive());
    assert_eq!(orphan::end(outer, &folder.marker(), LONG).await.ended, 1);
}

const SUPERVISOR: &str = "QUORATE_TEST_SUPERVISOR";

/// Not a test by itself: the process that the next test kills.
#[tokio::test]
async fn supervisor_that_is_killed() {
    if let Some(dir) = std::env::var_os(SUPERVISOR) {
        let folder = ManuallyDrop::new(Folder(dir.into()));
        run(folder.command("echo $$ > me; setsid sh -c 'echo $$ > inner; exec sleep 1000' & sleep 1000"))
            .await;
    }
}

#[tokio::test]
async fn a_child_dies_with_its_supervisor_and_the_rest_is_found() {
    let folder = Folder::new();
    let mut supervisor = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "supervisor_that_is_killed"])
        .env(SUPERVISOR, &folder.0)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (me, inner) = (folder.process("me").await, folder.process("inner").await);
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    until(|| !me.is_alive()).await;
    assert!(inner.is_alive());
    let ended = orphan::end(me, &folder.marker(), LONG).await;
    assert!(ended.ended >= 1 && ended.left == 0);
    assert!(!inner.is_alive());
}

/// Runs one of the tests below as a process of its own; it works in `folder`.
fn apart(test: &str, folder: &Folder) {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(APART, &folder.0).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The folder of a process apart; of the other tests there is none.
fn apart_folder() -> Option<ManuallyDrop<Folder>> {
    Some(ManuallyDrop::new(Folder(std::env::var_os(APART)?.into())))
}

const APART: &str = "QUORATE_TEST_APART";

/// Not a test by itself: a supervisor that for a while can open no more files.
#[tokio::test]
async fn supervisor_without_files() {
    let Some(folder) = apart_folder() else { return };
    let mut running =
        Running::start(folder.command(r#"trap '' TERM; echo '{"quorate":"progress"}'; sleep 1000"#)).await;
    running.messages.recv().await;
    let (own, child) = (own_process().unwrap(), nix::unistd::Pid::from_raw(running.control.id().pid));
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    assert!(own.is_alive() && running.control.id().is_alive(), "nothing is known, so nobody is gone");
    assert!(orphan::end_strays(&folder.marker(), LONG).await.is_err());
    running.control.kill("enough");
    // That it has ended can be seen without a file; where all this took long, it is reaped already.
    let ended = tokio::task::spawn_blocking(move || {
        waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
    });
    let ended = tokio::time::timeout(LONG, ended).await.expect("it is ended all the same").unwrap();
    assert!(matches!(ended, Ok(_) | Err(nix::Error::ECHILD)), "{ended:?}");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(running.exit().await.kind, ExitKind::Stopped("enough".into()));
}

#[test]
fn who_can_open_no_more_files_ends_his_child_and_takes_nobody_for_dead() {
    apart("supervisor_without_files", &Folder::new());
}

/// Not a test by itself: a supervisor with a limit on open files of its own.
#[tokio::test]
async fn supervisor_with_more_files() {
    let Some(folder) = apart_folder() else { return };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 200, hard).unwrap();
    assert_eq!(limits::raise_open_files().unwrap(), hard);
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    assert_eq!(limits::raise_open_files().unwrap(), hard, "once more changes nothing");
    assert_eq!(run(folder.command("ulimit -n")).await.tail, "200");
}

#[test]
fn a_supervisor_may_open_more_files_than_its_children() {
    apart("supervisor_with_more_files", &Folder::new());
}

/// Not a test by itself: one who cleans up in the control group that he lives in.
#[tokio::test]
async fn cleaner_among_his_own() {
    let Some(folder) = apart_folder() else { return };
    let mut healthy = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    daemon(&folder, "echo $$ > stray; exec sleep 1000");
    let stray = folder.process("stray").await;
    let ended = orphan::end(stray, &[], LONG).await;
    assert_eq!((ended.ended, ended.left), (1, 0));
    assert!(!stray.is_alive() && healthy.try_wait().unwrap().is_none());
    healthy.kill().unwrap();
    healthy.wait().unwrap();
    println!("still here");
}

#[tokio::test]
async fn an_end_of_an_orphan_is_not_the_end_of_whoever_shares_its_control_group() {
    let folder = Folder::new();
    let mut command =
        Command::new(std::env::current_exe().unwrap(), &folder.0, folder.0.join("logs/cleaner.log"));
    command.args = ["--exact", "cleaner_among_his_own", "--nocapture"].map(OsString::from).to_vec();
    command.env = vec![(APART.into(), folder.0.display().to_string())];
    command.marker = folder.marker();
    let exit = run(command).await;
    assert!(exit.is_success() && exit.tail.contains("still here"), "{exit:?}");
}

/// Waits for something that no one announces.
async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("it should have come true long ago");
}
