//! Words that a full stop follows without ending the sentence, in English and the commonest ones of
//! some other languages.
//!
//! Where a full stop may be both, the next word decides (see [`StopKind`]). The idea of frequent
//! sentence starters is Kiss and Strunk's ("Unsupervised Multilingual Sentence Boundary Detection",
//! 2006); the lists are fixed and small here.

/// The meaning of a full stop after a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// Not an abbreviation.
    Word,
    /// Never the end of a sentence ("Dr. Smith", "e.g. this").
    Never,
    /// An abbreviation before a number or a letter ("No. 5", "Vol. IV"), else a word ("No. Never.").
    BeforeNumber,
    /// A month or a weekday: no end before a number or a small letter.
    Date,
    /// Closes an enumeration ("etc."): an end unless a small letter or a number follows.
    Closing,
    /// An end only before a word that commonly starts sentences ("the U.S. The", "the U.S. Army").
    BeforeStarter,
    /// A small number: an end unless a German ordinal's noun follows ("am 3. Oktober").
    Ordinal,
}

/// Titles: only with a capital ("gen." and "rep." are words as well).
#[rustfmt::skip]
const TITLES: &[&str] = &[
    "mr", "mrs", "ms", "mx", "dr", "prof", "rev", "hon", "fr", "gen", "col", "maj", "capt", "cmdr",
    "lt", "sgt", "cpl", "pvt", "adm", "gov", "sen", "rep", "pres", "supt", "mt", "ft", "messrs",
    "mme", "mlle", "mgr", "hr", "frl", "dipl", "ing", "sra", "srta", "dra", "ud", "uds", "vd",
    "vds", "sig", "dott", "avv", "dhr", "mevr", "drs", "ee",
];

#[rustfmt::skip]
const NEVER: &[&str] = &[
    "e.g", "eg", "i.e", "ie", "vs", "cf", "viz", "approx", "appr", "resp", "incl", "excl", "dept",
    "misc", "al", "z.b", "d.h", "bzw", "ca", "evtl", "ggf", "inkl", "exkl", "vgl", "sog", "zzgl",
    "bspw", "p.ex", "c.-à-d", "p.ej", "aprox", "bijv", "np", "tzn", "např", "т.е", "т.к", "см",
];

/// "art." and "no." are words too, so a number must follow.
#[rustfmt::skip]
const BEFORE_NUMBER: &[&str] = &[
    "no", "nos", "nr", "num", "núm", "n°", "fig", "figs", "vol", "ch", "chap", "sec", "sect",
    "art", "arts", "pp", "pg", "pág", "eq", "eqs", "tab", "abs", "abb", "bd", "kap", "anm", "ver",
    "op", "ext", "tel", "ann", "est",
];

#[rustfmt::skip]
const DATES: &[&str] = &[
    "jan", "feb", "febr", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "okt", "nov",
    "dec", "dez", "janv", "févr", "avr", "juil", "déc", "ene", "abr", "ago", "dic", "mon", "tue",
    "tues", "wed", "thu", "thur", "thurs", "fri", "sat", "sun",
];

#[rustfmt::skip]
const CLOSING: &[&str] = &[
    "etc", "usw", "ecc", "enz", "osv", "itd", "т.д", "т.п",
];

#[rustfmt::skip]
const BEFORE_STARTER: &[&str] = &[
    "inc", "ltd", "co", "corp", "llc", "plc", "bros", "jr", "sr", "esq", "st", "ave", "blvd", "rd",
    "assn", "ph.d",
];

/// Words that start sentences far more often than they follow an abbreviation as a name.
#[rustfmt::skip]
const STARTERS: &[&str] = &[
    "A", "After", "All", "Also", "Although", "An", "And", "Another", "Are", "As", "At", "Because",
    "Before", "Both", "But", "By", "Can", "Could", "Did", "Do", "Does", "During", "Each", "Even",
    "Every", "For", "From", "Had", "Has", "Have", "He", "Her", "Here", "His", "How", "However",
    "I", "If", "In", "Is", "It", "Its", "Later", "Many", "Meanwhile", "Most", "My", "Nobody",
    "Not", "Nothing", "Now", "On", "Once", "One", "Only", "Or", "Other", "Our", "Perhaps",
    "Several", "She", "Should", "Since", "So", "Some", "Sometimes", "Still", "Such", "That", "The",
    "Their", "Then", "There", "These", "They", "This", "Those", "Though", "Thus", "To", "Today",
    "Tomorrow", "Under", "Until", "Was", "We", "Were", "What", "When", "Where", "Which", "While",
    "Who", "Why", "With", "Would", "Yes", "Yet", "You", "Your", "Aber", "Dann", "Der", "Die",
    "Ein", "Eine", "Er", "Es", "Ich", "Sie", "Und", "Wenn", "Wir", "Elle", "Elles", "Et", "Il",
    "Ils", "Je", "Mais", "Nous", "Vous", "Ella", "Pero",
];

