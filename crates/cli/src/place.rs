//! Where a command works: the project's folder, its configuration and its ledger.
//!
//! Here live finding `quorate.toml` by walking up, the `.env` beside it, the choice of the ledger's address and its
//! opening, and the beginning of a node that works here. The idea: a command gets one [`Place`] and asks it for what
//! it needs; nothing is opened before.

use crate::doctor::AtTheDoor;
use quorate_drivers::api::embeddings::Embedder;
use quorate_model::config::{Config, Workspace, millis};
use quorate_model::diagnostic::quote;
use quorate_model::{Error, Result, RunId, Seq};
use quorate_runtime::{Member, Node, NodeOptions};
use quorate_server::{Desk, Server, ServerOptions};
use quorate_service::SCHEMA;
use quorate_store::{Options, Store, Url};
use quorate_telemetry::{Exporter, Settings};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The configuration's file name.
pub(crate) const CONFIG_FILE: &str = "quorate.toml";
/// The folder of state, beside it.
pub(crate) const STATE_FOLDER: &str = ".quorate";
/// The socket of a node's doors, in the folder of state.
const SOCKET: &str = "socket";
/// The largest `quorate.toml` or `.env` that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// Connections to PostgreSQL of a command that asks a few things and ends.
const CONNECTIONS: usize = 2;
/// Connections to PostgreSQL of a node.
const NODE_CONNECTIONS: usize = 8;

/// Where a command works.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder of `quorate.toml`, else the working folder; absolute.
    pub(crate) folder: PathBuf,
    /// `quorate.toml`, if there is one.
    pub(crate) config_file: Option<PathBuf>,
    /// The configuration; its defaults without a file.
    pub(crate) config: Config,
    /// The ledger's address.
    pub(crate) url: Url,
    /// The same as the children of a node are to reach it.
    pub(crate) agents_url: Url,
    variables: BTreeMap<String, String>,
    opened: Arc<Mutex<Vec<Store>>>,
}

impl Place {
    /// Finds the place of the working folder.
    pub(crate) fn find() -> Result<Place> {
        let here = std::env::current_dir().map_err(|e| {
            Error::failed(format!("the working folder cannot be read: {e}"))
                .hint("go to a folder that exists")
        })?;
        Place::above(here)
    }

    /// Finds the place of another folder. The working folder stays as it is: what calls us may have handed on paths that are
    /// relative to it.
    pub(crate) fn find_from(folder: &Path) -> Result<Place> {
        let there = folder.canonicalize().map_err(|e| {
            Error::failed(format!("the folder {} cannot be read: {e}", quote(&folder.to_string_lossy())))
                .hint("name a folder that exists")
        })?;
        Place::above(there)
    }

    /// Looks in a folder and in those above it; `here` is absolute.
    fn above(here: PathBuf) -> Result<Place> {
        let trusted = Trusted::at(&here)?;
        let (folder, config_file, config) = match find_config(&here, trusted)? {
            Some((file, bytes)) => {
                let is_at_hand = std::env::current_dir().is_ok_and(|at| file.parent() == Some(&at));
                let shown = if is_at_hand { CONFIG_FILE.into() } else { file.display().to_string() };
                let config = Config::parse(&shown, &bytes)?;
                (file.parent().unwrap_or(&here).to_owned(), Some(file), config)
            }
            None => (here, None, Config::default()),
        };
        let variables = read_env_file(&folder.join(".env"), trusted)?;
        trusted.check_state(&folder.join(STATE_FOLDER))?;
        let mut place = Place {
            url: Url::Lite(PathBuf::new()),
            agents_url: Url::Lite(PathBuf::new()),
            folder,
            config_file,
            config,
            variables,
            opened: Arc::default(),
        };
        let set = place.variable("QUORATE_STORE");
        // Another ledger than the file's is not to be mixed with the file's way to it.
        let of_file = if set.is_none() { place.config.store.agents_url.clone() } else { None };
        let stored = set.unwrap_or_else(|| place.config.store.url.clone());
        place.url = Url::parse(&stored, &place.folder)?;
        let for_agents = place.variable("QUORATE_AGENTS_STORE").or(of_file);
        place.agents_url = Url::parse(&for_agents.unwrap_or(stored), &place.folder)?;
        Ok(place)
    }

