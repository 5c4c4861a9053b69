//! Attention, norms and whole layers against the same in double precision, written down plainly.

mod models;
mod plain;

use super::page::{PAGE, Shape};
use super::{Backbone, Cache, CacheFormat, LlamaLayer};
use crate::matrix::Precision;
use crate::pool::Pool;
use models::{Gpt2, HEADS, IDS, LAYERS, Llama, WIDTH, numbers};

/// The logits after each of `parts`, numbers of positions that are fed together, of one sequence.
fn fed(
    backbone: &Backbone,
    format: CacheFormat,
    embedded: &[f32],
    parts: &[usize],
) -> Vec<Vec<f32>> {
    let pool = Pool::new(1);
    let mut cache = backbone.cache(format);
    cache.append();
    let mut logits = Vec::new();
    for part in parts {
        let start = cache.length(0);
        let new = embedded[start * WIDTH..][..part * WIDTH].to_vec();
        let hidden = backbone
            .forward(&pool, new, &mut cache, 0, &[start])
            .unwrap();
        let last = &hidden[hidden.len() - WIDTH..];
        logits.push(backbone.logits(&pool, last).unwrap());
    }
    logits
}

fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let errors = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(*a) - b).abs());
    errors.fold(0.0, f64::max)
}

/// Crosses pages, and groups of queries.
const PARTS: [usize; 8] = [7, 1, 1, 54, 2, 1, 70, 1];

#[test]
fn test_logits_match_f64() {
    let embedded = numbers(PARTS.iter().sum::<usize>() * WIDTH, 7);
    let (llama, gpt2) = (Llama::new(), Gpt2::new());
    let found = fed(
        &llama.packed(Precision::F32),
        CacheFormat::F32,
        &embedded,
        &PARTS,
    );
    let also = fed(
        &gpt2.packed(Precision::F32),
        CacheFormat::F32,
        &embedded,
        &PARTS,
    );
    let mut end = 0;
    for ((part, llamas), gpt2s) in PARTS.iter().zip(found).zip(also) {
        end += part;
        let embedded = &embedded[..end * WIDTH];
        assert!(distance(&llamas, &llama.expected(embedded)) < 2e-5);
        assert!(distance(&gpt2s, &gpt2.expected(embedded)) < 2e-5);
    }
}

#[test]
fn test_reduced_precisions_approximate_f64() {
    let embedded = numbers(PARTS.iter().sum::<usize>() * WIDTH, 8);
    let gpt2 = Gpt2::new();
    let expected = gpt2.expected(&embedded);
    for (precision, bound) in [
        (Precision::Bf16, 0.05),
        (Precision::Int8, 0.1),
        (Precision::Int4, 0.6),
    ] {
        let found = fed(
            &gpt2.packed(precision),
            CacheFormat::Bf16,
            &embedded,
            &PARTS,
        );
        let error = distance(&found[PARTS.len() - 1], &expected);
        assert!(error < bound, "{precision:?} is off by {error}");
    }
}

#[test]
fn test_logits_do_not_depend_on_chunking_of_positions() {
    let backbone = Llama::new().packed(Precision::F32);
    let embedded = numbers(80 * WIDTH, 9);
    let together = fed(&backbone, CacheFormat::F32, &embedded, &[80]);
    let singly = fed(&backbone, CacheFormat::F32, &embedded, &[1; 80]);
    assert_eq!(together[0], singly[79]);
}

#[test]
fn test_rows_of_batch_are_independent() {
    let backbone = Llama::new().packed(Precision::F32);
    let lengths = [3, PAGE, 70];
    let sequences: Vec<Vec<f32>> = (0..3).map(|n| numbers(90 * WIDTH, 20 + n)).collect();
    let alone: Vec<Vec<Vec<f32>>> = lengths
        .iter()
        .zip(&sequences)
        .map(|(length, embedded)| fed(&backbone, CacheFormat::Bf16, embedded, &[*length, 1, 1, 1]))
        .collect();
    for threads in [1, 2, 3] {
        let pool = Pool::new(threads);
        let mut cache = backbone.cache(CacheFormat::Bf16);
        for (row, embedded) in sequences.iter().enumerate() {
            cache.append();
            let prompt = embedded[..lengths[row] * WIDTH].to_vec();
            backbone
                .forward(&pool, prompt, &mut cache, row, &[0])
                .unwrap();
        }
        for step in 0..3 {
            let starts = lengths.map(|length| length + step);
            let new = sequences.iter().zip(starts);
            let new = new.flat_map(|(embedded, start)| embedded[start * WIDTH..][..WIDTH].to_vec());
            let hidden = backbone
                .forward(&pool, new.collect(), &mut cache, 0, &starts)
                .unwrap();
            let logits = backbone.logits(&pool, &hidden).unwrap();
            for (row, logits) in logits.chunks_exact(IDS).enumerate() {
                assert_eq!(logits, alone[row][step + 1]);
            }
        }
    }
}

