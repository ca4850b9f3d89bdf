//! `quorate doctor`: what is wrong, and the command that mends it.
//!
//! Here lives one named check per symptom. A check looks and says; it changes nothing. What the database knows of
//! itself is asked in `service::doctor`.

use crate::place::{Place, STATE_FOLDER};
use crate::print;
use crate::print::style::{Colour, paint_if};
use crate::shell;
use nix::sys::statfs::{self, statfs};
use quorate_drivers::How;
use quorate_model::config::Driver;
use quorate_model::price::AS_OF;
use quorate_model::{AgentState, Error, Result};
use quorate_service::doctor::{Ask, Pgvector, Server, Vitals};
use quorate_service::node::Node;
use quorate_service::view::Agents;
use quorate_service::wire;
use quorate_store::{Boxed, Store, Url};
use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The oldest server that the tests are run with.
const OLDEST_SERVER: i64 = 150_000;
/// A transaction open for longer than this is worth a word.
const OLD_TRANSACTION_S: i64 = 60;
/// A ledger, or a folder of logs, larger than this is worth a word.
const LARGE_BYTES: u64 = 2 << 30;
/// A write-ahead log larger than this means that someone reads for a long time.
const LARGE_WAL_BYTES: u64 = 256 << 20;
/// Processes whose open files are looked through for the owner of a port.
const PROCESSES_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

/// What one check found.
#[derive(Debug)]
struct Finding {
    name: &'static str,
    verdict: Verdict,
    message: String,
    mend: Option<String>,
}

fn ok(name: &'static str, message: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Ok, message: message.into(), mend: None }
}

fn warn(name: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Warn, message: message.into(), mend: Some(mend.into()) }
}

fn fail(name: &'static str, message: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { name, verdict: Verdict::Fail, message: message.into(), mend: Some(mend.into()) }
}

/// Looks at everything and says what it found; exit code 1 if something is broken.
pub(crate) async fn doctor(place: Place, json: bool) -> Result<u8> {
    let store = place.look().await;
    let findings = look(&place, &store).await?;
    let is_broken = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    print::answer(json, || wire::value(shape(&findings)), || in_words(&findings));
    Ok(u8::from(is_broken))
}

/// Who looks for those that ask at a door of a node.
pub(crate) struct AtTheDoor(pub(crate) Place);

/// Shows no place: it has keys.
impl std::fmt::Debug for AtTheDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtTheDoor")
    }
}

impl quorate_server::Doctor for AtTheDoor {
    fn look<'a>(&'a self, store: &'a Store) -> Boxed<'a, wire::Diagnosis> {
        Box::pin(async move { Ok(shape(&look(&self.0, &Ok(Some(store.clone()))).await?)) })
    }
}

async fn look(place: &Place, store: &Result<Option<Store>>) -> Result<Vec<Finding>> {
    let mut findings = vec![configuration(place)];
    findings.extend(file_checks(place));
    findings.push(ledger(place, store));
    let mut running = Vec::new();
    if let Ok(Some(store)) = store {
        running = quorate_runtime::running_here(store).await?;
        findings.extend(ledger_checks(place, store, running.len()).await?);
    }
    findings.push(programs(place));
    findings.extend(real_agents(place));
    findings.push(port(place.config.server.listen, &running));
    findings.push(limits());
    Ok(findings)
}

/// Says what is wrong with the configuration, without which nothing else can be looked at.
pub(crate) fn broken(error: &Error, json: bool) -> u8 {
    let mend = error.hint.clone().unwrap_or_else(|| "mend quorate.toml".into());
    let findings = [fail("config", error.message.clone(), mend), limits()];
    print::answer(json, || wire::value(shape(&findings)), || in_words(&findings));
    1
}

fn shape(findings: &[Finding]) -> wire::Diagnosis {
    let one = |finding: &Finding| wire::Finding {
        check: finding.name,
        state: finding.verdict.as_str(),
        message: finding.message.clone(),
        mend: finding.mend.clone(),
    };
    wire::Diagnosis { checks: findings.iter().map(one).collect() }
}

