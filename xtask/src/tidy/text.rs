//! Rules for any file: its name, its white space, and what must never be in a public repository.

use super::{File, Finding};

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "misc", "imp"];

/// Folders of one particular machine.
const MACHINE_PATHS: [&str; 2] = ["/work/", "/root/"];

/// Hosts and settings by which one machine's package sources would become everyone's.
const REGISTRIES: [&str; 9] = [
    "index.crates.io",
    "static.crates.io",
    "registry.npmjs.org",
    "pypi.org/simple",
    "proxy.golang.org",
    "deb.debian.org",
    "artifactory",
    "replace-with",
    "[registries",
];

/// The only source of dependencies in Cargo.lock.
const LOCKED_SOURCE: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

/// Endings that make `name@x.ending` something else than an e-mail address.
const NOT_MAIL: [&str; 9] =
    ["service", "timer", "target", "socket", "slice", "example", "invalid", "test", "rs"];

/// No part of a path is a word that says nothing.
pub fn name(file: &File) -> Option<Finding> {
    let is_empty = |part: &str| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or(part));
    file.path
        .split('/')
        .any(is_empty)
        .then(|| Finding::new(&file.path, 1, "a file's name says what is inside"))
}

/// White space and content, line by line.
pub fn content(file: &File) -> Vec<Finding> {
    let is_lock = file.is("Cargo.lock");
    let is_verbatim = file.is(".snap") || file.path.contains("/fixtures/");
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let broken = if is_lock {
            lock_line(line)
        } else {
            line_content(line).or_else(|| if is_verbatim { None } else { white_space(line) })
        };
        findings.extend(broken.map(|what| Finding::new(&file.path, number + 1, what)));
    }
    findings
}

fn white_space(line: &str) -> Option<String> {
    if line.contains('\t') {
        return Some("a tab; use spaces (or \\t in a literal)".to_string());
    }
    line.ends_with(' ').then(|| "trailing white space".to_string())
}

fn lock_line(line: &str) -> Option<String> {
    let is_foreign = line.starts_with("source = ") && line != LOCKED_SOURCE;
    is_foreign.then(|| "a dependency that is not from the public registry".to_string())
}

fn line_content(line: &str) -> Option<String> {
    if let Some(path) = MACHINE_PATHS.iter().find(|path| has_path(line, path)) {
        return Some(format!("`{path}` is a folder of one machine"));
    }
    if let Some(host) = REGISTRIES.iter().find(|host| line.contains(*host)) {
        return Some(format!("`{host}`: where packages come from is the machine's business"));
    }
    mail_address(line).map(|address| format!("`{address}` looks like an e-mail address"))
}

/// Tells whether an absolute path begins with `path` somewhere in the line.
fn has_path(line: &str, path: &str) -> bool {
    let is_inner = |c: char| c.is_alphanumeric() || "._-~*}{)".contains(c);
    line.match_indices(path).any(|(at, _)| !line[..at].chars().next_back().is_some_and(is_inner))
}

fn mail_address(line: &str) -> Option<String> {
    line.match_indices('@').find_map(|(at, _)| {
        let local = tail_of(&line[..at], |c| c.is_ascii_alphanumeric() || "._%+-".contains(c));
        let domain = head_of(&line[at + 1..], |c| c.is_ascii_alphanumeric() || ".-".contains(c));
        let domain = domain.trim_end_matches('.');
        let word = tail_of(&line[..at], |c| !c.is_whitespace() && !"\"'`(<".contains(c));
        let (host, ending) = domain.rsplit_once('.')?;
        let is_name = ending.len() >= 2 && ending.bytes().all(|b| b.is_ascii_alphabetic());
        let is_exempt = NOT_MAIL.contains(&ending) || host.ends_with("example") || local == "git";
        let is_mail = !local.is_empty() && !host.is_empty() && is_name && !is_exempt && !word.contains("://");
        is_mail.then(|| format!("{local}@{domain}"))
    })
}

fn tail_of(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    text.rfind(|c| !belongs(c))
        .map_or(text, |at| &text[at + text[at..].chars().next().map_or(0, char::len_utf8)..])
}

fn head_of(text: &str, belongs: impl Fn(char) -> bool) -> &str {
    text.find(|c| !belongs(c)).map_or(text, |at| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let file = File { path: path.to_string(), text: text.to_string() };
        let found: Vec<String> = content(&file).iter().map(Finding::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    }

    #[test]
    fn names_say_what_is_inside() {
        let named = |path: &str| name(&File { path: path.to_string(), text: String::new() }).is_some();
        assert!(named("crates/cli/src/utils.rs"));
        assert!(named("crates/cli/tests/common/mod.rs"));
        assert!(!named("crates/cli/src/commons.rs"));
    }

    #[test]
    fn tabs_and_trailing_space_are_found() {
        check("a.md", "one \ntwo\n\tthree\n", &["a.md:1: trailing", "a.md:3: a tab"]);
        check("a.snap", "one \n", &[]);
    }

    #[test]
    fn machine_paths_are_found() {
        check("a.rs", "cd /work/main", &["/work/"]);
        check("a.rs", "\"/root/.cargo\"", &["/root/"]);
        check("a.rs", "src/work/a ./root/b ~/work/ {dir}/work/", &[]);
    }

    #[test]
    fn registries_are_found() {
        check(".cargo/config.toml", "replace-with = \"mirror\"", &["replace-with"]);
        check("Cargo.lock", "source = \"registry+https://mirror.local/index\"", &["not from the public"]);
        check("Cargo.lock", LOCKED_SOURCE, &[]);
    }

    #[test]
    fn mail_addresses_are_found() {
        check("a.md", "write to someone@mail.org.", &["someone@mail.org"]);
        check("a.md", "<a.b+c@mail.co>", &["a.b+c@mail.co"]);
    }

    #[test]
    fn what_only_looks_like_mail_is_not_found() {
        check("a.md", "postgres://user@db.host.net/x user@host pkg@1.2.3 q@main.service me@example.com", &[]);
        check("a.md", "git@github.com:x/y.git @scope/pkg@latest", &[]);
    }
}
