//! Cuts text into utterances: one sentence each, at most so many characters, so that speech starts
//! with the first sentence while the rest of the text is still being written.
//!
//! Text goes through two stages, one character at a time: [`clean`](clean()) (what cannot be spoken
//! goes, spaces are folded) and the [`Cutter`] (where a sentence ends). Neither stage looks at
//! where one piece of input stops and the next starts, which is why a text that arrives in pieces
//! is cut exactly as the same text given whole.

mod abbreviations;
mod boundary;
mod characters;
mod clean;
mod length;
mod sentences;
#[cfg(test)]
mod tests;

pub use clean::clean;

use clean::Cleaner;
use sentences::SentenceSplitter;

/// A part of the text that is spoken in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    /// The words: cleaned, trimmed, never empty, on one line. It may hold nothing that can be
    /// spoken, when the text ends in signs alone ("Done. ***").
    pub text: String,
    /// The boundary that follows the words.
    pub pause: Pause,
}

/// The kind of boundary after an utterance, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// The sentence goes on: it was longer than one utterance may be.
    Clause,
    /// The sentence is over, or the text is.
    Sentence,
    /// The line is over.
    Paragraph,
}

/// Cuts a text that arrives in pieces.
///
/// An utterance is returned as soon as no later text can change it: when a line ends, or with the
/// first characters of the next word (the whole next word after an abbreviation that may end a
/// sentence). Between calls the cutter holds at most `max_chars` characters and a quarter more; the
/// work is linear in the length of the text.
#[derive(Debug)]
pub struct Cutter {
    cleaner: Cleaner,
    splitter: SentenceSplitter,
}

impl Cutter {
    /// `max_chars`: the most characters (Unicode scalar values) of one utterance, at least 1;
    /// sentences that are longer are cut at clauses or words. Zero counts as 1.
    pub fn new(max_chars: usize) -> Self {
        Self {
            cleaner: Cleaner::default(),
            splitter: SentenceSplitter::new(max_chars.max(1)),
        }
    }

    /// Takes the next piece of the text, of any length, and returns the utterances that it
    /// completes.
    pub fn push(&mut self, piece: &str) -> Vec<Utterance> {
        let mut utterances = Vec::new();
        for c in piece.chars() {
            self.cleaner
                .push(c, |kept| self.splitter.push(kept, &mut utterances));
        }
        utterances
    }

    /// The text is over: returns what is left of it. The cutter is then ready for another text.
    pub fn finish(&mut self) -> Vec<Utterance> {
        let mut utterances = Vec::new();
        self.cleaner = Cleaner::default();
        self.splitter.finish(&mut utterances);
        utterances
    }
}

/// Cuts a whole text; see [`Cutter`] for `max_chars`.
pub fn cut(text: &str, max_chars: usize) -> Vec<Utterance> {
    let mut cutter = Cutter::new(max_chars);
    let mut utterances = cutter.push(text);
    utterances.append(&mut cutter.finish());
    utterances
}
