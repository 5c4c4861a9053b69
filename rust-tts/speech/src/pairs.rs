//! Names with values, all of them text, as queries and forms have them: into fields, errors that name them.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::value::{Error as ValueError, MapDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::error::Error;

/// Reads pairs into `T`; an error names the field. An empty value counts as left out, as forms send them; a name that
/// `T` does not have is passed over, and one that it has may come once.
pub fn parse_pairs<T: DeserializeOwned>(
    pairs: impl IntoIterator<Item = (String, String)>,
) -> Result<T, Error> {
    let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(name, value)| (name, Text(value)));
    serde_path_to_error::deserialize(MapDeserializer::<_, ValueError>::new(pairs)).map_err(
        |error| {
            let path = error.path().to_string();
            let problem = error.into_inner().to_string();
            match problem.strip_prefix("duplicate field `") {
                Some(name) => Error::parameter(name.trim_end_matches('`'), "was sent twice"),
                None => Error::parameter(&path, problem),
            }
        },
    )
}

/// A value that becomes whatever its field wants.
struct Text(String);

impl Text {
    fn parse<T: FromStr>(&self, expected: impl Display) -> Result<T, ValueError> {
        let text = self.0.trim();
        text.parse()
            .map_err(|_| ValueError::custom(format_args!("expected {expected}")))
    }
}

impl IntoDeserializer<'_> for Text {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Text {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        match self.0.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => visitor.visit_bool(true),
            "false" | "0" => visitor.visit_bool(false),
            _ => Err(ValueError::custom("expected true or false")),
        }
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_u32(self.parse(format_args!("a whole number, 0 to {}", u32::MAX))?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_u64(self.parse("a whole number, at least 0")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_f64(self.parse("a number")?)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::flat::FlatDraft;

    fn read(query: &str) -> Result<FlatDraft, Error> {
        parse_pairs(form_urlencoded::parse(query.as_bytes()).into_owned())
    }

    #[test]
    fn every_type_is_read_from_text() {
        let draft =
            read("text=a%20b&seed=5&top_k=3&temperature=0.5&stream=False&format=&other=%20&other=")
                .unwrap();
        assert_eq!(draft.text.as_deref(), Some("a b"));
        assert_eq!((draft.seed, draft.top_k), (Some(5), Some(3)));
        assert_eq!((draft.temperature, draft.stream), (Some(0.5), Some(false)));
        assert!(draft.format.is_none());
    }

    #[test]
    fn a_wrong_value_names_its_field() {
        for (query, field) in [
            ("seed=1.5", "seed"),
            ("seed=-1", "seed"),
            ("top_k=4294967296", "top_k"),
            ("temperature=hot", "temperature"),
            ("stream=maybe", "stream"),
            ("text=a&text=b", "text"),
            ("text=a&seed=1&seed=1", "seed"),
        ] {
            let error = read(query).unwrap_err();
            assert_eq!(error.code, Code::InvalidParameter, "{query}");
            let start = format!("{field}: ");
            assert!(error.to_string().starts_with(&start), "{query}: {error}");
        }
    }
}