fn in_words(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let colour = match finding.verdict {
            Verdict::Ok => Colour::Green,
            Verdict::Warn => Colour::Yellow,
            Verdict::Fail => Colour::Red,
        };
        let verdict = paint_if(print::is_coloured(), colour, &format!("{:<4}", finding.verdict.as_str()));
        let message = print::lines(&finding.message).trim_end().replace('\n', "\n                   ");
        text.push_str(&format!("{verdict}  {:<12} {message}\n", finding.name));
        if let Some(mend) = &finding.mend {
            text.push_str(&format!("                   mend: {mend}\n"));
        }
    }
    text
}

fn configuration(place: &Place) -> Finding {
    match &place.config_file {
        Some(file) => {
            ok("config", format!("{} is read; {} agents", file.display(), place.config.agents().len()))
        }
        None => ok("config", "no quorate.toml: four built-in shell agents, the ledger in .quorate/"),
    }
}

fn ledger(place: &Place, store: &Result<Option<Store>>) -> Finding {
    let shown = place.url.shown();
    match store {
        Ok(Some(_)) => ok("ledger", format!("{shown} answers and has a schema that this quorate knows")),
        Ok(None) => ok("ledger", format!("{shown} is not there yet; the first task makes it")),
        Err(error) => {
            let mend = error.hint.clone().unwrap_or_else(|| "see the message".into());
            let name = if error.message.contains("newer than") { "schema" } else { "ledger" };
            fail(name, error.message.clone(), mend)
        }
    }
}

/// Checks of the embedded ledger's file that need no database.
fn file_checks(place: &Place) -> Vec<Finding> {
    let Url::Lite(path) = &place.url else { return Vec::new() };
    let folder = existing_folder(path);
    vec![writable(path, &folder), file_system(&folder), wal(path)]
}

