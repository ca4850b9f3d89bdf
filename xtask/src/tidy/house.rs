//! Rules that span files: which room may use which, links that lead somewhere, files that nobody uses.

use super::source::Source;
use super::{File, Finding};
use std::collections::BTreeSet;

/// The arrows: each room and the rooms it may depend on. Cargo forbids circles; this forbids the rest.
const ARROWS: [(&str, &[&str]); 18] = [
    ("quorate-model", &[]),
    ("quorate-trust", &[]),
    ("quorate-store", &["quorate-model", "quorate-trust"]),
    ("quorate-service", &["quorate-model", "quorate-store"]),
    ("quorate-process", &["quorate-model"]),
    ("quorate-drivers", &["quorate-model", "quorate-process", "quorate-trust"]),
    (
        "quorate-runtime",
        &["quorate-model", "quorate-store", "quorate-service", "quorate-process", "quorate-drivers"],
    ),
    ("quorate-server", &["quorate-model", "quorate-store", "quorate-service", "quorate-drivers"]),
    ("quorate-top", &["quorate-model", "quorate-store", "quorate-service", "quorate-server"]),
    ("quorate-telemetry", &["quorate-model", "quorate-store", "quorate-service", "quorate-trust"]),
    ("quorate-testkit", &ROOMS),
    ("quorate-measure", &["quorate-model", "quorate-store", "quorate-service", "quorate-testkit"]),
    (
        "quorate-bench",
        &[
            "quorate-measure",
            "quorate-model",
            "quorate-store",
            "quorate-service",
            "quorate-runtime",
            "quorate-server",
            "quorate-top",
            "quorate-testkit",
        ],
    ),
    ("quorate-fire", &["quorate-model", "quorate-testkit"]),
    ("quorate-fuzz", &["quorate-model", "quorate-drivers"]),
    ("quorate-peers", &[]),
    ("quorate", &ROOMS),
    ("xtask", &[]),
];

/// Every room with a library of the product.
const ROOMS: [&str; 10] = [
    "quorate-model",
    "quorate-trust",
    "quorate-store",
    "quorate-service",
    "quorate-process",
    "quorate-drivers",
    "quorate-runtime",
    "quorate-server",
    "quorate-top",
    "quorate-telemetry",
];

/// What every room may use for its tests besides its arrows.
const TEST_ROOM: &str = "quorate-testkit";

/// Checks everything that needs more than one file.
pub fn findings(files: &[File]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files.iter().filter(|f| f.is("Cargo.toml")).flat_map(arrows).collect();
    let places = places(files);
    for file in files.iter().filter(|file| file.is(".md")) {
        findings.extend(links(file, &places));
    }
    findings
        .extend(files.iter().filter(|f| f.path == "README.md").flat_map(|readme| examples(readme, &places)));
    findings.extend(event_kinds(files));
    findings.extend(dead_modules(files));
    findings
}

/// Returns every file and folder of the repository.
fn places(files: &[File]) -> BTreeSet<&str> {
    let mut places = BTreeSet::from([""]);
    for file in files {
        let ends = file.path.match_indices('/').map(|(at, _)| at).chain([file.path.len()]);
        places.extend(ends.map(|end| &file.path[..end]));
    }
    places
}

/// Checks the dependencies of one crate against the arrows.
fn arrows(manifest: &File) -> Vec<Finding> {
    let (package, dependencies) = read_manifest(&manifest.text);
    if package.is_empty() {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == package) else {
        let what =
            format!("`{package}` has no place in the drawing: add it to ARROWS in xtask and ARCHITECTURE.md");
        return vec![Finding::new(&manifest.path, 1, what)];
    };
    let is_ours = |name: &str| ARROWS.iter().any(|(room, _)| *room == name) || name.starts_with("quorate");
    dependencies
        .into_iter()
        .filter(|d| {
            is_ours(&d.name) && !allowed.contains(&d.name.as_str()) && !(d.for_tests && d.name == TEST_ROOM)
        })
        .map(|d| Finding::new(&manifest.path, d.line, format!("`{package}` must not depend on `{}`", d.name)))
        .collect()
}

struct Dependency {
    name: String,
    line: usize,
    for_tests: bool,
}

