//! What a client carries from one round to the next comes back as it was, or is refused.

use ring::hmac::{HMAC_SHA256, Key, sign};
use ring::rand::SystemRandom;
use std::fmt::Write;

/// A key that nobody else has; it ends with the process.
pub struct Seal(Key);

impl Seal {
    pub fn fresh() -> Seal {
        Seal(Key::generate(HMAC_SHA256, &SystemRandom::new()).expect("the system has random numbers"))
    }

    /// Writes a text and its seal.
    pub fn close(&self, text: &str) -> String {
        let mut sealed = format!("{text}.");
        for byte in sign(&self.0, text.as_bytes()).as_ref() {
            write!(sealed, "{byte:02x}").expect("a text takes what is written");
        }
        sealed
    }

    /// Returns the text, if it is one that was sealed here.
    pub fn open<'a>(&self, sealed: &'a str) -> Option<&'a str> {
        let (text, _) = sealed.rsplit_once('.')?;
        (self.close(text) == sealed).then_some(text)
    }
}
