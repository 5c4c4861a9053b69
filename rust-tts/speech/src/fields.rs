//! What a client sends, JSON or a form, as names with values: read into structs with one grammar, in which numbers and
//! switches may be texts as well. Errors name the field as the client called it.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::value::RawValue;

use crate::error::{Code, Error};

/// The fields of a body, a query or a message, in the order in which they came.
#[derive(Debug, Default)]
pub struct Fields(Vec<Field>);

#[derive(Debug)]
struct Field {
    /// As the client called it, with what it stands in: `voice.temperature`.
    sent: String,
    /// The struct's name of it.
    name: String,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Null,
    Bool(bool),
    /// Verbatim: no type holds every number.
    Number(String),
    Text(Wtf8),
    List,
    /// Verbatim: parsing to any depth would exhaust the stack.
    Object(String),
}

/// Why a text is no JSON object.
#[derive(Debug, thiserror::Error)]
pub enum NotAnObject {
    #[error("is not text in UTF-8")]
    NotUtf8,
    #[error("is not valid JSON: {0}")]
    NotJson(String),
    #[error("is not a JSON object")]
    OtherJson,
}

impl From<NotAnObject> for Error {
    fn from(problem: NotAnObject) -> Self {
        match problem {
            NotAnObject::OtherJson => Self::parameter("body", "expected an object"),
            problem => Self::new(Code::InvalidJson, format!("The body {problem}")),
        }
    }
}

impl Fields {
    /// Reads a JSON object. A byte order mark before it is skipped.
    pub fn from_json(bytes: &[u8]) -> Result<Self, NotAnObject> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = str::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0'));
        let text = text.ok_or(NotAnObject::NotUtf8)?;
        let json: &RawValue =
            serde_json::from_str(text).map_err(|error| NotAnObject::NotJson(error.to_string()))?;
        if !json.get().starts_with('{') {
            return Err(NotAnObject::OtherJson);
        }
        Ok(members(json.get())?.into_iter().collect())
    }

    /// Reads names with values as queries and forms write them (`a=1&b=2`).
    pub fn from_urlencoded(bytes: &[u8]) -> Self {
        Self::from_texts(form_urlencoded::parse(bytes).into_owned())
    }

    /// Fields whose values are all texts.
    pub fn from_texts(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let texts = pairs.into_iter();
        texts
            .map(|(name, text)| (name, Value::Text(Wtf8(text.into_bytes()))))
            .collect()
    }

    /// Reads a struct. Unknown names are ignored, and a known one may come once.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let mut members = Members {
            fields: &self.0,
            at: 0,
        };
        T::deserialize(MapAccessDeserializer::new(&mut members)).map_err(|problem| {
            let at = members.at.checked_sub(1).and_then(|at| self.0.get(at));
            Error::parameter(at.map_or("body", |field| &field.sent), problem)
        })
    }

    /// A text with the half of a character that it may begin or end with.
    pub fn text(&self, name: &str) -> Result<Option<&Wtf8>, Error> {
        let found = self.0.iter().find(|field| field.name == name);
        match found.map(|field| &field.value) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Error::parameter(name, "expected a text")),
        }
    }

    /// Whether a field has an object for its value.
    pub fn is_object(&self, name: &str) -> bool {
        let mut named = self.0.iter().filter(|field| field.name == name);
        named.any(|field| matches!(field.value, Value::Object(_)))
    }

    /// Puts the fields of objects for which `is_group` beside the others, under the names that `name_of` gives them, and
    /// leaves out what has no name or no value. A name that then comes twice is refused.
    pub fn flattened(
        self,
        is_group: impl Fn(&str) -> bool,
        name_of: impl Fn(&str) -> Result<Option<String>, String>,
    ) -> Result<Self, Error> {
        let mut opened = Vec::new();
        for Field { sent, value, .. } in self.0 {
            match value {
                Value::Object(json) if is_group(&sent) => {
                    let inner = members(&json)?.into_iter();
                    opened.extend(inner.map(|(name, value)| (format!("{sent}.{name}"), value)));
                }
                value => opened.push((sent, value)),
            }
        }
        let mut flat: Vec<Field> = Vec::new();
        for (sent, value) in opened {
            if value.is_absent() {
                continue;
            }
            let name = name_of(&sent).map_err(|problem| Error::parameter(&sent, problem))?;
            let Some(name) = name else {
                if is_group(&sent) {
                    return Err(Error::parameter(&sent, "expected an object"));
                }
                continue;
            };
            if let Some(first) = flat.iter().find(|field| field.name == name) {
                let problem = if first.sent == sent {
                    "was sent twice".to_owned()
                } else {
                    format!("is the same as {}; send one of the two", first.sent)
                };
                return Err(Error::parameter(&sent, problem));
            }
            flat.push(Field { sent, name, value });
        }
        Ok(Self(flat))
    }

    /// What the client called each field.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.iter();
        fields.map(|field| (field.name.as_str(), field.sent.as_str()))
    }
}

impl FromIterator<(String, Value)> for Fields {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(members: I) -> Self {
        let fields = members.into_iter().map(|(sent, value)| Field {
            name: sent.clone(),
            sent,
            value,
        });
        Self(fields.collect())
    }
}

