//! The memory that unpacking a Vorbis setup header would take, from the header itself.
//!
//! A codebook of a few bytes can stand for millions of numbers, which a decoder computes before it reads any audio. The
//! header's layout is in the Vorbis I specification, sections 3.2.1 and 4.2.4, and RFC 5215 (laced headers).

use super::DecodeError;

/// Most entries in all codebooks together. libvorbis writes up to 19,413 (5.1 at 44.1 kHz).
const MAX_ENTRIES: u64 = 1 << 17;
/// Most numbers in all unpacked codebooks together: 4 MiB. Those of libvorbis unpack to at most 85,928.
const MAX_NUMBERS: u64 = 1 << 20;

/// Bytes of the identification header.
const IDENTIFICATION_BYTES: usize = 30;
/// The first byte of three headers in one block: their number, less one.
const LACED: u8 = 2;
const CODEBOOK_SYNC: u64 = 0x56_4342;

/// Refuses headers, as a container hands them to the decoder, whose codebooks are out of all proportion.
pub(super) fn check(headers: &[u8]) -> Result<(), DecodeError> {
    let broken = || DecodeError::Corrupt("its Vorbis headers".to_owned());
    let setup = setup_header(headers).ok_or_else(broken)?;
    let cost = Cost::of(setup).ok_or_else(broken)?;
    if cost.entries > MAX_ENTRIES || cost.numbers > MAX_NUMBERS {
        return Err(DecodeError::UnsupportedCodec(
            "Vorbis with codebooks larger than any encoder writes".to_owned(),
        ));
    }
    Ok(())
}

/// The setup header, from its count of codebooks on.
fn setup_header(headers: &[u8]) -> Option<&[u8]> {
    let setup = if *headers.first()? == LACED {
        let mut bytes = headers[1..].iter();
        let mut before = 0;
        for _ in 0..LACED {
            loop {
                let part = *bytes.next()?;
                before += usize::from(part);
                if part < u8::MAX {
                    break;
                }
            }
        }
        bytes.as_slice().get(before..)?
    } else {
        headers.get(IDENTIFICATION_BYTES..)?
    };
    setup.strip_prefix(b"\x05vorbis")
}

/// The memory that codebooks unpack to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cost {
    entries: u64,
    /// Entries times dimensions, of codebooks that stand for numbers.
    numbers: u64,
}

impl Cost {
    /// Adds codebooks up until there are too many; `None` where the header is broken.
    fn of(setup: &[u8]) -> Option<Self> {
        let mut bits = Bits {
            bytes: setup,
            position: 0,
        };
        let mut cost = Self::default();
        let codebooks = bits.read(8)? + 1;
        for _ in 0..codebooks {
            if bits.read(24)? != CODEBOOK_SYNC {
                return None;
            }
            let dimensions = bits.read(16)?;
            let entries = bits.read(24)?;
            cost.entries += entries;
            if cost.entries > MAX_ENTRIES {
                break;
            }
            skip_lengths(&mut bits, entries)?;
            let lookup = bits.read(4)?;
            if lookup == 0 {
                continue;
            }
            cost.numbers += entries * dimensions;
            if cost.numbers > MAX_NUMBERS {
                break;
            }
            // The least value and the step.
            bits.skip(64)?;
            let value_bits = bits.read(4)? + 1;
            bits.skip(1)?;
            let values = match lookup {
                1 => values_per_dimension(entries, dimensions)?,
                2 => entries * dimensions,
                _ => return None,
            };
            bits.skip(values * value_bits)?;
        }
        Some(cost)
    }
}

/// Skips the lengths of a codebook's codewords.
fn skip_lengths(bits: &mut Bits, entries: u64) -> Option<()> {
    let ordered = bits.read(1)? == 1;
    if ordered {
        bits.skip(5)?;
        let mut known = 0;
        while known < entries {
            let remaining = entries - known;
            known += bits.read(u64::BITS - remaining.leading_zeros())?;
        }
        return (known == entries).then_some(());
    }
    let sparse = bits.read(1)? == 1;
    if !sparse {
        return bits.skip(5 * entries);
    }
    for _ in 0..entries {
        if bits.read(1)? == 1 {
            bits.skip(5)?;
        }
    }
    Some(())
}

/// The greatest number whose power by `dimensions` is no more than `entries`. In floating point, as the decoder has it:
/// both must come to the same place in the header.
fn values_per_dimension(entries: u64, dimensions: u64) -> Option<u64> {
    let dimensions = u16::try_from(dimensions).ok().filter(|&count| count > 0)?;
    Some((entries as f32).powf(1.0 / f32::from(dimensions)).floor() as u64)
}

/// Reads numbers whose least significant bit comes first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    position: u64,
}

