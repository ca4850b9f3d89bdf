//! What must hold for any stream of an agent's program (`fuzz/src/stream.rs`), asked of the seeds and of every input that
//! once failed.

use proptest::prelude::*;
use replay::replay;

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/stream.rs"]
mod stream;

#[test]
fn streams_are_read_whatever_is_in_them() {
    replay("stream", |bytes| {
        stream::check(bytes);
        // However early it breaks off.
        (0..bytes.len()).step_by(37).for_each(|end| stream::check(&bytes[..end]));
    });
}

proptest! {
    #[test]
    fn any_bytes_are_a_stream(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        stream::check(&bytes);
    }
}
