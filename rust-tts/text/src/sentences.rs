//! Splits cleaned text into sentences, one character at a time.

use super::abbreviations::{MAX_WORD_CHARS, StopKind};
use super::boundary::{Candidate, Context, Decision, Marks, NextChar, Phase, ends_before_word};
use super::characters::{
    continues_cluster, is_cjk, is_clause_mark, is_closer, is_emoji, is_end, is_hard_clause_mark,
};
use super::length::cut_point;
use super::{Pause, Utterance};

/// More characters than a decision ever needs: a space, an opening quote, the next word and what follows it.
const LOOK_AHEAD: usize = MAX_WORD_CHARS + 5;

/// A line of at least so many characters was wrapped by an editor: its end is a space.
const WRAPPED_LINE: usize = 50;

/// The splitter's state: the sentence that is being read.
#[derive(Debug)]
pub struct SentenceSplitter {
    max: usize,
    /// Its characters, and those of the next one that were needed to find its end.
    chars: Vec<char>,
    candidate: Option<Candidate>,
    /// The index of the first letter or digit: signs alone are no sentence.
    first_word: Option<usize>,
    /// The index of the first letter that has cases, and whether it is lower case.
    first_cased: Option<(usize, bool)>,
    /// Whether a part of the sentence has been emitted, because it was too long.
    continued: bool,
    /// Characters since the last line end.
    line: usize,
    /// Characters looked at, to test that the work is linear.
    #[cfg(test)]
    pub work: usize,
}

/// The state of a candidate after one more character.
enum Progress {
    Wait(Candidate),
    /// It ends the sentence.
    End,
    /// It does not.
    Drop,
}

