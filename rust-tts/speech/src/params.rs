//! The parameters of requests: each stands here once, with its range and its description, for every dialect, for the
//! commands that speak into files, and for the description of the API.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{RefOr, Required};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::error::Error;
use crate::fields::Fields;
use crate::options::Overlap;
use crate::request::OneOff;
use chatterbox_audio::{Format, SAMPLE_RATES};
use chatterbox_engine::messages::Params;
use chatterbox_settings::finite;

/// What every request has that makes audio.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct OutputParams {
    /// One of the loaded models. Default: `DEFAULT_MODEL`, else the first loaded
    #[arg(long)]
    pub model: Option<String>,

    /// A voice: the name of one that the model has, or the file name of one in the voices folder, with or without its
    /// extension. Default: the default voice
    #[arg(long = "voice", value_name = "VOICE")]
    pub voice_id: Option<String>,

    /// The same seed and input give the same samples. Default, and -1: random
    #[arg(long, allow_negative_numbers = true)]
    #[schema(minimum = -1, maximum = 9_007_199_254_740_991_i64)]
    pub seed: Option<i64>,

    /// The audio's format. Default: what the output file's name says, else the dialect's
    #[arg(long, value_parser = format_names(), ignore_case = true)]
    #[schema(schema_with = formats)]
    pub format: Option<String>,

    /// Samples per second
    #[arg(long, value_name = "HZ")]
    #[schema(schema_with = sample_rates)]
    pub sample_rate: Option<u32>,

    /// Bit rate of a lossy format, in kbit/s. Default: where speech is beyond telling from the original
    #[arg(long, value_name = "KBIT")]
    #[schema(minimum = 1)]
    pub bitrate: Option<u32>,

    /// Set the level: `peak` (−1 dBFS), `rms` (−20 dBFS) or, of audio that is not streamed, `lufs` (−18 LUFS)
    #[arg(long, value_name = "METHOD")]
    #[schema(schema_with = levels)]
    pub audio_normalization: Option<String>,

    #[arg(skip)]
    #[schema(schema_with = streamed)]
    pub stream: Option<bool>,

    /// Length of a WebSocket's chunks in milliseconds
    #[arg(skip)]
    #[schema(minimum = 10, maximum = 5000, default = 40)]
    pub chunk_size_ms: Option<u32>,

    #[arg(skip)]
    #[schema(schema_with = binary)]
    pub binary: Option<bool>,
}

/// How a model chooses what it says, and how it sounds. What is left out is the model's own.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct SamplingParams {
    /// Sampling temperature; 0 is greedy
    #[arg(long, value_parser = finite)]
    #[schema(minimum = 0, maximum = 2)]
    pub temperature: Option<f64>,

    /// Tokens are drawn from those that together are this probable
    #[arg(long, value_parser = finite)]
    #[schema(minimum = 0, maximum = 1)]
    pub top_p: Option<f64>,

    /// Least share of the likeliest token's probability
    #[arg(long, value_parser = finite)]
    #[schema(minimum = 0, maximum = 1)]
    pub min_p: Option<f64>,

    /// Tokens are drawn from this many; 0 is all
    #[arg(long)]
    #[schema(minimum = 0, maximum = 4_294_967_295_u32)]
    pub top_k: Option<u32>,

    /// Penalty on tokens already spoken; 1 is none
    #[arg(long, value_name = "FACTOR", value_parser = finite)]
    #[schema(minimum = 1, maximum = 10)]
    pub repetition_penalty: Option<f64>,

    /// Emotional intensity
    #[arg(long, value_parser = finite)]
    #[schema(minimum = 0, maximum = 2)]
    pub exaggeration: Option<f64>,

    /// Weight of classifier-free guidance: how closely the speech keeps to text and voice
    #[arg(long, value_parser = finite)]
    #[schema(minimum = 0, maximum = 1)]
    pub cfg_weight: Option<f64>,

    /// Speaking rate; 2 is twice as fast
    #[arg(long, value_parser = finite)]
    #[schema(minimum = 0.25, maximum = 4)]
    pub speed: Option<f64>,
}