/// The ledger's folder, or the nearest one above it that is there.
fn existing_folder(path: &Path) -> PathBuf {
    path.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn writable(path: &Path, folder: &Path) -> Finding {
    let targets = [Some(folder), path.exists().then_some(path)];
    for target in targets.into_iter().flatten() {
        if nix::unistd::access(target, nix::unistd::AccessFlags::W_OK).is_err() {
            let owner =
                std::fs::metadata(target).map_or_else(|_| "unknown".into(), |facts| user(facts.uid()));
            let me = nix::unistd::geteuid().as_raw();
            let message = format!("{} belongs to {owner}; {} cannot write it", target.display(), user(me));
            let account = user_name(me).unwrap_or_else(|| me.to_string());
            return fail("writable", message, mend_writable(path, target, &account));
        }
    }
    ok("writable", format!("{} can be written", path.display()))
}

/// Says how `me` gets to write a ledger, where `target` (the ledger, or a folder above it) is in the way. Nothing is taken
/// from others: only a folder of state is ours with all that is in it.
fn mend_writable(ledger: &Path, target: &Path, me: &str) -> String {
    let quoted = |path: &Path| shell::quoted(&path.to_string_lossy());
    let own = ledger.parent().unwrap_or(ledger);
    if target == ledger {
        // With its -wal and -shm.
        return format!("sudo chown {me} {}*", quoted(target));
    }
    if target.file_name() == Some(OsStr::new(STATE_FOLDER)) {
        return format!("sudo chown -R {me} {}", quoted(target));
    }
    if target != own {
        return format!("sudo install -d -o {me} {}", quoted(own));
    }
    let (folder, name) = (target.join("quorate"), ledger.file_name().unwrap_or_default());
    let store = format!("sqlite:{}", folder.join(name).display());
    format!(
        "give the ledger a folder of its own: sudo install -d -o {me} {}, move {}* there if it is there already, and set \
         QUORATE_STORE={}",
        quoted(&folder),
        quoted(ledger),
        shell::quoted(&store)
    )
}

fn user(uid: u32) -> String {
    user_name(uid).unwrap_or_else(|| format!("user {uid}"))
}

fn user_name(uid: u32) -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// SQLite's locks do not hold on a network: two hosts could both believe that they own the file.
fn file_system(folder: &Path) -> Finding {
    /// Magic numbers from statfs(2) that nix has no names for.
    const CIFS: i64 = 0xFF53_4D42;
    const SMB2: i64 = 0xFE53_4D42;
    let kind = match statfs(folder) {
        Ok(facts) => facts.filesystem_type(),
        Err(e) => {
            return warn(
                "file_system",
                format!("cannot look at {}: {e}", folder.display()),
                "check the path",
            );
        }
    };
    let is_network = [statfs::NFS_SUPER_MAGIC, statfs::SMB_SUPER_MAGIC, statfs::CODA_SUPER_MAGIC]
        .contains(&kind)
        || [CIFS, SMB2].contains(&kind.0);
    if is_network {
        let message = format!("{} is on a network file system, whose locks do not hold", folder.display());
        return fail(
            "file_system",
            message,
            "put it on a local disk: QUORATE_STORE=sqlite:/var/lib/quorate/quorate.db",
        );
    }
    ok("file_system", format!("{} is on a local file system", folder.display()))
}

fn wal(path: &Path) -> Finding {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    // Looked at without being opened: an open and close would cancel SQLite's locks.
    let size = std::fs::metadata(&wal).map_or(0, |facts| facts.len());
    if size > LARGE_WAL_BYTES {
        let message = format!("the write-ahead log has {}: someone reads for a long time", bytes(size));
        return warn("snapshot", message, format!("end the reader that `fuser {}` shows", path.display()));
    }
    ok("snapshot", "nobody holds an old view of the ledger")
}

async fn ledger_checks(place: &Place, store: &Store, running: usize) -> Result<Vec<Finding>> {
    let vitals = store.read(Ask).await?;
    let mut findings = vec![size(place, &vitals)];
    if matches!(place.url, Url::Pg(_)) {
        findings.extend(vitals.server.iter().flat_map(|facts| [server(facts), role(facts)]));
        findings.push(snapshot(&vitals));
        findings.push(standby(&vitals));
    }
    findings.extend(embedding(place, &vitals));
    findings.push(prices(&vitals));
    findings.push(agents(place, store).await?);
    findings.push(nodes(store, running).await?);
    Ok(findings)
}

/// Looks whether memories can be found by their meaning, where a model is configured for it. The model itself is not
/// asked.
fn embedding(place: &Place, vitals: &Vitals) -> Option<Finding> {
    let config = place.config.memory.embedding.as_ref()?;
    if let Some(name) = config.key_env.as_ref().filter(|name| place.variable(name).is_none()) {
        let message = format!("the embedding model wants its key in the variable {name}, which is not set");
        return Some(warn(
            "embedding",
            message,
            format!("export {name}=…, or write it into .env beside quorate.toml"),
        ));
    }
    let create = format!("psql {} -c 'create extension vector'", place.url.shown());
    let alone = "memories are found by their words alone";
    Some(match (&place.url, vitals.pgvector) {
        (Url::Lite(_), _) | (Url::Pg(_), Pgvector::Installed) => {
            ok("embedding", format!("memories are found by their meaning, too, with {}", config.model))
        }
        (Url::Pg(_), Pgvector::Available) => {
            warn("embedding", format!("the database lacks the extension pgvector: {alone}"), create)
        }
        (Url::Pg(_), Pgvector::Missing) => {
            let major = vitals.server.as_ref().map_or(0, |server| server.version / 10_000);
            let install =
                format!("on the database's host: apt-get install postgresql-{major}-pgvector; then {create}");
            warn("embedding", format!("the server lacks the extension pgvector: {alone}"), install)
        }
    })
}

fn prices(vitals: &Vitals) -> Finding {
    let Some(first) = vitals.unpriced.first() else {
        return ok("prices", format!("a price is known for every model that was used; {}", own_prices()));
    };
    let names = vitals.unpriced.join(", ");
    warn(
        "prices",
        format!("no price is known for {names}: its tokens count, its dollars do not; {}", own_prices()),
        format!("give it one in quorate.toml: [prices.\"{first}\"] input = 3.0, output = 15.0"),
    )
}

/// Prices change without notice, and the program's own only with the program.
fn own_prices() -> String {
    format!("the program's own prices are of {AS_OF}, [prices] in quorate.toml comes before them")
}

fn size(place: &Place, vitals: &Vitals) -> Finding {
    let logs = folder_size(&place.state_folder().join("logs"));
    let ledger = u64::try_from(vitals.size_bytes).unwrap_or(0);
    let message = format!("ledger {}, {} events; logs {}", bytes(ledger), vitals.events, bytes(logs));
    if ledger > LARGE_BYTES || logs > LARGE_BYTES {
        return warn(
            "size",
            message,
            "shorten [retention] in quorate.toml, or delete old files in .quorate/logs",
        );
    }
    ok("size", message)
}

fn folder_size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

fn server(facts: &Server) -> Finding {
    let version = format!("{}.{}", facts.version / 10_000, facts.version % 10_000);
    let said =
        format!("PostgreSQL {version}, {} of {} connections taken", facts.connections, facts.connections_max);
    if facts.version < OLDEST_SERVER {
        let message = format!("PostgreSQL {version} is not tested with Quorate");
        return warn("server", message, "use version 15 or newer");
    }
    if !facts.is_durable {
        let message = format!("{said}; what it confirms may be lost when its machine crashes");
        return warn(
            "server",
            message,
            "alter system set fsync = on; alter system set full_page_writes = on",
        );
    }
    if facts.connections * 10 > facts.connections_max * 8 {
        return warn(
            "server",
            said,
            "raise max_connections, or put PgBouncer in between: docs/guides/many-machines.md",
        );
    }
    ok("server", said)
}

fn role(facts: &Server) -> Finding {
    let rights = [
        (facts.adds, "adds work"),
        (facts.takes, "takes and reports"),
        (facts.prunes, "removes old history"),
    ];
    let may: Vec<&str> = rights.iter().filter(|(may, _)| *may).map(|(_, what)| *what).collect();
    let may = if may.is_empty() { "only reads".to_owned() } else { may.join(", ") };
    ok("role", format!("{} {may}", facts.role))
}

fn snapshot(vitals: &Vitals) -> Finding {
    if let Some(facts) = vitals.server.as_ref().filter(|facts| !facts.sees_others) {
        let mend = format!("as an administrator: grant pg_read_all_stats to {}", facts.role);
        return warn("snapshot", format!("{} cannot see how long others hold an old view", facts.role), mend);
    }
    match &vitals.oldest {
        Some(open) if open.seconds > OLD_TRANSACTION_S => warn(
            "snapshot",
            format!(
                "`{}` (pid {}) holds a transaction open for {} s; dead rows pile up",
                open.program, open.pid, open.seconds
            ),
            format!("psql -c 'select pg_terminate_backend({})'", open.pid),
        ),
        _ => ok("snapshot", "nobody holds an old view of the ledger"),
    }
}

fn standby(vitals: &Vitals) -> Finding {
    if vitals.is_asynchronous {
        let message = "a standby confirms nothing: a failover could lose acknowledged work";
        return warn("standby", message, "set synchronous_standby_names on the primary");
    }
    if vitals.is_forgetful {
        let message = "the store's url weakens synchronous_commit: a crash could lose acknowledged work";
        return warn("standby", message, "take synchronous_commit out of the url's options");
    }
    ok("standby", "no asynchronous standby")
}

async fn agents(place: &Place, store: &Store) -> Result<Finding> {
    let known = store.read(Agents::default()).await?;
    let seen =
        |name: &str| known.iter().any(|view| view.agent.name == name && view.agent.heartbeat_at.is_some());
    let configured = place.config.agents();
    let unseen: Vec<_> = configured.iter().filter(|(name, _)| !seen(name)).collect();
    if let Some((first, table)) = unseen.first() {
        let names: Vec<&str> = unseen.iter().map(|(name, _)| name.as_str()).collect();
        let mend = match table.driver {
            driver if driver == Driver::Command || driver.is_driven() => {
                "start them with `quorate up`".to_owned()
            }
            Driver::External | Driver::Human => {
                format!("`{first}` takes its work with `quorate task next --agent {first}`")
            }
            other => {
                format!("this quorate does not run driver `{}`: make `{first}` external", other.as_str())
            }
        };
        return Ok(warn("agents", format!("configured but never seen: {}", names.join(", ")), mend));
    }
    let failed: Vec<&str> = known
        .iter()
        .filter(|view| view.state == AgentState::Failed)
        .map(|view| view.agent.name.as_str())
        .collect();
    if let Some(first) = failed.first() {
        return Ok(warn(
            "agents",
            format!("failed: {}", failed.join(", ")),
            format!("quorate agent show {first}; then quorate agent resume {first}"),
        ));
    }
    Ok(ok("agents", format!("{} known", known.len())))
}

async fn nodes(store: &Store, running: usize) -> Result<Finding> {
    let dead = store.read(quorate_service::node::List).await?.into_iter().filter(|node| !node.alive).count();
    if dead > 0 {
        return Ok(warn(
            "nodes",
            format!("{dead} nodes ended without a word"),
            "start a node: it cleans up after those of this host",
        ));
    }
    Ok(ok("nodes", format!("{running} on this host")))
}

/// Looks whether real agents have what they cannot work without: a program, a key. Each is told once.
fn real_agents(place: &Place) -> Vec<Finding> {
    let members = place.team(None);
    let driven = members.iter().filter(|member| matches!(member.worker.how, How::Drive { .. }));
    let looked: Vec<_> = driven.map(|member| (member, member.worker.missing(&place.folder))).collect();
    let mut findings: Vec<Finding> = Vec::new();
    for (member, missing) in &looked {
        let Some(missing) = missing else { continue };
        let say = if missing.is_fatal { fail } else { warn };
        let finding =
            say("real_agents", format!("agent `{}` {}", member.name, missing.what), missing.mend.clone());
        if !findings.iter().any(|told| told.mend == finding.mend) {
            findings.push(finding);
        }
    }
    if findings.is_empty() && !looked.is_empty() {
        findings.push(ok("real_agents", format!("{} have a program or a key", looked.len())));
    }
    findings
}

/// Looks for the programs that the configuration names.
fn programs(place: &Place) -> Finding {
    let tables = place.config.agent_tables.iter().filter(|(_, table)| table.driver == Driver::Command);
    for (name, table) in tables {
        if let Some(program) = table.command.first().filter(|program| !is_there(program, &place.folder)) {
            let message = format!("agent `{name}` wants {program}, which is not there or cannot be run");
            return fail(
                "programs",
                message,
                format!("install it, or mend `command` of [agents.{name}] in quorate.toml"),
            );
        }
    }
    let mut wanted = vec!["sh", "git"];
    if matches!(place.url, Url::Pg(_)) {
        wanted.push("pg_dump");
    }
    let missing: Vec<&str> = wanted.into_iter().filter(|program| !is_there(program, &place.folder)).collect();
    if missing.is_empty() {
        return ok("programs", "all there");
    }
    warn("programs", format!("not found: {}", missing.join(", ")), format!("install {}", missing.join(" ")))
}

fn is_there(program: &str, folder: &Path) -> bool {
    let can_run =
        |path: &Path| path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    if program.contains('/') {
        return can_run(&folder.join(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| can_run(&folder.join(program)))
}

fn port(listen: SocketAddr, running: &[Node]) -> Finding {
    match TcpListener::bind(listen) {
        Ok(_) => ok("port", format!("{listen} is free")),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => taken_port(listen, running),
        Err(e) => {
            warn("port", format!("{listen} cannot be used: {e}"), "set another `listen` under [server]")
        }
    }
}

fn taken_port(listen: SocketAddr, running: &[Node]) -> Finding {
    let owner = owner_of_port(listen.port());
    let own = running.iter().find(|node| owner.as_ref().is_some_and(|(pid, _)| i64::from(*pid) == node.pid));
    if let Some(node) = own {
        return ok("port", format!("node {} (pid {}) answers at {listen}", node.id, node.pid));
    }
    let owner =
        owner.map_or_else(|| "another program".into(), |(pid, program)| format!("{program} (pid {pid})"));
    let mend = format!(
        "end it, or set another `listen` under [server]: \"127.0.0.1:{}\"",
        listen.port().wrapping_add(1)
    );
    warn("port", format!("{listen} is taken by {owner}"), mend)
}

/// Finds the process that listens on a port: the socket's inode from `/proc/net`, its owner from `/proc/PID/fd`.
fn owner_of_port(port: u16) -> Option<(i32, String)> {
    let inode =
        ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|table| listening_inode(table, port))?;
    let link = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    processes.filter(|process| holds(&process.path(), &link)).find_map(|process| {
        let program = std::fs::read_to_string(process.path().join("comm")).ok()?;
        Some((process.file_name().to_str()?.parse().ok()?, program.trim().to_owned()))
    })
}

fn listening_inode(table: &str, port: u16) -> Option<String> {
    /// TCP_LISTEN in the kernel's include/net/tcp_states.h.
    const LISTEN: &str = "0A";
    let text = std::fs::read_to_string(table).ok()?;
    text.lines().skip(1).find_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let local = cells.get(1)?.rsplit_once(':')?.1;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *cells.get(3)? == LISTEN;
        if is_it { cells.get(9).map(|inode| (*inode).to_owned()) } else { None }
    })
}

