//! Names of what can be held: paths, globs, `file::symbol`, `kind:name`.
//!
//! Here live the reading of a name into its one stored form and the question whether two names mean something in
//! common. Who holds what is not known here. The grammar of globs is `glob`'s.
//!
//! The idea: a path name stands for a set of paths, namely all that it matches *and all that lies below those*.
//! Two path names overlap when their sets share a path; that is decided on the two patterns themselves, never by
//! looking at a disk, so the answer is the same on every node and for files that do not exist yet.
//!
//! `file::symbol` stands for a part of exactly the file: it meets every name that covers the file, the same symbol
//! and what is nested in it (`a.rs::Job` meets `a.rs::Job::run`), and no other symbol. `kind:name` is compared
//! by equality. A name that stands for the project folder itself (`.`) overlaps every path.

mod glob;

use crate::diagnostic::quote;
use crate::error::{Error, Result};
use glob::Pattern;
use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes; also once its braces are expanded.
pub const NAME_MAX: usize = 4096;

/// How many alternatives the braces of one name may expand to.
pub const ALTERNATIVES_MAX: usize = 256;

/// The kind that only the product itself may use.
pub const RESERVED_KIND: &str = "quorate";

/// A name of something that can be held, in its one stored form (its `Display`).
#[derive(Debug, Clone)]
pub struct Resource {
    text: String,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// `kind:name`.
    Named,
    /// A path or glob, one pattern per alternative of its braces; perhaps one symbol in it.
    Path { patterns: Vec<Pattern>, symbol: Option<String> },
}

impl Resource {
    /// Reads a name as a person or agent writes it.
    ///
    /// Paths are relative to the project folder; `base` is that folder's absolute path, and without it
    /// absolute paths are refused.
    ///
    /// # Errors
    ///
    /// `Invalid` for a name that is empty, too long, holds control characters, is no glob, leaves the project
    /// folder, or is of the reserved kind.
    ///
    /// ```
    /// use quorate_model::resource::Resource;
    /// let folder = Resource::parse("./src//**", None)?;
    /// assert_eq!(folder.to_string(), "src/**");
    /// assert!(folder.overlaps(&Resource::parse("src/a.rs::main", None)?));
    /// # Ok::<(), quorate_model::Error>(())
    /// ```
    pub fn parse(text: &str, base: Option<&str>) -> Result<Resource> {
        check_text(text)?;
        match split_kind(text) {
            Some((RESERVED_KIND, _)) => Err(Error::invalid(format!("{} is of a reserved kind", quote(text)))
                .hint(format!(
                    "names that begin with `{RESERVED_KIND}:` belong to the product; choose another kind"
                ))),
            Some((_, "")) => Err(Error::invalid(format!("{} has no name after its kind", quote(text)))
                .hint("write `kind:name`, as in `port:8080`")),
            Some(_) => Ok(Resource { text: text.to_string(), form: Form::Named }),
            None => Resource::path(text, base),
        }
    }

    /// Reads a stored form back, a reserved name included.
    ///
    /// # Errors
    ///
    /// `Invalid` as for [`Resource::parse`].
    pub fn from_stored(text: &str) -> Result<Resource> {
        match split_kind(text) {
            Some((RESERVED_KIND, name)) if !name.is_empty() => Ok(Resource::reserved(name)),
            _ => Resource::parse(text, None),
        }
    }

    /// Makes a name of the reserved kind, for what the product itself holds (`quorate:health`).
    pub fn reserved(name: &str) -> Resource {
        Resource { text: format!("{RESERVED_KIND}:{name}"), form: Form::Named }
    }

    /// Returns the stored form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether it is only a part of a file: a symbol in it.
    pub fn is_part(&self) -> bool {
        matches!(&self.form, Form::Path { symbol: Some(_), .. })
    }