impl Bits<'_> {
    /// A number of at most 32 bits; `None` beyond the end.
    fn read(&mut self, count: u32) -> Option<u64> {
        let mut value = 0;
        for bit in 0..count {
            let at = self.position + u64::from(bit);
            let byte = *self.bytes.get(usize::try_from(at / 8).ok()?)?;
            value |= u64::from(byte >> (at % 8) & 1) << bit;
        }
        self.position += u64::from(count);
        Some(value)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.position = self.position.checked_add(count)?;
        (self.position <= 8 * self.bytes.len() as u64).then_some(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Cursor;

    use ogg::{PacketReader, PacketWriteEndInfo, PacketWriter};

    use super::*;
    use crate::decode::tests::{is_alone, peak_kib};
    use crate::decode::{Limits, decode};
    use crate::webm::tests::webm_file;

    /// Writes numbers as [`Bits`] reads them.
    #[derive(Default)]
    struct BitWriter {
        bytes: Vec<u8>,
        length: usize,
    }

    impl BitWriter {
        fn write(&mut self, value: u64, count: u32) {
            for bit in 0..count {
                if self.length.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                let last = self.bytes.len() - 1;
                self.bytes[last] |= ((value >> bit & 1) as u8) << (self.length % 8);
                self.length += 1;
            }
        }
    }

    /// A setup header of `count` codebooks of 131,072 entries of 31 dimensions, in 25 bytes each.
    fn bomb(count: u64) -> Vec<u8> {
        let mut bits = BitWriter::default();
        bits.write(count - 1, 8);
        for _ in 0..count {
            bits.write(CODEBOOK_SYNC, 24);
            bits.write(31, 16);
            bits.write(1 << 17, 24);
            // Ordered: all codewords have 17 bits.
            bits.write(1, 1);
            bits.write(16, 5);
            bits.write(1 << 17, 18);
            bits.write(1, 4);
            bits.write(0, 64);
            bits.write(0, 4);
            bits.write(0, 1);
            // One value of one bit for each dimension.
            bits.write(0, 1);
        }
        // The least that may follow: one time, floor, residue, mapping and mode (sections 4.2.4, 6.2.1, 7.2.2, 8.6.1).
        let rest: &[(u64, u32)] = &[
            (0, 6),
            (0, 16),
            (0, 6),
            (1, 16),
            (0, 5),
            (0, 2),
            (0, 4),
            (0, 6),
            (0, 16),
            (0, 24),
            (0, 24),
            (0, 24),
            (0, 6),
            (0, 8),
            (0, 4),
            (0, 6),
            (0, 16),
            (0, 4),
            (0, 24),
            (0, 6),
            (0, 41),
            (1, 1),
        ];
        for &(value, count) in rest {
            bits.write(value, count);
        }
        let mut header = b"\x05vorbis".to_vec();
        header.extend(bits.bytes);
        header
    }

    fn packets(file: &[u8]) -> Vec<Vec<u8>> {
        let mut reader = PacketReader::new(Cursor::new(file));
        let packets = std::iter::from_fn(|| reader.read_packet().unwrap());
        packets.map(|packet| packet.data).collect()
    }

    fn ogg(packets: Vec<Vec<u8>>) -> Vec<u8> {
        let mut writer = PacketWriter::new(Vec::new());
        let count = packets.len();
        for (index, packet) in packets.into_iter().enumerate() {
            let end = match index {
                0 | 2 => PacketWriteEndInfo::EndPage,
                _ if index + 1 == count => PacketWriteEndInfo::EndStream,
                _ => PacketWriteEndInfo::NormalPacket,
            };
            let position = 1024 * index.saturating_sub(2) as u64;
            writer.write_packet(packet, 1, end, position).unwrap();
        }
        writer.into_inner()
    }

    const CLIP: &[u8] = include_bytes!("../../../../tests/data/tone-vorbis.ogg");

    #[cfg(target_os = "linux")]
    fn is_refused(file: &[u8]) {
        let started = std::time::Instant::now();
        let before = peak_kib();
        let refused = decode(file, &Limits::default());
        assert!(
            matches!(&refused, Err(DecodeError::UnsupportedCodec(what)) if what.contains("codebooks")),
            "{refused:?}"
        );
        assert!(started.elapsed().as_secs_f64() < 1.0);
        let grown = peak_kib() - before;
        assert!(grown < 64 * 1024, "{grown} KiB");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn test_vorbis_codebooks_out_of_proportion_are_refused() {
        if !is_alone("decode::vorbis::tests::test_vorbis_codebooks_out_of_proportion_are_refused") {
            return;
        }
        for count in [1, 60, 256] {
            let mut packets = packets(CLIP);
            packets[2] = bomb(count);
            let laced = {
                let lengths = [packets[0].len(), packets[1].len()];
                let mut private = vec![LACED];
                for length in lengths {
                    private.extend(std::iter::repeat_n(255, length / 255));
                    private.push((length % 255) as u8);
                }
                private.extend(packets[..3].concat());
                private
            };
            assert!(bomb(count).len() < 7000);
            is_refused(&ogg(packets[..4].to_vec()));
            // All audio packets of the clip follow.
            is_refused(&ogg(packets.clone()));
            is_refused(&webm_file(b"A_VORBIS", &laced, &packets[3..]));
        }
    }

    #[test]
    fn test_vorbis_of_real_encoders_is_far_below_limits() {
        let packets = packets(CLIP);
        let setup = packets[2].strip_prefix(b"\x05vorbis").unwrap();
        let cost = Cost::of(setup).unwrap();
        assert!(cost.entries > 100 && cost.numbers > 100, "{cost:?}");
        assert!(
            cost.entries < MAX_ENTRIES / 8 && cost.numbers < MAX_NUMBERS / 8,
            "{cost:?}"
        );
        let rebuilt = decode(&ogg(packets), &Limits::default()).unwrap();
        assert!(rebuilt.duration_seconds() > 1.0);
    }

    #[test]
    fn test_broken_vorbis_headers_are_refused() {
        let packets = packets(CLIP);
        let headers = [packets[0].as_slice(), packets[2].as_slice()].concat();
        check(&headers).unwrap();
        for length in [0, 1, 29, 30, 36, 40, 60] {
            assert!(check(&headers[..length]).is_err(), "{length}");
        }
        let mut damaged = headers;
        damaged[IDENTIFICATION_BYTES + 8] ^= 1;
        assert!(check(&damaged).is_err());
    }
}