impl From<SamplingParams> for Params {
    fn from(params: SamplingParams) -> Self {
        Self {
            temperature: params.temperature,
            top_p: params.top_p,
            min_p: params.min_p,
            top_k: params.top_k,
            repetition_penalty: params.repetition_penalty,
            exaggeration: params.exaggeration,
            cfg_weight: params.cfg_weight,
            speed: params.speed.unwrap_or(1.0),
        }
    }
}

/// A text, and how it and its audio are cut.
#[derive(Args, Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct TextParams {
    /// What is spoken, with at least one letter or digit, of at most `MAX_TEXT_LENGTH` characters. A long text is cut at
    /// the ends of its sentences and spoken in one stream
    #[arg(skip)]
    #[schema(example = "Hello from your own speech server.")]
    pub text: Option<String>,

    /// Language of the text, such as `en`. Default: the model's own
    #[arg(long = "language", value_name = "LANGUAGE")]
    pub language_id: Option<String>,

    /// Longest audio in seconds; it ends in a fade
    #[arg(long, value_name = "SECONDS", value_parser = finite)]
    #[schema(minimum = 0.05, maximum = 3600)]
    pub max_audio_seconds: Option<f64>,

    /// Most characters of a piece that the text is cut into
    #[arg(skip)]
    #[schema(minimum = 20, maximum = 1000)]
    pub text_processing_chunk_size: Option<u32>,

    /// Speech tokens (25 are one second) that are rendered at once
    #[arg(skip)]
    #[schema(minimum = 1, maximum = 1000)]
    pub audio_tokens_per_slice: Option<u32>,

    /// Speech tokens before a slice that are rendered again with it
    #[arg(skip)]
    #[schema(minimum = 0, maximum = 1000)]
    pub context_window: Option<u32>,

    /// Whether a slice is rendered with the context before it (`full`) or by itself (`zero`)
    #[arg(skip)]
    #[schema(inline)]
    pub chunk_overlap_method: Option<Overlap>,

    /// Milliseconds over which neighbouring slices are blended
    #[arg(skip)]
    #[schema(minimum = 0, maximum = 1000)]
    pub crossfade_duration_milliseconds: Option<f64>,

    /// Milliseconds cut off the start of the audio
    #[arg(skip)]
    #[schema(minimum = 0, maximum = 10_000)]
    pub remove_leading_milliseconds: Option<f64>,

    /// Milliseconds cut off the end of the audio
    #[arg(skip)]
    #[schema(minimum = 0, maximum = 10_000)]
    pub remove_trailing_milliseconds: Option<f64>,
}

/// Everything that a request for speech may say.
#[derive(Clone, Debug, Default)]
pub struct SpeechParams {
    pub text: TextParams,
    pub output: OutputParams,
    pub sampling: SamplingParams,
    /// A clip that came with the request, in place of a voice's name.
    pub clip: Option<OneOff>,
    /// The default voice speaks where the model has none of the name and can clone none.
    pub voice_or_default: bool,
    pub names: Names,
}

impl PartialSchema for SpeechParams {
    fn schema() -> RefOr<Schema> {
        let names = ALIASES.iter().map(|(name, aliases)| {
            let aliases = aliases.iter().map(|alias| format!("`{alias}`"));
            format!("`{name}` as {}", aliases.collect::<Vec<_>>().join(", "))
        });
        let parts = [
            TextParams::schema(),
            OutputParams::schema(),
            SamplingParams::schema(),
        ];
        let mut object = merged(parts);
        object.required = vec!["text".to_owned()];
        object.description = Some(format!(
            "Everything that a request for speech may say. Numbers and switches may be texts, and what is empty counts as \
             left out. Names of other servers' clients are taken as well: {}.",
            names.collect::<Vec<_>>().join("; ")
        ));
        Schema::Object(object).into()
    }
}

