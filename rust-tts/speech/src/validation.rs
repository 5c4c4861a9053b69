//! From a request's parameters to a request that can be spoken: what it says itself, else what the operator set.

use crate::choice::{check_language, check_text, choose_model, choose_seed, choose_voice, once};
use crate::delivery::Delivery;
use crate::error::{Code, Error};
use crate::options::{Overlap, StreamingOptions};
use crate::params::{OutputParams, SamplingParams, SpeechParams, TextParams};
use crate::request::{Output, SpeechRequest};
use crate::service::SpeechService;
use crate::trim::Trim;
use chatterbox_audio::{Encoding, Format, Normalization, SAMPLE_RATES};
use chatterbox_engine::messages::{Params, Slicing};

const DEFAULT_CHUNK_MS: u32 = 40;
/// The levels that `audio_normalization` names.
pub const LEVELS: [(&str, Option<Normalization>); 4] = [
    ("none", None),
    ("peak", Some(Normalization::Peak)),
    ("rms", Some(Normalization::Rms)),
    ("lufs", Some(Normalization::Lufs)),
];

impl SpeechParams {
    /// Checks everything. `default_format` is the dialect's. Text that arrives later (`more`) may be absent now.
    pub fn validate(
        self,
        service: &SpeechService,
        default_format: Format,
        more: bool,
    ) -> Result<SpeechRequest, Error> {
        let names = self.names.clone();
        self.checked(service, default_format, more)
            .map_err(|error| names.in_errors(error))
    }

    fn checked(
        self,
        service: &SpeechService,
        default_format: Format,
        more: bool,
    ) -> Result<SpeechRequest, Error> {
        let engine = service.ready()?;
        self.check_ranges()?;
        let Self {
            text,
            output,
            sampling,
            ..
        } = self;
        let options = &service.options;
        let content = check_text(
            text.text.clone().unwrap_or_default(),
            options.limits.max_text_length,
            more,
        )?;
        let default_model = options.default_model.as_deref();
        let model = choose_model(&engine, output.model.as_deref(), default_model)?;
        let chosen = match self.clip {
            Some(_) if output.voice_id.is_some() => {
                let problem = "the clip in voice_file is a voice already; send one of the two";
                return Err(Error::parameter("voice_id", problem));
            }
            Some(clip) => once(clip, &model),
            None => choose_voice(service, &model, output.voice_id.as_deref()),
        };
        let voice = match chosen {
            Err(error) if self.voice_or_default && is_unavailable(error.code) => {
                choose_voice(service, &model, None)?
            }
            chosen => chosen?,
        };
        let usual = &options.sampling;
        let default_chunk = options.text_chunk_size;
        Ok(SpeechRequest {
            text: content,
            text_chunk_size: text.text_processing_chunk_size.unwrap_or(default_chunk),
            clip: None,
            language: check_language(text.language_id.clone(), &model)?,
            model,
            voice,
            params: Params::from(SamplingParams {
                temperature: sampling.temperature.or(usual.synthesis_temperature),
                exaggeration: sampling.exaggeration.or(usual.voice_exaggeration_factor),
                cfg_weight: sampling.cfg_weight.or(usual.cfg_guidance_weight),
                ..sampling
            }),
            slicing: text.slicing(&options.streaming),
            trim: text.trim(&options.streaming),
            seed: choose_seed(output.seed),
            max_audio_seconds: text.max_audio_seconds,
            stream: output.streams(),
            delivery: Delivery::of(output.streams()),
            normalization: output.normalization()?,
            return_tokens: false,
            output: output.validate(default_format)?,
            names: self.names,
        })
    }
}

/// There is no such voice, or the model cannot speak with it.
fn is_unavailable(code: Code) -> bool {
    matches!(code, Code::VoiceNotFound | Code::CannotClone)
}