#[test]
fn test_copied_rows_share_pages_until_written() {
    let (backbone, pool) = (Gpt2::new().packed(Precision::F32), Pool::new(2));
    let embedded = numbers(100 * WIDTH, 30);
    let prefix = embedded[..80 * WIDTH].to_vec();
    let (mut voice, mut cache) = (
        backbone.cache(CacheFormat::F32),
        backbone.cache(CacheFormat::F32),
    );
    voice.append();
    backbone
        .forward(&pool, prefix, &mut voice, 0, &[0])
        .unwrap();
    for row in 0..2 {
        cache.append();
        cache.paste(row, &voice, 0).unwrap();
    }
    let expected = fed(&backbone, CacheFormat::F32, &embedded, &[80, 1, 1]);
    let other = numbers(WIDTH, 31);
    for step in 0..2 {
        let mut new = other.clone();
        new.extend(&embedded[(80 + step) * WIDTH..][..WIDTH]);
        let hidden = backbone
            .forward(&pool, new, &mut cache, 0, &[80 + step; 2])
            .unwrap();
        let logits = backbone.logits(&pool, &hidden[WIDTH..]).unwrap();
        assert_eq!(logits, expected[step + 1]);
    }
    // The voice is as it was.
    cache.paste(0, &voice, 0).unwrap();
    let new = embedded[80 * WIDTH..][..WIDTH].to_vec();
    let hidden = backbone.forward(&pool, new, &mut cache, 0, &[80]).unwrap();
    assert_eq!(backbone.logits(&pool, &hidden).unwrap(), expected[1]);
}

#[test]
fn test_removed_row_is_replaced_by_last() {
    let (backbone, pool) = (Gpt2::new().packed(Precision::F32), Pool::new(1));
    let embedded = numbers(10 * WIDTH, 40);
    let mut cache = backbone.cache(CacheFormat::F32);
    for (row, length) in [4, 6, 9].into_iter().enumerate() {
        cache.append();
        let prompt = embedded[..length * WIDTH].to_vec();
        backbone
            .forward(&pool, prompt, &mut cache, row, &[0])
            .unwrap();
    }
    let page = 2 * LAYERS * WIDTH * PAGE * 4;
    assert_eq!(cache.bytes(), 3 * page);
    cache.remove(0).unwrap();
    assert_eq!((cache.rows(), cache.length(0), cache.length(1)), (2, 9, 6));
    assert_eq!(cache.bytes(), 2 * page);
    let new = embedded[9 * WIDTH..].to_vec();
    let hidden = backbone.forward(&pool, new, &mut cache, 0, &[9]).unwrap();
    let expected = fed(&backbone, CacheFormat::F32, &embedded, &[9, 1]);
    assert_eq!(backbone.logits(&pool, &hidden).unwrap(), expected[1]);
}

#[test]
fn test_wrong_sizes_are_refused() {
    let (gpt2, llama, pool) = (Gpt2::new(), Llama::new(), Pool::new(1));
    let backbone = gpt2.packed(Precision::F32);
    let mut cache = backbone.cache(CacheFormat::F32);
    cache.append();
    let mut forward = |count: usize, first: usize, starts: &[usize]| {
        backbone.forward(&pool, vec![0.0; count], &mut cache, first, starts)
    };
    assert!(forward(2 * WIDTH, 0, &[0]).is_ok());
    assert!(forward(WIDTH, 1, &[0]).is_err(), "a row that is not there");
    assert!(forward(WIDTH, 0, &[3]).is_err(), "a gap");
    assert!(forward(WIDTH + 1, 0, &[2]).is_err(), "half a position");
    assert!(forward(0, 0, &[2]).is_err(), "nothing");
    assert!(forward(WIDTH, 0, &[]).is_err(), "no row");
    assert!(
        forward(201 * WIDTH, 0, &[0]).is_err(),
        "more than the table"
    );
    assert!(backbone.logits(&pool, &[0.0; WIDTH + 1]).is_err());
    let mut other = Cache::new(Shape {
        layers: LAYERS,
        heads: HEADS,
        channels: 32,
        format: CacheFormat::F32,
    });
    other.append();
    assert!(cache.paste(0, &other, 0).is_err());
    assert!(cache.remove(1).is_err());
    let found = backbone.forward(&pool, vec![0.0; WIDTH], &mut other, 0, &[0]);
    assert!(found.is_err(), "another model's cache");
    let mut backbone = llama.packed(Precision::F32);
    let [query, key, value, output, gate, up, _] = &llama.linears[0];
    let layer = LlamaLayer {
        attention_norm: &llama.norms[0][0],
        query,
        key,
        value,
        output,
        feed_norm: &llama.norms[0][1],
        gate,
        up,
        down: query,
    };
    assert!(backbone.add_llama(&pool, &layer).is_err());
}