    /// Returns a variable of the environment, else of the `.env` file; empty counts as not set.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        let set = std::env::var(name).ok().or_else(|| self.variables.get(name).cloned());
        set.filter(|value| !value.is_empty())
    }

    /// Returns the folder of state, `.quorate`; it need not be there.
    pub(crate) fn state_folder(&self) -> PathBuf {
        self.folder.join(STATE_FOLDER)
    }

    /// Reads the name of a resource, relative to the project's folder, into its canonical form.
    pub(crate) fn resource(&self, text: &str) -> Result<String> {
        quorate_server::resource(text, &self.folder)
    }

    /// Reads names of resources; a name given twice counts once.
    pub(crate) fn resources(&self, texts: &[String]) -> Result<Vec<String>> {
        quorate_server::resources(texts, &self.folder)
    }

    /// Opens the ledger, making one if there is none.
    pub(crate) async fn open(&self) -> Result<Store> {
        self.open_with(Options { connections: CONNECTIONS, ..Options::new(&SCHEMA) }).await
    }

    /// Opens the ledger for a node, which does much at a time, and must find out soon that a connection is silent.
    pub(crate) async fn open_for_node(&self) -> Result<Store> {
        let answer = node_patience(millis(self.config.health.lease_ms));
        self.open_with(Options { connections: NODE_CONNECTIONS, answer, ..Options::new(&SCHEMA) }).await
    }

    /// Returns the agents that a node runs here.
    pub(crate) fn team(&self, at_most: Option<usize>) -> Vec<Member> {
        quorate_runtime::team(&self.config, at_most, &|name| self.variable(name))
    }

    /// Refuses agents that could not work here at all, and telemetry that could not be sent, with what mends it. Call it before
    /// anything is stored or begun.
    pub(crate) fn check_ready(&self, members: &[Member]) -> Result<()> {
        self.check_telemetry()?;
        let wants_git = members.iter().find(|member| member.workspace == Workspace::Worktree);
        if let Some(member) = wants_git
            && let Err(error) = quorate_runtime::check_repository(&self.folder)
        {
            let message = format!("agent `{}` works in worktrees: {error}", member.name);
            return Err(Error { message, ..error });
        }
        for member in members {
            if let Some(missing) = member.worker.missing(&self.folder).filter(|missing| missing.is_fatal) {
                return Err(
                    Error::invalid(format!("agent `{}` {}", member.name, missing.what)).hint(missing.mend)
                );
            }
        }
        Ok(())
    }

    /// Begins a node here with these agents, for the work of all runs or of one.
    pub(crate) async fn begin_node(
        &self,
        store: &Store,
        kind: &'static str,
        members: Vec<Member>,
        run: Option<RunId>,
        server: Option<&Server>,
    ) -> Result<Node> {
        let options = NodeOptions {
            kind,
            url: self.url.clone(),
            agents_url: self.agents_url.clone(),
            config: Arc::new(self.config.clone()),
            folder: self.folder.clone(),
            state: self.state_folder(),
            members,
            run,
            door: server.map(Server::url),
            embedder: self.embedder(),
        };
        Node::begin(store.clone(), options).await
    }

    /// Refuses settings of telemetry that cannot be followed, where quorate.toml asks for it.
    pub(crate) fn check_telemetry(&self) -> Result<()> {
        match self.telemetry_settings() {
            Err(error) if self.config.telemetry.otlp.is_some() => Err(error),
            // What the environment alone asks for may be meant for another program: the work goes on without it.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn telemetry_settings(&self) -> Result<Option<Settings>> {
        Settings::read(self.config.telemetry.otlp.as_deref(), |name| self.variable(name))
    }

    /// Begins to export what the log says since a place in it, if the environment or the configuration names a collector. Its
    /// troubles come by the receiver.
    ///
    /// # Errors
    /// What to tell the person where the settings cannot be followed: the work goes on without telemetry.
    pub(crate) async fn begin_exporter(
        &self,
        store: &Store,
        node: i64,
        since: Seq,
    ) -> Result<Option<Telemetry>, String> {
        let Some(settings) = self.telemetry_settings().map_err(|error| without_telemetry(&error))? else {
            return Ok(None);
        };
        let (notices, heard) = tokio::sync::mpsc::channel(NOTICES_MAX);
        let ledger = (node, self.url.shown().to_string());
        let exporter = Exporter::start(store.clone(), settings, ledger, since, notices).await;
        Ok(Some(Telemetry { exporter, notices: heard }))
    }

    /// Returns the desk of this place's ledger.
    pub(crate) fn desk(&self, store: &Store) -> Desk {
        let desk = Desk::new(store.clone(), Arc::new(self.config.clone()), self.folder.clone());
        let desk = desk.with_embedder(self.embedder());
        // Without a name of this host, no output is known to be here.
        match quorate_process::host() {
            Ok(host) => desk.with_shelf(host, self.state_folder().join("logs")),
            Err(_) => desk,
        }
    }

    /// Returns the same for who asks over the network, and may ask what is wrong here.
    fn desk_at_doors(&self, store: &Store) -> Desk {
        self.desk(store).with_doctor(Arc::new(AtTheDoor(self.clone())))
    }

    /// Returns the model that finds memories by their meaning, if one is configured.
    fn embedder(&self) -> Option<Arc<Embedder>> {
        let config = self.config.memory.embedding.as_ref();
        config.map(|config| Arc::new(Embedder::new(config, |name| self.variable(name))))
    }

    /// Opens the doors of a node that works here.
    pub(crate) async fn begin_server(&self, store: &Store) -> Result<Server> {
        Server::begin(self.desk_at_doors(store), self.doors()).await
    }

    /// Opens the doors of something that lasts only for a while: a taken port is no error, a node may run beside it.
    pub(crate) async fn begin_passing_server(&self, store: &Store) -> Result<Server> {
        Server::begin(self.desk_at_doors(store), ServerOptions { is_set: false, ..self.doors() }).await
    }

    fn doors(&self) -> ServerOptions {
        ServerOptions {
            listen: self.config.server.listen,
            is_set: self.config.server.listen_is_set,
            socket: Some(self.state_folder().join(SOCKET)),
            token: self.variable("QUORATE_SERVER_TOKEN"),
        }
    }

    /// Opens the ledger to look at it; `None` if there is none, and none is made.
    pub(crate) async fn look(&self) -> Result<Option<Store>> {
        if self.is_missing() {
            return Ok(None);
        }
        let options = Options { connections: CONNECTIONS, create: false, ..Options::new(&SCHEMA) };
        self.open_with(options).await.map(Some)
    }

    /// Opens the ledger to change something that must be in it; without a ledger, `what` is not found.
    pub(crate) async fn open_for(&self, what: impl std::fmt::Display) -> Result<Store> {
        self.look().await?.ok_or_else(|| self.not_found(what))
    }

    /// The same for a node.
    pub(crate) async fn open_for_node_of(&self, what: impl std::fmt::Display) -> Result<Store> {
        if self.is_missing() { Err(self.not_found(what)) } else { self.open_for_node().await }
    }

    fn not_found(&self, what: impl std::fmt::Display) -> Error {
        Error::not_found(format!("no {what}: there is no ledger here yet ({})", self.url.shown()))
            .hint(MAKES_ONE)
    }

    /// Says that there is no ledger, and what makes one.
    pub(crate) fn no_ledger(&self) -> String {
        format!("no ledger here yet ({})\n{MAKES_ONE}\n", self.url.shown())
    }

    /// Returns whether an embedded ledger is not there yet.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(&self.url, Url::Lite(path) if matches!(path.try_exists(), Ok(false)))
    }

    async fn open_with(&self, options: Options) -> Result<Store> {
        let store = Store::open(&self.url, options).await?;
        self.opened.lock().expect("no holder of the list panics").push(store.clone());
        Ok(store)
    }

    /// Closes what was opened. Call it once, at the end.
    pub(crate) async fn close(&self) {
        let stores = std::mem::take(&mut *self.opened.lock().expect("no holder of the list panics"));
        for store in stores {
            store.close().await;
        }
    }
}

