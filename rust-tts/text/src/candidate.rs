//! Marks that may end a sentence, and how far what follows them has been read.

use super::abbreviations::Kind;
use super::characters::{is_dot, is_hard_end};
use super::decide::Marks;

/// Marks that may turn out to end the sentence.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// The place of the first mark.
    pub start: usize,
    /// The place after the last mark, closing quote or emoji.
    pub end: usize,
    pub marks: Marks,
    pub phase: Phase,
}

/// What has been read of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Marks,
    /// The marks, and closing quotes or brackets or emoji after them.
    Closed,
    /// A blank after them.
    Blank {
        closed: bool,
    },
    /// A quote after the blank: it closes this sentence (« Oui ! » dit-il) or opens the next one.
    Quote,
    /// The next word has started at this place.
    Word {
        start: usize,
        kind: Kind,
    },
}

impl Candidate {
    pub fn new(at: usize, c: char) -> Self {
        let marks = match c {
            _ if is_dot(c) => Marks::Dot,
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
