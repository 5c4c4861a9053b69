//! The table of audio formats: adding one is a file with its encoder and a line here.

use super::{
    Bitrates, EncodeError, Encoder, Length, aac, bitrate, flac, fmp4, mp3, ogg_opus, opus, pcm,
    wav, webm,
};

/// Declares [`Format`] from one line per format:
/// `Variant: name, [aliases], [content type, other names of it], file extension, its bit rates, constructor of its encoder;`
macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, [$($alias:literal),*], [$($media_type:literal),+], $extension:literal,
       $bitrates:path, $encoder:path;)*) => {
        /// A format in which an answer can be sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Format {
            $($(#[$doc])* $variant,)*
        }

        impl Format {
            /// Every format, the one to send first where a client likes several equally.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The format's canonical name, as requests spell it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Other names under which requests may ask for it.
            pub fn aliases(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($alias),*]),* }
            }

            /// The value of the `Content-Type` header.
            pub fn content_type(self) -> &'static str {
                self.media_types()[0]
            }

            /// The value of the `Content-Type` header, and the other names by which an `Accept` header may ask for it.
            pub fn media_types(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($media_type),+]),* }
            }

            /// The usual file name extension, without the dot.
            pub fn extension(self) -> &'static str {
                match self { $(Self::$variant => $extension),* }
            }

            /// The bit rates that it can have at a sample rate; `None` if there is no choice.
            pub fn bitrates(self, sample_rate: u32) -> Option<Bitrates> {
                match self { $(Self::$variant => $bitrates(sample_rate).into()),* }
            }

            pub(super) fn encoder(
                self,
                sample_rate: u32,
                bitrate: Option<u32>,
                length: Length,
            ) -> Result<Box<dyn Encoder>, EncodeError> {
                Ok(match self { $(Self::$variant => Box::new($encoder(sample_rate, bitrate, length)?)),* })
            }
        }
    };
}

formats! {
    /// RIFF WAVE with 16-bit PCM.
    Wav: "wav", [], ["audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"], "wav", bitrate::none, wav::Wav::new;
    /// MPEG audio layer III.
    Mp3: "mp3", [], ["audio/mpeg", "audio/mp3"], "mp3", mp3::bitrates, mp3::Mp3::new;
    /// AAC-LC in fragmented MP4.
    Fmp4: "fmp4", ["mp4", "m4a"], ["audio/mp4", "audio/x-m4a"], "mp4", aac::bitrates, fmp4::Fmp4::new;
    /// Opus in `WebM`.
    Webm: "webm", [], ["audio/webm"], "webm", opus::bitrates, webm::Webm::new;
    /// Opus in Ogg.
    Opus: "opus", ["ogg", "ogg_opus"], ["audio/ogg", "audio/opus", "application/ogg"], "opus", opus::bitrates, ogg_opus::OggOpus::new;
    /// FLAC with 16 bits.
    Flac: "flac", [], ["audio/flac", "audio/x-flac"], "flac", bitrate::none, flac::Flac::new;
    /// AAC-LC with ADTS headers.
    Aac: "aac", ["adts"], ["audio/aac", "audio/aacp"], "aac", aac::bitrates, aac::Adts::new;
    /// Bare signed 16-bit little-endian samples.
    PcmS16le: "pcm_s16le", ["pcm", "raw_pcm"], ["audio/pcm"], "pcm", bitrate::none, pcm::Pcm::s16;
    /// Bare 32-bit little-endian IEEE floats, full scale 1.0.
    PcmF32le: "pcm_f32le", [], ["audio/pcm"], "pcm", bitrate::none, pcm::Pcm::f32;
}

impl Format {
    /// Finds a format by its canonical name or an alias, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        let matches = |known: &&str| known.eq_ignore_ascii_case(name);
        Self::ALL
            .iter()
            .copied()
            .find(|format| matches(&format.name()) || format.aliases().iter().any(matches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_names_and_aliases_are_found_in_any_case() {
        for &format in Format::ALL {
            assert_eq!(Format::parse(format.name()), Some(format));
            assert_eq!(Format::parse(&format.name().to_uppercase()), Some(format));
        }
        assert_eq!(Format::parse("pcm"), Some(Format::PcmS16le));
        assert_eq!(Format::parse("Raw_PCM"), Some(Format::PcmS16le));
        for unknown in ["", "wave", " wav", "pcm_s16be"] {
            assert_eq!(Format::parse(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn test_format_names_are_unique() {
        let mut names: Vec<_> = Format::ALL
            .iter()
            .flat_map(|format| format.aliases().iter().copied().chain([format.name()]))
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn test_content_types() {
        assert_eq!(Format::Wav.content_type(), "audio/wav");
        assert_eq!(Format::PcmS16le.content_type(), "audio/pcm");
        assert_eq!(Format::PcmF32le.content_type(), "audio/pcm");
        assert_eq!(Format::Mp3.content_type(), "audio/mpeg");
        assert_eq!(Format::Flac.content_type(), "audio/flac");
        assert_eq!(Format::Aac.content_type(), "audio/aac");
        assert_eq!(Format::Fmp4.content_type(), "audio/mp4");
    }
}
