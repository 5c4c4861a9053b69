//! Validation of a voice's details.

use chatterbox_speech::error::Error;
use chatterbox_voices::{Consents, VoiceStore};
use utoipa::ToSchema;

/// Declares the parts of a form, which [`Form`](crate::routes::form::Form) reads: a file and its details.
macro_rules! voice_form {
    ($(#[$doc:meta])* $name:ident { $file:ident, $($(#[$of:meta])* $field:ident: $type:ty),* }) => {
        $(#[$doc])*
        #[derive(ToSchema)]
        #[expect(dead_code, reason = "describes the parts of a form")]
        pub struct $name {
            /// WAV, MP3, FLAC, Ogg, Opus, `WebM` or M4A.
            #[schema(value_type = String, format = Binary)]
            $file: Vec<u8>,
            $($(#[$of])* $field: $type,)*
        }
    };
}

voice_form! { VoiceForm { file, name: Option<String>, language: Option<String>, consent: Option<String>, overwrite: Option<bool> } }
voice_form! { RegisteredForm { voice_file, name: Option<String>, language: Option<String>, consent: Option<String> } }
voice_form! { OpenAiVoiceForm { audio_sample, name: String, language: Option<String>, consent: Option<String> } }
voice_form! { ConsentForm { recording, name: String, language: String } }

/// Longest name, in characters.
const MAX_NAME: usize = 128;
/// Longest words of consent, in characters.
const MAX_CONSENT: usize = 2000;
/// Longest language tag, in bytes.
const MAX_LANGUAGE: usize = 35;

/// A name: any text of one line. Whoever shows it must not take it for markup.
pub fn name(text: &str) -> Result<String, Error> {
    one_line("name", text, MAX_NAME)
}

/// A language tag as in RFC 5646, `de` or `pt-BR`; comes back in lower case.
pub fn language(text: &str) -> Result<String, Error> {
    let tag = text.trim().to_ascii_lowercase();
    let mut parts = tag.split('-');
    let first = parts.next().unwrap_or_default();
    let known = (2..=3).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_lowercase());
    let rest = parts.all(|part| {
        (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    if known && rest && tag.len() <= MAX_LANGUAGE {
        return Ok(tag);
    }
    Err(Error::parameter(
        "language",
        "expected a language tag such as `en` or `pt-BR`",
    ))
}

/// Words of consent, or the id of a recording that is there. Reads the disk for an id.
pub fn consent(text: &str, store: &VoiceStore) -> Result<String, Error> {
    let text = one_line("consent", text, MAX_CONSENT)?;
    if Consents::is_id(&text) && store.consents().get(&text).is_err() {
        return Err(Error::parameter(
            "consent",
            "there is no recording of this id",
        ));
    }
    Ok(text)
}

fn one_line(field: &str, text: &str, longest: usize) -> Result<String, Error> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > longest || text.chars().any(char::is_control) {
        let expected = format!("expected one line of 1 to {longest} characters");
        return Err(Error::parameter(field, expected));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_language_tags_are_recognised() {
        for (text, tag) in [
            ("en", "en"),
            (" DE ", "de"),
            ("pt-BR", "pt-br"),
            ("yue", "yue"),
        ] {
            assert_eq!(language(text).ok().as_deref(), Some(tag));
        }
        for text in ["", "e", "english", "en_US", "en-", "../x", "e1", "en-<b>"] {
            assert!(language(text).is_err(), "{text}");
        }
    }

    #[test]
    fn test_voice_names_are_one_line() {
        assert_eq!(name(" <b>Zoë</b> ").ok().as_deref(), Some("<b>Zoë</b>"));
        let long = "a".repeat(MAX_NAME + 1);
        for text in ["", "  ", "a\nb", "a\0b", long.as_str()] {
            assert!(name(text).is_err(), "{text:?}");
        }
    }
}