#[rustfmt::skip]
const ORDINAL_NOUNS: &[&str] = &[
    "Januar", "Jänner", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September",
    "Oktober", "November", "Dezember", "Klasse", "Kapitel", "Mal", "Platz", "Stock", "Tag",
    "Woche", "Teil", "Runde", "Weltkrieg", "Jahrhundert",
];

/// The most characters of a word before a full stop that is looked up.
pub const MAX_TOKEN_CHARS: usize = 16;

/// The most characters of the next word that a decision waits for: no word of the lists is longer.
pub const MAX_WORD_CHARS: usize = 11;

/// Classifies `token`, the word before a full stop without that stop.
pub fn classify(token: &str) -> StopKind {
    if (1..=2).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_digit()) {
        return StopKind::Ordinal;
    }
    // The pronoun far outnumbers the initial.
    if token == "I" {
        return StopKind::Word;
    }
    // "5p.m." is written without a space.
    let token = token.trim_start_matches(|c: char| c.is_ascii_digit());
    // "l'art. 5", but not "don't."
    let token = match token.split_once(['\'', '’']) {
        Some((article, noun)) if article.len() == 1 && noun.len() > 1 => noun,
        _ => token,
    };
    let lower = token.to_lowercase();
    let listed = |list: &[&str]| list.contains(&lower.as_str());
    if listed(NEVER) || (listed(TITLES) && token.starts_with(char::is_uppercase)) {
        StopKind::Never
    } else if listed(BEFORE_NUMBER) {
        StopKind::BeforeNumber
    } else if listed(DATES) {
        StopKind::Date
    } else if listed(CLOSING) {
        StopKind::Closing
    } else if listed(BEFORE_STARTER) || is_initials(token) {
        StopKind::BeforeStarter
    } else {
        StopKind::Word
    }
}

/// One cased letter, or several with full stops between them: "J", "U.S", "a.m", "J.-J".
fn is_initials(token: &str) -> bool {
    token.split('.').all(|part| {
        let mut letters = part.trim_start_matches('-').chars();
        letters
            .next()
            .is_some_and(|c| c.is_lowercase() || c.is_uppercase())
            && letters.next().is_none()
    })
}

/// Whether `word` commonly starts a sentence. A single letter must be followed by a space
/// (`complete`): in "J. A. Smith" it is an initial.
pub fn is_starter(word: &str, complete: bool) -> bool {
    (complete || word.len() > 1) && STARTERS.contains(&word)
}

/// Whether `word` numbers something: a Roman numeral or a capital letter, but no word ("I", "A").
pub fn is_numbering(word: &str) -> bool {
    let roman = word
        .chars()
        .all(|c| matches!(c, 'I' | 'V' | 'X' | 'L' | 'C' | 'D' | 'M'));
    let letter = word.len() == 1 && word.starts_with(|c: char| c.is_ascii_uppercase());
    (roman || letter) && !matches!(word, "I" | "A" | "")
}

/// Whether `word` follows an ordinal number in German.
pub fn is_ordinal_noun(word: &str) -> bool {
    ORDINAL_NOUNS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_listed_words_fit_look_ahead() {
        for list in [TITLES, NEVER, BEFORE_NUMBER, DATES, CLOSING, BEFORE_STARTER] {
            assert!(
                list.iter()
                    .all(|w| w.chars().count() <= MAX_TOKEN_CHARS && w.to_lowercase() == **w),
                "{list:?}"
            );
        }
        for list in [STARTERS, ORDINAL_NOUNS] {
            assert!(
                list.iter().all(|w| w.chars().count() <= MAX_WORD_CHARS),
                "{list:?}"
            );
            assert!(
                list.iter().all(|w| w.starts_with(char::is_uppercase)),
                "{list:?}"
            );
        }
    }

    #[test]
    fn test_tokens_are_classified() {
        for (token, expected) in [
            ("house", StopKind::Word),
            ("don't", StopKind::Word),
            ("Dr", StopKind::Never),
            ("rep", StopKind::Word),
            ("No", StopKind::BeforeNumber),
            ("Jan", StopKind::Date),
            ("etc", StopKind::Closing),
            ("U.S", StopKind::BeforeStarter),
            ("5p.m", StopKind::BeforeStarter),
            ("J.-J", StopKind::BeforeStarter),
            ("42", StopKind::Ordinal),
            ("1984", StopKind::Word),
            ("", StopKind::Word),
        ] {
            assert_eq!(classify(token), expected, "{token:?}");
        }
    }
}
