//! The documents' commands, run: what a guide says is what the binary does.
//!
//! Here lives a small runner. It takes the blocks of one document in their order, as one shell script, in a temporary
//! folder with `quorate` on its PATH:
//!
//! - a block `sh` is run; the document fails when one of its commands does;
//! - a block with `file=NAME` is written to that file, not run;
//! - after `#=> ` in a block `sh`, and in each line of a block `text` that follows it, stands what is to be seen in
//!   its output, in this order. `…` stands for anything, and any white space is one space;
//! - a block `sh no-run` is for the reader only. There are few;
//! - a block with `needs=PROGRAM` is left out, with a word, where that program is not installed.
//!
//! A document that makes a PostgreSQL of its own (`initdb`) is run as the user who may, on free ports of this host.
//!
//! What the commands mean is not tested here, and no document may say more than is seen here.

use quorate_testkit::cluster::{Installation, is_root};
use quorate_testkit::postgres::Schema;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// How long the commands of one document may take, in seconds.
const LIMIT_S: &str = "240";
/// Blocks in one guide that are not run, at most.
const UNRUN_MAX: usize = 2;
/// Stands in the documents for a database of the reader's; here it is one of the test's own.
const DATABASE: &str = "postgres://quorate@db.example/quorate";
/// Stands for the host of a database that the document itself makes, and the ports there.
const HOST: &str = "db.example";
const PORTS: [&str; 3] = ["5432", "5433", "6432"];
/// Ends what a document has started, however the script ends.
const TRAP: &str = r#"
end_all() {
    ended=$?
    set +e
    cd "$HOME"
    if [ $ended != 0 ]; then tail -n 20 db/log pgbouncer.log 2> /dev/null; fi
    quorate down > /dev/null 2>&1
    [ -z "$QUORATE_TMUX_SOCKET" ] || tmux -S "$QUORATE_TMUX_SOCKET" kill-server 2> /dev/null
    for file in *.pid; do [ ! -f "$file" ] || kill "$(cat "$file")"; done
    for file in */postmaster.pid; do [ ! -f "$file" ] || pg_ctl -D "${file%/*}" -m immediate stop > /dev/null; done
    exit $ended
}
trap end_all EXIT
trap 'exit 1' TERM
"#;
/// Ends a file in the script.
const FILE_END: &str = "END_OF_THE_FILE_IN_THE_DOCUMENT";

macro_rules! documents {
    ($($name:ident: $path:literal,)*) => {
        $(#[test] fn $name() { check($path); })*

        const DOCUMENTS: &[&str] = &[$($path),*];
    };
}

documents! {
    the_readme: "README.md",
    first_plan: "docs/guides/first-plan.md",
    command_agents: "docs/guides/command-agents.md",
    real_agents: "docs/guides/real-agents.md",
    external_agents: "docs/guides/external-agents.md",
    claims: "docs/guides/claims.md",
    goals: "docs/guides/goals.md",
    memory: "docs/guides/memory.md",
    claude_code: "docs/guides/claude-code.md",
    budgets: "docs/guides/budgets.md",
    running_a_node: "docs/guides/running-a-node.md",
    many_machines: "docs/guides/many-machines.md",
    terminal: "docs/guides/terminal.md",
    troubleshooting: "docs/guides/troubleshooting.md",
}

#[test]
fn every_guide_is_run() {
    for entry in std::fs::read_dir(root().join("docs/guides")).expect("there are guides").flatten() {
        let path = format!("docs/guides/{}", entry.file_name().to_string_lossy());
        assert!(DOCUMENTS.contains(&path.as_str()), "{path} is not run: add it to `documents!`");
        let blocks = blocks(&read(&path));
        let unrun = blocks.iter().filter(|block| matches!(block.kind, Kind::Unrun)).count();
        assert!(unrun <= UNRUN_MAX, "{path} has {unrun} blocks that are not run");
        assert!(blocks.iter().any(|block| matches!(block.kind, Kind::Run)), "{path} runs nothing");
    }
}

/// What is done with a block.
#[derive(Debug, PartialEq)]
enum Kind {
    Run,
    Unrun,
    Write(String),
    Expect,
    Other,
}

/// A block of code and the line it begins at.
#[derive(Debug, PartialEq)]
struct Block {
    line: usize,
    kind: Kind,
    text: String,
}

impl Block {
    /// Returns what this block expects to be seen.
    fn expected(&self) -> Vec<String> {
        let lines = self.text.lines();
        match self.kind {
            Kind::Run => lines.filter_map(|line| Some(line.split_once("#=> ")?.1.to_owned())).collect(),
            Kind::Expect => lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }
}

#[expect(clippy::print_stderr, reason = "what is not run is said")]
fn kind(info: &str) -> Kind {
    let (needs, words): (Vec<&str>, Vec<&str>) =
        info.split_whitespace().partition(|word| word.starts_with("needs="));
    if let Some(program) =
        needs.iter().filter_map(|word| word.strip_prefix("needs=")).find(|it| !is_there(it))
    {
        eprintln!("not run: {program} is not here (`cargo xtask setup` installs it where it can)");
        return Kind::Other;
    }
    if let Some(name) = words.iter().find_map(|word| word.strip_prefix("file=")) {
        return Kind::Write(name.to_owned());
    }
    match words.as_slice() {
        ["sh"] => Kind::Run,
        ["sh", "no-run"] => Kind::Unrun,
        ["text"] => Kind::Expect,
        _ => Kind::Other,
    }
}

fn is_there(program: &str) -> bool {
    std::env::split_paths(&path_with_quorate()).any(|folder| folder.join(program).is_file())
}

/// Returns the blocks of a document that stand at the beginning of a line.
fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: number + 1, kind: kind(info), text: String::new() });
            }
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block has no end");
    blocks
}

