//! One throw-away PostgreSQL server: found, started, watched, ended.
//!
//! Here live the search for PostgreSQL's programs and [`Cluster`], a server of our own in a fresh folder that
//! listens on a socket there and nowhere else. What a test sees of it (its own schema) lives in `postgres`; how the
//! programs get onto a machine lives in `xtask`, which includes this file: standard library only.
//!
//! The one idea: a small `sh` process (the *watchdog*) makes the folder's database, starts the server, then reads
//! from a pipe whose other end is held by this process alone. When that end closes, for whatever reason (drop,
//! panic, Ctrl-C, SIGKILL), the watchdog ends the server and removes the folder. Nobody has to remember anything.
//!
//! Why it is safe: the folder is new (creation fails if it exists) and closed to other users, the server is
//! reachable through it only, and before anyone gets its URL it must answer with the random name it was given.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The programs without which an installation is of no use here.
const PROGRAMS: [&str; 4] = ["initdb", "pg_ctl", "postgres", "psql"];

/// The longest path of a Unix socket, in bytes; longer ones are refused by the kernel.
const SOCKET_PATH_MAX: usize = 107;

/// The name PostgreSQL gives its socket (port 5432 is only a name here: nothing listens on it).
pub const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// The most bytes of the server's own log that an error message quotes.
const LOG_TAIL_MAX: usize = 2_000;

/// `O_NONBLOCK`, which the standard library does not name.
const O_NONBLOCK: i32 = if cfg!(target_os = "linux") { 0o4000 } else { 0x4 };

/// PostgreSQL's programs in one folder, and the libraries they need where those are not the system's.
#[derive(Debug, Clone, PartialEq)]
pub struct Installation {
    bin: PathBuf,
    libraries: Vec<PathBuf>,
}

impl Installation {
    /// Finds PostgreSQL: `QUORATE_PG_BIN`, the PATH, the folders of the distributions, `pg_config`, our own cache.
    pub fn find() -> Option<Installation> {
        if let Some(bin) = std::env::var_os("QUORATE_PG_BIN") {
            return Installation::in_folder(PathBuf::from(bin));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .find_map(Installation::in_folder)
            .or_else(|| newest_in(Path::new("/usr/lib/postgresql")))
            .or_else(from_pg_config)
            .or_else(|| cache_folder().and_then(|root| Installation::unpacked(&root)))
    }

    /// Finds a PostgreSQL that has the extension pgvector: the one that [`find`](Installation::find) finds, or the
    /// one that `cargo xtask setup` has put into the cache for this.
    pub fn find_with_vectors() -> Option<Installation> {
        let cached = || vectors_folder().and_then(|root| first_below(&root));
        Installation::find()
            .filter(Installation::has_vectors)
            .or_else(cached)
            .filter(Installation::has_vectors)
    }

    /// Tells whether the extension pgvector lies beside the programs, where Debian or a build of one's own puts it.
    pub fn has_vectors(&self) -> bool {
        let version = self.bin.parent().and_then(Path::file_name).unwrap_or_default();
        let debian = self.bin.ancestors().nth(4).map(|usr| usr.join("share/postgresql").join(version));
        let own = self.bin.parent().map(|prefix| prefix.join("share/postgresql"));
        [debian, own].into_iter().flatten().any(|share| share.join("extension/vector.control").is_file())
    }

    /// Returns the installation below `root`, where .deb archives of PostgreSQL were unpacked.
    pub fn unpacked(root: &Path) -> Option<Installation> {
        newest_in(&root.join("usr/lib/postgresql"))
    }

    /// Returns the installation whose programs all lie in `bin`.
    fn in_folder(bin: PathBuf) -> Option<Installation> {
        let complete = bin.is_absolute() && PROGRAMS.iter().all(|program| bin.join(program).is_file());
        complete.then(|| Installation { libraries: libraries_beside(&bin), bin })
    }

    /// Returns the folder of the programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Returns a command for one of the programs, free of the caller's own `PG…` settings.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        self.prepare(&mut command);
        command
    }

    /// Returns the version, as in `postgres (PostgreSQL) 15.18`.
    pub fn version(&self) -> Result<String, String> {
        answer(self.command("postgres").arg("--version"))
    }

