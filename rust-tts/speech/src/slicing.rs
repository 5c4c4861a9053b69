//! How a request's text and audio are cut, and its audio trimmed: what it says itself, else what the operator set.

use super::draft::Draft;
use super::request::within;
use super::trim::Trim;
use crate::error::Error;
use crate::options::{MAX_CROSSFADE_MS, MAX_TRIM_MS, Overlap, StreamingOptions, TEXT_CHUNK};
use chatterbox_engine::messages::Slicing;

const MAX_TOKENS: u32 = 1000;

impl Draft {
    /// Most characters of one utterance.
    pub(super) fn text_chunk_size(&self, default: u32) -> Result<u32, Error> {
        match self.text_processing_chunk_size {
            Some(size) if !TEXT_CHUNK.contains(&size.into()) => {
                let (least, most) = (TEXT_CHUNK.start(), TEXT_CHUNK.end());
                Err(Error::parameter(
                    "text_processing_chunk_size",
                    format!("expected {least} to {most}"),
                ))
            }
            size => Ok(size.unwrap_or(default)),
        }
    }

    /// Slicing that nobody set stays `None`: the engine has a schedule of its own.
    pub(super) fn slicing(&self, defaults: &StreamingOptions) -> Result<Slicing, Error> {
        let (tokens, context) = (self.audio_tokens_per_slice, self.context_window);
        let crossfade = within(
            "crossfade_duration_milliseconds",
            self.crossfade_duration_milliseconds,
            0.0,
            MAX_CROSSFADE_MS,
        )?;
        let overlap = match self.chunk_overlap_method.as_deref() {
            None => defaults.chunk_overlap_method.map(Overlap::name),
            Some("full") => Some("full"),
            Some("zero") => Some("zero"),
            Some(_) => {
                let problem = "expected full or zero";
                return Err(Error::parameter("chunk_overlap_method", problem));
            }
        };
        Ok(Slicing {
            tokens_per_slice: count("audio_tokens_per_slice", tokens, 1)?
                .or(defaults.audio_tokens_per_slice),
            context_window: count("context_window", context, 0)?.or(defaults.context_window),
            overlap: overlap.map(str::to_owned),
            crossfade_ms: crossfade.or(defaults.crossfade_duration_milliseconds),
            // The host trims: only it knows which utterance is a request's last.
        })
    }

    pub(super) fn trim(&self, defaults: &StreamingOptions) -> Result<Trim, Error> {
        let trimmed = |field, value, default| {
            within(field, value, 0.0, MAX_TRIM_MS).map(|ms| ms.unwrap_or(default))
        };
        Ok(Trim {
            leading_ms: trimmed(
                "remove_leading_milliseconds",
                self.remove_leading_milliseconds,
                defaults.remove_leading_milliseconds,
            )?,
            trailing_ms: trimmed(
                "remove_trailing_milliseconds",
                self.remove_trailing_milliseconds,
                defaults.remove_trailing_milliseconds,
            )?,
        })
    }
}

fn count(field: &str, value: Option<u32>, least: u32) -> Result<Option<u32>, Error> {
    match value {
        Some(number) if !(least..=MAX_TOKENS).contains(&number) => Err(Error::parameter(
            field,
            format!("expected {least} to {MAX_TOKENS}"),
        )),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::parse_json;
    use crate::error::Code;

    const UNSET: StreamingOptions = StreamingOptions {
        audio_tokens_per_slice: None,
        context_window: None,
        chunk_overlap_method: None,
        crossfade_duration_milliseconds: None,
        remove_leading_milliseconds: 0.0,
        remove_trailing_milliseconds: 0.0,
    };
    const SET: StreamingOptions = StreamingOptions {
        audio_tokens_per_slice: Some(35),
        context_window: Some(10),
        chunk_overlap_method: Some(Overlap::Full),
        crossfade_duration_milliseconds: Some(30.0),
        remove_leading_milliseconds: 5.0,
        remove_trailing_milliseconds: 7.0,
    };

    fn draft(json: &str) -> Draft {
        parse_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn what_nobody_set_is_the_engines_choice() {
        assert_eq!(draft("{}").slicing(&UNSET).unwrap(), Slicing::default());
        assert_eq!(draft("{}").trim(&UNSET).unwrap(), Trim::default());
        assert_eq!(draft("{}").text_chunk_size(150).unwrap(), 150);
    }

    #[test]
    fn a_request_wins_over_the_settings() {
        let slicing = Slicing {
            tokens_per_slice: Some(35),
            context_window: Some(10),
            overlap: Some("full".into()),
            crossfade_ms: Some(30.0),
        };
        assert_eq!(draft("{}").slicing(&SET).unwrap(), slicing);
        let own = draft(
            r#"{"text_processing_chunk_size": 20, "audio_tokens_per_slice": 1, "context_window": 0, "chunk_overlap_method": "zero",
                "crossfade_duration_milliseconds": 0, "remove_leading_milliseconds": 0}"#,
        );
        let slicing = Slicing {
            tokens_per_slice: Some(1),
            context_window: Some(0),
            overlap: Some("zero".into()),
            crossfade_ms: Some(0.0),
        };
        assert_eq!(own.slicing(&SET).unwrap(), slicing);
        assert_eq!(own.text_chunk_size(150).unwrap(), 20);
        let trim = Trim {
            leading_ms: 0.0,
            trailing_ms: 7.0,
        };
        assert_eq!(own.trim(&SET).unwrap(), trim);
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        for (field, values) in [
            ("text_processing_chunk_size", ["19", "1001"]),
            ("audio_tokens_per_slice", ["0", "1001"]),
            ("context_window", ["1001", "4294967295"]),
            ("chunk_overlap_method", ["\"half\"", "\"\""]),
            ("crossfade_duration_milliseconds", ["-0.1", "1000.5"]),
            ("remove_leading_milliseconds", ["-1", "10001"]),
            ("remove_trailing_milliseconds", ["-1", "10001"]),
        ] {
            for value in values {
                let draft = draft(&format!("{{\"{field}\": {value}}}"));
                let cut = draft.text_chunk_size(150).err();
                let cut = cut.or_else(|| draft.slicing(&SET).err());
                let error = cut.or_else(|| draft.trim(&SET).err()).unwrap();
                assert_eq!(error.code, Code::InvalidParameter);
                assert!(
                    error.to_string().starts_with(&format!("{field}:")),
                    "{error}"
                );
            }
        }
    }
}
