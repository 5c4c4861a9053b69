use super::*;
use proptest::prelude::*;

const RATE: u32 = 24000;
/// Speech for these tests: constant, so that its ends and every fade show.
const LOUD: f32 = 0.5;
/// Room noise for these tests: 66 dB below full scale.
const FAINT: f32 = 5e-4;

fn ms(milliseconds: u32) -> usize {
    samples_in(milliseconds, RATE)
}

/// An utterance of near silence, speech and near silence; lengths in milliseconds.
fn utterance(lead: u32, speech: u32, tail: u32) -> Vec<f32> {
    [(FAINT, lead), (LOUD, speech), (FAINT, tail)]
        .into_iter()
        .flat_map(|(level, length)| vec![level; ms(length)])
        .collect()
}

fn join(utterances: &[Vec<f32>], pause: u32) -> Vec<f32> {
    let mut joiner = Joiner::new(RATE);
    let mut output = Vec::new();
    for (index, samples) in utterances.iter().enumerate() {
        if index > 0 {
            output.extend(joiner.end_utterance(pause));
        }
        output.extend(joiner.push(samples));
    }
    output.extend(joiner.finish());
    output
}

/// The lengths of the stretches without and with speech, in turn, beginning without.
fn stretches(samples: &[f32]) -> Vec<usize> {
    let mut lengths = vec![0];
    let mut speech = false;
    for &sample in samples {
        if (sample > FAINT) != speech {
            speech = !speech;
            lengths.push(0);
        }
        if let Some(last) = lengths.last_mut() {
            *last += 1;
        }
    }
    lengths
}

fn assert_smooth(samples: &[f32]) {
    // The steepest step of a 5 ms raised cosine, and a little more.
    let steepest = LOUD * PI / 2.0 / ms(5) as f32 * 1.05;
    let padded: Vec<f32> = [0.0]
        .into_iter()
        .chain(samples.iter().copied())
        .chain([0.0])
        .collect();
    for (at, pair) in padded.windows(2).enumerate() {
        assert!(
            (pair[1] - pair[0]).abs() <= steepest,
            "jump at {at}: {pair:?}"
        );
    }
}

#[test]
fn test_gap_equals_pause() {
    for (tail, lead) in [
        (400, 300),
        (20, 300),
        (400, 10),
        (10, 10),
        (1500, 0),
        (5, 30),
    ] {
        for pause in [60, 100, 300, 1000] {
            let output = join(&[utterance(20, 200, tail), utterance(lead, 200, 40)], pause);
            let lengths = stretches(&output);
            let gap = lengths[2];
            // An onset without any lead is faded, and its first few samples are then below the threshold.
            assert!(
                gap.abs_diff(ms(pause)) <= 8,
                "{tail}, {lead}, {pause}: {gap}"
            );
            assert_eq!((lengths[0], lengths[4]), (ms(20), ms(40)));
        }
    }
}

#[test]
fn test_join_without_pause_keeps_fades() {
    let output = join(&[utterance(0, 200, 100), utterance(100, 200, 0)], 0);
    assert_eq!(output.len(), ms(400) + ms(SHORTEST_PAUSE_MS));
    assert_eq!(stretches(&output)[2], ms(SHORTEST_PAUSE_MS));
}

#[test]
fn test_outer_ends_are_trimmed() {
    let lengths = stretches(&join(&[utterance(700, 200, 900)], 0));
    assert_eq!(lengths, [ms(FIRST_LEAD_MS), ms(200), ms(LAST_TAIL_MS)]);
    let short = utterance(30, 200, 100);
    assert_eq!(
        join(std::slice::from_ref(&short), 0),
        short,
        "nothing to trim, nothing changed"
    );
}

#[test]
fn test_speech_is_kept_to_sample() {
    // A ramp shows each sample; its speech ends in the middle of a window.
    let speech: Vec<f32> = (0..4711).map(|k| 0.1 + k as f32 * 1e-4).collect();
    let mut samples = vec![0.0; ms(40)];
    samples.extend(&speech);
    samples.extend(vec![0.0; ms(400)]);
    let output = join(&[samples.clone(), samples], 200);
    let found: Vec<f32> = output.into_iter().filter(|&sample| sample != 0.0).collect();
    assert_eq!(found, [speech.clone(), speech].concat());
}

