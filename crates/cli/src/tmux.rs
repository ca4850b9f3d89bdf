//! `quorate up --tmux SESSION` and `quorate down SESSION`: a team to look at, in tmux.
//!
//! Here live the calls of the `tmux` program, and which pane shows what. tmux is for looking: each pane runs an ordinary
//! command of ours, everything they show comes from the ledger and from kept output, and nothing is read from a screen.
//!
//! ```text
//! window top      pane 0: quorate top │ panes 1 to 6: quorate logs AGENT --follow
//! window more-2   six further agents, and so on
//! window node     quorate up
//! window lead     the orchestrator, in the foreground
//! ```
//!
//! A pane belongs to an agent's name, not to a process: an agent that is started again goes on in its pane.

use crate::args;
use crate::claude::MARKER;
use crate::place::Place;
use crate::place::is_on_path;
use crate::print;
use crate::run::at_most;
use quorate_model::{Error, Kind, Result};
use quorate_runtime::running_here;
use quorate_service::token::digest;
use quorate_store::Store;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::io::{ErrorKind, IsTerminal, stdin};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Agents of one window.
const PER_WINDOW: usize = 6;
/// Agents that have a pane at most: each is a process, with connections of its own to the ledger.
const PANES_MAX: usize = 30;
/// How the panes of a window with `quorate top` are laid out: it has the left half.
const LAYOUT_TOP: &str = "main-vertical";
/// How those of the others are.
const LAYOUT_MORE: &str = "tiled";
/// Columns and lines of a session that nobody has looked at yet.
const SIZE: [&str; 2] = ["160", "50"];
/// How long the node may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(20);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Names the socket of the tmux server: a path, or a name among those of the user.
const SOCKET: &str = "QUORATE_TMUX_SOCKET";
/// Tells what runs in a session of ours which one it is.
const SESSION: &str = "QUORATE_TMUX_SESSION";
/// The option of a session of ours that says whose ledger it shows: a digest, since tmux shows all of it to everybody.
const LEDGER: &str = "@quorate_ledger";
/// The one that tells people where it was made.
const FOLDER: &str = "@quorate_folder";
/// Where in tmux's list of variables to hand over ours stand for a moment.
const HANDED_OVER: usize = 7_000;
/// Variables that are of one terminal or shell, and not handed over.
const OWN: [&str; 9] = ["TMUX", "TMUX_PANE", "TERM", "COLUMNS", "LINES", "SHLVL", "PWD", "OLDPWD", "_"];
/// Names of variables that are handed over, in bytes: tmux takes commands of 16 KB.
const NAMES_MAX: usize = 6_000;

/// Makes the session, with a node in it.
pub(crate) async fn up(place: &Place, args: &args::Up, session: &str, json: bool) -> Result<u8> {
    if args.attach && (json || !print::is_terminal() || !stdin().is_terminal()) {
        return Err(
            Error::invalid("--attach needs a terminal").hint(format!("later: tmux attach -t {session}"))
        );
    }
    let tmux = Tmux::find(place)?;
    let lead = args.orchestrator.as_deref().map(lead).transpose()?;
    if tmux.has(session)? {
        return Err(tmux.taken(place, session));
    }
    // First the ledger: what is wrong with it is better said here than in a window.
    let store = place.open().await?;
    let stage = Stage::new(place, args, session, lead)?;
    let Some(made) = stage.begin(&tmux)? else { return Err(tmux.taken(place, session)) };
    let windows = match stage.build(&tmux, &made.window) {
        Ok(built) => match begun(&tmux, &store, &built.node).await {
            Ok(()) => built.windows,
            Err(error) => return Err(undone(&tmux, &made.id, error)),
        },
        Err(error) => return Err(undone(&tmux, &made.id, error)),
    };
    stage.without_pane().into_iter().for_each(|note| print::note(&note));
    let attach = tmux.attach(session);
    let value = || json!({ "session": session, "windows": windows, "attach": attach });
    if args.attach {
        return tmux.show(session);
    }
    print::answer(json, value, || {
        format!(
            "tmux session {session}: {}\nlook at it: {attach}\nend it:     quorate down {session}",
            windows.join(", ")
        )
    });
    Ok(0)
}

