//! The test of the test: take one guard away, and the storm must see it.
//!
//! Here live the mutations, as data, and their running: the tracked tree is copied, one guard is taken away, the
//! program is built there (all in one copy, so that what no guard touches is built once), and a storm, or the story of a goal, with it must go red by the check that stands for what the guard
//! promises.

use crate::arena::Backend;
use crate::verdict::Verdict;
use crate::{Outcome, Request, goal, storm};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// One guard taken away.
#[derive(Debug, Clone, Copy)]
pub struct Mutation {
    /// Its name, also in that of its program.
    pub name: &'static str,
    /// What is changed.
    pub edits: &'static [Edit],
    /// By what it is tried …
    pub play: Play,
    /// … and where.
    pub backend: Backend,
    /// The checks of which at least one must go red.
    pub reds: &'static [&'static str],
}

/// What must go red.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Play {
    /// A storm.
    Storm,
    /// The story of a goal.
    Goal,
}

/// A text that stands once in a file, and what it becomes.
#[derive(Debug, Clone, Copy)]
pub struct Edit {
    /// The file, from the root of the repository.
    pub file: &'static str,
    /// The text.
    pub find: &'static str,
    /// What it becomes.
    pub put: &'static str,
}

/// All mutations.
pub const MUTATIONS: [Mutation; 15] = [
    Mutation {
        name: "term-check-on-finish",
        edits: &[Edit {
            file: "crates/service/src/task/finish.rs",
            find: "where id = $1 and term = $2 and state = 'running' and verify is null returning ",
            put: "where id = $1 and term >= $2 and state = 'running' and verify is null returning ",
        }],
        play: Play::Storm,
        backend: Backend::Lite,
        reds: &["the_result_is_that_of_the_accepted_attempt"],
    },
    Mutation {
        name: "term-check-on-plain-finish",
        edits: &[Edit {
            file: "crates/service/src/task/finish.rs",
            find: "where id = $1 and term = $2 and coalesce(state, '') = 'running'",
            put: "where id = $1 and term >= $2 and coalesce(state, '') = 'running'",
        }],
        play: Play::Storm,
        backend: Backend::Pg,
        reds: &["the_result_is_that_of_the_accepted_attempt"],
    },
    Mutation {
        name: "term-check-on-merged-finish",
        edits: &[Edit {
            file: "crates/service/src/task/finish.rs",
            find: "where id = any($1::bigint[]) and term = ($2::bigint[])[array_position($1::bigint[], id)]",
            put: "where id = any($1::bigint[]) and term >= ($2::bigint[])[array_position($1::bigint[], id)]",
        }],
        play: Play::Storm,
        backend: Backend::Pg,
        reds: &["the_result_is_that_of_the_accepted_attempt", "a_task_is_completed_once"],
    },
    Mutation {
        name: "term-check-on-fail",
        edits: &[Edit {
            file: "crates/service/src/task/finish.rs",
            find: "if task.state != TaskState::Running || task.term != self.term {",
            put: "if task.state != TaskState::Running {",
        }],
        play: Play::Storm,
        backend: Backend::Lite,
        reds: &["only_a_hurt_attempt_fails"],
    },
    Mutation {
        name: "skip-locked",
        edits: &[Edit {
            file: "crates/service/src/task/take.rs",
            find: "order by priority, id limit 1 for update skip locked) t limit 1\"",
            put: "order by priority, id limit 1 for update) t limit 1\"",
        }],
        play: Play::Storm,
        backend: Backend::Pg,
        reds: &["takers_pass_over_a_locked_task"],
    },
    Mutation {
        name: "skip-locked-when-merged",
        edits: &[
            Edit {
                file: "crates/service/src/task/take/at_once.rs",
                find: "order by priority, id limit (select count(*) from n) for update skip locked) t",
                put: "order by priority, id limit (select count(*) from n) for update) t",
            },
            Edit {
                file: "crates/service/src/task/take/together.rs",
                find: "order by priority, id limit $1 for update skip locked\"",
                put: "order by priority, id limit $1 for update\"",
            },
        ],
        play: Play::Storm,
        backend: Backend::Pg,
        reds: &["takers_pass_over_a_locked_task"],
    },
    Mutation {
        name: "renewal",
        edits: &[Edit {
            file: "crates/runtime/src/renewer.rs",
            find: "if renew(shared, store, options).await {",
            put: "if { let _ = renew; true } {",
        }],
        play: Play::Storm,
        backend: Backend::Pg,
        reds: &["nothing_healthy_lost_its_lease"],
    },
    Mutation {
        name: "reaper",
        edits: &[Edit {
            file: "crates/service/src/health.rs",
            find: "done.lapsed = lapse(tx).await?;",
            put: "done.lapsed = 0;",
        }],
        play: Play::Storm,
        backend: Backend::Lite,
        reds: &["every_task_has_ended"],
    },
    Mutation {
        name: "claims",
        edits: &[Edit {
            file: "crates/service/src/claim.rs",
            find: "self.held_by_another(wish, &wanted).or_else(|| self.behind_another(wish, &wanted))",
            put: "self.behind_another(wish, &wanted)",
        }],
        play: Play::Storm,
        backend: Backend::Lite,
        reds: &["claims_do_not_overlap"],
    },
    Mutation {
        name: "orphans",
        edits: &[Edit {
            file: "crates/runtime/src/node.rs",
            find: "orphans::end_orphans(&store, &options.agents_url.full(), grace).await?;",
            put: "let _ = grace;",
        }],
        play: Play::Storm,
        backend: Backend::Lite,
        reds: &["no_orphan_is_left"],
    },
    Mutation {
        name: "log-cursor",
        edits: &[Edit {
            file: "crates/service/src/event.rs",
            find: "events where seq < log_head() order by seq desc",
            put: "events order by seq desc",
        }],
        play: Play::Storm,
        backend: Backend::Pg,
        reds: &["the_follower_saw_the_log"],
    },
    Mutation {
        name: "term-check-on-plan",
        edits: &[Edit {
            file: "crates/service/src/task/finish.rs",
            find: "if task.state == TaskState::Running && task.term == self.term {",
            put: "if task.state == TaskState::Running {",
        }],
        play: Play::Goal,
        backend: Backend::Lite,
        reds: &["the_result_is_that_of_the_accepted_attempt", "a_plan_is_adopted_once"],
    },
    Mutation {
        name: "replans",
        edits: &[Edit {
            file: "crates/service/src/goal.rs",
            find: "if failed == 0 || plans.len() as i64 > REPLANS_MAX {",
            put: "if failed == 0 || plans.len() as i64 > REPLANS_MAX + 1 {",
        }],
        play: Play::Goal,
        backend: Backend::Lite,
        reds: &["replans_are_bounded"],
    },
    Mutation {
        name: "replaced",
        edits: &[Edit {
            file: "crates/service/src/run.rs",
            find: "let replaced = goal::replaced_below(tx, run.id).await?;",
            put: "let replaced = TaskId(0);",
        }],
        play: Play::Goal,
        backend: Backend::Lite,
        reds: &["what_was_replaced_rests"],
    },
    Mutation {
        name: "usage-once",
        edits: &[Edit {
            file: "crates/service/src/usage.rs",
            find: "let (before, now) = (Spent::of(replaced), Spent::of(used));",
            put: "let (before, now) = (Spent::of(replaced.take(0)), Spent::of(used));",
        }],
        play: Play::Goal,
        backend: Backend::Lite,
        reds: &["what_was_used_is_counted_once"],
    },
];

