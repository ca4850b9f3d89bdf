//! `quorate demo`: what it leaves alone, and that it leaves nothing running.

use crate::door::{Door, texts, word};
use nix::sys::signal::Signal;
use std::path::Path;

/// The numbers of the processes that run an agent in a folder.
fn agents(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").expect("readable").flatten().map(|entry| entry.path());
    let is_one = |process: &Path| {
        let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let is_here = std::fs::read_link(process.join("cwd")).is_ok_and(|at| at == folder);
        is_here && String::from_utf8_lossy(&words).contains("\0agent\0run\0")
    };
    processes.filter(|process| is_one(process)).map(|process| process.display().to_string()).collect()
}

#[test]
fn a_demo_that_is_told_to_stop_leaves_no_agent() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let door = Door::lite();
        let folder = door.path().canonicalize().expect("there");
        let mut demo = door.start(&["demo", "--keep", "."]);
        door.eventually("four agents are there", |_| (agents(&folder).len() == 4).then_some(()));
        demo.signal(signal);
        let output = demo.end();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(130), "{out}{err}");
        assert!(err.contains("interrupted"), "{err}");
        assert_eq!(agents(&folder), Vec::<String>::new());
    }
}

#[test]
fn a_demo_writes_over_nothing() {
    let door = Door::lite();
    door.write("quorate.toml", "# mine\n");
    let error = door.fails(3, &["demo", "--keep", "."]);
    assert!(word(&error["message"]).contains("has a quorate.toml already"), "{error}");
    assert!(word(&error["hint"]).contains("--keep DIR"), "{error}");
    let kept = std::fs::read_to_string(door.path().join("quorate.toml")).expect("there");
    assert_eq!(kept, "# mine\n");
    assert_eq!(std::fs::read_dir(door.path()).expect("readable").count(), 1, "nothing was made");
}