/// A session that this very command has made and that is not whole is taken away again.
fn undone(tmux: &Tmux, id: &str, error: Error) -> Error {
    match tmux.end(id) {
        Ok(()) => error,
        Err(also) => Error { message: format!("{error} (and {also})"), ..error },
    }
}

/// Waits until the node in this pane has begun; one that ends instead has said why in `quorate up`.
async fn begun(tmux: &Tmux, store: &Store, pane: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        let said = tmux.ask(&["display-message", "-p", "-t", pane, "#{pane_dead} #{pane_pid}"])?;
        let (dead, pid) = said.split_once(' ').unwrap_or_default();
        if dead == "1" {
            return Err(Error::failed("the node has ended at once").hint("quorate up tells why"));
        }
        let pid = pid.parse::<i64>().ok();
        if running_here(store).await?.iter().any(|node| Some(node.pid) == pid) {
            return Ok(());
        }
        if began.elapsed() > BEGIN_MAX {
            return Err(Error::failed(format!("the node has not begun within {} s", BEGIN_MAX.as_secs()))
                .hint("quorate up tells why"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns the words that start an orchestrator.
fn lead(text: &str) -> Result<Vec<String>> {
    let known = [
        ("claude", "npm install -g @anthropic-ai/claude-code"),
        ("codex", "npm install -g @openai/codex"),
        ("gemini", "npm install -g @google/gemini-cli"),
    ];
    match known.iter().find(|(name, _)| *name == text) {
        Some((name, install)) if !is_on_path(name) => {
            Err(Error::invalid(format!("there is no program `{name}` on the PATH")).hint(*install))
        }
        Some((name, _)) => Ok(vec![(*name).to_owned()]),
        None => Ok(vec!["sh".into(), "-c".into(), text.to_owned()]),
    }
}

/// What is to be built.
struct Stage {
    session: String,
    /// This program, with the folder it works in.
    us: Vec<String>,
    folder: String,
    /// The mark of the ledger.
    ledger: String,
    agents: Vec<String>,
    without: usize,
    node: Vec<String>,
    lead: Option<Vec<String>>,
}

/// What was built.
struct Built {
    windows: Vec<String>,
    /// The pane of the node.
    node: String,
}

impl Stage {
    fn new(place: &Place, args: &args::Up, session: &str, lead: Option<Vec<String>>) -> Result<Stage> {
        let us =
            std::env::current_exe().map_err(|e| Error::failed(format!("cannot find this program: {e}")))?;
        let folder = utf8(place.folder.as_os_str(), "the folder")?;
        let us = vec![utf8(us.as_os_str(), "this program")?, "-C".into(), folder.clone()];
        let mut agents: Vec<String> =
            place.team(at_most(args.agents)).into_iter().map(|member| member.name).collect();
        let without = agents.len().saturating_sub(PANES_MAX);
        agents.truncate(PANES_MAX);
        let mut node = [us.as_slice(), &["up".into()]].concat();
        if let Some(count) = args.agents {
            node.extend(["--agents".into(), count.to_string()]);
        }
        let ledger = mark(place);
        Ok(Stage { session: session.to_owned(), us, folder, ledger, agents, without, node, lead })
    }

    fn without_pane(&self) -> Option<String> {
        (self.without > 0)
            .then(|| format!("notice: {} agents have no pane; quorate top shows all", self.without))
    }

    fn ours(&self, words: &[&str]) -> Vec<String> {
        self.us.iter().cloned().chain(words.iter().map(ToString::to_string)).collect()
    }

    /// Builds window after window, from the first on. Their ids, which tmux gives, are what they are called by: a user's
    /// own settings may number and name them otherwise.
    fn build(&self, tmux: &Tmux, top: &Window) -> Result<Built> {
        let mut windows = vec!["top".to_owned()];
        let mut groups = self.agents.chunks(PER_WINDOW);
        frame(tmux, top)?;
        title(tmux, &top.pane, "top")?;
        self.split(tmux, top, groups.next().unwrap_or_default(), LAYOUT_TOP)?;
        for (number, group) in groups.enumerate() {
            let name = format!("more-{}", number + 2);
            let Some((first, rest)) = group.split_first() else { continue };
            let window = self.window(tmux, &name, &[], &self.ours(&["logs", first, "--follow"]))?;
            title(tmux, &window.pane, first)?;
            self.split(tmux, &window, rest, LAYOUT_MORE)?;
            windows.push(name);
        }
        let node = self.window(tmux, "node", &[], &self.node)?;
        title(tmux, &node.pane, "node")?;
        windows.push("node".into());
        if let Some(words) = &self.lead {
            // Its pane is ours: at the threshold, `/clear` is typed there.
            let env = [
                ("QUORATE_AGENT", "orchestrator"),
                ("QUORATE_DIR", &self.folder),
                (SESSION, &self.session),
                (MARKER, "1"),
            ];
            let lead = self.window(tmux, "lead", &env, words)?;
            title(tmux, &lead.pane, "orchestrator")?;
            windows.push("lead".into());
        }
        tmux.ask(&["select-window", "-t", &top.id])?;
        tmux.ask(&["select-pane", "-t", &top.pane])?;
        Ok(Built { windows, node: node.pane })
    }

    /// Begins the session with its first window, unless one of this name has come meanwhile. It has the variables that this
    /// command has: by their names, so that no value stands in a command line that others may read.
    fn begin(&self, tmux: &Tmux) -> Result<Option<Made>> {
        let names = handed_over(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()));
        let listed: Vec<String> =
            (0..names.len()).map(|at| format!("update-environment[{}]", HANDED_OVER + at)).collect();
        let mut words: Vec<&str> = Vec::new();
        for (place, name) in listed.iter().zip(&names) {
            words.extend(["set-option", "-g", place, name, ";"]);
        }
        let (folder, here) = (escaped(&plain(&self.folder)), format!("={}:", self.session));
        words.extend(["new-session", "-d", "-P", "-F", MADE, "-s", &self.session, "-n", "top"]);
        words.extend(["-x", SIZE[0], "-y", SIZE[1], "-c", &folder]);
        let top = self.ours(&["top"]);
        let top: Vec<String> = top.iter().map(|word| escaped(word)).collect();
        words.extend(top.iter().map(String::as_str));
        words.extend([";", "set-option", "-w", "-t", &here, "remain-on-exit", "on"]);
        let folder = escaped(&self.folder);
        words.extend([";", "set-option", "-t", &here, LEDGER, &self.ledger]);
        words.extend([";", "set-option", "-t", &here, FOLDER, &folder]);
        let mut back: Vec<&str> = Vec::new();
        for place in &listed {
            back.extend([";", "set-option", "-gu", place]);
        }
        words.extend(&back);
        let output = tmux.output(&words)?;
        let made = Made::read(&first_line(&output));
        if output.status.success() {
            return made.map(Some);
        }
        // What follows a command that failed, tmux leaves out.
        let _ = tmux.output(back.get(1..).unwrap_or_default());
        match made {
            Ok(made) => Err(undone(tmux, &made.id, said_no("new-session", &output))),
            Err(_) if tmux.has(&self.session)? => Ok(None),
            Err(_) => Err(said_no("new-session", &output)),
        }
    }

    fn window(&self, tmux: &Tmux, name: &str, env: &[(&str, &str)], words: &[String]) -> Result<Window> {
        let (folder, session) = (plain(&self.folder), format!("={}:", self.session));
        let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut all = vec!["new-window", "-P", "-F", IDS, "-t", &session, "-n", name, "-c", &folder];
        env.iter().for_each(|set| all.extend(["-e", set]));
        let all: Vec<String> = all.into_iter().chain(words.iter().map(String::as_str)).map(escaped).collect();
        let mut all: Vec<&str> = all.iter().map(String::as_str).collect();
        // In the same breath: a command that ends at once must not take its window, and what it said, with it.
        all.extend([";", "set-option", "-w", "-t", &session, "remain-on-exit", "on"]);
        all.extend([";", "set-option", "-w", "-t", &session, "pane-border-status", "top"]);
        all.extend([";", "set-option", "-w", "-t", &session, "pane-border-format", " #{pane_title} "]);
        Window::read(&tmux.ask_raw(&all)?)
    }

    /// Adds a pane for each agent, each behind the one before.
    fn split(&self, tmux: &Tmux, window: &Window, agents: &[String], layout: &str) -> Result<()> {
        let (folder, mut last) = (plain(&self.folder), window.pane.clone());
        for agent in agents {
            let mut words = vec!["split-window", "-d", "-P", "-F", IDS, "-t", &last, "-c", &folder];
            let follow = self.ours(&["logs", agent, "--follow"]);
            words.extend(follow.iter().map(String::as_str));
            let made = Window::read(&tmux.ask(&words)?)?;
            title(tmux, &made.pane, agent)?;
            // At once, so that there is room for the next.
            tmux.ask(&["select-layout", "-t", &window.id, layout])?;
            last = made.pane;
        }
        Ok(())
    }
}

/// Gives a window room for `quorate top`, and titles for its panes.
fn frame(tmux: &Tmux, window: &Window) -> Result<()> {
    for (name, value) in
        [("main-pane-width", "50%"), ("pane-border-status", "top"), ("pane-border-format", " #{pane_title} ")]
    {
        tmux.ask(&["set-option", "-w", "-t", &window.id, name, value])?;
    }
    Ok(())
}

fn title(tmux: &Tmux, pane: &str, name: &str) -> Result<()> {
    tmux.ask(&["select-pane", "-t", pane, "-T", name]).map(drop)
}

fn utf8(name: &OsStr, what: &str) -> Result<String> {
    let text = name.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        Error::invalid(format!("{what} has a name that tmux cannot be told: {}", name.to_string_lossy()))
            .hint("give it a name in UTF-8")
    })
}

/// Returns the names of the variables that a session is given.
fn handed_over(names: impl Iterator<Item = String>) -> Vec<String> {
    let is_name = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut names: Vec<String> =
        names.filter(|name| is_name(name) && !OWN.contains(&name.as_str())).collect();
    // Ours first, should there be too many.
    names.sort_by_key(|name| (!name.starts_with("QUORATE_"), name.clone()));
    let mut bytes = 0;
    names.retain(|name| {
        bytes += name.len() + 2 * "set-option -g update-environment[7000] ".len();
        bytes <= NAMES_MAX
    });
    names
}

/// Keeps tmux from reading a format in a path.
fn plain(path: &str) -> String {
    path.replace('#', "##")
}

/// Keeps tmux from reading the end of a command in a word: a semicolon at its end.
fn escaped(word: &str) -> String {
    match word.strip_suffix(';') {
        Some(rest) => format!("{rest}\\;"),
        None => word.to_owned(),
    }
}

/// Returns what marks a session of this ledger.
fn mark(place: &Place) -> String {
    digest(&place.url.shown())
}

/// What tmux says of something that it has made.
const IDS: &str = "#{window_id} #{pane_id}";
/// And of a session.
const MADE: &str = "#{session_id} #{window_id} #{pane_id}";
/// What it says of a session that is there.
const FOUND: &str = "#{session_id} #{@quorate_ledger} #{@quorate_folder}";

/// A window, or a pane in it, by the ids that tmux gave.
struct Window {
    id: String,
    pane: String,
}

impl Window {
    fn read(said: &str) -> Result<Window> {
        let (id, pane) = said.split_once(' ').ok_or_else(|| Error::failed(format!("tmux said {said:?}")))?;
        Ok(Window { id: id.to_owned(), pane: pane.to_owned() })
    }
}

/// A session that was made, by the id that tmux gave, with its first window.
struct Made {
    id: String,
    window: Window,
}

impl Made {
    fn read(said: &str) -> Result<Made> {
        let (id, rest) = said.split_once(' ').ok_or_else(|| Error::failed(format!("tmux said {said:?}")))?;
        Ok(Made { id: id.to_owned(), window: Window::read(rest)? })
    }
}

fn first_line(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}

fn said_no(word: &str, output: &Output) -> Error {
    Error::failed(format!("tmux {word}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The program, and which of its servers.
#[derive(Debug)]
pub(crate) struct Tmux {
    socket: Vec<String>,
    /// The PATH with this program on it, as every child of a node has it: what runs in a window gets that of the caller.
    path: OsString,
}

impl Tmux {
    /// Finds the program.
    pub(crate) fn find(place: &Place) -> Result<Tmux> {
        let socket = match place.variable(SOCKET) {
            Some(path) if path.contains('/') => vec!["-S".into(), path],
            Some(name) => vec!["-L".into(), name],
            None => Vec::new(),
        };
        let tmux = Tmux { socket, path: path_with_us() };
        match Command::new("tmux").arg("-V").stdin(Stdio::null()).output() {
            Ok(_) => Ok(tmux),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(Error::invalid("there is no program `tmux` on the PATH").hint(how_to_install()))
            }
            Err(e) => Err(Error::failed(format!("cannot run tmux: {e}"))),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(&self.socket).env("PATH", &self.path);
        command
    }

    fn output(&self, words: &[&str]) -> Result<Output> {
        let output = self.command().args(words).stdin(Stdio::null()).output();
        output.map_err(|e| Error::failed(format!("cannot run tmux: {e}")))
    }

    /// Asks for one thing; answers with the first line of what it says.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let words: Vec<String> = words.iter().map(|word| escaped(word)).collect();
        self.ask_raw(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The same, for several commands with `;` between them.
    fn ask_raw(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        if !output.status.success() {
            return Err(said_no(words.first().unwrap_or(&""), &output));
        }
        Ok(first_line(&output))
    }

    /// Tells whether there is such a session.
    fn has(&self, session: &str) -> Result<bool> {
        Ok(self.output(&["has-session", "-t", &format!("={session}")])?.status.success())
    }

    /// Returns the id of a session that `up --tmux` has made for this ledger.
    ///
    /// # Errors
    /// `NotFound` where there is none of this name, `Conflict` for one that is somebody else's.
    pub(crate) fn ours(&self, place: &Place, session: &str) -> Result<String> {
        if !self.has(session)? {
            return Err(self.unknown(session));
        }
        let said = self.ask(&["display-message", "-p", "-t", &format!("={session}:"), FOUND])?;
        let mut words = said.splitn(3, ' ');
        let (id, ledger) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if ledger == mark(place) {
            return Ok(id.to_owned());
        }
        Err(match words.next().filter(|folder| !folder.is_empty()) {
            Some(folder) => Error::new(
                Kind::Conflict,
                format!("tmux session `{session}` shows another ledger, that of {folder}"),
            )
            .hint(format!("end it where it was made: cd {folder} && quorate down {session}")),
            None => Error::new(
                Kind::Conflict,
                format!("tmux session `{session}` was not made by `quorate up --tmux`"),
            )
            .hint(format!(
                "`quorate down` ends the nodes; end the session yourself: {} -t {session}",
                self.shown("kill-session")
            )),
        })
    }

    /// Says that there is such a session already.
    fn taken(&self, place: &Place, session: &str) -> Error {
        let instead = match self.ours(place, session) {
            Ok(_) => format!("end it: quorate down {session}"),
            Err(_) => "it is not of this ledger: choose another name".into(),
        };
        Error::new(Kind::Conflict, format!("there is a tmux session `{session}` already"))
            .hint(format!("look at it: {}; {instead}", self.attach(session)))
    }

    /// Ends a session by its id, and with it what runs in it.
    pub(crate) fn end(&self, id: &str) -> Result<()> {
        self.ask(&["kill-session", "-t", id]).map(drop)
    }

    /// Returns how a person asks this server for something.
    fn shown(&self, word: &str) -> String {
        let socket: String = self.socket.iter().map(|word| format!(" {word}")).collect();
        format!("tmux{socket} {word}")
    }

    /// Returns the command that shows a session.
    fn attach(&self, session: &str) -> String {
        format!("{} -t {session}", self.shown("attach"))
    }

    /// Shows a session on this terminal, until the person leaves it.
    fn show(&self, session: &str) -> Result<u8> {
        let is_inside = std::env::var_os("TMUX").is_some_and(|value| !value.is_empty());
        let word = if is_inside { "switch-client" } else { "attach-session" };
        let status =
            self.command().args([OsString::from(word), "-t".into(), format!("={session}").into()]).status();
        match status.map_err(|e| Error::failed(format!("cannot run tmux: {e}")))?.success() {
            true => Ok(0),
            false => Err(Error::failed("tmux did not show the session").hint(self.attach(session))),
        }
    }

    /// Says that there is no such session.
    fn unknown(&self, session: &str) -> Error {
        Error::not_found(format!("there is no tmux session `{session}`")).hint(format!(
            "{} lists them; `quorate down` ends a node that runs without one",
            self.shown("ls")
        ))
    }
}

fn path_with_us() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let us = std::env::current_exe().ok();
    let folders = std::env::split_paths(&path);
    let all = us.iter().filter_map(|us| Some(us.parent()?.to_owned())).chain(folders);
    std::env::join_paths(all).unwrap_or(path)
}

/// Returns the command that installs tmux here, as far as one can tell.
fn how_to_install() -> &'static str {
    let known = [
        ("apt-get", "sudo apt-get install tmux"),
        ("dnf", "sudo dnf install tmux"),
        ("pacman", "sudo pacman -S tmux"),
        ("apk", "sudo apk add tmux"),
        ("zypper", "sudo zypper install tmux"),
        ("brew", "brew install tmux"),
    ];
    let found = known.iter().find(|(program, _)| is_on_path(program));
    found.map_or("install tmux, then try again", |(_, command)| command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_tmux_as_they_are() {
        assert_eq!(escaped("echo a; echo b"), "echo a; echo b");
        assert_eq!(escaped("echo a;"), "echo a\\;");
        assert_eq!(escaped(";"), "\\;");
        assert_eq!(plain("/a#{b}/c"), "/a##{b}/c");
    }

    #[test]
    fn variables_are_handed_over_by_name() {
        let names = ["PATH", "TMUX", "QUORATE_STORE", "BASH_FUNC_x%%", "1A", "", "API_KEY", "PWD"];
        let found = handed_over(names.into_iter().map(str::to_owned));
        assert_eq!(found, ["QUORATE_STORE", "API_KEY", "PATH"]);
    }

    #[test]
    fn as_many_variables_are_handed_over_as_a_command_may_name() {
        let names = |count: usize| (0..count).map(|n| format!("NAME_{n:03}"));
        let each = "NAME_000".len() + 2 * "set-option -g update-environment[7000] ".len();
        let most = NAMES_MAX / each;
        assert_eq!(handed_over(names(most)).len(), most);
        let cut = handed_over(names(most + 5).chain(["QUORATE_STORE".to_owned()]));
        assert!(cut.len() <= most && cut[0] == "QUORATE_STORE", "{}", cut.len());
    }

    #[test]
    fn an_orchestrator_is_a_known_program_or_a_command() {
        assert_eq!(lead("echo hi; sleep 1").expect("a command"), ["sh", "-c", "echo hi; sleep 1"]);
    }
}
