mod reference;

use super::random::{exponential, mix, step_state, uniform};
use super::{BatchItem, Sampler, Settings};
use crate::pool::Pool;
use reference::{GPT2, LLAMA, logits, reference};

const IDS: usize = 6563;
const START: usize = 6561;

fn item(slot: usize, row: usize, unconditional_row: usize, step: u64) -> BatchItem {
    BatchItem {
        slot,
        row,
        unconditional_row,
        step,
    }
}

/// The tokens of a single request, given the same two rows of logits at each step.
fn alone(settings: &Settings, last: bool, rows: &[f32], ids: usize, count: u64) -> Vec<u32> {
    let mut sampler = Sampler::new(1, ids, 0, last).unwrap();
    sampler.join(0, settings.clone(), 5).unwrap();
    let unconditional = usize::from(rows.len() > ids);
    (0..count)
        .map(|step| {
            let batch = [item(0, 0, unconditional, step)];
            sampler.sample(&Pool::new(1), rows, &batch).unwrap()[0]
        })
        .collect()
}

#[test]
fn test_tokens_equal_reference() {
    let mut grid = Vec::new();
    for temperature in [None, Some(0.3), Some(1.0), Some(1.7)] {
        for (top_p, min_p) in [
            (1.0, 0.0),
            (0.95, 0.0),
            (0.3, 0.0),
            (0.8, 0.02),
            (0.0, 0.0),
            (1.0, 1.0),
        ] {
            for top_k in [0, 1, 40, 1000, 100_000] {
                for (repetition_penalty, cfg_weight) in [(1.0, 0.0), (1.4, 0.5), (0.7, 0.0)] {
                    grid.push(Settings {
                        temperature,
                        top_p,
                        min_p,
                        top_k,
                        repetition_penalty,
                        cfg_weight,
                    });
                }
            }
        }
    }
    for (number, settings) in grid.iter().enumerate() {
        for (last, ids) in [(false, IDS), (true, IDS), (true, 7)] {
            let (row, unconditional) = (logits(number as u64, ids), logits(9000, ids));
            let start = ids - 2;
            let mut sampler = Sampler::new(1, ids, start, last).unwrap();
            sampler.join(0, settings.clone(), number as u64).unwrap();
            let mut seen = vec![false; ids];
            seen[start] = true;
            let both = [&*row, &*unconditional].concat();
            for step in 0..3 {
                let batch = [item(0, 0, 1, step)];
                let found = sampler.sample(&Pool::new(1), &both, &batch).unwrap()[0];
                let state = step_state(number as u64, step);
                let expected = reference(settings, last, [&row, &unconditional], &seen, state);
                assert_eq!(
                    found, expected,
                    "{settings:?} last={last} ids={ids} step={step}"
                );
                if last && step == 0 {
                    seen[start] = false;
                }
                seen[found as usize] = true;
            }
        }
    }
}

#[test]
fn test_token_is_independent_of_batch() {
    let settings: Vec<Settings> = (0..8_u8)
        .map(|n| Settings {
            temperature: (n != 3).then_some(0.5 + f32::from(n) / 10.0),
            top_p: if n % 2 == 0 { 1.0 } else { 0.9 },
            top_k: if n % 3 == 0 { 0 } else { 50 },
            ..LLAMA
        })
        .collect();
    let all: Vec<f32> = (0..16).flat_map(|n| logits(n, IDS)).collect();
    let mut expected = Vec::new();
    for (n, settings) in settings.iter().enumerate() {
        let mut sampler = Sampler::new(1, IDS, START, false).unwrap();
        sampler.join(0, settings.clone(), n as u64).unwrap();
        let batch = |step| [item(0, 2 * n, 2 * n + 1, step)];
        let pool = Pool::new(1);
        expected.push([0, 1, 2].map(|step| sampler.sample(&pool, &all, &batch(step)).unwrap()[0]));
    }
    for threads in [1, 3] {
        let mut sampler = Sampler::new(8, IDS, START, false).unwrap();
        for (n, settings) in settings.iter().enumerate() {
            // In other slots than the order of the rows, which others had before.
            sampler.join(7 - n, GPT2, 99).unwrap();
            sampler.join(7 - n, settings.clone(), n as u64).unwrap();
        }
        let pool = Pool::new(threads);
        for step in 0..3 {
            let batch: Vec<BatchItem> = (0..8)
                .map(|n| item(7 - n, 2 * n, 2 * n + 1, step as u64))
                .collect();
            let found = sampler.sample(&pool, &all, &batch).unwrap();
            assert!(
                found
                    .iter()
                    .zip(&expected)
                    .all(|(id, each)| *id == each[step])
            );
        }
    }
}

#[test]
fn test_ties_all_pass_top_k_and_greedy_takes_first() {
    let rows = [1.0, 3.0, 2.0, 3.0, 2.0, 0.0];
    let free = Settings {
        top_p: 1.0,
        min_p: 0.0,
        top_k: 3,
        repetition_penalty: 1.0,
        cfg_weight: 0.0,
        temperature: Some(5.0),
    };
    let mut found = alone(&free, false, &rows, 6, 200);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [1, 2, 3, 4]);
    // Of two that are as likely, the first goes.
    let half = Settings {
        top_k: 0,
        top_p: 0.5,
        temperature: Some(0.01),
        ..free.clone()
    };
    assert_eq!(alone(&half, false, &rows, 6, 20), [3; 20]);
    let greedy = Settings {
        temperature: None,
        ..free
    };
    assert_eq!(alone(&greedy, false, &rows, 6, 2), [1; 2]);
}

