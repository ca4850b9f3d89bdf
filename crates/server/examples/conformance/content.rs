//! What tools, prompts and resources show: an image, a sound, and values made of JSON.
//!
//! JSON, because that is what the suite describes, and because some of it has no name in the library that is not on its way
//! out: sampling, roots and logging are still judged.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A PNG of one red pixel.
pub const IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC";
/// A WAV of no sample at all.
pub const SOUND: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=";

/// Reads a value of the library.
///
/// # Panics
/// When it is none: the fixture is wrong.
pub fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("the fixture says what the specification does")
}