/// Reads a manifest's package name and dependencies, in any of the ways to write a table.
fn read_manifest(text: &str) -> (String, Vec<Dependency>) {
    let (mut package, mut section, mut dependencies) = (String::new(), "", Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line_number = number + 1;
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_start_matches('[').split(']').next().unwrap_or_default();
            let name = section.rsplit_once("dependencies.").map(|(_, name)| name.to_string());
            let for_tests = section.contains("dev-dependencies");
            dependencies.extend(name.map(|name| Dependency { name, line: line_number, for_tests }));
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.split('.').next().unwrap_or_default().trim().trim_matches('"');
        if section == "package" && key == "name" {
            package = value.trim().trim_matches('"').to_string();
        } else if section.ends_with("dependencies") && section != "workspace.dependencies" {
            let for_tests = section.ends_with("dev-dependencies");
            dependencies.push(Dependency { name: key.to_string(), line: line_number, for_tests });
        }
    }
    (package, dependencies)
}

/// Checks that relative links of a Markdown file lead to something in the repository.
fn links(file: &File, places: &BTreeSet<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut is_code = false;
    for (number, line) in file.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        for target in targets(line) {
            let path = target.split('#').next().unwrap_or_default();
            let is_outside = target.contains("://") || target.starts_with("mailto:") || path.is_empty();
            if !is_outside && !resolve(&file.path, path).is_some_and(|path| places.contains(path.as_str())) {
                findings.push(Finding::new(
                    &file.path,
                    number + 1,
                    format!("the link to `{target}` leads nowhere"),
                ));
            }
        }
    }
    findings
}

/// Returns the targets of the links in a line, code in backticks left out.
fn targets(line: &str) -> Vec<String> {
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("_");
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let reference = prose.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    inline.chain(reference.map(|(_, target)| target.trim())).map(str::to_string).collect()
}

/// Resolves a link relative to the file it stands in; None if it leaves the repository.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Checks that every example the README names is there.
fn examples(readme: &File, places: &BTreeSet<&str>) -> Vec<Finding> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let mut findings = Vec::new();
    for (number, line) in readme.text.lines().enumerate() {
        let words = line.split(|c| !is_path(c)).filter(|word| word.starts_with("examples/"));
        let missing =
            words.map(|word| word.trim_end_matches(['.', '/'])).filter(|word| !places.contains(word));
        findings
            .extend(missing.map(|m| Finding::new(&readme.path, number + 1, format!("`{m}` does not exist"))));
    }
    findings
}

/// Checks that every event kind is documented, once the list of events exists.
fn event_kinds(files: &[File]) -> Vec<Finding> {
    let has_list = files.iter().any(|file| file.path == "docs/events.md");
    let Some(kinds) = files.iter().find(|file| file.path == "crates/model/src/event.rs" && has_list) else {
        return Vec::new();
    };
    let docs: Vec<&File> = files.iter().filter(|f| f.path.starts_with("docs/") && f.is(".md")).collect();
    let source = Source::read(&kinds.text, false);
    let undocumented = source
        .strings
        .iter()
        .filter(|(line, text)| !source.is_test_line(*line) && is_event_kind(text))
        .filter(|(_, kind)| !docs.iter().any(|doc| doc.text.contains(&format!("`{kind}`"))));
    undocumented
        .map(|(line, kind)| Finding::new(&kinds.path, *line, format!("`{kind}` is not in docs/")))
        .collect()
}

/// Tells whether a text has the form `noun.verb`.
fn is_event_kind(text: &str) -> bool {
    let is_word = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.split_once('.').is_some_and(|(noun, verb)| is_word(noun) && is_word(verb))
}

/// Finds source files that no `mod` of their crate names: nothing compiles them.
fn dead_modules(files: &[File]) -> Vec<Finding> {
    let sources: Vec<(&File, String)> = files
        .iter()
        .filter(|file| file.is(".rs") && file.path.contains("/src/"))
        .map(|file| (file, Source::read(&file.text, false).code))
        .collect();
    let is_named = |file: &File, name: &str| {
        let folder = crate_folder(&file.path);
        sources.iter().any(|(other, code)| {
            other.path.starts_with(folder)
                && code.contains(&format!("mod {name};"))
                && other.path != file.path
        })
    };
    let modules = sources.iter().filter_map(|(file, _)| Some((*file, module_name(&file.path)?)));
    modules
        .filter(|(file, name)| !is_named(file, name))
        .map(|(file, name)| {
            Finding::new(&file.path, 1, format!("no `mod {name};` in its crate: a dead file"))
        })
        .collect()
}

