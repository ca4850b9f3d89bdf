//! `quorate init`: a commented quorate.toml, and git told to leave the state alone; with `--claude` also Claude Code's files.

use crate::args::Init;
use crate::claude;
use crate::place::{CONFIG_FILE, Place, STATE_FOLDER};
use crate::print;
use quorate_model::{Error, Kind, Result, nearest};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

/// What `init` can write.
struct Template {
    name: &'static str,
    /// What it is for.
    about: &'static str,
    /// The text of quorate.toml.
    config: &'static str,
    /// Further files: their path, and their text.
    files: &'static [(&'static str, &'static str)],
}

/// The template that is written where none is named.
const DEFAULT: &str = "default";

const TEMPLATES: [Template; 2] = [
    Template {
        name: DEFAULT,
        about: "every setting with its default, commented out",
        config: include_str!("../templates/default.toml"),
        files: &[],
    },
    Template {
        name: "specialists",
        about: "an orchestrator and four specialists, for goals in words",
        config: include_str!("../templates/specialists.toml"),
        files: &[
            ("prompts/orchestrator.md", include_str!("../templates/prompts/orchestrator.md")),
            ("prompts/research.md", include_str!("../templates/prompts/research.md")),
            ("prompts/analysis.md", include_str!("../templates/prompts/analysis.md")),
            ("prompts/validation.md", include_str!("../templates/prompts/validation.md")),
            ("prompts/synthesis.md", include_str!("../templates/prompts/synthesis.md")),
        ],
    },
];

pub(crate) fn init(args: &Init, json: bool) -> Result<u8> {
    let template = template(&args.template)?;
    if args.claude {
        return with_claude(template, args.remove, json);
    }
    let folder = std::env::current_dir()
        .map_err(|e| Error::failed(format!("the working folder cannot be read: {e}")))?;
    write_template(&folder, template)?;
    let is_ignored = ignore_state(&folder.join(".gitignore"))?;
    let value =
        || json!({ "config": folder.join(CONFIG_FILE).display().to_string(), "gitignore": is_ignored });
    let also = if is_ignored { format!("; {STATE_FOLDER}/ added to .gitignore") } else { String::new() };
    let files = match template.files.len() {
        0 => String::new(),
        count => format!(" and {count} prompts in prompts/"),
    };
    let next = match template.files {
        [] => "quorate run PLAN, or quorate task add \"…\"",
        _ => "quorate doctor, then quorate run \"a goal\" --plan-only",
    };
    let words = || format!("{CONFIG_FILE}{files} written{also}\nnext: {next}\n");
    print::answer(json, value, words);
    Ok(0)
}

/// Lets Claude Code into the project, or takes it out; a configuration that is there is left alone.
fn with_claude(template: &Template, remove: bool, json: bool) -> Result<u8> {
    let place = Place::find()?;
    let is_new = !remove && place.config_file.is_none();
    // What stands in the way of the template is said before anything of Claude Code is changed.
    match &place.config_file {
        _ if remove => {}
        Some(file) if template.name != DEFAULT => return Err(is_there(file)),
        Some(_) => {}
        None => must_be_free(&place.folder, template)?,
    }
    let mut report = if remove { claude::remove(&place.folder)? } else { claude::install(&place.folder)? };
    if is_new {
        write_template(&place.folder, template)?;
        ignore_state(&place.folder.join(".gitignore"))?;
    }
    report["config"] = json!({ "file": CONFIG_FILE, "state": if is_new { "written" } else { "unchanged" } });
    let words = || {
        let config = if is_new { format!("{CONFIG_FILE} written\n") } else { String::new() };
        let next = if remove { "" } else { "next: start `claude` in this folder\n" };
        format!("{config}{}{next}", claude::in_words(&report))
    };
    print::answer(json, || report.clone(), words);
    Ok(0)
}

/// Writes all files of a template, or none.
fn write_template(folder: &Path, template: &Template) -> Result<()> {
    must_be_free(folder, template)?;
    for (file, text) in template.files {
        let file = folder.join(file);
        let above = file.parent().unwrap_or(folder);
        std::fs::create_dir_all(above).map_err(|e| cannot_write(above, &e))?;
        write_new(&file, text)?;
    }
    write_new(&folder.join(CONFIG_FILE), template.config)
}

fn must_be_free(folder: &Path, template: &Template) -> Result<()> {
    let files = template.files.iter().map(|(file, _)| *file).chain([CONFIG_FILE]);
    match files.map(|file| folder.join(file)).find(|file| file.exists()) {
        Some(file) => Err(is_there(&file)),
        None => Ok(()),
    }
}

fn is_there(file: &Path) -> Error {
    Error::new(Kind::Conflict, format!("{} is there already", file.display()))
        .hint("change it by hand, or move it away first")
}

fn template(name: &str) -> Result<&'static Template> {
    if let Some(template) = TEMPLATES.iter().find(|template| template.name == name) {
        return Ok(template);
    }
    let known: Vec<String> =
        TEMPLATES.iter().map(|template| format!("{} ({})", template.name, template.about)).collect();
    let near = nearest(name, TEMPLATES.iter().map(|template| template.name))
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
        ErrorKind::AlreadyExists => is_there(file),
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

pub(crate) fn cannot_write(file: &Path, e: &std::io::Error) -> Error {
    Error::failed(format!("cannot write {}: {e}", file.display())).hint("mend the folder's permissions")
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::config::Config;

    #[test]
    fn a_template_is_a_configuration_even_with_its_settings_uncommented() {
        for Template { name, config: text, files, .. } in &TEMPLATES {
            let config =
                Config::parse(name, text.as_bytes()).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
            assert_eq!(config == Config::default(), *name == "default", "{name}");
            // Every prompt that is named is written.
            for (_, agent) in config.agents() {
                let prompt = agent.prompt.as_deref();
                assert!(
                    prompt.is_none_or(|prompt| files.iter().any(|(file, _)| *file == prompt)),
                    "{agent:?}"
                );
            }
            assert!(uncommented(text).agents().len() > 2, "{text}");
        }
    }

    /// Reads a template as if every setting in it were uncommented.
    fn uncommented(text: &str) -> Config {
        let bare: String = text
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        Config::parse("quorate.toml", bare.as_bytes()).unwrap_or_else(|wrong| panic!("{wrong}\n{bare}"))
    }

    #[test]
    fn what_is_shown_as_a_default_is_the_default() {
        let default = Config::default();
        let mut shown = uncommented(template(DEFAULT).expect("is there").config);
        // What stands there as an example has no default.
        assert!(shown.health.stop_stuck_after_ms.take().is_some());
        assert!(shown.memory.embedding.take().is_some() && shown.memory.consolidate.take().is_some());
        assert!(shown.server.listen_is_set && shown.telemetry.otlp.is_some() && shown.prices.len() == 1);
        assert_eq!((shown.strict_agents, shown.store.url), (default.strict_agents, default.store.url));
        assert_eq!((shown.server.listen, shown.health), (default.server.listen, default.health));
        assert_eq!((shown.retention, shown.memory), (default.retention, default.memory));
        assert_eq!(shown.orchestrator, default.orchestrator);
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
