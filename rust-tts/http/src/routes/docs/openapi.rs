//! The description of the API, which is kept by hand: its tests hold it against what the server takes.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

/// Without the version, which the package has.
const SOURCE: &str = include_str!("../../../assets/openapi.json");
const VERSION: &str = "{version}";

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(SOURCE.replacen(VERSION, chatterbox_speech::VERSION, 1)));

/// `GET /openapi.json`
pub async fn document() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, DOCUMENT.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde::de::value::Error;
    use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
    use serde::forward_to_deserialize_any;
    use serde_json::Value;

    use super::*;
    use chatterbox_audio::{Format, SAMPLE_RATES};
    use chatterbox_speech::draft::{AudioDraft, Draft, VoiceDraft};
    use chatterbox_speech::flat::FlatDraft;

    /// Notes the fields that a struct asks for, and gives it none.
    struct Fields<'a>(&'a mut BTreeSet<String>);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = Error;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            self.0.extend(fields.iter().map(ToString::to_string));
            Err(Error::custom("only the names are wanted"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("no struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        assert!(T::deserialize(Fields(&mut names)).is_err());
        names
    }

    fn properties(schema: &Value) -> BTreeSet<String> {
        let properties = schema["properties"].as_object().unwrap();
        properties.keys().cloned().collect()
    }

    fn schemas() -> Value {
        let document: Value = serde_json::from_slice(&DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], chatterbox_speech::VERSION);
        document["components"]["schemas"].clone()
    }

    #[test]
    fn requests_have_the_fields_that_are_read() {
        let schemas = schemas();
        let native = &schemas["SpeechRequest"];
        assert_eq!(properties(native), fields::<Draft>());
        let (voice, audio) = (
            &native["properties"]["voice"],
            &native["properties"]["audio"],
        );
        assert_eq!(properties(&voice["anyOf"][0]), fields::<VoiceDraft>());
        assert_eq!(properties(&audio["anyOf"][0]), fields::<AudioDraft>());
        let flat = fields::<FlatDraft>();
        assert_eq!(properties(&schemas["FlatSpeechRequest"]), flat);
        assert_eq!(properties(&schemas["FlatSpeechRequestForm"]), flat);
        let form = properties(&schemas["FormSpeechRequest"]);
        assert!(form.is_superset(&flat));
    }

    #[test]
    fn formats_and_rates_are_those_that_there_are() {
        let schemas = schemas();
        let names = schemas["Format"]["enum"].as_array().unwrap();
        let described: Vec<Format> = names
            .iter()
            .map(|name| Format::parse(name.as_str().unwrap()).unwrap())
            .collect();
        assert!(Format::ALL.iter().all(|format| described.contains(format)));
        let rates = schemas["SampleRate"]["enum"].as_array().unwrap();
        let rates: Vec<u64> = rates.iter().filter_map(Value::as_u64).collect();
        assert_eq!(rates, SAMPLE_RATES.map(u64::from));
    }
}
