//! Opus in Ogg (RFC 3533 and RFC 7845), in small pages, so that it plays while it is made.

use std::mem;

use ogg::writing::{PacketWriteEndInfo, PacketWriter};

use super::opus::{PACKET_SAMPLES, Packets};
use super::{EncodeError, Encoder, Length, mark};

/// Names the one stream in the file. Always the same, so that the same samples give the same bytes.
const SERIAL: u32 = 0x7474_7331;
/// Packets to a page: 100 ms of delay for 5 % of overhead.
const PACKETS_PER_PAGE: u64 = 5;

/// An `.opus` file.
pub(super) struct OggOpus {
    packets: Packets,
    writer: PacketWriter<'static, Vec<u8>>,
    written: u64,
}

impl OggOpus {
    pub(super) fn new(
        sample_rate: u32,
        bitrate: Option<u32>,
        _length: Length,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            packets: Packets::new(sample_rate, bitrate)?,
            writer: PacketWriter::new(Vec::new()),
            written: 0,
        })
    }

    fn write(
        &mut self,
        packet: Vec<u8>,
        end: PacketWriteEndInfo,
        granule: u64,
    ) -> Result<(), EncodeError> {
        let written = self.writer.write_packet(packet, SERIAL, end, granule);
        written.map_err(|error| EncodeError::new("Ogg", error))
    }

    /// Writes packets of audio. The first has a page of its own: sound leaves as soon as there is any.
    fn write_audio(&mut self, packets: Vec<Vec<u8>>) -> Result<(), EncodeError> {
        for packet in packets {
            self.written += 1;
            let end = if self.written % PACKETS_PER_PAGE == 1 {
                PacketWriteEndInfo::EndPage
            } else {
                PacketWriteEndInfo::NormalPacket
            };
            self.write(packet, end, self.written * PACKET_SAMPLES)?;
        }
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        mem::take(self.writer.inner_mut())
    }
}

impl Encoder for OggOpus {
    fn head(&mut self) -> Result<Vec<u8>, EncodeError> {
        let head = self.packets.head();
        self.write(head, PacketWriteEndInfo::EndPage, 0)?;
        self.write(tags(), PacketWriteEndInfo::EndPage, 0)?;
        Ok(self.take())
    }

    fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>, EncodeError> {
        let packets = self.packets.push(samples)?;
        self.write_audio(packets)?;
        Ok(self.take())
    }

    fn finish(&mut self) -> Result<Vec<u8>, EncodeError> {
        let (mut packets, padding) = self.packets.finish()?;
        if let Some(last) = packets.pop() {
            self.write_audio(packets)?;
            // The stream's last granule position says where the audio ends within the packet (RFC 7845, section 4.4).
            let end = (self.written + 1) * PACKET_SAMPLES - padding;
            self.write(last, PacketWriteEndInfo::EndStream, end)?;
        }
        Ok(self.take())
    }
}

/// The comment header (RFC 7845, section 5.2).
fn tags() -> Vec<u8> {
    let mut tags = b"OpusTags".to_vec();
    tags.extend(mark::vorbis_comments(opus::version()));
    tags
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ogg::{Packet, PacketReader};

    use super::super::opus::tests::{decoded, encoded, error_db, tone};
    use super::*;
    use crate::{Format, SAMPLE_RATES};

    /// The file's packets; the reader checks every page's CRC and number.
    fn packets(file: Vec<u8>) -> Vec<Packet> {
        let mut reader = PacketReader::new(Cursor::new(file));
        std::iter::from_fn(|| reader.read_packet().unwrap()).collect()
    }

    fn position(packet: &Packet) -> u64 {
        packet.absgp_page()
    }

    #[test]
    fn test_format_is_found_by_its_names() {
        for name in ["opus", "ogg", "OGG_OPUS"] {
            assert_eq!(Format::parse(name), Some(Format::Opus));
        }
        assert_eq!(Format::Opus.content_type(), "audio/ogg");
        assert_eq!(Format::Opus.extension(), "opus");
    }

    #[test]
    fn test_file_has_exactly_audio() {
        for rate in SAMPLE_RATES {
            for samples in [1, rate / 50, rate / 2 + 7] {
                let input = tone(rate, samples as usize);
                let file = encoded(
                    &mut OggOpus::new(rate, None, Length::Unknown).unwrap(),
                    &input,
                    960,
                );
                let packets = packets(file);
                let head = &packets[0].data;
                assert_eq!(&head[..10], b"OpusHead\x01\x01");
                assert_eq!(head[12..16], rate.to_le_bytes());
                let skip = usize::from(u16::from_le_bytes([head[10], head[11]]));
                assert!(
                    packets[0].first_in_stream() && packets[2..].last().unwrap().last_in_stream()
                );
                let end = position(packets.last().unwrap()) as usize;
                let expected = (f64::from(samples) * 48_000.0 / f64::from(rate)).round() as usize;
                assert_eq!(end - skip, expected, "{samples} samples at {rate} Hz");
                let mut audio = decoded(packets[2..].iter().map(|packet| packet.data.as_slice()));
                assert!((end..end + PACKET_SAMPLES as usize).contains(&audio.len()));
                audio.truncate(end);
                let error = error_db(&audio[skip..], &tone(48_000, expected));
                assert!(samples < rate / 2 || error < -20.0, "{rate} Hz: {error} dB");
            }
        }
    }

    #[test]
    fn test_ogg_pages_are_short_with_granule_positions() {
        let input = tone(24_000, 24_000);
        let file = encoded(
            &mut OggOpus::new(24_000, None, Length::Unknown).unwrap(),
            &input,
            480,
        );
        let packets = packets(file);
        assert!(
            packets[..2]
                .iter()
                .all(|header| position(header) == 0 && header.last_in_page())
        );
        let mut before = 0;
        let mut in_page = 0;
        for (index, packet) in (1..).zip(&packets[2..]) {
            in_page += 1;
            if packet.last_in_page() && !packet.last_in_stream() {
                assert_eq!(position(packet), index * PACKET_SAMPLES);
            }
            if packet.last_in_page() {
                assert!(position(packet) > before);
                assert!(in_page <= PACKETS_PER_PAGE);
                (before, in_page) = (position(packet), 0);
            }
        }
        assert!(
            packets[2].last_in_page(),
            "the first packet waits for no other"
        );
    }

    #[test]
    fn test_tags_name_software() {
        let packets = packets(encoded(
            &mut OggOpus::new(48_000, None, Length::Unknown).unwrap(),
            &[0.0],
            1,
        ));
        let tags = String::from_utf8_lossy(&packets[1].data).into_owned();
        assert!(tags.starts_with("OpusTags"));
        assert!(tags.contains("libopus"));
        assert!(tags.contains("COMMENT=AI-generated speech"));
    }

    #[test]
    fn test_bytes_do_not_depend_on_pushes() {
        for rate in [22_050, 24_000] {
            let input = tone(rate, 30_000);
            let whole = encoded(
                &mut OggOpus::new(rate, None, Length::Samples(30_000)).unwrap(),
                &input,
                30_000,
            );
            for size in [1, 479, 5000] {
                let cut = encoded(
                    &mut OggOpus::new(rate, None, Length::Unknown).unwrap(),
                    &input,
                    size,
                );
                assert!(cut == whole, "{size} at {rate} Hz");
            }
        }
    }
}