#[test]
fn test_pause_inside_utterance_is_untouched() {
    for inner in [100, 1990, 2500, 7000] {
        let samples = [utterance(20, 100, inner), utterance(0, 100, 40)].concat();
        assert_eq!(join(std::slice::from_ref(&samples), 0), samples, "{inner}");
    }
}

#[test]
fn test_joins_do_not_click() {
    let abrupt = utterance(0, 203, 0);
    assert_smooth(&join(&[abrupt.clone(), abrupt.clone(), abrupt], 0));
    let noisy = utterance(500, 200, 500);
    let output = join(&[noisy.clone(), noisy.clone()], 200);
    let cuts = [
        0,
        ms(FIRST_LEAD_MS) + ms(200) + ms(200 - LEAD_MS),
        output.len() - 1,
    ];
    for at in cuts {
        assert!(output[at].abs() < FAINT / 100.0, "{at}: {}", output[at]);
    }
}

#[test]
fn test_shorter_pause_still_ends_in_fade() {
    let mut joiner = Joiner::new(RATE);
    let mut output = joiner.push(&utterance(0, 100, 9000));
    let gone = output.len();
    output.extend(joiner.end_utterance(200));
    assert_eq!(output.len(), gone + ms(5), "only the fade is added");
    let last = output[output.len() - 1];
    assert!(last < FAINT / 100.0, "{last}");
    output.extend(joiner.push(&utterance(0, 100, 0)));
    assert_eq!(
        output[gone + ms(5)..][..ms(LEAD_MS)],
        vec![0.0; ms(LEAD_MS)]
    );
}

#[test]
fn test_held_samples_are_bounded() {
    let mut joiner = Joiner::new(RATE);
    let before = joiner.push(&vec![0.0; ms(60_000)]);
    assert!(before.is_empty() && joiner.held.len() <= ms(FIRST_LEAD_MS));
    let speech = joiner.push(&vec![LOUD; ms(1000)]);
    assert!(
        speech.len() >= ms(FIRST_LEAD_MS + 990),
        "speech waits 10 ms at most"
    );
    let quiet = joiner.push(&vec![0.0; ms(60_000)]);
    assert!(quiet.len() >= ms(58_000) && joiner.held.len() <= ms(LONGEST_HELD_MS + 5));
}

#[test]
fn test_utterances_without_speech_are_left_out() {
    let spoken = utterance(20, 200, 100);
    let silent = utterance(500, 0, 0);
    let with = join(
        &[
            silent.clone(),
            spoken.clone(),
            silent.clone(),
            spoken.clone(),
        ],
        250,
    );
    assert_eq!(with, join(&[spoken.clone(), spoken], 250));
    let only = join(&[silent], 250);
    assert_eq!(
        only.len(),
        ms(FIRST_LEAD_MS),
        "something comes of something"
    );
    assert!(join(&[], 250).is_empty());
}

#[test]
fn test_reset_after_finish() {
    let samples = utterance(200, 100, 50);
    let mut joiner = Joiner::new(RATE);
    let mut runs = (0..2).map(|_| {
        let mut output = joiner.push(&samples);
        output.extend(joiner.finish());
        output
    });
    assert_eq!(runs.next(), runs.next());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn test_output_does_not_depend_on_pushes(
        parts in prop::collection::vec((0_u32..90, 0_u32..60, 0_u32..400), 1..4),
        pause in 0_u32..400,
        sizes in prop::collection::vec(1_usize..2000, 1..6),
    ) {
        let utterances: Vec<_> = parts.iter().map(|&(a, b, c)| utterance(a, b, c)).collect();
        let mut joiner = Joiner::new(RATE);
        let mut output = Vec::new();
        let mut sizes = sizes.iter().cycle();
        for (index, samples) in utterances.iter().enumerate() {
            if index > 0 {
                output.extend(joiner.end_utterance(pause));
            }
            let mut rest = samples.as_slice();
            while !rest.is_empty() {
                let size = sizes.next().map_or(1, |&size| size.min(rest.len()));
                let (now, later) = rest.split_at(size);
                output.extend(joiner.push(now));
                rest = later;
            }
        }
        output.extend(joiner.finish());
        prop_assert_eq!(output, join(&utterances, pause));
    }
}