#[test]
fn test_strict_filters_keep_one_candidate() {
    let rows = logits(3, IDS);
    let keep_top_p = (0..IDS)
        .max_by(|a, b| rows[*a].total_cmp(&rows[*b]))
        .unwrap();
    let free = Settings {
        min_p: 0.0,
        top_k: 0,
        repetition_penalty: 1.0,
        ..GPT2
    };
    for settings in [
        Settings { top_p: 0.0, ..free },
        Settings { min_p: 1.0, ..free },
        Settings { top_k: 1, ..free },
    ] {
        assert_eq!(
            alone(&settings, true, &rows, IDS, 5),
            [keep_top_p as u32; 5]
        );
    }
    assert_eq!(alone(&free, true, &[2.0], 1, 3), [0; 3]);
}

#[test]
fn test_impossible_tokens_are_never_sampled() {
    const NEVER: f32 = f32::NEG_INFINITY;
    for settings in [LLAMA, GPT2] {
        for last in [false, true] {
            let settings = Settings {
                temperature: Some(3.0),
                cfg_weight: 0.0,
                ..settings.clone()
            };
            let found = alone(&settings, last, &[NEVER, 1.0, NEVER, 1.2, NEVER], 5, 50);
            assert!(found.iter().all(|id| *id == 1 || *id == 3), "{found:?}");
            assert!(found.contains(&1) && found.contains(&3));
        }
    }
}

#[test]
fn test_non_finite_logits_give_token() {
    let broken = [
        [1.0, f32::NAN, 2.0, f32::NAN],
        [f32::NAN; 4],
        [f32::NEG_INFINITY; 4],
        [1.0, f32::INFINITY, 2.0, 0.0],
    ];
    for (rows, greedy) in broken.iter().zip([1, 0, 0, 1]) {
        for settings in [LLAMA, GPT2] {
            for last in [false, true] {
                assert_eq!(alone(&settings, last, rows, 4, 2), [0; 2]);
                let keep_top_p = Settings {
                    temperature: None,
                    ..settings.clone()
                };
                assert_eq!(alone(&keep_top_p, last, rows, 4, 1), [greedy]);
            }
        }
    }
}

#[test]
fn test_start_token_is_penalised_once_with_last_penalty() {
    let settings = Settings {
        temperature: None,
        repetition_penalty: 2.0,
        ..GPT2
    };
    // With half of 4 the second id comes first; then it is half itself, and the start token whole again or not.
    let rows = [4.0, 3.0, 2.5];
    assert_eq!(alone(&settings, true, &rows, 3, 2), [1, 0]);
    assert_eq!(alone(&settings, false, &rows, 3, 2), [1, 2]);
}

#[test]
fn test_draws_follow_probabilities() {
    let shares = [0.5_f32, 0.0, 0.3, 0.19, 0.01];
    let rows = shares.map(f32::ln);
    let settings = Settings {
        temperature: Some(1.0),
        top_p: 1.0,
        min_p: 0.0,
        top_k: 0,
        repetition_penalty: 1.0,
        cfg_weight: 0.0,
    };
    let found = alone(&settings, false, &rows, 5, 20_000);
    for (id, share) in (0..).zip(shares) {
        let count = found.iter().filter(|found| **found == id).count();
        assert!(
            (count as f32 / 20_000.0 - share).abs() < 0.01,
            "{id}: {count}"
        );
    }
}

#[test]
fn test_random_numbers_match_splitmix64() {
    // The first outputs for the seed 1234567.
    let words =
        (1..=3).map(|n| mix(1_234_567_u64.wrapping_add(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(n))));
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
    ];
    assert!(words.eq(published));
    let all: Vec<f32> = (0..100_000).map(|id| uniform(7, id)).collect();
    assert!(all.iter().all(|x| *x > 0.0 && *x <= 1.0));
    assert!(all.iter().all(|x| exponential(*x) >= *x));
    let mean = all.iter().map(|x| f64::from(exponential(*x))).sum::<f64>() / 1e5;
    assert!((mean - 1.0).abs() < 0.01, "{mean}");
    assert!(exponential(1.0).is_infinite());
}

#[test]
fn test_wrong_arguments_are_refused() {
    assert!(Sampler::new(1, 3, 3, false).is_err());
    let mut sampler = Sampler::new(2, 3, 0, false).unwrap();
    assert!(sampler.join(2, LLAMA, 0).is_err());
    sampler.join(0, LLAMA, 0).unwrap();
    let pool = Pool::new(1);
    let mut refused = |item| sampler.sample(&pool, &[0.0; 6], &[item]).unwrap_err().0;
    assert!(refused(item(1, 0, 0, 0)).contains("slot 1 is empty"));
    assert!(refused(item(5, 0, 0, 0)).contains("slot 5 is empty"));
    assert!(refused(item(0, 2, 0, 0)).contains("no row 2"));
    assert!(refused(item(0, 0, 2, 0)).contains("no row 2"));
    assert_eq!(sampler.sample(&pool, &[], &[]), Ok(Vec::new()));
}
