//! The public face: characters in, utterances out.

use super::Utterance;
use super::clean::Cleaner;
use super::sentence::Sentences;

/// Cuts a text that arrives in pieces.
///
/// An utterance is handed out as soon as no later text can change it: when a line ends, or with the
/// first characters of the next word (the whole next word after an abbreviation that may end a
/// sentence). Between calls the cutter holds at most `max_chars` characters and a quarter more; the
/// work is linear in the length of the text.
#[derive(Debug)]
pub struct Cutter {
    cleaner: Cleaner,
    sentences: Sentences,
}

impl Cutter {
    /// `max_chars`: the most characters (Unicode scalar values) of one utterance, at least 1;
    /// sentences that are longer are cut at clauses or words. Zero counts as 1.
    pub fn new(max_chars: usize) -> Self {
        Self {
            cleaner: Cleaner::default(),
            sentences: Sentences::new(max_chars.max(1)),
        }
    }

    /// Takes the next piece of the text, of any length, and returns the utterances that it
    /// completes.
    pub fn push(&mut self, piece: &str) -> Vec<Utterance> {
        let mut done = Vec::new();
        for c in piece.chars() {
            self.cleaner
                .push(c, |kept| self.sentences.push(kept, &mut done));
        }
        done
    }

    /// The text is over: returns what is left of it. The cutter is then ready for another text.
    pub fn finish(&mut self) -> Vec<Utterance> {
        let mut done = Vec::new();
        self.cleaner = Cleaner::default();
        self.sentences.finish(&mut done);
        done
    }
}

/// Cuts a whole text; see [`Cutter`] for `max_chars`.
pub fn cut(text: &str, max_chars: usize) -> Vec<Utterance> {
    let mut cutter = Cutter::new(max_chars);
    let mut utterances = cutter.push(text);
    utterances.append(&mut cutter.finish());
    utterances
}