impl ToSchema for SpeechParams {
    fn name() -> Cow<'static, str> {
        "SpeechParams".into()
    }
}

/// The parameters in a query.
impl IntoParams for SpeechParams {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let Some(Object {
            properties,
            required,
            ..
        }) = object(Self::schema())
        else {
            return Vec::new();
        };
        let parameters = properties.into_iter().map(|(name, schema)| {
            let is_required = if required.contains(&name) {
                Required::True
            } else {
                Required::False
            };
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Query)
                .required(is_required)
                .schema(Some(without_null(schema)))
                .build()
        });
        parameters.collect()
    }
}

/// Queries have no `null`.
fn without_null(schema: RefOr<Schema>) -> RefOr<Schema> {
    let Some(mut inner) = object(schema.clone()) else {
        return schema;
    };
    if let SchemaType::Array(types) = &inner.schema_type {
        let mut types = types.iter().filter(|kind| **kind != Type::Null);
        if let Some(kind) = types.next() {
            inner.schema_type = kind.clone().into();
        }
    }
    if let Some(values) = &mut inner.enum_values {
        values.retain(|value| !value.is_null());
    }
    Schema::Object(inner).into()
}

/// One object with the properties of several.
pub fn merged(parts: impl IntoIterator<Item = RefOr<Schema>>) -> Object {
    let mut whole = Object::new();
    for part in parts.into_iter().filter_map(object) {
        whole.properties.extend(part.properties);
        whole.required.extend(part.required);
        whole.description = whole.description.or(part.description);
    }
    whole
}

/// Other names of parameters, among them those that clients of other servers send: what means a voice, a format, a
/// language or a speed must not be passed over.
const ALIASES: &[(&str, &[&str])] = &[
    ("text", &["input", "transcript"]),
    (
        "voice_id",
        &[
            "voice",
            "voice.id",
            "voice.name",
            "voice.path",
            "voice.voice_path",
            "audio_prompt_path",
            "predefined_voice_id",
            "reference_audio_filename",
            "voice_name",
            "voice_path",
            "speaker",
            "speaker_id",
            "speaker_voice",
            "speaker_wav",
        ],
    ),
    (
        "format",
        &["response_format", "output_format", "audio_format"],
    ),
    (
        "language_id",
        &["language", "language_code", "lang", "lang_code", "locale"],
    ),
    ("speed", &["speed_factor", "speech_rate", "speaking_rate"]),
    ("cfg_weight", &["cfg_guidance_weight"]),
    ("temperature", &["synthesis_temperature"]),
];

/// Objects in whose members parameters may stand: the two of this server, and those that others' clients wrap them in.
const GROUPS: [&str; 10] = [
    "voice",
    "audio",
    "audio_config",
    "config",
    "extra_body",
    "options",
    "parameters",
    "params",
    "settings",
    "voice_settings",
];

/// Words of names that mean a voice, and with which words at the end they name one.
const VOICE_WORDS: [&str; 6] = ["voice", "voices", "speaker", "speakers", "reference", "ref"];
const VOICE_ENDS: [&str; 14] = [
    "id", "ids", "name", "uuid", "key", "hash", "path", "url", "file", "filename", "audio", "wav",
    "clip", "sample",
];
/// Last words of names that mean a format, a language or a speed.
const OTHER_ENDS: [(&str, &[&str]); 3] = [
    (
        "format",
        &["format", "codec", "container", "encoding", "mime_type"],
    ),
    ("language_id", &["language", "lang", "locale"]),
    ("speed", &["speed"]),
];
/// Names with such words that mean something else.
const UNRELATED: [&str; 4] = [
    "stream_format",
    "text_format",
    "timestamp_format",
    "text_encoding",
];