/// Seeds that a mutation may take to be seen: what it breaks happens often, not always.
const SEEDS_MAX: u64 = 3;

/// Builds and tries the mutations that were asked for; answers whether all were seen.
pub fn run(root: &Path, request: &Request) -> Outcome<bool> {
    let mut unseen = Vec::new();
    for mutation in MUTATIONS.iter().filter(|mutation| mutation.name.contains(&request.name)) {
        println!("mutant {}: building", mutation.name);
        let program = build(root, mutation)?;
        match see(mutation, &program, request)? {
            Some(seed) => println!(
                "mutant {}: seen, {} went red by seed {seed}",
                mutation.name,
                mutation.reds.join(" or ")
            ),
            None => {
                println!("mutant {}: NOT SEEN within {SEEDS_MAX} seeds", mutation.name);
                unseen.push(mutation.name);
            }
        }
    }
    if !unseen.is_empty() {
        println!("not seen: {}", unseen.join(", "));
    }
    Ok(unseen.is_empty())
}

/// Plays until it goes red as it should; answers with the seed.
fn see(mutation: &Mutation, program: &Path, request: &Request) -> Outcome<Option<u64>> {
    let first = request.seed.unwrap_or(1);
    for seed in first..first + SEEDS_MAX {
        let verdict = play(mutation, program, request, seed)?;
        print!("{verdict}");
        verdict.forget();
        if mutation.reds.iter().any(|red| verdict.went_red_by(red)) {
            return Ok(Some(seed));
        }
    }
    Ok(None)
}

fn play(mutation: &Mutation, program: &Path, request: &Request, seed: u64) -> Outcome<Verdict> {
    let (backend, program) = (mutation.backend, program.to_owned());
    match mutation.play {
        Play::Storm => storm::run(&request.options(seed, backend, program)),
        Play::Goal => goal::story(&goal::Options { seed, backend, program }),
    }
}