impl TextParams {
    /// Slicing that is not set stays `None`: the engine has a schedule of its own.
    fn slicing(&self, defaults: &StreamingOptions) -> Slicing {
        let overlap = self.chunk_overlap_method.or(defaults.chunk_overlap_method);
        let crossfade = self.crossfade_duration_milliseconds;
        Slicing {
            tokens_per_slice: self
                .audio_tokens_per_slice
                .or(defaults.audio_tokens_per_slice),
            context_window: self.context_window.or(defaults.context_window),
            overlap: overlap.map(Overlap::name).map(str::to_owned),
            crossfade_ms: crossfade.or(defaults.crossfade_duration_milliseconds),
            // The host trims: only it knows which utterance is a request's last.
        }
    }

    fn trim(&self, defaults: &StreamingOptions) -> Trim {
        let (leading, trailing) = (
            self.remove_leading_milliseconds,
            self.remove_trailing_milliseconds,
        );
        Trim {
            leading_ms: leading.unwrap_or(defaults.remove_leading_milliseconds),
            trailing_ms: trailing.unwrap_or(defaults.remove_trailing_milliseconds),
        }
    }
}

impl OutputParams {
    pub fn streams(&self) -> bool {
        self.stream.unwrap_or(true)
    }

    pub fn normalization(&self) -> Result<Option<Normalization>, Error> {
        let refused = |problem: String| Err(Error::parameter("audio_normalization", problem));
        let Some(wanted) = self.audio_normalization.as_deref() else {
            return Ok(None);
        };
        match LEVELS.iter().find(|(name, _)| *name == wanted) {
            Some((_, Some(Normalization::Lufs))) if self.streams() => refused(
                "loudness is known when all has been spoken: set `stream` to false, or use rms"
                    .into(),
            ),
            Some((_, level)) => Ok(*level),
            None => refused(expected(LEVELS.map(|(name, _)| name))),
        }
    }

    pub fn validate(&self, default_format: Format) -> Result<Output, Error> {
        let format = match self.format.as_deref() {
            None => default_format,
            Some(name) => Format::parse(name).ok_or_else(|| {
                let known = Format::ALL.iter().map(|format| format.name());
                Error::parameter("format", expected(known))
            })?,
        };
        let sample_rate = self.sample_rate.unwrap_or(24_000);
        if !SAMPLE_RATES.contains(&sample_rate) {
            let known = SAMPLE_RATES.map(|rate| rate.to_string());
            return Err(Error::parameter("sample_rate", expected(known)));
        }
        self.check_bitrate(format, sample_rate)?;
        Ok(Output {
            encoding: Encoding {
                format,
                sample_rate,
                bitrate: self.bitrate,
            },
            chunk_ms: self.chunk_size_ms.unwrap_or(DEFAULT_CHUNK_MS),
            binary: self.binary.unwrap_or(false),
        })
    }

    fn check_bitrate(&self, format: Format, sample_rate: u32) -> Result<(), Error> {
        let Some(kbps) = self.bitrate else {
            return Ok(());
        };
        let refused = |problem| Err(Error::parameter("bitrate", problem));
        let name = format.name();
        let Some(known) = format.bitrates(sample_rate) else {
            let able = Format::ALL.iter();
            let able = able.filter(|format| format.bitrates(sample_rate).is_some());
            let able: Vec<_> = able.map(|format| format.name()).collect();
            let able = able.join(", ");
            return refused(format!("{name} has none; these have: {able}"));
        };
        if known.allowed.contains(kbps) {
            return Ok(());
        }
        let allowed = known.allowed;
        refused(format!(
            "expected {allowed} (kbit/s, for {name} at {sample_rate} Hz)"
        ))
    }
}