    /// Runs `sql` on the server at `url` and returns what it prints, unaligned and without headings.
    pub fn psql(&self, url: &str, sql: &str) -> Result<String, String> {
        answer(self.command("psql").args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql, url]))
    }

    /// Takes the caller's `PG…` variables away (they would point the programs at another server) and names the
    /// unpacked libraries, if any.
    pub fn prepare(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        if !self.libraries.is_empty() {
            let joined = std::env::join_paths(&self.libraries).unwrap_or_else(|_| OsString::new());
            command.env("LD_LIBRARY_PATH", joined);
        }
    }
}

/// Returns the newest complete `VERSION/bin` below `folder`.
fn newest_in(folder: &Path) -> Option<Installation> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    versions.into_iter().rev().find_map(|(_, bin)| Installation::in_folder(bin))
}

/// Returns the folder of a PostgreSQL with pgvector that a Python package has brought.
pub fn vectors_folder() -> Option<PathBuf> {
    cache_folder().map(|cache| cache.with_file_name("pgvector"))
}

/// Finds the installation that a Python package has somewhere in its folder of packages.
fn first_below(root: &Path) -> Option<Installation> {
    let below = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let packages =
        below(&root.join("lib")).into_iter().flat_map(|python| below(&python.join("site-packages")));
    packages.into_iter().find_map(|package| Installation::in_folder(package.join("pginstall/bin")))
}

/// Asks `pg_config`, which systems without Debian's folders have beside the server.
fn from_pg_config() -> Option<Installation> {
    let bin = answer(Command::new("pg_config").arg("--bindir")).ok()?;
    Installation::in_folder(PathBuf::from(bin))
}

/// Returns the library folders of an unpacked installation: those under the root that holds `usr/lib/postgresql`.
/// Empty for the system's own, whose libraries the loader knows.
fn libraries_beside(bin: &Path) -> Vec<PathBuf> {
    let Some(root) = bin.ancestors().nth(5) else { return Vec::new() };
    if root == Path::new("/") || !bin.starts_with(root.join("usr/lib/postgresql")) {
        return Vec::new();
    }
    let mut folders = Vec::new();
    for base in [root.join("usr/lib"), root.join("lib")] {
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        folders.extend(entries.map(|e| e.path()).filter(|p| p.to_string_lossy().contains("-linux-")));
    }
    folders
}

/// Returns the folder for an unpacked PostgreSQL: below the user's cache; for root below `/var/cache`, because the
/// server runs as another user, who must be able to read it. None when the user has no home.
pub fn cache_folder() -> Option<PathBuf> {
    if is_root() {
        return Some(PathBuf::from("/var/cache/quorate/postgresql"));
    }
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) if !cache.is_empty() => PathBuf::from(cache),
        _ => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    Some(base.join("quorate/postgresql"))
}

/// Tells whether this process runs as root (PostgreSQL refuses to).
pub fn is_root() -> bool {
    answer(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

/// Runs a command to its end and returns its trimmed output; a failure carries what it said.
fn answer(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("cannot run {program}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_string());
    }
    Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// What the server's disk writes are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing survives a crash of the machine: for tests.
    None,
    /// PostgreSQL's own defaults, with room for a benchmark.
    Full,
}

impl Durability {
    /// Returns the lines for `postgresql.conf`.
    fn settings(self) -> &'static str {
        match self {
            Durability::None => {
                "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nshared_buffers = 128MB\n"
            }
            Durability::Full => "fsync = on\nshared_buffers = 1GB\nmax_wal_size = 8GB\n",
        }
    }
}

/// Who ends the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It ends with this process, however that ends.
    ProcessEnds,
    /// It stays until [`stop`] is called for its folder.
    Stopped,
}

/// A running server of our own. Dropping it ends the server and removes its folder, unless it was started to stay.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    url: String,
    watchdog: Child,
    lifeline: Option<ChildStdin>,
}

