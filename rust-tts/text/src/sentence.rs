//! Finds the ends of sentences in cleaned text, one character at a time.

use super::abbreviations::{Kind, LONGEST_WORD};
use super::candidate::{Candidate, Phase};
use super::characters::{
    is_cjk, is_clause_mark, is_closer, is_emoji, is_end, is_hard_clause_mark, joins,
};
use super::decide::{Context, Marks, Next, Verdict, with_word};
use super::length::cut_point;
use super::{Pause, Utterance};

/// More characters than a decision ever waits for: a blank, an opening quote, the next word and
/// what follows it.
const LOOK_AHEAD: usize = LONGEST_WORD + 5;

/// A line of at least so many characters was cut by an editor, not by the writer: its end is a blank.
const WRAPPED_LINE: usize = 50;

/// The sentence that is being read.
#[derive(Debug)]
pub struct Sentences {
    max: usize,
    /// Its characters, and those of the next one that were needed to find its end.
    chars: Vec<char>,
    candidate: Option<Candidate>,
    /// The place of the first letter or digit: signs alone are no sentence.
    word_at: Option<usize>,
    /// The place of the first letter that has cases, and whether it is small.
    cased_at: Option<(usize, bool)>,
    /// Whether a part of the sentence has been handed out, because it was too long.
    continued: bool,
    /// Characters since the last line end.
    line: usize,
    /// Characters looked at, to test that the work is linear.
    #[cfg(test)]
    pub work: usize,
}

/// What one more character tells about a candidate.
enum Step {
    Wait(Candidate),
    /// It ends the sentence.
    End,
    /// It does not.
    Drop,
}

impl Sentences {
    pub fn new(max: usize) -> Self {
        Self {
            max,
            chars: Vec::new(),
            candidate: None,
            word_at: None,
            cased_at: None,
            continued: false,
            line: 0,
            #[cfg(test)]
            work: 0,
        }
    }