/// How long a node waits for an answer: what it does there is quick, and its leases run meanwhile.
fn node_patience(lease: Duration) -> Duration {
    (lease / 4).clamp(Duration::from_secs(5), Duration::from_secs(30))
}

const MAKES_ONE: &str =
    "`quorate run PLAN` or `quorate task add \"…\"` makes one; `quorate demo` shows what it is for";

/// Makes `folders` the working folder one after the other, as git's -C does.
pub(crate) fn enter(folders: &[PathBuf]) -> Result<()> {
    for folder in folders.iter().filter(|folder| !folder.as_os_str().is_empty()) {
        std::env::set_current_dir(folder).map_err(|e| {
            let message = format!("cannot go to the folder {}: {e}", quote(&folder.to_string_lossy()));
            let error = if e.kind() == ErrorKind::NotFound {
                Error::not_found(message)
            } else {
                Error::failed(message)
            };
            error.hint("-C takes a folder that exists")
        })?;
    }
    Ok(())
}

/// Whose files say what is run here: this user's, those of the system, and those of whoever has the working folder, since
/// going there is a choice. A folder above it may be anybody's (`/tmp`).
#[derive(Debug, Clone, Copy)]
struct Trusted {
    here: u32,
}

impl Trusted {
    fn at(here: &Path) -> Result<Trusted> {
        let facts = std::fs::metadata(here)
            .map_err(|e| Error::failed(format!("the folder {} cannot be read: {e}", here.display())))?;
        Ok(Trusted { here: facts.uid() })
    }