fn crate_folder(path: &str) -> &str {
    path.split_once("/src/").map_or(path, |(folder, _)| folder)
}

/// Returns the module a file holds; None for the roots of crates and binaries.
fn module_name(path: &str) -> Option<&str> {
    let (_, inner) = path.split_once("/src/")?;
    let stem = inner.strip_suffix(".rs")?;
    if matches!(stem, "lib" | "main") || stem.starts_with("bin/") {
        return None;
    }
    stem.strip_suffix("/mod").unwrap_or(stem).rsplit('/').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let file = |(path, text): &(&str, &str)| File { path: path.to_string(), text: text.to_string() };
        let files: Vec<File> = files.iter().map(file).collect();
        let found: Vec<String> = findings(&files).iter().map(Finding::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} does not say {expected}");
        }
    }

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n\n{rest}\n")
    }

    #[test]
    fn forbidden_arrows_are_found() {
        let path = "crates/model/Cargo.toml";
        for rest in [
            "[dependencies]\nquorate-store.workspace = true",
            "[dependencies]\nquorate-store = { workspace = true }",
            "[dependencies.quorate-store]\nworkspace = true",
            "[build-dependencies]\nquorate-store.workspace = true",
            "[target.'cfg(unix)'.dependencies]\nquorate-store.workspace = true",
            "[dev-dependencies]\nquorate-store.workspace = true",
        ] {
            check(&[(path, &manifest("quorate-model", rest))], &["must not depend on `quorate-store`"]);
        }
    }

    #[test]
    fn drawn_arrows_and_the_test_room_are_allowed() {
        let rest = "[dependencies]\nquorate-model.workspace = true\nserde_json = \"1\"\n\n\
                    [dev-dependencies]\nquorate-testkit.workspace = true";
        check(&[("crates/store/Cargo.toml", &manifest("quorate-store", rest))], &[]);
        let rest = "[dependencies]\nquorate-testkit.workspace = true";
        check(&[("crates/cli/Cargo.toml", &manifest("quorate", rest))], &["`quorate` must not depend"]);
    }

    #[test]
    fn room_without_a_place_in_the_drawing_is_found() {
        check(
            &[("crates/extra/Cargo.toml", &manifest("quorate-extra", ""))],
            &["has no place in the drawing"],
        );
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text = "[a](b.md) [c](docs/gone.md#x)\n`[d](e)` [f](https://x.y) [g](#h)\n```\n[i](j)\n```\n[k]: ../l.md\n";
        let here = [("README.md", text), ("b.md", "")];
        check(&here, &["README.md:1: the link to `docs/gone.md#x`", "README.md:6: the link to `../l.md`"]);
        check(
            &[
                ("docs/a.md", "[up](../README.md) [dir](guides/)"),
                ("README.md", ""),
                ("docs/guides/x.txt", ""),
            ],
            &[],
        );
    }

    #[test]
    fn missing_examples_are_found() {
        let text = "run `examples/a.toml`, or examples/b.toml.\n";
        check(&[("README.md", text), ("examples/a.toml", "")], &["`examples/b.toml` does not exist"]);
    }

    #[test]
    fn undocumented_event_kinds_are_found_once_there_is_a_list() {
        let lib = ("crates/model/src/lib.rs", "//! a\nmod event;\n");
        let event =
            ("crates/model/src/event.rs", "//! a\nconst A: [&str; 2] = [\"task.added\", \"task.taken\"];\n");
        check(&[lib, event], &[]);
        check(&[lib, event, ("docs/events.md", "`task.added`")], &["`task.taken` is not in docs/"]);
    }

    #[test]
    fn files_that_nothing_compiles_are_found() {
        let lib = ("crates/cli/src/main.rs", "//! a\nmod print;\n// mod gone;\n");
        let files = [lib, ("crates/cli/src/print/mod.rs", "//! a\n"), ("crates/cli/src/gone.rs", "//! a\n")];
        check(&files, &["crates/cli/src/gone.rs:1: no `mod gone;`"]);
    }
}