fn expected(known: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = "expected one of ".to_owned();
    for (at, name) in known.into_iter().enumerate() {
        if at > 0 {
            text += ", ";
        }
        text += name.as_ref();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;

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

    fn params(json: &str) -> Result<SpeechParams, Error> {
        let params = SpeechParams::read(Fields::from_json(json.as_bytes())?, &[])?;
        let checked = params.check_ranges();
        checked.map_err(|error| params.names.in_errors(error))?;
        Ok(params)
    }

    #[test]
    fn test_unset_slicing_is_left_to_engine() {
        let text = params("{}").unwrap().text;
        assert_eq!(text.slicing(&UNSET), Slicing::default());
        assert_eq!(text.trim(&UNSET), Trim::default());
    }

    #[test]
    fn test_request_overrides_settings() {
        let slicing = Slicing {
            tokens_per_slice: Some(35),
            context_window: Some(10),
            overlap: Some("full".into()),
            crossfade_ms: Some(30.0),
        };
        assert_eq!(params("{}").unwrap().text.slicing(&SET), slicing);
        let own = params(
            r#"{"audio_tokens_per_slice": 1, "context_window": 0, "chunk_overlap_method": "zero",
                "crossfade_duration_milliseconds": 0, "remove_leading_milliseconds": 0}"#,
        );
        let own = own.unwrap().text;
        let slicing = Slicing {
            tokens_per_slice: Some(1),
            context_window: Some(0),
            overlap: Some("zero".into()),
            crossfade_ms: Some(0.0),
        };
        assert_eq!(own.slicing(&SET), slicing);
        let trim = Trim {
            leading_ms: 0.0,
            trailing_ms: 7.0,
        };
        assert_eq!(own.trim(&SET), trim);
    }

    #[test]
    fn test_invalid_values_name_field_as_sent() {
        for (field, values) in [
            ("text_processing_chunk_size", ["19", "1001"]),
            ("audio_tokens_per_slice", ["0", "1001"]),
            ("context_window", ["1001", "4294967295"]),
            ("chunk_overlap_method", ["\"half\"", "\"FULL\""]),
            ("crossfade_duration_milliseconds", ["-0.1", "1000.5"]),
            ("remove_leading_milliseconds", ["-1", "10001"]),
            ("temperature", ["2.1", "1e999"]),
            ("synthesis_temperature", ["-0.1", "\"hot\""]),
            ("speed_factor", ["0.2", "\"4.1\""]),
            ("seed", ["-2", "9007199254740992"]),
            ("response_format", ["5", "[]"]),
        ] {
            for value in values {
                let error = params(&format!("{{\"{field}\": {value}}}")).unwrap_err();
                assert_eq!(error.code, Code::InvalidParameter);
                assert_eq!(error.field.as_deref(), Some(field), "{error}");
            }
        }
        let error = params(r#"{"voice": {"top_p": 1.5}}"#).unwrap_err();
        assert_eq!(error.to_string(), "voice.top_p: expected 0 to 1");
        for (json, field) in [
            (r#"{"voice": 5}"#, "voice"),
            (r#"{"voice": []}"#, "voice"),
            (r#"{"audio": [null, null]}"#, "audio"),
            (r#"{"audio": "wav"}"#, "audio"),
        ] {
            assert_eq!(
                params(json).unwrap_err().field.as_deref(),
                Some(field),
                "{json}"
            );
        }
    }

    #[test]
    fn test_aliases_mean_same() {
        let own = params(
            r#"{"input": "a", "predefined_voice_id": "anna", "output_format": "mp3", "language": "de", "speed_factor": "1.5"}"#,
        );
        let SpeechParams {
            text,
            output,
            sampling,
            ..
        } = own.unwrap();
        assert_eq!(
            (text.text.as_deref(), text.language_id.as_deref()),
            (Some("a"), Some("de"))
        );
        assert_eq!(
            (output.voice_id.as_deref(), output.format.as_deref()),
            (Some("anna"), Some("mp3"))
        );
        assert_eq!(sampling.speed, Some(1.5));
        for json in [
            r#"{"voice": "x"}"#,
            r#"{"voice": {"id": "x"}}"#,
            r#"{"voice": {"audio_prompt_path": "x"}}"#,
        ] {
            assert_eq!(
                params(json).unwrap().output.voice_id.as_deref(),
                Some("x"),
                "{json}"
            );
        }
    }

    #[test]
    fn test_names_are_read_in_any_case() {
        for (json, voice, format) in [
            (r#"{"voiceId": "x"}"#, Some("x"), None),
            (r#"{"VOICE_ID": "x"}"#, Some("x"), None),
            (
                r#"{"Voice": "x", "outputFormat": "mp3"}"#,
                Some("x"),
                Some("mp3"),
            ),
            (
                r#"{"voiceID": "x", "output-format": "mp3"}"#,
                Some("x"),
                Some("mp3"),
            ),
            (r#"{"voice": {"voiceName": "x"}}"#, Some("x"), None),
            (
                r#"{"extra_body": {"voice": "x", "responseFormat": "mp3"}}"#,
                Some("x"),
                Some("mp3"),
            ),
            (
                r#"{"voiceSettings": {"speed": 1}, "audioConfig": {"audioFormat": "mp3"}}"#,
                None,
                Some("mp3"),
            ),
        ] {
            let output = params(json).unwrap().output;
            assert_eq!(output.voice_id.as_deref(), voice, "{json}");
            assert_eq!(output.format.as_deref(), format, "{json}");
        }
        let blank = params(r#"{"seed": " ", "voice": "\t", "sample_rate": "  "}"#).unwrap();
        assert_eq!((blank.output.seed, blank.output.sample_rate), (None, None));
        assert_eq!(blank.output.voice_id, None);
    }

    #[test]
    fn test_unknown_names_of_voices_formats_languages_and_speeds_are_refused() {
        for (field, meant) in [
            ("reference_id", "voice_id"),
            ("ref_audio", "voice_id"),
            ("referenceAudio", "voice_id"),
            ("audio_prompt", "voice_id"),
            ("prompt_audio_path", "voice_id"),
            ("voices", "voice_id"),
            ("voice_uuid", "voice_id"),
            ("voice_file", "voice_id"),
            ("target-voice", "voice_id"),
            ("clone_reference_filename", "voice_id"),
            ("speakerName", "voice_id"),
            ("file_format", "format"),
            ("codec", "format"),
            ("container", "format"),
            ("audioEncoding", "format"),
            ("mimeType", "format"),
            ("target_lang", "language_id"),
            ("spokenLanguage", "language_id"),
            ("playback_speed", "speed"),
        ] {
            for value in ["\"x\"", "5", "[\"x\"]", "{\"a\": 1}"] {
                let error = params(&format!("{{\"{field}\": {value}}}")).unwrap_err();
                assert_eq!(error.code, Code::InvalidParameter, "{field}");
                assert_eq!(error.field.as_deref(), Some(field));
                assert!(error.message.contains(meant), "{error}");
            }
            assert!(params(&format!("{{\"{field}\": null}}")).is_ok());
        }
        let error = params(r#"{"voice": {"reference_id": "x"}}"#).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("voice.reference_id"));
        for unrelated in [
            r#"{"voice_mode": "clone", "stream_format": "sse", "split_text": true}"#,
            r#"{"voice_settings": {"stability": 0.5}, "voice_gender": "any"}"#,
            r#"{"instructions": "x", "user": {"voice": "x"}, "prefer": "x", "reformat": "x"}"#,
            r#"{"max_reference_duration_sec": 5, "id": "x", "name": "x", "chunk_size": 5}"#,
        ] {
            assert!(params(unrelated).is_ok(), "{unrelated}");
        }
    }

    #[test]
    fn test_parameter_under_two_names_is_refused() {
        for (json, field) in [
            (
                r#"{"temperature": 1, "synthesis_temperature": 1}"#,
                "synthesis_temperature",
            ),
            (r#"{"voice": "a", "voice_id": "b"}"#, "voice_id"),
            (r#"{"seed": 1, "voice": {"seed": 1}}"#, "voice.seed"),
            (r#"{"text": "a", "text": "b"}"#, "text"),
            (r#"{"voice": {"top_p": 1, "top_p": 1}}"#, "voice.top_p"),
        ] {
            assert_eq!(
                params(json).unwrap_err().field.as_deref(),
                Some(field),
                "{json}"
            );
        }
        let empty =
            r#"{"temperature": 1, "synthesis_temperature": null, "voice": "", "voice_id": "b"}"#;
        assert_eq!(params(empty).unwrap().output.voice_id.as_deref(), Some("b"));
    }
}
