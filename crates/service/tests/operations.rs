//! Every operation is exercised: an operation without a test is noticed here.

use std::path::{Path, PathBuf};

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the public module of a source file: `task/take.rs` belongs to `task`.
fn module(source: &Path, file: &Path) -> String {
    let first = file.strip_prefix(source).expect("it was found there").iter().next().expect("it has a name");
    first.to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Returns the operations of the service as `module::Name`.
fn operations(source: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in rust_files(source) {
        let text = std::fs::read_to_string(&file).expect("it is readable");
        for line in text.lines() {
            let name = line.strip_prefix("impl Write for ").or(line.strip_prefix("impl Read for "));
            if let Some(name) = name {
                found.push(format!("{}::{}", module(source, &file), name.trim_end_matches(" {")));
            }
        }
    }
    found
}

/// Returns whether a test names the operation: in full, or in a `use` of its module.
fn names(text: &str, operation: &str) -> bool {
    let (module, name) = operation.split_once("::").expect("made above");
    let opening = format!("{module}::{{");
    let mut lists = text.split(&opening).skip(1).filter_map(|rest| rest.split('}').next());
    let is_listed = |list: &str| list.split(',').any(|item| item.trim() == name);
    let in_full = text
        .split(operation)
        .skip(1)
        .any(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    in_full || lists.any(is_listed)
}

#[test]
fn every_operation_is_named_in_a_test_on_both_databases() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests: String = rust_files(&here.join("tests"))
        .into_iter()
        .chain([here.join("../testkit/src/verbs.rs")])
        .map(|file| std::fs::read_to_string(file).expect("it is readable"))
        .filter(|text| text.contains("on_every_backend!") || text.contains("impl TestLedger"))
        .collect();
    let operations = operations(&here.join("src"));
    assert!(operations.len() > 40, "{operations:?}");
    let unnamed: Vec<&String> = operations.iter().filter(|operation| !names(&tests, operation)).collect();
    assert!(unnamed.is_empty(), "no test names {unnamed:?}");
}
