//! Telling audio from everything else by its first bytes, and where it begins.
//!
//! The demuxer's own search looks for a marker anywhere in the file, and two bytes of MPEG audio turn up in any zip.
//! A clip has to begin as a known container does, or hold several frames of MPEG audio in a row.

use std::borrow::Cow;

use super::DecodeError;

/// How far into a file without a container the first frame of MPEG audio may lie, in bytes.
const MAX_JUNK: usize = 64 * 1024;
/// Frames that must follow each other where a stream begins with something else.
const FRAMES_IN_ROW: usize = 4;
const ID3_HEADER_BYTES: usize = 10;
/// The number of MP3 among the formats of WAV.
const MP3_IN_WAV: u32 = 0x55;

/// Kinds of files that people take for audio files and that are not decoded, by their first bytes.
const UNSUPPORTED: [(usize, &[u8], &str); 8] = [
    (0, b"FORM", "AIFF"),
    (0, b"caff", "Apple CAF"),
    (0, b"RIFX", "big-endian WAV (RIFX)"),
    (0, b"#!AMR", "AMR"),
    (
        0,
        b"\x30\x26\xB2\x75\x8E\x66\xCF\x11",
        "Windows Media (WMA)",
    ),
    (0, b"MThd", "MIDI"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio (APE)"),
];

/// Files that may hold a whole MP3 file, and are none.
const OTHER_KINDS: [&[u8]; 9] = [
    b"PK", b"Rar!", b"7z", b"%PDF", b"\x7FELF", b"\x80", b"RIFF", b"RIFX", b"MZ",
];

/// The audio in a file of one of the containers that [`super::decode`] reads: without what stands before it, and with
/// sizes in its head that are right.
pub(super) fn audio(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    // Tags are of no use here, and pictures in them may be large.
    let untagged = after_id3(bytes);
    if is_container(untagged) {
        return Ok(with_known_sizes(untagged));
    }
    let other_kind = OTHER_KINDS.iter().any(|magic| untagged.starts_with(magic));
    if let Some(start) = first_frame(untagged).filter(|_| !other_kind) {
        return Ok(Cow::Borrowed(&untagged[start..]));
    }
    let named = |&&(offset, magic, _): &&(usize, &[u8], &str)| at(bytes, offset, magic);
    Err(match UNSUPPORTED.iter().find(named) {
        Some((_, _, name)) => DecodeError::UnsupportedCodec((*name).to_owned()),
        None => DecodeError::NotAudio,
    })
}

/// The usual extension of such a file, by its content; `wav` for bytes that are no audio.
pub fn extension(bytes: &[u8]) -> &'static str {
    match after_id3(bytes) {
        [b'f', b'L', b'a', b'C', ..] => "flac",
        [b'O', b'g', b'g', b'S', ..] => "ogg",
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "webm",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "m4a",
        [b'R', b'I', b'F' | b'X', ..] => "wav",
        [0xFF, second, ..] if second & 0xF6 == 0xF0 => "aac",
        [0xFF, ..] => "mp3",
        rest if first_frame(rest).is_some() => "mp3",
        _ => "wav",
    }
}

fn at(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes
        .get(offset..)
        .is_some_and(|rest| rest.starts_with(magic))
}

fn is_wav(bytes: &[u8]) -> bool {
    [b"RIFF", b"RF64", b"BW64"]
        .iter()
        .any(|kind| at(bytes, 0, *kind))
        && at(bytes, 8, b"WAVE")
}

fn is_container(bytes: &[u8]) -> bool {
    is_wav(bytes)
        || at(bytes, 0, &[0x1A, 0x45, 0xDF, 0xA3])
        || at(bytes, 0, b"fLaC")
        || at(bytes, 0, b"OggS")
        || at(bytes, 4, b"ftyp")
        || is_adts(bytes)
        || MpegFrame::parse(bytes).is_some()
}

/// What follows the ID3 tags at the start (ID3v2.4, sections 3.1 and 3.4).
fn after_id3(mut bytes: &[u8]) -> &[u8] {
    while let Some(
        [
            b'I',
            b'D',
            b'3',
            _,
            _,
            flags,
            a @ ..=0x7F,
            b @ ..=0x7F,
            c @ ..=0x7F,
            d @ ..=0x7F,
        ],
    ) = bytes.first_chunk::<ID3_HEADER_BYTES>()
    {
        let size = [a, b, c, d]
            .iter()
            .fold(0, |size, &&byte| size << 7 | usize::from(byte));
        let footer = if flags & 0x10 == 0 {
            0
        } else {
            ID3_HEADER_BYTES
        };
        let end = ID3_HEADER_BYTES + size + footer;
        bytes = bytes.get(end..).unwrap_or_default();
    }
    bytes
}