    fn check(self, file: &Path, owner: u32) -> Result<()> {
        if self.is_one_of_ours(owner) || file.parent().is_some_and(|folder| self.is_guarded(folder)) {
            return Ok(());
        }
        let message = format!(
            "{} belongs to another user (uid {owner}), in a folder where anybody may put things: it could run anything as you",
            file.display()
        );
        Err(Error::invalid(message).hint("work in a folder of your own (`-C DIR`), or remove it"))
    }

    fn is_one_of_ours(self, owner: u32) -> bool {
        [0, nix::unistd::geteuid().as_raw(), self.here].contains(&owner)
    }

    /// Tells whether one of ours decides who may put files into a folder: a shared checkout has files of several.
    fn is_guarded(self, folder: &Path) -> bool {
        /// S_IWOTH of inode(7): everybody may write.
        const ANYBODY: u32 = 0o002;
        std::fs::metadata(folder)
            .is_ok_and(|facts| self.is_one_of_ours(facts.uid()) && facts.mode() & ANYBODY == 0)
    }

    /// Refuses a ledger that another has laid where anybody may: whoever works at its tasks runs them.
    fn check_state(self, folder: &Path) -> Result<()> {
        std::fs::symlink_metadata(folder).map_or(Ok(()), |facts| self.check(folder, facts.uid()))
    }
}

fn find_config(from: &Path, trusted: Trusted) -> Result<Option<(PathBuf, Vec<u8>)>> {
    for folder in from.ancestors() {
        let file = folder.join(CONFIG_FILE);
        if let Some(bytes) = read_small(&file, trusted)? {
            return Ok(Some((file, bytes)));
        }
    }
    Ok(None)
}