    /// The characters held back.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.chars.len()
    }

    /// Takes the next character of cleaned text. A line feed ends a paragraph, unless the line is so
    /// long that it was wrapped; two always do.
    pub fn push(&mut self, c: char, done: &mut Vec<Utterance>) {
        if c != '\n' {
            self.line += 1;
            self.read(c, done);
            return;
        }
        let wrapped = self.line >= WRAPPED_LINE;
        self.line = 0;
        if wrapped {
            self.read(' ', done);
        } else {
            self.end_line(done);
        }
    }

    fn read(&mut self, c: char, done: &mut Vec<Utterance>) {
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
            self.word_at.get_or_insert(at);
        }
        if c.is_lowercase() || c.is_uppercase() {
            self.cased_at.get_or_insert((at, c.is_lowercase()));
        }
        match self.candidate.map(|candidate| self.step(candidate, at, c)) {
            Some(Step::Wait(candidate)) => self.candidate = Some(candidate),
            Some(Step::End) => self.end_candidate(done),
            Some(Step::Drop) | None => self.candidate = is_end(c).then(|| Candidate::new(at, c)),
        }
        while self.chars.len() > self.most_held() {
            self.cut_one(self.chars.len(), false, done);
        }
    }

    /// The text is over.
    pub fn finish(&mut self, done: &mut Vec<Utterance>) {
        self.settle_word(done);
        self.line = 0;
        self.take(self.chars.len(), Pause::Sentence, done);
    }

    fn end_line(&mut self, done: &mut Vec<Utterance>) {
        self.settle_word(done);
        let listed = self
            .candidate
            .is_some_and(|candidate| self.context(candidate, false).is_list_marker());
        if self.word_at.is_some() && !listed {
            self.take(self.chars.len(), Pause::Paragraph, done);
        } else {
            self.read(' ', done);
        }
    }

    /// A sentence may outgrow `max` a little before it is cut: when it turns out to end there, it is
    /// cut into even parts.
    fn most_held(&self) -> usize {
        self.max.saturating_add(self.max / 4 + LOOK_AHEAD)
    }

    fn step(&self, candidate: Candidate, at: usize, c: char) -> Step {
        let hard = candidate.marks == Marks::Hard;
        let wait = |phase, end| {
            Step::Wait(Candidate {
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
                    ' ' => wait(Phase::Blank { closed }, candidate.end),
                    _ if is_end(c) && closed => Step::Wait(Candidate::new(at, c)),
                    _ if is_end(c) => Step::Wait(candidate.with_mark(at, c)),
                    _ if is_closer(c, hard) => wait(Phase::Closed, at + 1),
                    _ if is_emoji(c) => wait(Phase::Closed, at + 1),
                    _ if joins(previous, c) => wait(candidate.phase, at + 1),
                    // 「はい。」と言った
                    'と' if matches!(previous, '」' | '』') => Step::Drop,
                    _ if is_clause_mark(c) || is_hard_clause_mark(c) => Step::Drop,
                    _ if hard
                        || (candidate.marks == Marks::Strong
                            && is_cjk(c)
                            && c.is_alphanumeric()) =>
                    {
                        self.checked(candidate, true)
                    }
                    _ => Step::Drop,
                }
            }
            Phase::Blank { .. } if is_end(c) => Step::Wait(candidate.with_mark(at, c)),
            Phase::Blank { .. } if is_emoji(c) => wait(Phase::Closed, at + 1),
            Phase::Blank { .. } if is_closer(c, true) => wait(Phase::Quote, candidate.end),
            Phase::Blank { closed } => self.follow(candidate, closed, Next::of(c), at),
            Phase::Quote if c == ' ' => wait(Phase::Blank { closed: true }, at),
            Phase::Quote => self.follow(candidate, false, Next::Opener, at),
            Phase::Word { start, kind } if !c.is_alphabetic() || at - start >= LONGEST_WORD => {
                self.checked(candidate, self.word_ends(start, at, kind, c == ' '))
            }
            Phase::Word { .. } => Step::Wait(candidate),
        }
    }

    /// Decides with what follows the blank, or waits for the whole word.
    fn follow(&self, candidate: Candidate, closed: bool, next: Next, at: usize) -> Step {
        match self.context(candidate, closed).verdict(next) {
            Verdict::End => self.checked(candidate, true),
            Verdict::GoesOn => Step::Drop,
            Verdict::NeedsWord(kind) => Step::Wait(Candidate {
                phase: Phase::Word { start: at, kind },
                ..candidate
            }),
        }
    }

    /// A sentence needs a word, or the rest of one that was cut.
    fn checked(&self, candidate: Candidate, ends: bool) -> Step {
        let has_word = self.continued || self.word_at.is_some_and(|at| at < candidate.end);
        if ends && has_word {
            Step::End
        } else {
            Step::Drop
        }
    }

    fn word_ends(&self, start: usize, end: usize, kind: Kind, alone: bool) -> bool {
        let word: String = self.chars[start..end].iter().collect();
        with_word(kind, &word, alone)
    }

    fn context(&self, candidate: Candidate, closed: bool) -> Context<'_> {
        Context {
            before: &self.chars[..candidate.start],
            marks: candidate.marks,
            closed,
            continued: self.continued,
            lower_style: self
                .cased_at
                .is_some_and(|(at, lower)| lower && at < candidate.start),
        }
    }

    /// A line or the text ends: a word that was waited for is as long as it will be.
    fn settle_word(&mut self, done: &mut Vec<Utterance>) {
        if let Some(candidate) = self.candidate
            && let Phase::Word { start, kind } = candidate.phase
            && let Step::End = self.checked(
                candidate,
                self.word_ends(start, self.chars.len(), kind, true),
            )
        {
            self.end_candidate(done);
        }
    }

    fn end_candidate(&mut self, done: &mut Vec<Utterance>) {
        if let Some(candidate) = self.candidate {
            self.take(candidate.end, Pause::Sentence, done);
        }
    }

    /// Hands out the first `end` characters and reads those after them afresh: they start the next
    /// sentence. They are fewer than [`LOOK_AHEAD`], so the repeated reading stays a constant for
    /// each sentence.
    fn take(&mut self, end: usize, pause: Pause, done: &mut Vec<Utterance>) {
        let mut end = end;
        while end > self.max {
            end -= self.cut_one(end, true, done);
        }
        emit(&self.chars[..end], pause, done);
        let rest = self.chars.split_off(end);
        self.chars.clear();
        (self.candidate, self.word_at, self.cased_at, self.continued) = (None, None, None, false);
        for c in rest {
            self.read(c, done);
        }
    }

    /// Hands out one part of the sentence's first `end` characters and returns how many are gone.
    fn cut_one(&mut self, end: usize, whole: bool, done: &mut Vec<Utterance>) -> usize {
        #[cfg(test)]
        {
            self.work += end;
        }
        let mut gone = cut_point(&self.chars[..end], self.max, whole);
        emit(&self.chars[..gone], Pause::Clause, done);
        if gone < end && self.chars[gone] == ' ' {
            gone += 1;
        }
        self.chars.drain(..gone);
        if let Some(candidate) = &mut self.candidate {
            candidate.move_back(gone);
        }
        self.word_at = Some(0);
        self.cased_at = self.cased_at.map(|(_, lower)| (0, lower));
        self.continued = true;
        gone
    }
}

fn emit(chars: &[char], pause: Pause, done: &mut Vec<Utterance>) {
    let text: String = chars.iter().collect();
    let text = text.trim();
    if !text.is_empty() {
        done.push(Utterance {
            text: text.to_owned(),
            pause,
        });
    }
}