/// A WAV file with sizes that are right: recorders that were cut off, and programs that write into pipes, leave others.
/// Data without a size, or with one beyond the end, lasts to the end of the file. RF64 (EBU Tech 3306) is WAV whose sizes
/// stand in a chunk of their own, and MP3 in WAV is MP3.
fn with_known_sizes(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !is_wav(bytes) {
        return Cow::Borrowed(bytes);
    }
    let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let (mut chunk, mut format, mut long_size) = (12, 0, None);
    while let Some(head) = bytes.get(chunk..chunk + 8) {
        let size = number(chunk + 4).unwrap_or_default();
        let content = chunk + 8;
        match &head[..4] {
            b"fmt " => format = number(content).unwrap_or_default() & 0xFFFF,
            // The size of the file, then that of the data, in 64 bits of which the lower are enough here.
            b"ds64" => long_size = number(content + 8),
            b"data" => {
                let rest = bytes.len() - content;
                let size = long_size.filter(|_| size == u32::MAX).unwrap_or(size) as usize;
                let size = if size == 0 { rest } else { size.min(rest) };
                if format == MP3_IN_WAV {
                    return Cow::Borrowed(&bytes[content..content + size]);
                }
                return with_sizes(bytes, chunk, size);
            }
            _ => {}
        }
        chunk = content.saturating_add((size as usize).next_multiple_of(2));
    }
    Cow::Borrowed(bytes)
}

/// A WAV file whose chunk at `data` has this size.
fn with_sizes(bytes: &[u8], data: usize, size: usize) -> Cow<'_, [u8]> {
    let fits = |size: usize| u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    let (riff, data_size) = (fits(bytes.len() - 8), fits(size));
    let is_riff = bytes.starts_with(b"RIFF");
    if is_riff && bytes[4..8] == riff && bytes[data + 4..data + 8] == data_size {
        return Cow::Borrowed(bytes);
    }
    let mut whole = bytes.to_vec();
    whole[..4].copy_from_slice(b"RIFF");
    whole[4..8].copy_from_slice(&riff);
    whole[data + 4..data + 8].copy_from_slice(&data_size);
    Cow::Owned(whole)
}

/// Whether the bytes begin with a frame of AAC in ADTS (ISO/IEC 13818-7).
fn is_adts(bytes: &[u8]) -> bool {
    matches!(bytes, &[0xFF, second, third, ..] if second & 0xF6 == 0xF0 && (third >> 2) & 0xF <= 12)
}

/// The offset at which a run of MP3 frames begins.
fn first_frame(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len().min(MAX_JUNK)).find(|&start| {
        let mut rest = &bytes[start..];
        let Some(first) = MpegFrame::parse(rest) else {
            return false;
        };
        for _ in 0..FRAMES_IN_ROW {
            let Some(frame) = MpegFrame::parse(rest).filter(|frame| frame.kind == first.kind)
            else {
                return false;
            };
            let Some(next) = rest.get(frame.bytes..) else {
                return false;
            };
            rest = next;
        }
        true
    })
}

/// The header of a frame of MPEG audio, layer III (ISO/IEC 11172-3, section 2.4.1.3, and 13818-3).
struct MpegFrame {
    /// What all frames of a stream have in common: the version and the sample rate.
    kind: (u8, u8),
    /// The frame's length with its header; 4 where the header does not tell ("free format").
    bytes: usize,
}

impl MpegFrame {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let &[0xFF, second, third, ..] = bytes else {
            return None;
        };
        let (version, rate, bit_rate) = (second >> 3 & 0b11, third >> 2 & 0b11, third >> 4);
        // Sync, a known version, layer III, and neither a forbidden bit rate nor a forbidden sample rate.
        if second & 0xE6 != 0xE2 || version == 0b01 || bit_rate == 0xF || rate == 0b11 {
            return None;
        }
        let mpeg1 = version == 0b11;
        let kbps: [usize; 15] = if mpeg1 {
            [
                0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
            ]
        } else {
            [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160]
        };
        let divisor = match version {
            0b11 => 1,
            0b10 => 2,
            _ => 4,
        };
        let hertz = [44_100, 48_000, 32_000][usize::from(rate)] / divisor;
        let slots = if mpeg1 { 144_000 } else { 72_000 };
        let padding = usize::from(third >> 1 & 1);
        Some(Self {
            kind: (version, rate),
            bytes: (slots * kbps[usize::from(bit_rate)] / hertz + padding).max(4),
        })
    }
}