/// A text that may have halves of characters in it, as JSON's `\ud83d` writes them: in the encoding WTF-8.
#[derive(Clone, Debug, Default)]
pub struct Wtf8(Vec<u8>);

impl Wtf8 {
    /// The text without its halves.
    pub fn to_text(&self) -> String {
        self.joined_to(&mut Self::default())
    }

    /// The text that follows `half`, which stands for the end of the text before and becomes that of this one. Halves that
    /// meet are a character; others are dropped.
    pub fn joined_to(&self, half: &mut Self) -> String {
        let mut bytes = std::mem::take(&mut half.0);
        bytes.extend(&self.0);
        let (mut text, mut plain, mut at) = (String::new(), 0, 0);
        while at < bytes.len() {
            let Some(unit) = surrogate(&bytes[at..]) else {
                at += 1;
                continue;
            };
            text.push_str(&String::from_utf8_lossy(&bytes[plain..at]));
            let next = surrogate(&bytes[at + 3..]);
            let pair = [Some(unit), next].into_iter().flatten();
            if let Some(Ok(whole)) = char::decode_utf16(pair).next() {
                text.push(whole);
                at += 3;
            } else if at + 3 == bytes.len() && unit < 0xDC00 {
                half.0 = bytes[at..].to_vec();
            }
            at += 3;
            plain = at;
        }
        text.push_str(&String::from_utf8_lossy(&bytes[plain..]));
        text
    }
}

/// The half of a character that `bytes` begin with.
fn surrogate(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0xED, second @ 0xA0..=0xFF, third, ..] => {
            Some(0xD000 | u16::from(second & 0x3F) << 6 | u16::from(third & 0x3F))
        }
        _ => None,
    }
}

/// `serde_json` gives strings in WTF-8 where bytes are asked for.
impl<'de> Deserialize<'de> for Wtf8 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Wtf8;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("a text")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Wtf8, E> {
                Ok(Wtf8(bytes.to_vec()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// An object's members in order, those that come twice as well.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Object;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some((name, json)) = map.next_entry::<Wtf8, &RawValue>()? {
                    let value = Value::read(json).map_err(de::Error::custom)?;
                    members.push((name.to_text(), value));
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// The members of an object.
fn members(json: &str) -> Result<Vec<(String, Value)>, NotAnObject> {
    let object = serde_json::from_str::<Object>(json);
    Ok(object
        .map_err(|error| NotAnObject::NotJson(error.to_string()))?
        .0)
}

impl Value {
    fn read(json: &RawValue) -> serde_json::Result<Self> {
        let text = json.get();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Bool(text == "true"),
            Some(b'[') => Self::List,
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b'{') => Self::Object(text.to_owned()),
            _ => Self::Number(text.to_owned()),
        })
    }

    fn is_absent(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.0.trim_ascii().is_empty(),
            _ => false,
        }
    }

    /// The text of a value that may be a number.
    fn written(&self) -> Option<String> {
        match self {
            Self::Number(text) => Some(text.clone()),
            Self::Text(text) => Some(text.to_text().trim().to_owned()),
            _ => None,
        }
    }

    fn number<T: FromStr>(&self) -> Option<T> {
        self.written()?.parse().ok()
    }

    /// `42`, and `42.0` as well.
    fn whole<T: TryFrom<i128>>(&self, expected: impl Display) -> Result<T, Problem> {
        let float = || self.number::<f64>().filter(|number| number.fract() == 0.0);
        let whole = self
            .number()
            .or_else(|| float().map(|number| number as i128));
        let fitting = whole.and_then(|whole| T::try_from(whole).ok());
        fitting.ok_or_else(|| de::Error::custom(format_args!("expected a whole number{expected}")))
    }
}

/// What is wrong with a field's value.
#[derive(Debug)]
struct Problem(String);

impl Display for Problem {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: Display>(problem: T) -> Self {
        Self(problem.to_string())
    }

    fn duplicate_field(_: &'static str) -> Self {
        Self("was sent twice".to_owned())
    }

    fn missing_field(_: &'static str) -> Self {
        Self("is missing".to_owned())
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self(format!("expected one of {}", known.join(", ")))
    }
}

/// Gives a struct its fields; `at` is behind the one that it has been given last.
struct Members<'a> {
    fields: &'a [Field],
    at: usize,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        let Some(field) = self.fields.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        seed.deserialize(StrDeserializer::new(&field.name))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        seed.deserialize(&self.fields[self.at - 1].value)
    }
}