    /// Returns the name of exactly this path, whatever characters it has: what means something in a glob is escaped.
    ///
    /// ```
    /// use quorate_model::resource::Resource;
    /// let page = Resource::parse(&Resource::literal("app/[id].tsx"), None)?;
    /// assert!(page.overlaps(&Resource::parse("app/*.tsx", None)?));
    /// assert!(!page.overlaps(&Resource::parse("app/i.tsx", None)?));
    /// # Ok::<(), quorate_model::Error>(())
    /// ```
    pub fn literal(path: &str) -> String {
        let mut text = String::with_capacity(path.len());
        for c in path.chars() {
            if matches!(c, '*' | '?' | '[' | '{' | '}' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text
    }

    /// Returns whether the two names mean something in common. Symmetric, and true of a name and itself.
    pub fn overlaps(&self, other: &Resource) -> bool {
        let (
            Form::Path { patterns: mine, symbol: my_symbol },
            Form::Path { patterns: others, symbol: other_symbol },
        ) = (&self.form, &other.form)
        else {
            return self.text == other.text;
        };
        if let (Some(mine), Some(other)) = (my_symbol, other_symbol)
            && !symbols_overlap(mine, other)
        {
            return false;
        }
        // A symbol is inside exactly its file, so its pattern covers nothing below.
        let (mine_below, others_below) = (my_symbol.is_none(), other_symbol.is_none());
        mine.iter().any(|m| others.iter().any(|o| m.meets(mine_below, o, others_below)))
    }

    fn path(text: &str, base: Option<&str>) -> Result<Resource> {
        let (path, symbol) = split_symbol(text);
        if let Some(symbol) = symbol {
            check_symbol(text, symbol)?;
        }
        let (canonical, patterns) = glob::read(path, base)?;
        if symbol.is_some() && canonical == "." {
            return Err(Error::invalid(format!("{} names a symbol of the project folder", quote(text)))
                .hint("write the file before `::`, as in `src/a.rs::main`"));
        }
        let suffix = symbol.map(|s| format!("::{s}")).unwrap_or_default();
        let text = format!("{canonical}{suffix}");
        // Braces can put two colons side by side; the stored form would then be read back as another name.
        if split_symbol(&text) != (canonical.as_str(), symbol) {
            return Err(Error::invalid(format!("{} has `::` inside its path", quote(&text))));
        }
        // For the same reason a path such as `./port:8080` keeps its `./`: without it, it would be a kind.
        let text = if split_kind(&text).is_some() { format!("./{text}") } else { text };
        check_text(&text)?;
        Ok(Resource { text, form: Form::Path { patterns, symbol: symbol.map(str::to_string) } })
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Resource) -> bool {
        self.text == other.text
    }
}

impl Eq for Resource {}

impl std::hash::Hash for Resource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// Whether others may hold an overlapping name at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// With others who also share it.
    Shared,
    /// Alone.
    Exclusive,
}

impl Mode {
    /// Returns the stable name, as stored and printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Shared => "shared",
            Mode::Exclusive => "exclusive",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Mode> {
        match text {
            "shared" => Ok(Mode::Shared),
            "exclusive" => Ok(Mode::Exclusive),
            other => Err(Error::invalid(format!(
                "the mode {} is unknown; expected `shared` or `exclusive`",
                quote(other)
            ))),
        }
    }
}

/// Returns whether two different holders cannot have these at the same time.
pub fn conflict(a: &Resource, a_mode: Mode, b: &Resource, b_mode: Mode) -> bool {
    let somebody_alone = a_mode == Mode::Exclusive || b_mode == Mode::Exclusive;
    somebody_alone && a.overlaps(b)
}

fn check_text(text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid("the resource name is empty").hint("write a path, a glob or `kind:name`"));
    }
    check_length(text)?;
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!(
            "the resource name {} holds the control character U+{:04X}",
            quote(text),
            u32::from(c)
        )));
    }
    if text.trim() != text {
        return Err(Error::invalid(format!(
            "the resource name {} begins or ends with white space",
            quote(text)
        )));
    }
    Ok(())
}

fn check_length(text: &str) -> Result<()> {
    if text.len() <= NAME_MAX {
        return Ok(());
    }
    Err(Error::invalid(format!("the resource name has {} bytes; at most {NAME_MAX} are allowed", text.len()))
        .hint("claim the folder that holds the files, or several shorter names"))
}

/// Parts `kind:name`; `None` if the text is a path. `src::main` is a path with a symbol.
fn split_kind(text: &str) -> Option<(&str, &str)> {
    let (kind, name) = text.split_once(':')?;
    let kind_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let is_kind = kind.starts_with(|c: char| c.is_ascii_lowercase()) && kind.chars().all(kind_char);
    (is_kind && !name.starts_with(':')).then_some((kind, name))
}

/// Parts `path::symbol` at the first `::`.
fn split_symbol(text: &str) -> (&str, Option<&str>) {
    match text.split_once("::") {
        Some((path, symbol)) => (path, Some(symbol)),
        None => (text, None),
    }
}

fn check_symbol(text: &str, symbol: &str) -> Result<()> {
    let fault = if symbol.split("::").any(str::is_empty) {
        "has an empty symbol"
    } else if text.starts_with("::") {
        "has no file before its symbol"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("{} {fault}", quote(text)))
        .hint("write `file::symbol`, as in `src/a.rs::main`"))
}

/// Returns whether the symbols are the same or one is nested in the other.
fn symbols_overlap(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
