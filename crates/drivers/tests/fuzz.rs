//! What must hold for any stream of an agent's program (`fuzz/src/stream.rs`), asked of the seeds and of every input that
//! once failed.

use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[path = "../../../fuzz/src/stream.rs"]
mod stream;

#[test]
fn streams_are_read_whatever_is_in_them() {
    let mut count = 0;
    for kind in ["corpus-seed", "fixtures"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(kind).join("stream");
        // Nothing may have failed yet.
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("an entry of the folder").path();
            eprintln!("{}", path.display());
            let bytes = fs::read(&path).expect("an input");
            stream::check(&bytes);
            // However early it breaks off.
            (0..bytes.len()).step_by(37).for_each(|end| stream::check(&bytes[..end]));
            count += 1;
        }
    }
    assert!(count > 0, "no input was found");
}

proptest! {
    #[test]
    fn any_bytes_are_a_stream(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        stream::check(&bytes);
    }
}