/// Returns the script of a document. Each block says its number first, so that its output can be found.
fn script(blocks: &[Block]) -> String {
    let mut script = String::from(TRAP);
    for (number, block) in blocks.iter().enumerate() {
        match &block.kind {
            Kind::Run => script.push_str(&format!("echo; echo '{}'\n{}", marker(number), block.text)),
            Kind::Write(name) => {
                let folder = Path::new(name).parent().unwrap_or(Path::new("")).join(".");
                script.push_str(&format!(
                    "mkdir -p '{}'\ncat > '{name}' <<'{FILE_END}'\n{}{FILE_END}\n",
                    folder.display(),
                    block.text
                ));
            }
            Kind::Unrun | Kind::Expect | Kind::Other => {}
        }
    }
    script.push_str(&format!("echo; echo '{}'\n", marker(blocks.len())));
    script
}

fn marker(number: usize) -> String {
    format!("@@ block {number} @@")
}

fn check(path: &str) {
    let blocks = blocks(&read(path));
    let mut script = script(&blocks);
    let database = script.contains(DATABASE).then(Schema::create);
    if let Some(database) = &database {
        script = script.replace(DATABASE, database.url());
    }
    let makes_a_server = script.contains("initdb");
    if makes_a_server {
        script = on_this_host(&script);
    }
    let (status, output) = run(&script, makes_a_server);
    let mut of = None;
    for (number, block) in blocks.iter().enumerate() {
        if block.kind == Kind::Run {
            of = Some(number);
        }
        let Some(of) = of else { continue };
        let seen = output_of(&output, of);
        if let Err(missing) = find_all(&block.expected(), seen) {
            panic!(
                "{path}:{}: not seen: {missing}\n--- what was seen ---\n{seen}\n--- all ---\n{output}",
                block.line
            );
        }
    }
    assert!(status.success(), "{path}: a command failed ({status})\n{output}");
}

/// Moves the database's host here, to ports that are free.
fn on_this_host(script: &str) -> String {
    let listeners = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let mut script = script.replace(&format!("@{HOST}/"), &format!("@{HOST}:{}/", PORTS[0]));
    // First names that are no numbers: a free port may have one of these in it.
    for (place, port) in PORTS.iter().enumerate() {
        script = script.replace(port, &format!("@port-{place}@"));
    }
    for (place, listener) in listeners.iter().enumerate() {
        let free = listener.local_addr().expect("it has an address").port();
        script = script.replace(&format!("@port-{place}@"), &free.to_string());
    }
    script.replace(HOST, "localhost")
}