/// Copies the tree with one guard taken away, and builds the program there.
fn build(root: &Path, mutation: &Mutation) -> Outcome<PathBuf> {
    let base = root.join("target/fire");
    let tree = base.join("tree");
    mirror(root, &tracked(root)?, &tree)?;
    for edit in mutation.edits {
        let path = tree.join(edit.file);
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        fs::write(&path, apply(&text, edit)?).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let target = base.join("target");
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--quiet", "--package", "quorate"])
        .current_dir(&tree)
        .env("CARGO_TARGET_DIR", &target);
    match cargo.status() {
        Ok(status) if status.success() => {}
        other => return Err(format!("the mutant {} could not be built: {other:?}", mutation.name)),
    }
    // The next mutant is built into the same folder.
    let program = base.join(format!("quorate-{}", mutation.name));
    fs::copy(target.join("debug/quorate"), &program).map_err(|e| format!("{}: {e}", program.display()))?;
    Ok(program)
}

fn apply(text: &str, edit: &Edit) -> Outcome<String> {
    match text.matches(edit.find).count() {
        1 => Ok(text.replacen(edit.find, edit.put, 1)),
        count => Err(format!("`{}` stands {count} times in {}, not once", edit.find, edit.file)),
    }
}

/// The files that git tracks and that are there: one that was deleted may still be tracked.
fn tracked(root: &Path) -> Outcome<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "-z"]).current_dir(root);
    let output = git.output().map_err(|e| format!("cannot run git: {e}"))?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    Ok(names.filter(|name| root.join(name).is_file()).collect())
}

/// Makes a folder hold these files as they stand in the working tree, and no others. What is so already is not touched:
/// cargo builds anew what was written.
fn mirror(root: &Path, names: &BTreeSet<PathBuf>, to: &Path) -> Outcome {
    let held = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    fs::create_dir_all(to).map_err(|e| held(to, e))?;
    remove_others(to, Path::new(""), names).map_err(|e| held(to, e))?;
    for name in names {
        let (from, to) = (root.join(name), to.join(name));
        let wanted = fs::read(&from).map_err(|e| held(&from, e))?;
        if fs::read(&to).is_ok_and(|there| there == wanted) {
            continue;
        }
        let folder = to.parent().unwrap_or(&to);
        fs::create_dir_all(folder).map_err(|e| held(folder, e))?;
        fs::copy(&from, &to).map_err(|e| held(&to, e))?;
    }
    Ok(())
}

fn remove_others(tree: &Path, below: &Path, names: &BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(tree.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            remove_others(tree, &name, names)?;
        } else if !names.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::CHECKS;
    use crate::goal::CHECKS as OF_GOALS;

    #[test]
    fn every_text_to_be_mutated_stands_once_in_the_tree() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for mutation in &MUTATIONS {
            for edit in mutation.edits {
                let text = fs::read_to_string(root.join(edit.file)).expect("the file is there");
                let mutated = apply(&text, edit).expect("it stands there once");
                assert_ne!(mutated, text, "{}", mutation.name);
            }
        }
    }

    #[test]
    fn every_mutation_names_checks_that_exist() {
        for mutation in &MUTATIONS {
            let of_goals = OF_GOALS.iter().map(|(name, _)| *name).filter(|_| mutation.play == Play::Goal);
            let names: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).chain(of_goals).collect();
            for red in mutation.reds {
                assert!(names.contains(red), "{red}");
            }
        }
    }

    #[test]
    fn a_text_that_stands_twice_is_refused() {
        let edit = Edit { file: "f", find: "a", put: "b" };
        assert_eq!(apply("xa", &edit), Ok("xb".to_owned()));
        assert!(apply("aa", &edit).is_err() && apply("x", &edit).is_err());
    }

    #[test]
    fn a_copy_is_mended_and_what_is_right_in_it_is_not_touched() {
        let (root, copy) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder for the copy"));
        let names: BTreeSet<PathBuf> = ["a/kept", "a/changed"].map(PathBuf::from).into();
        fs::create_dir(root.path().join("a")).expect("is made");
        for name in &names {
            fs::write(root.path().join(name), "right").expect("is written");
        }
        mirror(root.path(), &names, copy.path()).expect("is copied");
        let written = |name: &str| fs::metadata(copy.path().join(name)).and_then(|it| it.modified());
        let before = written("a/kept").expect("is there");
        fs::write(copy.path().join("a/changed"), "a mutant").expect("is written");
        fs::write(copy.path().join("a/strange"), "").expect("is written");

        mirror(root.path(), &names, copy.path()).expect("is copied");

        assert_eq!(fs::read_to_string(copy.path().join("a/changed")).expect("is read"), "right");
        assert!(!copy.path().join("a/strange").exists());
        assert_eq!(written("a/kept").expect("is there"), before);
    }
}