/// The watchdog. Signals are ignored so that Ctrl-C, which reaches a whole terminal, cannot end it before its work is
/// done; PostgreSQL sets its own handlers. It waits for a line or the end of `$HOLD`: `-` is the pipe to our process,
/// else a fifo, opened both ways so that it has a reader, and never an end, from before the first `ready`.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM PIPE
cd "$DIR" || exit 1
if [ "$HOLD" = - ]; then exec 3<&0; else mkfifo "$HOLD" && exec 3<>"$HOLD" || exit 1; fi
make() {
    if [ -n "$FROM" ]; then "$BIN/pg_basebackup" -d "$FROM" -D "$DATA" -R -X stream -c fast --no-sync
    else "$BIN/initdb" -D "$DATA" -U postgres -A trust -E UTF8 --locale=C --no-sync; fi
}
if make >start.log 2>&1 </dev/null &&
   printf '%s\n' "$SETTINGS" >>"$DATA/postgresql.conf" &&
   "$BIN/pg_ctl" -D "$DATA" -w -t 60 -l "$DIR/server.log" start >>start.log 2>&1 </dev/null 3<&-
then echo ready; else echo failed; fi
read -r _ <&3
"$BIN/pg_ctl" -D "$DATA" -w -t 30 -m immediate stop >/dev/null 2>&1 </dev/null
cd / && rm -rf "$DATA" "$DIR"
"#;

impl Cluster {
    /// Makes a database in a fresh folder, starts a server on it and makes sure that the server is ours.
    ///
    /// The data lie in the temporary folder, or in `data_parent` if given (a benchmark wants a real disk).
    /// Errors say what was tried and quote the end of PostgreSQL's own log.
    pub fn start(
        installation: &Installation,
        durability: Durability,
        until: Until,
        data_parent: Option<&Path>,
    ) -> Result<Cluster, String> {
        Cluster::make(installation, durability, until, data_parent, None)
    }

    /// Copies the server at `from` into a fresh folder and starts the copy as its standby, which follows it.
    #[allow(dead_code, reason = "xtask, which includes this file, needs no standby")]
    pub fn start_standby(installation: &Installation, from: &str) -> Result<Cluster, String> {
        Cluster::make(installation, Durability::Full, Until::ProcessEnds, None, Some(from))
    }

    fn make(
        installation: &Installation,
        durability: Durability,
        until: Until,
        data_parent: Option<&Path>,
        from: Option<&str>,
    ) -> Result<Cluster, String> {
        let name = format!("quorate-pg-{}-{}", std::process::id(), random_hex());
        let owner = if is_root() { Some(unprivileged_user()?) } else { None };
        let folder = short_temporary_folder(owner.is_some(), &name)?;
        let data = match data_parent {
            Some(parent) => parent.join(format!("{name}-data")),
            None => folder.join("data"),
        };
        make_private_folder(&folder, owner)?;
        if let Err(why) = make_private_folder(&data, owner) {
            let _ = fs::remove_dir(&folder);
            return Err(why);
        }
        let mut command = watchdog_command(installation, &folder, &data, until);
        command.env("SETTINGS", settings(durability, &folder, &name)).env("FROM", from.unwrap_or_default());
        if let Some((uid, gid)) = owner {
            command.uid(uid).gid(gid);
        }
        let mut watchdog = command.spawn().map_err(|e| format!("cannot start sh: {e}"))?;
        let lifeline = watchdog.stdin.take();
        let url = url_of(&folder);
        let mut cluster = Cluster { folder, url, watchdog, lifeline };
        cluster.wait_until_ready()?;
        cluster.check_it_is_ours(installation, &name)?;
        Ok(cluster)
    }