impl SpeechParams {
    /// Reads what a client sent. `words` are a dialect's own names of parameters, which errors use where nothing was sent.
    pub fn read(fields: Fields, words: &[(&str, &str)]) -> Result<Self, Error> {
        let fields = fields.flattened(is_group, parameter)?;
        Ok(Self {
            text: fields.read()?,
            output: fields.read()?,
            sampling: fields.read()?,
            names: Names::of(&fields, words),
            ..Self::default()
        })
    }

    /// Refuses numbers that are out of the ranges above.
    pub fn check_ranges(&self) -> Result<(), Error> {
        check_ranges(&self.text)?;
        check_ranges(&self.sampling)?;
        self.output.check_ranges()
    }
}

impl OutputParams {
    /// Reads the parameters of a request that has no text.
    pub fn read(fields: Fields) -> Result<(Self, Names), Error> {
        let fields = fields.flattened(is_group, parameter)?;
        Ok((fields.read()?, Names::of(&fields, &[])))
    }

    pub fn check_ranges(&self) -> Result<(), Error> {
        check_ranges(self)
    }
}

fn is_group(sent: &str) -> bool {
    GROUPS.contains(&snake_case(sent).as_str())
}

/// The parameter that a client calls `sent`, if it is one. A name that is none, but means a voice, a format, a language
/// or a speed, is an error: nobody who asks for one is to hear another.
fn parameter(sent: &str) -> Result<Option<String>, String> {
    let sent = snake_case(sent);
    let bare = sent.rsplit('.').next().unwrap_or(&sent);
    let mut aliases = ALIASES.iter();
    let found = aliases.find(|(_, names)| names.contains(&sent.as_str()) || names.contains(&bare));
    let name = found.map_or(bare, |(name, _)| name);
    if PARAMETERS.contains_key(name) {
        return Ok(Some(name.to_owned()));
    }
    match meant(bare) {
        Some(meant) if !is_group(&sent) => Err(format!("is no parameter; {meant} is")),
        _ => Ok(None),
    }
}

/// The parameter that an unknown name is another name of.
fn meant(name: &str) -> Option<&'static str> {
    if UNRELATED.contains(&name) {
        return None;
    }
    let words: Vec<_> = name.split('_').collect();
    let last = words.last()?;
    let has = |word: &str| words.contains(&word);
    let is_voice = VOICE_WORDS.iter().any(|word| has(word)) || (has("audio") && has("prompt"));
    if is_voice
        && [&VOICE_WORDS[..], &VOICE_ENDS, &["prompt"]]
            .concat()
            .contains(last)
    {
        return Some("voice_id");
    }
    let mut others = OTHER_ENDS.iter();
    let is_meant = |end: &&str| name == *end || name.ends_with(&format!("_{end}"));
    let other = others.find(|(_, ends)| ends.iter().any(is_meant));
    other.map(|(meant, _)| *meant)
}

/// `outputFormat`, `output-format` and `OUTPUT_FORMAT` are `output_format`.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    let mut characters = name.chars().peekable();
    let mut before = '.';
    while let Some(c) = characters.next() {
        let begins_word = c.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || (before.is_ascii_uppercase()
                    && characters.peek().is_some_and(char::is_ascii_lowercase)));
        if begins_word {
            snake.push('_');
        }
        snake.push(if c == '-' {
            '_'
        } else {
            c.to_ascii_lowercase()
        });
        before = c;
    }
    snake
}

/// What a client calls parameters, where that is not their name.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<String, String>);

impl Names {
    fn of(fields: &Fields, words: &[(&str, &str)]) -> Self {
        let words = words.iter().copied();
        let named = words.chain(fields.names());
        Self(
            named
                .map(|(name, sent)| (name.to_owned(), sent.to_owned()))
                .collect(),
        )
    }

