//! Cutting a stream into chunks of one exact length.

/// Cuts samples into chunks of equal length and holds the latest one back, so that the caller knows which is the last.
#[derive(Debug)]
pub struct Chunker {
    chunk_samples: usize,
    held: Vec<f32>,
}

impl Chunker {
    /// Chunks of `chunk_samples` samples; 0 counts as 1.
    pub fn new(chunk_samples: usize) -> Self {
        Self {
            chunk_samples: chunk_samples.max(1),
            held: Vec::new(),
        }
    }

    /// Takes samples and returns the chunks, all of the exact length, after which more is sure to follow.
    pub fn push(&mut self, samples: &[f32]) -> Vec<Vec<f32>> {
        self.held.extend_from_slice(samples);
        // One to `chunk_samples` samples stay: they are the last chunk if nothing follows.
        let ready = self.held.len().saturating_sub(1) / self.chunk_samples;
        let rest = self.held.split_off(ready * self.chunk_samples);
        let full = std::mem::replace(&mut self.held, rest);
        full.chunks(self.chunk_samples)
            .map(<[f32]>::to_vec)
            .collect()
    }

    /// The last chunk, of one sample up to the full length; empty only if no sample was ever pushed.
    pub fn finish(self) -> Vec<f32> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn test_chunks_are_exact_and_nothing_is_lost(
            size in 1_usize..50,
            pushes in prop::collection::vec(0_usize..120, 0..12),
        ) {
            let total: usize = pushes.iter().sum();
            let mut chunker = Chunker::new(size);
            let mut chunks = Vec::new();
            let mut next = 0;
            for count in pushes {
                let samples: Vec<f32> = (next..next + count).map(|sample| sample as f32).collect();
                next += count;
                chunks.extend(chunker.push(&samples));
            }
            prop_assert!(chunks.iter().all(|chunk| chunk.len() == size));
            let last = chunker.finish();
            prop_assert!(last.len() <= size);
            prop_assert_eq!(last.is_empty(), total == 0);
            chunks.push(last);
            let expected: Vec<f32> = (0..total).map(|sample| sample as f32).collect();
            prop_assert_eq!(chunks.concat(), expected);
        }
    }

    #[test]
    fn test_full_chunk_waits_for_next_sample() {
        let mut chunker = Chunker::new(2);
        assert!(chunker.push(&[1.0, 2.0]).is_empty());
        assert_eq!(chunker.push(&[3.0]), [[1.0, 2.0]]);
        assert_eq!(chunker.finish(), [3.0]);
    }

    #[test]
    fn test_empty_file_counts_as_one_sample() {
        let mut chunker = Chunker::new(0);
        assert_eq!(chunker.push(&[1.0, 2.0]), [[1.0]]);
        assert_eq!(chunker.finish(), [2.0]);
    }
}
