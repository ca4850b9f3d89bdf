//! `quorate init`: a commented quorate.toml, and git told to leave the state alone.

use crate::args::Init;
use crate::place::{CONFIG_FILE, STATE_FOLDER};
use crate::print;
use quorate_model::{Error, Kind, Result, nearest};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// What `init` can write: name, what it is for, the text.
const TEMPLATES: [(&str, &str, &str); 1] =
    [("default", "every setting with its default, commented out", include_str!("../templates/default.toml"))];

pub(crate) fn init(args: &Init, json: bool) -> Result<u8> {
    let text = template(&args.template)?;
    let folder = std::env::current_dir()
        .map_err(|e| Error::failed(format!("the working folder cannot be read: {e}")))?;
    write_new(&folder.join(CONFIG_FILE), text)?;
    let is_ignored = ignore_state(&folder.join(".gitignore"))?;
    let value =
        || json!({ "config": folder.join(CONFIG_FILE).display().to_string(), "gitignore": is_ignored });
    let also = if is_ignored { format!("; {STATE_FOLDER}/ added to .gitignore") } else { String::new() };
    let words =
        || format!("{CONFIG_FILE} written{also}\nnext: quorate run PLAN, or quorate task add \"…\"\n");
    print::answer(json, value, words);
    Ok(0)
}

fn template(name: &str) -> Result<&'static str> {
    if let Some((_, _, text)) = TEMPLATES.iter().find(|(known, ..)| *known == name) {
        return Ok(text);
    }
    let known: Vec<String> = TEMPLATES.iter().map(|(name, what, _)| format!("{name} ({what})")).collect();
    let near = nearest(name, TEMPLATES.iter().map(|(name, ..)| *name))
        .map(|near| format!("did you mean `{near}`? "));
    Err(Error::not_found(format!("no template {}", quorate_model::diagnostic::quote(name))).hint(format!(
        "{}there are: {}",
        near.unwrap_or_default(),
        known.join(", ")
    )))
}

fn write_new(file: &Path, text: &str) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            Error::new(Kind::Conflict, format!("{} is there already", file.display()))
                .hint("change it by hand, or move it away first")
        }
        _ => cannot_write(file, &e),
    })
}

/// Adds the folder of state to `.gitignore`; answers whether that was needed.
fn ignore_state(file: &Path) -> Result<bool> {
    let old = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(cannot_write(file, &e)),
    };
    let Some(addition) = ignoring(&String::from_utf8_lossy(&old)) else { return Ok(false) };
    let added = OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .and_then(|mut f| f.write_all(addition.as_bytes()));
    added.map(|()| true).map_err(|e| cannot_write(file, &e))
}

/// Returns what is missing in a `.gitignore`.
fn ignoring(old: &str) -> Option<String> {
    let is_state = |line: &str| line.trim().trim_start_matches('/').trim_end_matches('/') == STATE_FOLDER;
    if old.lines().any(is_state) {
        return None;
    }
    let gap = if old.is_empty() || old.ends_with('\n') { "" } else { "\n" };
    Some(format!("{gap}{STATE_FOLDER}/\n"))
}

fn cannot_write(file: &Path, e: &std::io::Error) -> Error {
    Error::failed(format!("cannot write {}: {e}", file.display())).hint("mend the folder's permissions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::config::Config;

    #[test]
    fn a_template_is_a_configuration_even_with_its_settings_uncommented() {
        for (name, _, text) in TEMPLATES {
            assert_eq!(
                Config::parse(name, text.as_bytes()).map(|config| config == Config::default()),
                Ok(true)
            );
            let bare: String = text
                .lines()
                .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
                .map(|line| format!("{line}\n"))
                .collect();
            let config =
                Config::parse(name, bare.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong}\n{bare}"));
            assert!(config.agents().len() > 2, "{bare}");
        }
    }

    fn is_setting(line: &str) -> bool {
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
    }

    #[test]
    fn git_ignores_the_state_once() {
        assert_eq!(ignoring("").as_deref(), Some(".quorate/\n"));
        assert_eq!(ignoring("target").as_deref(), Some("\n.quorate/\n"));
        for there in [".quorate", "/.quorate/\n", "a\n.quorate/\r\nb"] {
            assert_eq!(ignoring(there), None, "{there}");
        }
    }
}