/// Runs a script in a folder of its own; answers with how it ended and with both of its streams.
fn run(script: &str, makes_a_server: bool) -> (ExitStatus, String) {
    let folder = tempfile::Builder::new().tempdir_in(if makes_a_server {
        "/tmp".into()
    } else {
        std::env::temp_dir()
    });
    let folder = folder.expect("a temporary folder");
    let home = folder.path().join("project");
    std::fs::create_dir(&home).expect("a folder in it");
    let file = folder.path().join("script.sh");
    std::fs::write(&file, script).expect("the script is written");
    let seen = folder.path().join("seen.txt");
    let out = File::create(&seen).expect("a file for what is seen");
    let err = out.try_clone().expect("the same file");
    let mut command = Command::new("timeout");
    let mut path = path_with_quorate();
    if makes_a_server {
        let installation = Installation::find().expect("PostgreSQL: `cargo xtask setup` brings it");
        path = format!("{}:{path}", installation.bin().display());
        if is_root() {
            path = format!("{}:{path}", hand_over(folder.path()).display());
            command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "timeout"]);
        }
        command.env_clear();
        installation.prepare(&mut command);
    } else {
        command.env_clear();
    }
    let status = command
        .args(["--kill-after=10", LIMIT_S, "sh", "-e"])
        .arg(&file)
        .current_dir(&home)
        .env("PATH", path)
        .env("HOME", &home)
        .env("TMPDIR", folder.path())
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .expect("`timeout` of coreutils runs `sh`");
    (status, String::from_utf8_lossy(&std::fs::read(&seen).expect("what was seen")).into_owned())
}

/// Gives a folder to the user who runs PostgreSQL, which refuses to run as root; answers with where in it `quorate` is,
/// since that user may not reach the folder of the build.
fn hand_over(folder: &Path) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    std::fs::copy(env!("CARGO_BIN_EXE_quorate"), bin.join("quorate")).expect("a copy");
    let status = Command::new("chown").args(["-R", "postgres:postgres"]).arg(folder).status();
    assert!(status.expect("chown runs").success(), "there is no user `postgres`");
    bin
}

fn path_with_quorate() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
    let folder = program.parent().expect("a program lies in a folder");
    // Debian keeps servers where a user's PATH does not look.
    format!("{}:{}:/usr/sbin", folder.display(), std::env::var("PATH").unwrap_or_default())
}

/// Returns what was seen of the block with this number: up to the next marker, whichever block that is of.
fn output_of(output: &str, number: usize) -> &str {
    let after = output.split_once(&marker(number)).map_or("", |(_, after)| after);
    after.split("@@ block ").next().unwrap_or_default()
}

/// Finds every fragment behind the one before; answers with the first that is missing.
fn find_all(expected: &[String], seen: &str) -> Result<(), String> {
    let seen = one_line(seen);
    let mut rest = seen.as_str();
    for fragment in expected {
        for piece in fragment.split('…').map(one_line).filter(|piece| !piece.is_empty()) {
            rest = rest.split_once(&piece).ok_or_else(|| fragment.clone())?.1;
        }
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn blocks_are_told_apart() {
    let document = "```sh\na #=> b\n```\nwords\n```text\nc … d\n```\n```toml file=x/y.toml\ne\n```\n```sh no-run\nf\n```\n";
    let blocks = blocks(document);
    let kinds: Vec<&Kind> = blocks.iter().map(|block| &block.kind).collect();
    assert_eq!(kinds, [&Kind::Run, &Kind::Expect, &Kind::Write("x/y.toml".into()), &Kind::Unrun]);
    assert_eq!(blocks.iter().map(|block| block.line).collect::<Vec<_>>(), [1, 5, 8, 11]);
    assert_eq!(blocks[0].expected(), ["b"]);
    assert_eq!(blocks[1].expected(), ["c … d"]);
}

#[test]
fn fragments_are_found_in_order_and_gaps_stand_for_anything() {
    let check = |expected: &[&str], missing: Option<&str>| {
        let expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        let found = find_all(&expected, "one   two\n  three\n");
        assert_eq!(found.err().as_deref(), missing, "{expected:?}");
    };
    check(&["one two", "three"], None);
    check(&["one … three"], None);
    check(&["three", "one"], Some("one"));
    check(&["two one"], Some("two one"));
}

#[test]
fn a_command_that_fails_is_noticed_and_its_output_is_kept() {
    let blocks = blocks("```sh\necho seen; false\necho never\n```\n");
    let (status, output) = run(&script(&blocks), false);
    assert!(!status.success());
    assert_eq!(output_of(&output, 0).trim(), "seen");
}