/// Reads a file of bounded size; `None` if it is not there.
fn read_small(file: &Path, trusted: Trusted) -> Result<Option<Vec<u8>>> {
    let cannot = |why: String| {
        Error::invalid(format!("cannot read {}: {why}", file.display()))
            .hint("mend its permissions, or move it away")
    };
    // A pipe of that name is not waited for; and who owns it is asked of what is read.
    let opened = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(file);
    let opened = match opened {
        Ok(opened) => opened,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(cannot(e.to_string())),
    };
    let facts = opened.metadata().map_err(|e| cannot(e.to_string()))?;
    if !facts.is_file() {
        return Err(cannot("it is no file".into()));
    }
    trusted.check(file, facts.uid())?;
    let mut bytes = Vec::new();
    opened.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(|e| cannot(e.to_string()))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(cannot(format!("it has {} bytes, more than {FILE_MAX}", facts.len())));
    }
    Ok(Some(bytes))
}

/// Reads `.env`. Lines that are not KEY=VALUE are passed over: the file may be meant for other programs too.
fn read_env_file(file: &Path, trusted: Trusted) -> Result<BTreeMap<String, String>> {
    // A folder called .env (a Python environment) is none of ours.
    let bytes = if file.is_dir() { None } else { read_small(file, trusted)? };
    let text = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    Ok(text.lines().filter_map(read_env_line).collect())
}

fn read_env_line(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_name = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (key.to_owned(), unquoted(value).to_owned()))
}

/// Takes quotes off; without quotes a ` #` begins a remark.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote)
            && let Some(end) = inner.find(quote)
        {
            return &inner[..end];
        }
    }
    value.split_once(" #").map_or(value, |(value, _)| value.trim_end())
}

fn without_telemetry(error: &Error) -> String {
    let hint = error.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("there is no telemetry: {}{hint}", error.message)
}

/// Notices of an exporter that wait for whoever shows them.
const NOTICES_MAX: usize = 16;

/// An exporter and what it has to say.
pub(crate) struct Telemetry {
    exporter: Exporter,
    notices: tokio::sync::mpsc::Receiver<String>,
}

impl Telemetry {
    /// Sends what is left; answers with what it had to say and nobody has waited for.
    pub(crate) async fn end(telemetry: Option<Telemetry>) -> Vec<String> {
        let Some(Telemetry { exporter, mut notices }) = telemetry else { return Vec::new() };
        // First what is there, so that the last words find room.
        let mut said: Vec<String> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
        exporter.end().await;
        said.extend(std::iter::from_fn(|| notices.try_recv().ok()));
        said
    }

    /// Waits for the next notice; for ever without an exporter.
    pub(crate) async fn notice(telemetry: &mut Option<Telemetry>) -> String {
        let next = match telemetry {
            Some(telemetry) => telemetry.notices.recv().await,
            None => None,
        };
        match next {
            Some(notice) => notice,
            None => std::future::pending().await,
        }
    }
}

/// Tells whether a program of this name is in a folder of the PATH.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_waits_for_an_answer_a_quarter_of_a_lease_within_limits() {
        let patience = |lease| node_patience(Duration::from_secs(lease)).as_secs();
        assert_eq!([2, 20, 60, 120, 3_600].map(patience), [5, 5, 15, 30, 30]);
    }

    #[test]
    fn a_file_of_somebody_else_is_not_obeyed() {
        let own = nix::unistd::geteuid().as_raw();
        let check = |owner, here| Trusted { here }.check(Path::new("/tmp/quorate.toml"), owner).is_ok();
        let (mallory, ann) = (own + 7, own + 8);
        assert!(check(own, own) && check(0, own) && check(ann, ann));
        assert!(!check(mallory, own) && !check(mallory, ann) && !check(mallory, 0));
    }

    #[test]
    fn lines_of_an_env_file_are_read() {
        let check = |line: &str, expected: Option<(&str, &str)>| {
            let found = read_env_line(line);
            assert_eq!(found.as_ref().map(|(k, v)| (k.as_str(), v.as_str())), expected, "{line}");
        };
        check("A=b", Some(("A", "b")));
        check(" export A_1 = 'b # c' # d", Some(("A_1", "b # c")));
        check("A=\"b=c\"", Some(("A", "b=c")));
        check("A=b # remark", Some(("A", "b")));
        check("A=", Some(("A", "")));
        check("# A=b", None);
        check("A B=c", None);
        check("nothing", None);
        check("A='open", Some(("A", "'open")));
    }
}
