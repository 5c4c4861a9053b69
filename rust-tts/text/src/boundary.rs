//! Whether marks end a sentence, from the word before them and the first characters after them.

use super::abbreviations::{self, MAX_TOKEN_CHARS, StopKind};
use super::characters::{is_dash, is_dot, is_hard_end, is_opener};

/// Marks that may end the sentence.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The place of the first mark.
    pub start: usize,
    /// The place after the last mark, closing quote or emoji.
    pub end: usize,
    pub marks: Marks,
    pub phase: Phase,
}

/// How far a candidate and what follows it have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Marks,
    /// The marks, and closing quotes or brackets or emoji after them.
    Closed,
    /// A space after them.
    Space {
        closed: bool,
    },
    /// A quote after the space: it closes this sentence (« Oui ! » dit-il) or opens the next one.
    Quote,
    /// The next word has started at this place.
    Word {
        start: usize,
        kind: StopKind,
    },
}

impl Candidate {
    pub fn new(at: usize, c: char) -> Self {
        let marks = match c {
            _ if is_dot(c) => Marks::FullStop,
            '…' => Marks::Ellipsis,
            _ if is_hard_end(c) => Marks::Hard,
            _ => Marks::Strong,
        };
        Self {
            start: at,
            end: at + 1,
            marks,
            phase: Phase::Marks,
        }
    }

    /// With one more mark after the ones before.
    pub fn with_mark(self, at: usize, c: char) -> Self {
        let marks = match (self.marks, Self::new(at, c).marks) {
            (Marks::Hard, _) | (_, Marks::Hard) => Marks::Hard,
            (Marks::Strong, _) | (_, Marks::Strong) => Marks::Strong,
            _ => Marks::Ellipsis,
        };
        Self {
            end: at + 1,
            marks,
            phase: Phase::Marks,
            ..self
        }
    }

    pub fn move_back(&mut self, by: usize) {
        self.start = self.start.saturating_sub(by);
        self.end = self.end.saturating_sub(by);
        if let Phase::Word { start, .. } = &mut self.phase {
            *start = start.saturating_sub(by);
        }
    }
}

/// The kind of the marks, which the strongest of them decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// One full stop.
    FullStop,
    /// "...", "…"
    Ellipsis,
    /// With a question or exclamation mark.
    Strong,
    /// With a mark that ends a sentence in any place.
    Hard,
}

/// How the next word starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextChar {
    Lower,
    Capital,
    Digit,
    Opener,
    Dash,
    Other,
}

impl NextChar {
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
pub enum Decision {
    End,
    Continue,
    /// The whole next word is needed: see [`ends_before_word`].
    NeedsWord(StopKind),
}

/// The marks in their context.
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
    pub lowercase_style: bool,
}

impl Context<'_> {
    /// Decides what the marks mean, given the first character of the next word.
    pub fn decide(&self, next: NextChar) -> Decision {
        if self.is_list_marker() {
            return Decision::Continue;
        }
        let ends = match self.marks {
            Marks::Hard => true,
            // "Hello!" she said. – «Да!» — сказал он.
            Marks::Strong => !(self.closed && next == NextChar::Lower || next == NextChar::Dash),
            Marks::Ellipsis => !matches!(next, NextChar::Lower | NextChar::Dash),
            Marks::FullStop => return self.dot(next),
        };
        if ends {
            Decision::End
        } else {
            Decision::Continue
        }
    }

    fn dot(&self, next: NextChar) -> Decision {
        let kind = self
            .token()
            .map_or(StopKind::Word, |token| abbreviations::classify(&token));
        let ends = match (kind, next) {
            (
                StopKind::BeforeStarter | StopKind::Ordinal | StopKind::BeforeNumber,
                NextChar::Capital,
            ) => {
                return Decision::NeedsWord(kind);
            }
            (StopKind::Never | StopKind::BeforeStarter, _)
            | (StopKind::BeforeNumber | StopKind::Date | StopKind::Closing, NextChar::Digit)
            | (StopKind::Date | StopKind::Closing | StopKind::Ordinal, NextChar::Lower) => false,
            // In text that starts its sentences with capitals, a small letter shows an abbreviation
            // that no list knows.
            (StopKind::Word | StopKind::BeforeNumber, NextChar::Lower) => {
                self.lowercase_style && !self.closed
            }
            _ => !(self.closed && next == NextChar::Dash),
        };
        if ends {
            Decision::End
        } else {
            Decision::Continue
        }
    }

    /// Whether the sentence so far is only the number of a list's item ("1.", "2.3.", "a.", "IV."),
    /// or an item's number follows a colon ("Buy: 1. Flour").
    pub fn is_list_marker(&self) -> bool {
        if self.marks != Marks::FullStop {
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
        let reach = self.before.len().saturating_sub(MAX_TOKEN_CHARS + 1);
        self.before[reach..]
            .iter()
            .rposition(is_break)
            .map_or(reach, |at| reach + at + 1)
    }

    /// The word before the marks; `None` when it is longer than any abbreviation.
    fn token(&self) -> Option<String> {
        let token = &self.before[self.token_start()..];
        (token.len() <= MAX_TOKEN_CHARS).then(|| {
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

/// Whether a full stop after a word of this `kind` ends the sentence, given the next word; `complete`: a space or the text's
/// end follows that word.
pub fn ends_before_word(kind: StopKind, word: &str, complete: bool) -> bool {
    match kind {
        StopKind::BeforeStarter => abbreviations::is_starter(word, complete),
        StopKind::BeforeNumber => !abbreviations::is_numbering(word),
        StopKind::Ordinal => !abbreviations::is_ordinal_noun(word),
        StopKind::Word | StopKind::Never | StopKind::Date | StopKind::Closing => true,
    }
}
