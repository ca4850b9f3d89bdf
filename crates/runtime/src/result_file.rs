//! The result as a check is given it: a file of its own, and a variable as well where it is short.
//!
//! Here live the file beside the check's log and the two variables. Linux refuses a variable of 128 KiB, so a longer
//! result can only be read from the file. The file is as private as the log, and gone when the check has ended; one that
//! a crash leaves behind goes with old logs.

use crate::attempt::beside;
use quorate_model::{Error, Result};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest result that a check gets as a variable, in bytes.
const VARIABLE_MAX: usize = 96 * 1024;

/// A result in its file, for as long as this lives.
#[derive(Debug)]
pub(crate) struct ResultFile(PathBuf);

impl ResultFile {
    /// Writes the result into the file.
    pub(crate) async fn write(path: PathBuf, result: String) -> Result<ResultFile> {
        let file = ResultFile(path.clone());
        beside(move || {
            write(&path, &result).map_err(|e| {
                Error::failed(format!("the result cannot be written to {}: {e}", path.display()))
            })
        })
        .await?;
        Ok(file)
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn write(path: &Path, result: &str) -> io::Result<()> {
    quorate_store::private_folder(path.parent().unwrap_or(Path::new(".")))?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(result.as_bytes())
}

/// Returns the variables by which a check finds the result.
pub(crate) fn variables(result: &str, file: Option<&ResultFile>) -> Vec<(String, String)> {
    let file = file.map(|file| ("QUORATE_RESULT_FILE".to_owned(), file.0.display().to_string()));
    let short = fits(result).then(|| ("QUORATE_RESULT".to_owned(), result.to_owned()));
    short.into_iter().chain(file).collect()
}

/// Returns whether a check can be given the result without a file.
pub(crate) fn fits(result: &str) -> bool {
    result.len() <= VARIABLE_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_short_result_is_a_variable() {
        let names = |length: usize| -> Vec<String> {
            variables(&"x".repeat(length), None).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(0), ["QUORATE_RESULT"]);
        assert_eq!(names(VARIABLE_MAX), ["QUORATE_RESULT"]);
        assert!(names(VARIABLE_MAX + 1).is_empty());
    }

    #[tokio::test]
    async fn the_file_is_private_whole_and_gone_in_the_end() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("logs/1-1.3.result.json");
        let file = ResultFile::write(path.clone(), "[1]".into()).await.expect("written");
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "[1]");
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder.path().join("logs"))), (0o600, 0o700));
        let told = variables("[1]", Some(&file)).pop();
        assert_eq!(told, Some(("QUORATE_RESULT_FILE".into(), path.display().to_string())));
        drop(file);
        assert!(!path.exists());
    }
}
