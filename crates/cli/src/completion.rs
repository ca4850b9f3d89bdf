//! `quorate completion` and `quorate man`, both made from the command tree.

use crate::args::{self, Completion, Man};
use crate::print;
use clap_complete::Shell;
use quorate_model::{Error, Result};
use std::path::Path;

/// The program's name, as it is completed.
const NAME: &str = "quorate";

pub(crate) fn completion(args: &Completion) -> Result<u8> {
    let shell: Shell = args.shell.parse().map_err(|why: String| Error::invalid(why))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::tree(), NAME, &mut script);
    print::bytes(&script);
    Ok(0)
}

pub(crate) fn man(args: &Man) -> Result<u8> {
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(args::tree()).render(&mut page);
        rendered.map_err(|e| Error::failed(format!("cannot write the manual page: {e}")))?;
        print::bytes(&page);
        return Ok(0);
    };
    let written =
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(args::tree(), folder));
    written.map_err(|e| cannot_write(folder, &e))?;
    print::note(&format!("manual pages written to {}", folder.display()));
    Ok(0)
}

fn cannot_write(folder: &Path, e: &std::io::Error) -> Error {
    Error::failed(format!("cannot write manual pages to {}: {e}", folder.display()))
        .hint("name a folder that you may write to")
}
