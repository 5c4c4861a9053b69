//! Voices without a clip: what a model knows of a speaker, as `chatterbox-server voice convert` writes it.
//!
//! The file is in the safetensors format (its length, a header in JSON, then the tensors), which cannot run anything.
//! The engine reads the tensors; here only their presence is checked.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What the header of such a voice says of its format; the Python side has the same line.
const FORMAT: &str = "chatterbox-server voice 1";
/// The error for any other file.
pub(super) const NONE: &str = "it is no voice that `voice convert` has written";
/// Such a voice takes some 170 kB.
const MAX_BYTES: usize = 4 << 20;
/// The reference's mel spectrogram, `[frames, 80]`.
const MEL: &str = "s3_mel";
const FRAMES_PER_SECOND: f64 = 50.0;
/// Rate of the clips that the models work with.
pub(super) const SAMPLE_RATE: u32 = 24_000;

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The seconds of reference that a voice without a clip was made of; `None` when the bytes are no such voice.
pub(super) fn duration_seconds(bytes: &[u8]) -> Option<f64> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    if bytes.len() > MAX_BYTES || length > rest.len() {
        return None;
    }
    let (header, data) = rest.split_at(length);
    let header: Header = serde_json::from_slice(header).ok()?;
    let whole = header
        .tensors
        .values()
        .all(|tensor| tensor.data_offsets.1 <= data.len() as u64);
    let ours = header.metadata.get("format").map(String::as_str) == Some(FORMAT);
    match header.tensors.get(MEL)?.shape.as_slice() {
        [frames, 80] if whole && ours => Some(*frames as f64 / FRAMES_PER_SECOND),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file with one tensor, whose data are `kept` bytes long.
    pub fn file(format: &str, frames: usize, kept: usize) -> Vec<u8> {
        let size = frames * 80 * 4;
        let header = format!(
            r#"{{"__metadata__":{{"format":"{format}"}},"s3_mel":{{"dtype":"F32","shape":[{frames},80],"data_offsets":[0,{size}]}}}}"#
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(std::iter::repeat_n(0, kept.min(size)));
        bytes
    }

    #[test]
    fn test_only_complete_portable_voices_are_recognised() {
        let good = file(FORMAT, 100, usize::MAX);
        assert_eq!(duration_seconds(&good), Some(2.0));
        assert_eq!(duration_seconds(&good[..good.len() - 1]), None);
        assert_eq!(
            duration_seconds(&file("something else", 100, usize::MAX)),
            None
        );
        assert_eq!(duration_seconds(&file(FORMAT, 20_000, usize::MAX)), None);
        for bad in [&b""[..], &[0xFF; 8], &[0xFF; 200], b"\x02\0\0\0\0\0\0\0{}"] {
            assert_eq!(duration_seconds(bad), None);
        }
    }
}
