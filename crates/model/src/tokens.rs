//! How many tokens a model makes of a text, at most.
//!
//! Here lives an estimate that needs no vocabulary and is not below what the common tokenizers count: what is said to fit
//! into so many tokens does. No tokenizer of any one model is part of the product.

/// Letters of a long word that make one token at least.
const LETTERS: usize = 3;
/// With so many consonants in a row it is no word that a vocabulary has.
const CONSONANTS: usize = 4;

/// What is added, since words differ: this part of all.
const SPARE: usize = 8;

/// What a character is for the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Small,
    Capital,
    Digit,
    Space,
    /// What JSON is written with: two of these in a row are one token.
    Json,
    Other,
}

fn class(c: char) -> Class {
    match c {
        'a'..='z' => Class::Small,
        'A'..='Z' => Class::Capital,
        '0'..='9' => Class::Digit,
        ' ' => Class::Space,
        '"' | '{' | '}' | '[' | ']' | ':' | ',' => Class::Json,
        _ => Class::Other,
    }
}

/// Characters of one class in a row; a capital may begin a word of small letters.
#[derive(Debug, Clone, Copy)]
struct Run {
    class: Class,
    length: usize,
    consonants: usize,
    consonants_most: usize,
}

impl Run {
    fn new(class: Class) -> Run {
        Run { class, length: 0, consonants: 0, consonants_most: 0 }
    }

    fn goes_on_with(&self, class: Class) -> bool {
        class != Class::Other
            && (class == self.class
                || (self.class == Class::Capital && class == Class::Small && self.length == 1))
    }

    fn add(&mut self, c: char) {
        self.class = class(c);
        self.length += 1;
        self.consonants = if "aeiouyAEIOUY".contains(c) { 0 } else { self.consonants + 1 };
        self.consonants_most = self.consonants_most.max(self.consonants);
    }

    fn tokens(&self) -> usize {
        match self.class {
            _ if self.length == 0 => 0,
            Class::Small if self.consonants_most >= CONSONANTS => (2 * self.length).div_ceil(3),
            Class::Small => 1 + self.length.saturating_sub(4).div_ceil(LETTERS),
            Class::Capital | Class::Digit | Class::Json => self.length.div_ceil(2),
            Class::Space => self.length - 1,
            Class::Other => self.length,
        }
    }
}

/// Returns how many tokens a text has at most, as the common tokenizers count.
///
/// A word of small letters has one token and one more for every three letters beyond its first four; one that cannot be
/// pronounced has two for every three. A run of digits, of capitals or of what JSON is written with has one for every two
/// characters, a space none but before a number; anything else has one for each of its bytes. To all an eighth is added,
/// and one.
///
/// ```
/// use quorate_model::tokens::estimate;
/// assert_eq!(estimate(""), 0);
/// assert_eq!(estimate("lint the code"), 4);
/// ```
pub fn estimate(text: &str) -> usize {
    let (mut tokens, mut run) = (0, Run::new(Class::Space));
    for c in text.chars() {
        let class = class(c);
        if !run.goes_on_with(class) {
            // A space belongs to the word behind it, but not to a number.
            tokens += run.tokens()
                + usize::from(run.class == Class::Space && class == Class::Digit && run.length > 0);
            run = Run::new(class);
        }
        if class == Class::Other { tokens += c.len_utf8() } else { run.add(c) }
    }
    match tokens + run.tokens() {
        0 if text.is_empty() => 0,
        tokens => tokens + tokens / SPARE + 1,
    }
}

/// Returns the beginning of a text that has so many tokens at most.
pub fn cut(text: &str, max: usize) -> String {
    if estimate(text) <= max {
        return text.to_owned();
    }
    let ends: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
    let shortened = |end: usize| format!("{}…", text[..end].trim_end());
    let fits = ends.partition_point(|end| estimate(&shortened(*end)) <= max);
    fits.checked_sub(1).map_or_else(String::new, |place| shortened(ends[place]))
}