impl<'de> Deserializer<'de> for &Value {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let Value::Text(text) = self else {
            return Err(de::Error::custom("expected a text"));
        };
        visitor.visit_string(text.to_text())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let written = || chatterbox_settings::boolean(&self.written()?).ok();
        let read = match self {
            Value::Bool(value) => Some(*value),
            _ => written(),
        };
        visitor.visit_bool(read.ok_or_else(|| Problem("expected true or false".to_owned()))?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u32(self.whole(format_args!(", 0 to {}", u32::MAX))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.whole(", at least 0")?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_i64(self.whole("")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let number = self.number().filter(|number: &f64| number.is_finite());
        visitor.visit_f64(number.ok_or_else(|| Problem("expected a number".to_owned()))?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let written = match self {
            Value::Text(text) => text.to_text(),
            _ => String::new(),
        };
        StrDeserializer::<Problem>::new(&written).deserialize_enum(name, known, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Read {
        text: Option<String>,
        count: Option<u32>,
        seed: Option<i64>,
        size: Option<usize>,
        speed: Option<f64>,
        on: Option<bool>,
    }

    fn read(json: &str) -> Result<Read, Error> {
        Fields::from_json(json.as_bytes())?.read()
    }

    #[test]
    fn test_numbers_and_booleans_are_read_in_every_form() {
        for json in [
            r#"{"count": 42, "seed": -1, "size": 3, "speed": 1.5, "on": true}"#,
            r#"{"count": "42", "seed": "-1", "size": " 3 ", "speed": "1.5", "on": "Yes"}"#,
            r#"{"count": 42.0, "seed": -1e0, "size": 3.0, "speed": 15e-1, "on": 1}"#,
        ] {
            let read = read(json).unwrap();
            assert_eq!(
                (read.count, read.seed, read.size),
                (Some(42), Some(-1), Some(3))
            );
            assert_eq!((read.speed, read.on), (Some(1.5), Some(true)));
        }
        let form: Read = Fields::from_urlencoded(b"text=a%20b&count=42&on=off")
            .read()
            .unwrap();
        assert_eq!(
            (form.text.as_deref(), form.count, form.on),
            (Some("a b"), Some(42), Some(false))
        );
        assert_eq!(
            read(r#"{"text": null, "other": [{}], "count": null}"#)
                .unwrap()
                .count,
            None
        );
    }

    #[test]
    fn test_invalid_values_name_field() {
        for (json, field) in [
            (r#"{"text": 5}"#, "text"),
            (r#"{"text": {"a": 1}}"#, "text"),
            (r#"{"count": 1.5}"#, "count"),
            (r#"{"count": -1}"#, "count"),
            (r#"{"count": true}"#, "count"),
            (r#"{"count": 4294967296}"#, "count"),
            (r#"{"seed": 99999999999999999999999999}"#, "seed"),
            (r#"{"speed": "fast"}"#, "speed"),
            (r#"{"speed": "NaN"}"#, "speed"),
            (r#"{"speed": [1]}"#, "speed"),
            (r#"{"on": 2}"#, "on"),
            (r#"{"on": "maybe"}"#, "on"),
            (r#"{"text": "a", "count": 1, "text": "b"}"#, "text"),
            ("[1]", "body"),
            ("null", "body"),
        ] {
            let error = read(json).unwrap_err();
            assert_eq!(error.code, Code::InvalidParameter, "{json}: {error}");
            assert_eq!(error.field.as_deref(), Some(field), "{json}: {error}");
        }
    }

    #[test]
    fn test_invalid_json_is_parse_error() {
        let deep = "[".repeat(10_000);
        for json in [
            "",
            "{",
            r#"{"text": NaN}"#,
            r#"{"text": "\x"}"#,
            "{} {}",
            &deep,
        ] {
            let error = read(json).unwrap_err();
            assert_eq!(error.code, Code::InvalidJson, "{json:.20}");
        }
    }

    #[test]
    fn test_non_utf8_bodies_are_refused() {
        let utf16: Vec<u8> = r#"{"text": "a"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&[0xFF, 0xFE], utf16.as_slice()].concat();
        for bytes in [utf16.as_slice(), &marked, b"{\"text\": \"\xE9\"}"] {
            let error = Error::from(Fields::from_json(bytes).unwrap_err());
            assert_eq!(error.code, Code::InvalidJson);
            assert!(error.message.contains("UTF-8"), "{error}");
        }
        assert_eq!(read("\u{feff}{\"count\": 1}").unwrap().count, Some(1));
    }

    #[test]
    fn test_surrogate_halves_are_joined_or_dropped() {
        for (json, text) in [
            (r"Hi \ud83d", "Hi "),
            (r"\ude00 Hi", " Hi"),
            (r"a\ud83db\ude00c", "abc"),
            (r"\ude00\ud83d", ""),
            (r"\ud83d\ude00é", "😀é"),
            (r"\ud83d\ud83d\ude00", "😀"),
            ("한국\u{d7ff}", "한국\u{d7ff}"),
        ] {
            let read = read(&format!("{{\"text\": \"{json}\"}}")).unwrap();
            assert_eq!(read.text.as_deref(), Some(text), "{json}");
        }
        let (mut half, mut joined) = (Wtf8::default(), String::new());
        for json in [
            r#"{"text": "Hi \ud83d"}"#,
            r#"{"text": "\ude00 there\ud83d"}"#,
            r#"{"text": "!"}"#,
        ] {
            let fields = Fields::from_json(json.as_bytes()).unwrap();
            joined += &fields.text("text").unwrap().unwrap().joined_to(&mut half);
        }
        assert_eq!(joined, "Hi 😀 there!");
    }
}
