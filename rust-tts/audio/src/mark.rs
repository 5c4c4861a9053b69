//! Comments in files that mark their audio as generated, for the formats that have a place for comments.

/// The program that wrote the file.
pub(super) const WRITER: &str = concat!("chatterbox-server ", env!("CARGO_PKG_VERSION"));
/// Marks the audio as made by a machine. Readers show it as the file's comment.
pub(super) const COMMENT: &str = "AI-generated speech (chatterbox-server)";

/// The comments of Ogg and FLAC files (RFC 7845, section 5.2; RFC 9639, section 8.6); `vendor` made the codec.
pub(super) fn vorbis_comments(vendor: &str) -> Vec<u8> {
    let comments = [format!("ENCODER={WRITER}"), format!("COMMENT={COMMENT}")];
    let mut bytes = Vec::new();
    extend_string(&mut bytes, vendor);
    bytes.extend_from_slice(&(comments.len() as u32).to_le_bytes());
    for comment in &comments {
        extend_string(&mut bytes, comment);
    }
    bytes
}

fn extend_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// An ID3 tag of version 2.3, which stands before the first frame of an MP3 stream.
pub(super) fn id3() -> Vec<u8> {
    // Latin-1, of which all of it is; a comment has a language, and a description, which is empty.
    let comment = [b"\0eng\0", COMMENT.as_bytes()].concat();
    let encoder = [b"\0", WRITER.as_bytes()].concat();
    let frames = [id3_frame(*b"COMM", &comment), id3_frame(*b"TSSE", &encoder)].concat();
    let size = frames.len() as u32;
    let mut tag = b"ID3\x03\0\0".to_vec();
    // Seven bits to a byte, so that no byte looks like the start of a frame of sound.
    tag.extend([21, 14, 7, 0].map(|shift| (size >> shift) as u8 & 0x7F));
    tag.extend(frames);
    tag
}

fn id3_frame(name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut frame = name.to_vec();
    frame.extend_from_slice(&(content.len() as u32).to_be_bytes());
    frame.extend_from_slice(&[0, 0]); // flags
    frame.extend_from_slice(content);
    frame
}

/// A list of RIFF information ("Multimedia Programming Interface and Data Specifications 1.0", chapter 2).
pub(super) fn riff_info() -> Vec<u8> {
    let mut list = b"INFO".to_vec();
    for (name, text) in [(b"ICMT", COMMENT), (b"ISFT", WRITER)] {
        list.extend_from_slice(name);
        list.extend_from_slice(&(text.len() as u32 + 1).to_le_bytes());
        list.extend_from_slice(text.as_bytes());
        // The string's end, and the byte that makes the next chunk begin at an even place.
        list.resize((list.len() + 1).next_multiple_of(2), 0);
    }
    let mut chunk = b"LIST".to_vec();
    chunk.extend_from_slice(&(list.len() as u32).to_le_bytes());
    chunk.extend(list);
    chunk
}
