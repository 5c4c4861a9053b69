//! Cuts text into utterances: one sentence each, at most so many characters, so that speech starts
//! with the first sentence while the rest of the text is still being written.
//!
//! Text goes through two stages, one character at a time: [`clean`](clean()) (what cannot be spoken
//! goes, blanks are folded) and the [`Cutter`] (where a sentence ends). Neither stage looks at
//! where one piece of input stops and the next starts, which is why a text that arrives in pieces
//! is cut exactly as the same text given whole.

mod abbreviations;
mod candidate;
mod characters;
mod clean;
mod cutter;
mod decide;
#[cfg(test)]
mod examples;
mod length;
mod sentence;
#[cfg(test)]
mod tests;

pub use clean::clean;
pub use cutter::{Cutter, cut};

/// What is spoken in one go.
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