impl SentenceSplitter {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            chars: Vec::new(),
            candidate: None,
            first_word: None,
            first_cased: None,
            continued: false,
            line: 0,
            #[cfg(test)]
            work: 0,
        }
    }

    /// Characters that are held back.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.chars.len()
    }

    /// Takes the next character of cleaned text. A line feed ends a paragraph, unless the line is so
    /// long that it was wrapped; two always do.
    pub fn push(&mut self, c: char, utterances: &mut Vec<Utterance>) {
        if c != '\n' {
            self.line += 1;
            self.read(c, utterances);
            return;
        }
        let wrapped = self.line >= WRAPPED_LINE;
        self.line = 0;
        if wrapped {
            self.read(' ', utterances);
        } else {
            self.end_line(utterances);
        }
    }

    fn read(&mut self, c: char, utterances: &mut Vec<Utterance>) {
        #[cfg(test)]
        {
            self.work += 1;
        }
        if c == ' ' && self.chars.last().is_none_or(|last| *last == ' ') {
            return;
        }
        let at = self.chars.len();
        self.chars.push(c);
        if c.is_alphanumeric() {
            self.first_word.get_or_insert(at);
        }
        if c.is_lowercase() || c.is_uppercase() {
            self.first_cased.get_or_insert((at, c.is_lowercase()));
        }
        match self.candidate.map(|candidate| self.step(candidate, at, c)) {
            Some(Progress::Wait(candidate)) => self.candidate = Some(candidate),
            Some(Progress::End) => self.end_candidate(utterances),
            Some(Progress::Drop) | None => {
                self.candidate = is_end(c).then(|| Candidate::new(at, c));
            }
        }
        while self.chars.len() > self.max_held() {
            self.emit_part(self.chars.len(), false, utterances);
        }
    }

    /// The text is over.
    pub fn finish(&mut self, utterances: &mut Vec<Utterance>) {
        self.decide_last_word(utterances);
        self.line = 0;
        self.emit_until(self.chars.len(), Pause::Sentence, utterances);
    }

    fn end_line(&mut self, utterances: &mut Vec<Utterance>) {
        self.decide_last_word(utterances);
        let listed = self
            .candidate
            .is_some_and(|candidate| self.context(candidate, false).is_list_marker());
        if self.first_word.is_some() && !listed {
            self.emit_until(self.chars.len(), Pause::Paragraph, utterances);
        } else {
            self.read(' ', utterances);
        }
    }

    /// A sentence may outgrow `max` a little before it is cut: when it turns out to end there, it is
    /// cut into even parts.
    fn max_held(&self) -> usize {
        self.max.saturating_add(self.max / 4 + LOOK_AHEAD)
    }

    fn step(&self, candidate: Candidate, at: usize, c: char) -> Progress {
        let hard = candidate.marks == Marks::Hard;
        let wait = |phase, end| {
            Progress::Wait(Candidate {
                end,
                phase,
                ..candidate
            })
        };
        match candidate.phase {
            Phase::Marks | Phase::Closed => {
                let closed = candidate.phase == Phase::Closed;
                let previous = self.chars[at - 1];
                match c {
                    ' ' => wait(Phase::Space { closed }, candidate.end),
                    _ if is_end(c) && closed => Progress::Wait(Candidate::new(at, c)),
                    _ if is_end(c) => Progress::Wait(candidate.with_mark(at, c)),
                    _ if is_closer(c, hard) => wait(Phase::Closed, at + 1),
                    _ if is_emoji(c) => wait(Phase::Closed, at + 1),
                    _ if continues_cluster(previous, c) => wait(candidate.phase, at + 1),
                    // 「はい。」と言った
                    'と' if matches!(previous, '」' | '』') => Progress::Drop,
                    _ if is_clause_mark(c) || is_hard_clause_mark(c) => Progress::Drop,
                    _ if hard
                        || (candidate.marks == Marks::Strong
                            && is_cjk(c)
                            && c.is_alphanumeric()) =>
                    {
                        self.end_if_it_has_words(candidate, true)
                    }
                    _ => Progress::Drop,
                }
            }
            Phase::Space { .. } if is_end(c) => Progress::Wait(candidate.with_mark(at, c)),
            Phase::Space { .. } if is_emoji(c) => wait(Phase::Closed, at + 1),
            Phase::Space { .. } if is_closer(c, true) => wait(Phase::Quote, candidate.end),
            Phase::Space { closed } => self.follow_space(candidate, closed, NextChar::of(c), at),
            Phase::Quote if c == ' ' => wait(Phase::Space { closed: true }, at),
            Phase::Quote => self.follow_space(candidate, false, NextChar::Opener, at),
            Phase::Word { start, kind } if !c.is_alphabetic() || at - start >= MAX_WORD_CHARS => {
                self.end_if_it_has_words(candidate, self.word_ends(start, at, kind, c == ' '))
            }
            Phase::Word { .. } => Progress::Wait(candidate),
        }
    }

    /// Decides by the character after the space, or waits for the whole word.
    fn follow_space(
        &self,
        candidate: Candidate,
        closed: bool,
        next: NextChar,
        at: usize,
    ) -> Progress {
        match self.context(candidate, closed).decide(next) {
            Decision::End => self.end_if_it_has_words(candidate, true),
            Decision::Continue => Progress::Drop,
            Decision::NeedsWord(kind) => Progress::Wait(Candidate {
                phase: Phase::Word { start: at, kind },
                ..candidate
            }),
        }
    }

    /// Ends the sentence if it has a word, or is the rest of one that was cut.
    fn end_if_it_has_words(&self, candidate: Candidate, ends: bool) -> Progress {
        let has_word = self.continued || self.first_word.is_some_and(|at| at < candidate.end);
        if ends && has_word {
            Progress::End
        } else {
            Progress::Drop
        }
    }

    fn word_ends(&self, start: usize, end: usize, kind: StopKind, complete: bool) -> bool {
        let word: String = self.chars[start..end].iter().collect();
        ends_before_word(kind, &word, complete)
    }

    fn context(&self, candidate: Candidate, closed: bool) -> Context<'_> {
        Context {
            before: &self.chars[..candidate.start],
            marks: candidate.marks,
            closed,
            continued: self.continued,
            lowercase_style: self
                .first_cased
                .is_some_and(|(at, lower)| lower && at < candidate.start),
        }
    }

    /// Decides a candidate that waits for a word, as the line or the text ends.
    fn decide_last_word(&mut self, utterances: &mut Vec<Utterance>) {
        if let Some(candidate) = self.candidate
            && let Phase::Word { start, kind } = candidate.phase
            && let Progress::End = self.end_if_it_has_words(
                candidate,
                self.word_ends(start, self.chars.len(), kind, true),
            )
        {
            self.end_candidate(utterances);
        }
    }

    fn end_candidate(&mut self, utterances: &mut Vec<Utterance>) {
        if let Some(candidate) = self.candidate {
            self.emit_until(candidate.end, Pause::Sentence, utterances);
        }
    }

    /// Emits the first `end` characters and reads those after them again: they start the next sentence. They are fewer than
    /// [`LOOK_AHEAD`], so the repeated reading stays a constant for each sentence.
    fn emit_until(&mut self, end: usize, pause: Pause, utterances: &mut Vec<Utterance>) {
        let mut end = end;
        while end > self.max {
            end -= self.emit_part(end, true, utterances);
        }
        emit(&self.chars[..end], pause, utterances);
        let rest = self.chars.split_off(end);
        self.chars.clear();
        (
            self.candidate,
            self.first_word,
            self.first_cased,
            self.continued,
        ) = (None, None, None, false);
        for c in rest {
            self.read(c, utterances);
        }
    }

    /// Emits one part of the sentence's first `end` characters and returns how many were removed.
    fn emit_part(&mut self, end: usize, whole: bool, utterances: &mut Vec<Utterance>) -> usize {
        #[cfg(test)]
        {
            self.work += end;
        }
        let mut removed = cut_point(&self.chars[..end], self.max, whole);
        emit(&self.chars[..removed], Pause::Clause, utterances);
        if removed < end && self.chars[removed] == ' ' {
            removed += 1;
        }
        self.chars.drain(..removed);
        if let Some(candidate) = &mut self.candidate {
            candidate.move_back(removed);
        }
        self.first_word = Some(0);
        self.first_cased = self.first_cased.map(|(_, lower)| (0, lower));
        self.continued = true;
        removed
    }
}

fn emit(chars: &[char], pause: Pause, utterances: &mut Vec<Utterance>) {
    let text: String = chars.iter().collect();
    let text = text.trim();
    if !text.is_empty() {
        utterances.push(Utterance {
            text: text.to_owned(),
            pause,
        });
    }
}
