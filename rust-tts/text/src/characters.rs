//! Classes of characters for the cutter.

use unicode_segmentation::UnicodeSegmentation as _;

/// `.` and its wide form: an end, an abbreviation, a decimal point, …
pub fn is_dot(c: char) -> bool {
    matches!(c, '.' | '．')
}

/// Marks that end a sentence whatever follows, with or without a space: CJK, Arabic and Urdu, the
/// Indic dandas, Armenian, Ethiopic, Khmer, Burmese.
pub fn is_hard_end(c: char) -> bool {
    matches!(
        c,
        '。' | '！' | '？' | '｡' | '؟' | '۔' | '।' | '॥' | '։' | '።' | '፧' | '។' | '။'
    )
}

/// Every mark that may end a sentence.
pub fn is_end(c: char) -> bool {
    is_dot(c) || is_hard_end(c) || matches!(c, '!' | '?' | '…' | '‼' | '⁇' | '⁈' | '⁉' | '‽')
}

/// Closes a quotation or a bracket (or ends Markdown emphasis) when it follows an end mark.
///
/// The marks of the second set open in one language and close in another. Right after a western
/// mark they can only close; after a CJK one (`hard`), which no space follows, they open the next
/// sentence.
pub fn is_closer(c: char, hard: bool) -> bool {
    matches!(
        c,
        '"' | '\''
            | '”'
            | '’'
            | '»'
            | '›'
            | ')'
            | ']'
            | '}'
            | '」'
            | '』'
            | '）'
            | '］'
            | '】'
            | '》'
            | '〉'
            | '〕'
            | '*'
            | '_'
    ) || (!hard && is_ambiguous_quote(c))
}

fn is_ambiguous_quote(c: char) -> bool {
    matches!(c, '“' | '‘' | '«' | '‹')
}

/// Opens a quotation or a bracket at the start of a word.
pub fn is_opener(c: char) -> bool {
    is_ambiguous_quote(c)
        || matches!(
            c,
            '"' | '\''
                | '”'
                | '’'
                | '»'
                | '›'
                | '„'
                | '‚'
                | '('
                | '['
                | '{'
                | '¿'
                | '¡'
                | '*'
                | '_'
        )
}

/// A dash that is set off by spaces or joins two clauses.
pub fn is_dash(c: char) -> bool {
    matches!(c, '—' | '–')
}

/// Western clause marks: they count where a space follows ("1,000" and "10:30" are no clauses).
pub fn is_clause_mark(c: char) -> bool {
    matches!(c, ',' | ';' | ':') || is_dash(c)
}

/// Clause marks that need no space.
pub fn is_hard_clause_mark(c: char) -> bool {
    matches!(c, '、' | '，' | '；' | '：' | '､' | '،' | '؛')
}

/// Scripts written without spaces between words: Han, Kana, Hangul, Yi, CJK symbols and wide forms.
pub fn is_cjk(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7AF}' | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FFEF}'
        | '\u{20000}'..='\u{3FFFF}')
}

/// Emoji and pictographs. After a sentence's end they comment on it: a voice that passes over
/// them never gets one alone.
pub fn is_emoji(c: char) -> bool {
    matches!(c, '\u{2600}'..='\u{27BF}' | '\u{2B05}'..='\u{2B55}' | '\u{1F000}'..='\u{1FAFF}')
}

/// Whether `next` belongs to the grapheme cluster that `previous` is in (a variation selector, an
/// accent).
pub fn continues_cluster(previous: char, next: char) -> bool {
    // No ASCII character but a line feed continues a cluster: most text is answered here.
    if next.is_ascii() {
        return false;
    }
    let mut bytes = [0; 8];
    let first = previous.encode_utf8(&mut bytes).len();
    let length = first + next.encode_utf8(&mut bytes[first..]).len();
    str::from_utf8(&bytes[..length]).is_ok_and(|pair| pair.graphemes(true).nth(1).is_none())
}