fn holds(process: &Path, link: &str) -> bool {
    let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    files
        .into_iter()
        .any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link))
}

fn limits() -> Finding {
    let support = quorate_process::limits::support();
    let message = format!("memory by {}, cpu by {}", support.memory.as_str(), support.cpu.as_str());
    match support.why.is_empty() {
        true => ok("limits", message),
        false => ok("limits", format!("{message} ({})", support.why)),
    }
}

fn bytes(n: u64) -> String {
    match n {
        n if n >= 1 << 30 => format!("{:.1} GiB", n as f64 / f64::from(1 << 30)),
        n if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
        n => format!("{} KiB", n.div_ceil(1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_one_write_takes_nothing_from_others() {
        let check = |ledger: &str, target: &str, expected: &str| {
            assert_eq!(mend_writable(Path::new(ledger), Path::new(target), "ann"), expected, "{target}");
        };
        let here = "/home/ann/my project/.quorate/quorate.db";
        check(here, "/home/ann/my project/.quorate", "sudo chown -R ann '/home/ann/my project/.quorate'");
        check(here, here, "sudo chown ann '/home/ann/my project/.quorate/quorate.db'*");
        check(here, "/home/ann/my project", "sudo install -d -o ann '/home/ann/my project/.quorate'");
        check("/var/lib/quorate/q.db", "/var/lib", "sudo install -d -o ann '/var/lib/quorate'");
        check("/srv/it's.db", "/srv/it's.db", r"sudo chown ann '/srv/it'\''s.db'*");
        check(
            "/srv/q.db",
            "/srv",
            "give the ledger a folder of its own: sudo install -d -o ann '/srv/quorate', move '/srv/q.db'* there if it is \
             there already, and set QUORATE_STORE='sqlite:/srv/quorate/q.db'",
        );
    }
}
