//! The table of examples, and what holds for every text.

mod examples;

use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation as _;

use super::sentences::SentenceSplitter;
use super::{Cutter, Pause, Utterance, clean, cut};
use examples::EXAMPLES;

fn texts(utterances: &[Utterance]) -> Vec<&str> {
    utterances.iter().map(|u| u.text.as_str()).collect()
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

fn in_pieces(text: &str, cuts: &[usize], max_chars: usize) -> Vec<Utterance> {
    let mut cutter = Cutter::new(max_chars);
    let mut sizes = cuts.iter().cycle();
    let mut chars = text.chars().peekable();
    let mut utterances = Vec::new();
    while chars.peek().is_some() {
        let piece: String = chars.by_ref().take(*sizes.next().unwrap_or(&1)).collect();
        utterances.extend(cutter.push(&piece));
    }
    utterances.extend(cutter.finish());
    utterances
}

#[test]
fn test_examples_are_cut_where_marked() {
    let mut wrong = Vec::new();
    for example in EXAMPLES {
        let text = example.replace(['|', '¶'], "");
        let expected: Vec<String> = example
            .split('|')
            .map(|part| clean(&part.replace('¶', "")).replace('\n', " "))
            .collect();
        let utterances = cut(&text, 200);
        if texts(&utterances) != expected {
            wrong.push(format!("{expected:?}\n   got {:?}", texts(&utterances)));
        }
        assert_eq!(
            in_pieces(&text, &[1], 200),
            utterances,
            "{text:?} in pieces"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn test_pauses_follow_clauses_sentences_and_lines() {
    let pauses = |text, max| cut(text, max).iter().map(|u| u.pause).collect::<Vec<_>>();
    assert_eq!(pauses("One. Two", 99), [Pause::Sentence, Pause::Sentence]);
    assert_eq!(
        pauses("One.\nTwo\n\nThree.", 99),
        [Pause::Paragraph, Pause::Paragraph, Pause::Sentence]
    );
    assert_eq!(
        pauses("One two three, four five six.", 20),
        [Pause::Clause, Pause::Sentence]
    );
    assert_eq!(pauses(" \n\u{200B}", 99), []);
}

#[test]
fn test_long_sentences_are_cut_at_clauses_or_words() {
    for (text, max, expected) in [
        (
            "One two three, four five six.",
            20,
            vec!["One two three,", "four five six."],
        ),
        (
            "one two three four five six",
            15,
            vec!["one two three", "four five six"],
        ),
        (
            "It cost 1,000,000 at 10:30 or so.",
            20,
            vec!["It cost 1,000,000", "at 10:30 or so."],
        ),
        (
            "alpha beta—gamma delta",
            16,
            vec!["alpha beta—", "gamma delta"],
        ),
        (
            "今天天气很好，我们去公园玩吧",
            10,
            vec!["今天天气很好，", "我们去公园玩吧"],
        ),
        (
            "今天天气很好我们去公园玩吧",
            10,
            vec!["今天天气很好", "我们去公园玩吧"],
        ),
        ("aaaaaaaaaaaa", 5, vec!["aaaaa", "aaa", "aaaa"]),
        ("👨‍👩‍👧👨‍👩‍👧", 7, vec!["👨‍👩‍👧", "👨‍👩‍👧"]),
        ("e\u{301}e\u{301}", 3, vec!["e\u{301}", "e\u{301}"]),
        (
            "e\u{301}\u{301}\u{301}",
            2,
            vec!["e\u{301}", "\u{301}\u{301}"],
        ),
        ("abc", 0, vec!["a", "b", "c"]),
    ] {
        assert_eq!(texts(&cut(text, max)), expected, "{text:?} at {max}");
    }
}

#[test]
fn test_sentence_is_whole_without_limit() {
    let text = "word ".repeat(5000) + "end.";
    assert_eq!(texts(&cut(&text, usize::MAX)), [text]);
}

#[test]
fn test_unspeakable_characters_are_removed() {
    for (text, expected) in [
        ("  a \t b  ", "a b"),
        ("a \r\n\r\n  b\u{2029}c", "a\n\nb\nc"),
        (
            "a\u{0}\u{7}\u{1B}b\u{FEFF}\u{200B}c\u{202E}d\u{AD}e",
            "abcde",
        ),
        ("a\u{A0}b\u{3000}c", "a b c"),
        ("\u{FFFD}a\u{E000}\u{FFFF}\u{10FFFF}\u{E0041}", "a"),
        ("می\u{200C}خواهم क्\u{200D}ष", "می\u{200C}خواهم क्\u{200D}ष"),
        ("a\u{200D}b \u{200C}c。\u{200D}", "ab c。"),
        ("👨\u{200D}👩 ❤\u{FE0F}", "👨\u{200D}👩 ❤\u{FE0F}"),
        ("\n \n", ""),
    ] {
        assert_eq!(clean(text), expected, "{text:?}");
    }
}

#[test]
fn test_utterance_is_returned_as_soon_as_decided() {
    for (text, then) in [
        ("Hello there. ", "H"),
        ("Hello there.", "\n"),
        ("Title", "\n"),
        ("你好。", "我"),
        ("\"Hi.\" \"", "N"),
        ("In the U.S. The", " e"),
    ] {
        let mut cutter = Cutter::new(100);
        let early = cutter.push(text);
        let count = cutter.push(then).len();
        assert_eq!((early.len(), count), (0, 1), "{text:?}");
    }
}

#[test]
fn test_finished_cutter_is_reusable() {
    let mut cutter = Cutter::new(50);
    let first = [cutter.push("One. two"), cutter.finish()].concat();
    let second = [cutter.push("One. two"), cutter.finish()].concat();
    assert_eq!(first, second);
}

#[test]
fn test_work_and_memory_are_linear() {
    let max = 100;
    for unit in [
        "a", ".", "a. ", "U.S. It ", "!", "\"", ". \" ", "Hi. ", "。", "x, ", "e\u{301}",
        "\u{301}", "1.\n", "—",
    ] {
        let mut splitter = SentenceSplitter::new(max);
        let (mut done, mut length) = (Vec::new(), 0);
        for c in unit.chars().cycle().take(100_000) {
            splitter.push(c, &mut done);
            length += 1;
            assert!(
                splitter.held() <= max + max / 4 + 32,
                "{unit:?} holds {}",
                splitter.held()
            );
        }
        assert!(
            splitter.work <= 8 * length,
            "{unit:?} took {} for {length}",
            splitter.work
        );
    }
}

fn text() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        6 => "[a-zA-Z]{1,9}",
        3 => prop::sample::select(vec![
            "Mr", "U.S", "e.g", "etc", "Inc", "p.m", "J", "The", "No", "3", "1", "3.14", "Jan", "I",
            "example.com/a?b", "你好", "と", "и", "क्\u{200D}ष", "👨\u{200D}👩\u{200D}👧", "e\u{301}\u{302}", "\u{301}",
        ]).prop_map(str::to_owned),
        1 => "\\PC{1,3}",
        1 => any::<char>().prop_map(String::from),
        1 => "[a-z]{30,60}",
    ];
    let mark = prop::sample::select(vec![
        " ", " ", " ", ". ", ".", "? ", "! ", "...", "…", "。", "？", ", ", "; ", "—", "\" ", "\"",
        ".\" ", "!” ", "」", "\n", "\n\n", "\t", "\u{200B}", ".) ", " » ", "؟ ", "।", "\u{FE0F}",
        " . ", "(", "*",
    ]);
    prop::collection::vec((word, mark), 0..60)
        .prop_map(|parts| parts.into_iter().map(|(word, mark)| word + mark).collect())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn test_cuts_do_not_depend_on_input_chunks(
        text in text(),
        max in 1..120usize,
        cuts in prop::collection::vec(1..9usize, 1..9),
    ) {
        prop_assert_eq!(in_pieces(&text, &cuts, max), cut(&text, max));
    }

    #[test]
    fn test_no_character_is_lost_and_no_utterance_too_long(text in text(), max in 1..120usize) {
        let utterances = cut(&text, max);
        for Utterance { text, .. } in &utterances {
            prop_assert!(!text.is_empty());
            prop_assert!(text.trim() == text && !text.contains('\n'), "{:?}", text);
            prop_assert!(text.chars().count() <= max, "{:?} is longer than {}", text, max);
        }
        prop_assert_eq!(squeezed(&texts(&utterances).concat()), squeezed(&clean(&text)));
    }

    #[test]
    fn test_cleaning_is_idempotent(text in text()) {
        let cleaned = clean(&text);
        prop_assert_eq!(clean(&cleaned), cleaned);
    }

    #[test]
    fn test_clusters_stay_whole(
        text in "([a-e👨한कष][\u{301}\u{200D}🏽\u{FE0F}\u{94D}]{0,3}([,.]\u{301}?)?[ ]?){0,40}",
        max in 12..30usize,
    ) {
        let spoken = clean(&text);
        let longest = spoken.graphemes(true).map(|g| g.chars().count()).max().unwrap_or(0);
        prop_assume!(longest <= max);
        let pieces = cut(&text, max);
        let clusters = |text: &str| -> Vec<String> {
            text.graphemes(true).filter(|c| c.trim() == *c).map(str::to_owned).collect()
        };
        let of_pieces: Vec<_> = pieces.iter().flat_map(|u| clusters(&u.text)).collect();
        prop_assert_eq!(of_pieces, clusters(&spoken));
    }
}
