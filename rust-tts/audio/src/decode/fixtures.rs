//! Clips made for tests.

use std::f32::consts::TAU;

/// A sine of 220 Hz at half of full scale.
pub fn tone(seconds: f32, rate: u32) -> Vec<f32> {
    (0..(seconds * rate as f32) as u32)
        .map(|n| 0.5 * (TAU * 220.0 * n as f32 / rate as f32).sin())
        .collect()
}

/// A WAV file of 32-bit floats; `samples` are interleaved.
pub fn wav(samples: &[f32], rate: u32, channels: u16) -> Vec<u8> {
    let size = u32::try_from(samples.len() * 4).unwrap_or(u32::MAX);
    let mut file = wav_header(rate, channels, size);
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    file
}

/// The header of a WAV file of 32-bit floats, up to the first sample.
pub fn wav_header(rate: u32, channels: u16, data_bytes: u32) -> Vec<u8> {
    let frame = 4 * channels;
    let mut header = b"RIFF".to_vec();
    header.extend(data_bytes.saturating_add(36).to_le_bytes());
    header.extend(b"WAVEfmt \x10\0\0\0\x03\0");
    header.extend(channels.to_le_bytes());
    header.extend(rate.to_le_bytes());
    header.extend(rate.wrapping_mul(u32::from(frame)).to_le_bytes());
    header.extend(frame.to_le_bytes());
    header.extend(b"\x20\0data");
    header.extend(data_bytes.to_le_bytes());
    header
}

/// A FLAC file of silence: twelve bytes or so for each 32768 samples (RFC 9639).
pub fn flac_silence(seconds: u32, rate: u32) -> Vec<u8> {
    const BLOCK: u32 = 32_768;
    let frames = (u64::from(seconds) * u64::from(rate)).div_ceil(u64::from(BLOCK)) as u32;
    let mut file = b"fLaC\x80\0\0\x22\x80\0\x80\0\0\0\0\0\0\0".to_vec();
    // 20 bits of rate, 3 of channels - 1, 5 of bits - 1, 36 of samples.
    let info = (u64::from(rate) << 44) | (15 << 36) | (u64::from(frames) * u64::from(BLOCK));
    file.extend(info.to_be_bytes());
    file.extend([0; 16]);
    for number in 0..frames {
        let mut frame = vec![0xFF, 0xF8, 0xF0, 0x00];
        // Frame numbers are coded like UTF-8; these all are characters.
        let coded = char::from_u32(number).map(String::from).unwrap_or_default();
        frame.extend(coded.as_bytes());
        frame.push(crc(&frame, 8, 0x07) as u8);
        // One constant subframe: a sample of zero.
        frame.extend([0, 0, 0]);
        frame.extend(crc(&frame, 16, 0x8005).to_be_bytes());
        file.extend(frame);
    }
    file
}

/// A CRC of `bits` bits over `bytes`, most significant bit first.
fn crc(bytes: &[u8], bits: u32, polynomial: u16) -> u16 {
    let (top, mask) = (1_u32 << (bits - 1), (1_u32 << bits) - 1);
    let mut crc = 0_u32;
    for &byte in bytes {
        crc ^= u32::from(byte) << (bits - 8);
        for _ in 0..8 {
            crc = if crc & top == 0 {
                crc << 1
            } else {
                (crc << 1) ^ u32::from(polynomial)
            } & mask;
        }
    }
    crc as u16
}