    /// What the client called a parameter.
    pub fn sent(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// An error whose field has the name that the client knows.
    pub fn in_errors(&self, mut error: Error) -> Error {
        if let Some(sent) = error.field.as_deref().and_then(|field| self.sent(field)) {
            error.field = Some(sent.to_owned());
        }
        error
    }
}

/// Every parameter with its least and greatest value, where it has them.
static PARAMETERS: LazyLock<HashMap<String, Option<(f64, f64)>>> = LazyLock::new(|| {
    let schemas = [
        TextParams::schema(),
        OutputParams::schema(),
        SamplingParams::schema(),
    ];
    let properties = schemas
        .into_iter()
        .filter_map(object)
        .flat_map(|object| object.properties);
    let range = |schema| {
        let Object {
            minimum, maximum, ..
        } = object(schema)?;
        let least = minimum.as_ref().map(value)?;
        Some((least, maximum.as_ref().map_or(f64::MAX, value)))
    };
    properties
        .map(|(name, schema)| (name, range(schema)))
        .collect()
});

pub fn object(schema: RefOr<Schema>) -> Option<Object> {
    match schema {
        RefOr::T(Schema::Object(object)) => Some(object),
        _ => None,
    }
}

fn value(number: &utoipa::Number) -> f64 {
    match *number {
        utoipa::Number::Int(number) => number as f64,
        utoipa::Number::UInt(number) => number as f64,
        utoipa::Number::Float(number) => number,
    }
}

fn check_ranges(params: &impl Serialize) -> Result<(), Error> {
    let values = serde_json::to_value(params).unwrap_or_default();
    for (name, value) in values.as_object().into_iter().flatten() {
        let range = PARAMETERS.get(name).copied().flatten();
        if let (Some(number), Some((least, most))) = (value.as_f64(), range)
            && !(least..=most).contains(&number)
        {
            return Err(Error::parameter(
                name,
                format!("expected {least} to {most}"),
            ));
        }
    }
    Ok(())
}

fn format_names() -> PossibleValuesParser {
    let formats = Format::ALL.iter();
    let names = formats.map(|format| {
        let aliases = format.aliases().iter().copied();
        PossibleValue::new(format.name()).aliases(aliases)
    });
    names.collect::<Vec<_>>().into()
}

fn formats() -> Object {
    let names = Format::ALL.iter().map(|format| format.name());
    let aliases = Format::ALL.iter().flat_map(|format| format.aliases());
    let names = names.chain(aliases.copied()).map(Into::into);
    one_of("format", Type::String, names)
}

fn sample_rates() -> Object {
    let rates = SAMPLE_RATES.into_iter().map(Into::into);
    one_of("sample_rate", Type::Integer, rates)
}

fn levels() -> Object {
    let levels = crate::validation::LEVELS.iter();
    let levels = levels.map(|(name, _)| (*name).into());
    one_of("audio_normalization", Type::String, levels)
}

/// One of these values, or `null`, with the description that the command line has of `parameter`.
fn one_of(parameter: &str, kind: Type, values: impl Iterator<Item = serde_json::Value>) -> Object {
    let command = OutputParams::augment_args(clap::Command::new(""));
    let mut arguments = command.get_arguments();
    let argument = arguments.find(|argument| argument.get_id() == parameter);
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([kind, Type::Null]))
        .enum_values(Some(values.chain([serde_json::Value::Null])))
        .description(argument.and_then(|argument| argument.get_help().map(ToString::to_string)))
        .build()
}

fn streamed() -> Object {
    switch("`false`: the whole file at once, with its real length in its head. Default: `true`")
}

fn binary() -> Object {
    switch("Binary WebSocket frames instead of base64. Default: `false`")
}

/// `true`, `false`, 1, 0, `yes`, `no`, `on` or `off`.
fn switch(description: &str) -> Object {
    let kinds = [Type::Boolean, Type::Integer, Type::String, Type::Null];
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(kinds))
        .description(Some(description))
        .build()
}
