//! Removes what no voice can speak, one character at a time.

use super::characters::{
    is_cjk, is_clause_mark, is_closer, is_end, is_hard_clause_mark, is_opener,
};

/// Cleans a whole text: control characters, zero-width and bidirectional controls, private-use and
/// unassigned characters go; a run of spaces is one space; a run that holds a line end is one `\n`, one
/// that holds a blank line two; both ends are trimmed.
pub fn clean(text: &str) -> String {
    let mut cleaner = Cleaner::default();
    let mut kept = String::with_capacity(text.len());
    for c in text.chars() {
        cleaner.push(c, |c| kept.push(c));
    }
    kept.truncate(kept.trim_end_matches('\n').len());
    kept
}

/// [`clean`] as a state machine. A space is held back until a visible character shows that it is
/// neither at a line's end nor at the text's; a line end is passed on at once, since nothing that
/// follows can undo it.
#[derive(Debug, Default)]
pub struct Cleaner {
    /// The last visible character; `None` at the start of a line.
    previous: Option<char>,
    space: bool,
    /// The last character was a carriage return: a line feed after it belongs to it.
    after_cr: bool,
    /// A line end was passed on, and nothing visible since.
    line_ended: bool,
}

impl Cleaner {
    /// Takes the next character and hands `sink` what of it remains: nothing, the character, or a
    /// space and the character.
    pub fn push(&mut self, c: char, mut sink: impl FnMut(char)) {
        let is_second_of_crlf = c == '\n' && self.after_cr;
        self.after_cr = c == '\r';
        if is_line_end(c) {
            self.space = false;
            if is_second_of_crlf {
                return;
            }
            let line_held_text = self.previous.take().is_some();
            if line_held_text || self.line_ended {
                sink('\n');
            }
            self.line_ended = line_held_text;
        } else if c.is_whitespace() {
            self.space = self.previous.is_some();
        } else if !self.is_removed(c) {
            if self.space {
                sink(' ');
            }
            self.space = false;
            self.line_ended = false;
            self.previous = Some(c);
            sink(c);
        }
    }

    fn is_removed(&self, c: char) -> bool {
        match c {
            // The joiners spell words in Persian and Hindi and build emoji; anywhere else they are
            // invisible noise.
            '\u{200C}' | '\u{200D}' => self.space || !self.previous.is_some_and(takes_joiner),
            _ => c.is_control() || is_invisible(c) || is_not_text(c),
        }
    }
}

fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

fn takes_joiner(c: char) -> bool {
    let punctuation = is_end(c)
        || is_closer(c, false)
        || is_opener(c)
        || is_clause_mark(c)
        || is_hard_clause_mark(c)
        || (is_cjk(c) && !c.is_alphanumeric());
    !c.is_ascii() && !punctuation
}

/// Format characters without width: soft hyphen, zero-width space, directional and invisible
/// controls, the byte order mark, annotations and tags.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFC}' | '\u{E0000}'..='\u{E007F}')
}

/// The replacement character (text that was decoded wrongly), private use, and noncharacters.
fn is_not_text(c: char) -> bool {
    matches!(c, '\u{FFFD}' | '\u{E000}'..='\u{F8FF}' | '\u{FDD0}'..='\u{FDEF}' | '\u{F0000}'..='\u{10FFFF}')
        || u32::from(c) & 0xFFFE == 0xFFFE
}
