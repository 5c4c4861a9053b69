//! Telling audio from everything else by its first bytes.
//!
//! The demuxer's own search looks for a marker anywhere in the file, and two bytes of MPEG audio turn up in any zip.
//! A clip has to *begin* as a known container does.

/// Whether `bytes` begin as one of the containers that [`super::decode`] reads.
pub(super) fn is_audio_container(bytes: &[u8]) -> bool {
    let at = |offset: usize, magic: &[u8]| {
        bytes
            .get(offset..)
            .is_some_and(|rest| rest.starts_with(magic))
    };
    let wav = (at(0, b"RIFF") || at(0, b"RIFX") || at(0, b"RF64")) && at(8, b"WAVE");
    let matroska = at(0, &[0x1A, 0x45, 0xDF, 0xA3]);
    wav || matroska
        || at(0, b"fLaC")
        || at(0, b"OggS")
        || at(4, b"ftyp")
        || at(0, b"ID3")
        || is_mpeg_frame(bytes)
}

/// The usual extension of such a file, by its content; `wav` for bytes that are no audio.
pub fn extension(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'f', b'L', b'a', b'C', ..] => "flac",
        [b'O', b'g', b'g', b'S', ..] => "ogg",
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "webm",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "m4a",
        [0xFF, second, ..] if second & 0xF6 == 0xF0 => "aac",
        [b'I', b'D', b'3', ..] | [0xFF, ..] => "mp3",
        _ => "wav",
    }
}

/// Whether the bytes begin with a frame header of MPEG audio: MP3, or AAC in ADTS (ISO/IEC 11172-3, 13818-7).
fn is_mpeg_frame(bytes: &[u8]) -> bool {
    let &[0xFF, second, third, ..] = bytes else {
        return false;
    };
    let adts = second & 0xF6 == 0xF0 && (third >> 2) & 0xF <= 12;
    // Sync, a known version, layer III, and neither a forbidden bit rate nor a forbidden sample rate.
    let mp3 = second & 0xE6 == 0xE2
        && (second >> 3) & 0b11 != 0b01
        && third >> 4 != 0xF
        && (third >> 2) & 0b11 != 0b11;
    adts || mp3
}