    /// Returns the URL of the database `postgres` on this server, for `psql` and `tokio-postgres` alike.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the folder that holds the socket; [`stop`] takes it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Leaves the cluster running after this value is gone; only useful with [`Until::Stopped`].
    pub fn leave_running(self) {
        std::mem::forget(self);
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let mut line = String::new();
        if let Some(stdout) = self.watchdog.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|e| format!("cannot hear the watchdog: {e}"))?;
        }
        if line.trim() == "ready" {
            return Ok(());
        }
        let log: String =
            ["start.log", "server.log"].iter().map(|name| tail(&self.folder.join(name))).collect();
        Err(format!("PostgreSQL did not start in {}:\n{log}", self.folder.display()))
    }

    /// Asks for the random name that only our server was given.
    fn check_it_is_ours(&self, installation: &Installation, name: &str) -> Result<(), String> {
        let answer = installation.psql(&self.url, "show cluster_name")?;
        if answer == name {
            return Ok(());
        }
        Err(format!(
            "the server in {} calls itself `{answer}`, not `{name}`: not ours",
            self.folder.display()
        ))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A watchdog that waits on its fifo does not hear the pipe close.
        let _ = stop(&self.folder);
        drop(self.lifeline.take());
        let _ = self.watchdog.wait();
        // As root, a parent folder that its owner may not write keeps an empty folder behind.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Ends the cluster in `folder`, if it was started with [`Until::Stopped`]; the folder is removed soon after.
pub fn stop(folder: &Path) -> Result<(), String> {
    let fifo = folder.join("stop");
    let is_fifo = fs::metadata(&fifo).is_ok_and(|m| m.file_type().is_fifo());
    if !is_fifo {
        return Err(format!("{} holds no cluster that was started to stay", folder.display()));
    }
    // Without O_NONBLOCK this would wait for ever where the watchdog is gone.
    let mut options = fs::OpenOptions::new();
    let told =
        options.write(true).custom_flags(O_NONBLOCK).open(&fifo).and_then(|mut file| file.write_all(b"\n"));
    told.map_err(|e| format!("nobody watches the cluster in {}: {e}", folder.display()))
}

fn watchdog_command(installation: &Installation, folder: &Path, data: &Path, until: Until) -> Command {
    let mut command = Command::new("sh");
    installation.prepare(&mut command);
    let hold = match until {
        Until::ProcessEnds => PathBuf::from("-"),
        Until::Stopped => folder.join("stop"),
    };
    command
        .args(["-c", WATCHDOG])
        .env("BIN", &installation.bin)
        .env("DIR", folder)
        .env("DATA", data)
        .env("HOLD", hold)
        .env("TZ", "GMT")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Returns what goes at the end of `postgresql.conf`. The time zone is the one that needs no time zone files.
fn settings(durability: Durability, folder: &Path, name: &str) -> String {
    format!(
        "listen_addresses = ''\nport = 5432\nunix_socket_directories = '{}'\ncluster_name = '{name}'\n\
         max_connections = 300\ntimezone = 'GMT'\nlog_timezone = 'GMT'\n{}",
        folder.display(),
        durability.settings()
    )
}

/// Returns a folder whose socket path the kernel accepts: the temporary folder if it is short enough and, for root,
/// open to the user who will own it; else `/tmp`.
fn short_temporary_folder(as_root: bool, name: &str) -> Result<PathBuf, String> {
    let preferred = if as_root { PathBuf::from("/tmp") } else { std::env::temp_dir() };
    [preferred, PathBuf::from("/tmp")]
        .into_iter()
        .map(|base| base.join(name))
        .find(|folder| {
            let plain = folder.to_str().is_some_and(|text| text.bytes().all(is_plain));
            plain && folder.as_os_str().len() + 1 + SOCKET_NAME.len() <= SOCKET_PATH_MAX
        })
        .ok_or_else(|| {
            format!("no temporary folder with a path short enough for a socket ({SOCKET_PATH_MAX} bytes)")
        })
}

/// Tells whether a byte of a path needs no escaping in a URL or in PostgreSQL's configuration.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte)
}

/// Makes a folder that nobody but its owner can enter. Fails if anything of that name exists.
fn make_private_folder(folder: &Path, owner: Option<(u32, u32)>) -> Result<(), String> {
    let describe = |e: std::io::Error| format!("cannot make {}: {e}", folder.display());
    fs::DirBuilder::new().mode(0o700).create(folder).map_err(describe)?;
    match owner {
        Some((uid, gid)) => chown(folder, Some(uid), Some(gid)).map_err(describe),
        None => Ok(()),
    }
}

/// Returns user and group id of `postgres`, or of `nobody` where that user does not exist.
fn unprivileged_user() -> Result<(u32, u32), String> {
    let users = fs::read_to_string("/etc/passwd").map_err(|e| format!("cannot read /etc/passwd: {e}"))?;
    ["postgres", "nobody"].iter().find_map(|name| ids_of(name, &users)).ok_or_else(|| {
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`".to_string()
    })
}

fn ids_of(user: &str, users: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(user))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn url_of(folder: &Path) -> String {
    format!("postgres://postgres@/postgres?host={}", folder.display())
}

/// Returns 16 hexadecimal digits that another process cannot guess from ours.
pub fn random_hex() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

/// Returns the last bytes of a log, for an error message.
fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_MAX)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed() -> Installation {
        Installation::find().expect("PostgreSQL is needed: run `cargo xtask setup`")
    }

    #[test]
    fn ids_come_from_the_line_of_that_user_only() {
        let users = "postgresx:x:1:2::/:\npostgres:x:101:104:admin:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(ids_of("postgres", users), Some((101, 104)));
        assert_eq!(ids_of("nobody", users), None);
    }

    #[test]
    fn system_programs_need_no_library_folders() {
        assert!(libraries_beside(Path::new("/usr/lib/postgresql/15/bin")).is_empty());
        assert!(libraries_beside(Path::new("/opt/pg/bin")).is_empty());
    }

    #[test]
    fn pgvector_is_found_where_packages_put_it() {
        let root = std::env::temp_dir().join(format!("quorate-vectors-{}", random_hex()));
        let check = |bin: &str, control: &str| {
            let bin = root.join(bin);
            fs::create_dir_all(&bin).expect("makes the folder");
            PROGRAMS.iter().for_each(|program| fs::write(bin.join(program), "").expect("writes"));
            let installation = Installation::in_folder(bin).expect("it is complete");
            assert!(!installation.has_vectors());
            let control = root.join(control);
            fs::create_dir_all(control.parent().expect("has one")).expect("makes the folder");
            fs::write(control, "").expect("writes");
            assert!(installation.has_vectors());
        };
        check("usr/lib/postgresql/15/bin", "usr/share/postgresql/15/extension/vector.control");
        let packages = "venv/lib/python3.11/site-packages/some_server/pginstall";
        check(&format!("{packages}/bin"), &format!("{packages}/share/postgresql/extension/vector.control"));
        let found = first_below(&root.join("venv")).expect("it is found");
        assert_eq!(found.bin(), root.join(packages).join("bin"));
        fs::remove_dir_all(&root).expect("removes it");
    }

    #[test]
    fn cluster_answers_and_leaves_nothing_behind() {
        let installation = installed();
        let cluster =
            Cluster::start(&installation, Durability::None, Until::ProcessEnds, None).expect("starts");
        assert_eq!(installation.psql(cluster.url(), "show fsync"), Ok("off".to_string()));
        assert_eq!(installation.psql(cluster.url(), "show listen_addresses"), Ok(String::new()));
        let folder = cluster.folder().to_path_buf();
        drop(cluster);
        assert!(!folder.exists(), "{} is still there", folder.display());
    }

    #[test]
    fn cluster_that_was_started_to_stay_ends_when_told() {
        let cluster = Cluster::start(&installed(), Durability::None, Until::Stopped, None).expect("starts");
        let folder = cluster.folder().to_path_buf();
        stop(&folder).expect("is told");
        drop(cluster);
        assert!(!folder.exists(), "{} is still there", folder.display());
    }

    #[test]
    fn stop_refuses_a_folder_that_is_not_a_cluster_of_ours() {
        let refused = stop(Path::new("/tmp")).expect_err("is refused");
        assert!(refused.contains("holds no cluster"), "{refused}");
    }

    #[test]
    fn server_that_cannot_start_is_an_error_with_its_log() {
        let installation = installed();
        let missing = Path::new("/nonexistent/parent");
        let refused = Cluster::start(&installation, Durability::None, Until::ProcessEnds, Some(missing));
        assert!(refused.expect_err("is refused").contains("cannot make"));
    }

    #[test]
    fn folders_with_long_paths_are_not_used_for_sockets() {
        let long = format!("quorate-pg-{}", "x".repeat(SOCKET_PATH_MAX));
        assert!(short_temporary_folder(true, &long).is_err());
    }
}
