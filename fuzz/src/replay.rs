//! The inputs of a target in the repository, for the ordinary tests: the seeds, and what once failed.

use std::fs;
use std::path::Path;

/// Gives each input to `check`; which of them is wrong stands above the panic.
#[allow(clippy::print_stderr, reason = "a panic alone does not name the input")]
pub fn replay(target: &str, check: fn(&[u8])) {
    let mut count = 0;
    for kind in ["corpus-seed", "fixtures"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(kind).join(target);
        // Nothing of this target may have failed yet.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry of the folder").path();
            eprintln!("{}", path.display());
            check(&fs::read(&path).expect("an input"));
            count += 1;
        }
    }
    assert!(count > 0, "no input of {target} was found");
}
