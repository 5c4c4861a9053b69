//! Whether the marks after a word end a sentence, from the word before and the first characters
//! after.

use super::abbreviations::{self, Kind, LONGEST_TOKEN};
use super::characters::{is_dash, is_opener};

/// What the marks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// One full stop.
    Dot,
    /// "...", "…"
    Ellipsis,
    /// With a question or exclamation mark.
    Strong,
    /// With a mark that ends a sentence in any place.
    Hard,
}

/// How the next word starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Lower,
    Capital,
    Digit,
    Opener,
    Dash,
    Other,
}

impl Next {
    pub fn of(c: char) -> Self {
        match c {
            _ if c.is_lowercase() => Self::Lower,
            _ if c.is_uppercase() => Self::Capital,
            _ if c.is_numeric() => Self::Digit,
            _ if is_opener(c) => Self::Opener,
            '-' => Self::Dash,
            _ if is_dash(c) => Self::Dash,
            _ => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    End,
    GoesOn,
    /// The next word decides: [`with_word`].
    NeedsWord(Kind),
}

/// The marks in their place.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The sentence up to the marks.
    pub before: &'a [char],
    pub marks: Marks,
    /// Whether quotes or brackets closed after the marks.
    pub closed: bool,
    /// Whether `before` is the rest of a sentence that was cut for its length.
    pub continued: bool,
    /// Whether the sentence's first letter is small: its writer does not mark starts with capitals.
    pub lower_style: bool,
}

impl Context<'_> {
    /// Reads the marks, given what follows the blank after them.
    pub fn verdict(&self, next: Next) -> Verdict {
        if self.is_list_marker() {
            return Verdict::GoesOn;
        }
        let ends = match self.marks {
            Marks::Hard => true,
            // "Hello!" she said. – «Да!» — сказал он.
            Marks::Strong => !(self.closed && next == Next::Lower || next == Next::Dash),
            Marks::Ellipsis => !matches!(next, Next::Lower | Next::Dash),
            Marks::Dot => return self.dot(next),
        };
        if ends { Verdict::End } else { Verdict::GoesOn }
    }

    fn dot(&self, next: Next) -> Verdict {
        let kind = self
            .token()
            .map_or(Kind::Word, |token| abbreviations::kind(&token));
        let ends = match (kind, next) {
            (Kind::BeforeStarter | Kind::Ordinal | Kind::BeforeNumber, Next::Capital) => {
                return Verdict::NeedsWord(kind);
            }
            (Kind::Never | Kind::BeforeStarter, _)
            | (Kind::BeforeNumber | Kind::Date | Kind::Closing, Next::Digit)
            | (Kind::Date | Kind::Closing | Kind::Ordinal, Next::Lower) => false,
            // In text that starts its sentences with capitals, a small letter shows an abbreviation
            // that no list knows.
            (Kind::Word | Kind::BeforeNumber, Next::Lower) => self.lower_style && !self.closed,
            _ => !(self.closed && next == Next::Dash),
        };
        if ends { Verdict::End } else { Verdict::GoesOn }
    }

    /// Whether the sentence so far is only the number of a list's item ("1.", "2.3.", "a.", "IV."),
    /// or an item's number follows a colon ("Buy: 1. Flour").
    pub fn is_list_marker(&self) -> bool {
        if self.marks != Marks::Dot {
            return false;
        }
        let start = self.token_start();
        let token = &self.before[start.min(self.before.len())..];
        let first = start == 0 && !self.continued;
        match token {
            [] => false,
            ['1'] => first || matches!(self.before[..start], [.., ':', ' ']),
            [c] if c.is_alphabetic() => first && c.is_ascii(),
            _ if token.iter().all(|c| matches!(c, 'I' | 'V' | 'X')) => first,
            _ => first && token.len() <= 8 && token.split(|&c| c == '.').all(is_item_number),
        }
    }

    fn token_start(&self) -> usize {
        let is_break = |&c: &char| {
            matches!(
                c,
                ' ' | '(' | '[' | '{' | '/' | '"' | '“' | '„' | '«' | '»' | '*' | '_' | '—' | '–'
            )
        };
        let reach = self.before.len().saturating_sub(LONGEST_TOKEN + 1);
        self.before[reach..]
            .iter()
            .rposition(is_break)
            .map_or(reach, |at| reach + at + 1)
    }

    /// The word before the marks; `None` when it is longer than any abbreviation.
    fn token(&self) -> Option<String> {
        let token = &self.before[self.token_start()..];
        (token.len() <= LONGEST_TOKEN).then(|| {
            token
                .iter()
                .collect::<String>()
                .trim_start_matches(['\'', '‘', '’'])
                .to_owned()
        })
    }
}

fn is_item_number(digits: &[char]) -> bool {
    (1..=3).contains(&digits.len()) && digits.iter().all(char::is_ascii_digit)
}

/// Whether a full stop after a word of this `kind` ends the sentence, given the next word; `alone`
/// tells that a blank or the text's end follows that word.
pub fn with_word(kind: Kind, word: &str, alone: bool) -> bool {
    match kind {
        Kind::BeforeStarter => abbreviations::is_starter(word, alone),
        Kind::BeforeNumber => !abbreviations::is_numbering(word),
        Kind::Ordinal => !abbreviations::is_ordinal_noun(word),
        Kind::Word | Kind::Never | Kind::Date | Kind::Closing => true,
    }
}
