//! Reads what the fragments of an MP4 file claim to hold.

use super::DecodeError;

/// The name of the boxes that describe a fragment's samples (ISO/IEC 14496-12, section 8.8.8).
const TRACK_RUN: &[u8; 4] = b"trun";

/// Refuses fragments with more samples than the file has bytes: the demuxer counts each one, and looks at no clock. The
/// boxes are looked for everywhere, so that none is missed where this and the demuxer might read sizes differently.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let names = bytes.windows(TRACK_RUN.len()).enumerate();
    let runs = names.filter(|(_, name)| *name == TRACK_RUN);
    let samples: u64 = runs.filter_map(|(at, _)| sample_count(bytes, at)).sum();
    if samples > bytes.len() as u64 {
        return Err(DecodeError::Corrupt(
            "its fragments have more samples than bytes".to_owned(),
        ));
    }
    Ok(())
}

/// The count in the box whose name is at `name`.
fn sample_count(bytes: &[u8], name: usize) -> Option<u64> {
    let number = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let size = number(name.checked_sub(4)?)?;
    // A size of 1 stands for one of 64 bits behind the name. Version and flags come next.
    let content = name + if size == 1 { 12 } else { 4 };
    number(content + 4).map(u64::from)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::decode::{Limits, decode};

    const CLIP: &[u8] = include_bytes!("../../../../tests/data/tone-fragmented.m4a");

    #[test]
    fn test_fragments_with_more_samples_than_bytes_are_refused() {
        check(CLIP).unwrap();
        let run = CLIP.windows(4).position(|name| name == TRACK_RUN).unwrap();
        assert_eq!(sample_count(CLIP, run), Some(30));
        // No field for each sample, and as many samples as there may be.
        for flags in [0_u32, 1, 4, 5] {
            for samples in [u32::MAX, 1 << 24] {
                let mut bomb = CLIP.to_vec();
                bomb[run + 4..run + 8].copy_from_slice(&flags.to_be_bytes());
                bomb[run + 8..run + 12].copy_from_slice(&samples.to_be_bytes());
                let started = Instant::now();
                let refused = decode(&bomb, &Limits::default()).unwrap_err();
                assert!(
                    matches!(&refused, DecodeError::Corrupt(why) if why.contains("more samples")),
                    "{refused:?}"
                );
                assert!(started.elapsed() < Limits::default().deadline);
            }
        }
    }

    #[test]
    fn test_counts_of_several_fragments_are_added() {
        let count = |samples: u32, wide: bool| {
            let mut run = if wide { 1_u32 } else { 16 }.to_be_bytes().to_vec();
            run.extend(TRACK_RUN);
            run.extend(if wide { [0_u8; 8].as_slice() } else { &[] });
            run.extend([0; 4]);
            run.extend(samples.to_be_bytes());
            run
        };
        for wide in [false, true] {
            let many = count(30, wide).repeat(8);
            assert!(many.len() < 30 * 8);
            assert!(check(&many).is_err());
            assert!(check(&count(10, wide).repeat(8)).is_ok());
        }
        assert!(check(b"trun").is_ok() && check(b"\0\0\0\x10trun\0").is_ok());
    }
}
