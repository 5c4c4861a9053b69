//! Multipart bodies with a file in them.

use axum::extract::multipart::{Field, Multipart, MultipartError, MultipartRejection};
use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::native::timed_out;
use chatterbox_settings::boolean;
use chatterbox_speech::error::{Code, Error};

use crate::state::App;
use crate::uploads::Room;

/// Most parts that are looked at.
const MAX_PARTS: usize = 64;
/// Longest of the parts that are not the file, in bytes; a spoken text may be longer where it is allowed to be.
const MAX_TEXT: usize = 64 * 1024;
/// Most bytes of a character.
const CHARACTER: usize = 4;

/// A file that came in a form.
pub struct Upload {
    /// The name that the client gave to it.
    pub name: String,
    pub bytes: Bytes,
    /// Its share of the memory for uploads, until the file has been dealt with.
    _room: Room,
}

/// A form's fields and file.
pub struct Form {
    /// The name of the part that is the file.
    part: &'static str,
    upload: Option<Upload>,
    /// In the order in which they came.
    texts: Vec<(String, String)>,
    /// The name of the first part that is of no use.
    unused: Option<String>,
}

impl Form {
    /// Reads a form whose file, if it has one, is in the part called `part`.
    pub async fn receive(
        app: &App,
        multipart: Result<Multipart, MultipartRejection>,
        part: &'static str,
    ) -> Result<Self, Error> {
        let multipart =
            multipart.map_err(|rejection| Error::new(Code::BadRequest, rejection.body_text()))?;
        let mut reader = Reader {
            room: app.uploads.room(),
            limit: app.speech.voice_options.max_voice_file_size,
            text_limit: MAX_TEXT.max(
                app.speech
                    .options
                    .limits
                    .max_text_length
                    .saturating_mul(CHARACTER),
            ),
        };
        // In all: clients that send a little now and then would keep their connections for ever.
        let parts = timeout(
            app.speech.options.limits.request_timeout,
            reader.parts(multipart, part),
        )
        .await;
        let late = |_| Error::new(Code::SlowBody, "The body did not arrive in time.");
        let Parts {
            file,
            texts,
            unused,
        } = parts.map_err(late)??;
        Ok(Self {
            part,
            upload: file.map(|(name, bytes)| Upload {
                name,
                bytes,
                _room: reader.room,
            }),
            texts,
            unused,
        })
    }

    /// The file, if one came along. An unused part is an error: a request that sends a clip must not be answered in
    /// another voice.
    pub fn upload(&mut self) -> Result<Option<Upload>, Error> {
        match self.unused.take() {
            Some(name) => {
                let problem = format!("is not used; a file is read from the part `{}`", self.part);
                Err(Error::parameter(&name, problem))
            }
            None => Ok(self.upload.take()),
        }
    }

    /// The file, of which there must be one.
    pub fn file(&mut self) -> Result<Upload, Error> {
        if self.upload.is_none() {
            let other = self.unused.take();
            let other = other.map(|name| format!("; it has one named `{name}`"));
            let message = format!(
                "The upload has no part named `{}`{}.",
                self.part,
                other.unwrap_or_default()
            );
            return Err(Error::new(Code::NoFile, message));
        }
        let upload = self.upload()?;
        upload.ok_or_else(|| Error::new(Code::NoFile, "The upload has no file."))
    }

    /// All texts that came along, with their names, in the order in which they came.
    pub fn into_texts(self) -> impl Iterator<Item = (String, String)> {
        self.texts.into_iter()
    }

    /// A text that came along; an empty one counts as left out, as forms send them.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let at = self.texts.iter().position(|(sent, _)| sent == name)?;
        let (_, text) = self.texts.remove(at);
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The same, of which there must be one.
    pub fn required(&mut self, name: &str) -> Result<String, Error> {
        self.text(name)
            .ok_or_else(|| Error::parameter(name, "is missing"))
    }

    /// A switch, unless it is left out.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Error> {
        let value = self.text(name).map(|text| boolean(&text)).transpose();
        value.map_err(|problem| Error::parameter(name, problem))
    }
}

/// The form that is being read, part by part.
#[derive(Default)]
struct Parts {
    /// The file's name and content.
    file: Option<(String, Bytes)>,
    texts: Vec<(String, String)>,
    unused: Option<String>,
}

/// Reads parts into the memory that there is for bodies.
struct Reader {
    room: Room,
    /// Largest file, in bytes.
    limit: usize,
    /// Longest of the other parts, in bytes.
    text_limit: usize,
}

impl Reader {
    async fn parts(&mut self, mut multipart: Multipart, wanted: &str) -> Result<Parts, Error> {
        let mut parts = Parts::default();
        for count in 0.. {
            let next = multipart.next_field().await;
            let Some(part) = next.map_err(|error| self.broken(&error))? else {
                break;
            };
            let name = part.name().unwrap_or_default().to_owned();
            if count == MAX_PARTS {
                parts.unused.get_or_insert(name);
                break;
            }
            let twice = || Error::parameter(&name, "was sent twice");
            if name == wanted {
                let file = self.file(part, wanted).await?;
                if file.is_some() && parts.file.is_some() {
                    return Err(twice());
                }
                parts.file = parts.file.or(file);
            } else if part
                .file_name()
                .is_some_and(|file_name| !file_name.is_empty())
            {
                // Its content is skipped unread.
                parts.unused.get_or_insert(name);
            } else if part.file_name().is_none() && part.name().is_some() {
                let text = self.text(part).await?;
                if parts.texts.iter().any(|(sent, _)| *sent == name) {
                    return Err(twice());
                }
                parts.texts.push((name, text));
            }
        }
        Ok(parts)
    }

    /// The file in a part; `None` in one without a name and without content, as forms send where no file was chosen.
    async fn file(
        &mut self,
        part: Field<'_>,
        wanted: &str,
    ) -> Result<Option<(String, Bytes)>, Error> {
        let name = part.file_name().map(str::to_owned);
        let bytes = self.bytes(part, self.limit).await?;
        let bytes = bytes.ok_or_else(|| self.too_large())?;
        match name {
            name if name.as_deref().unwrap_or_default().is_empty() && bytes.is_empty() => Ok(None),
            Some(name) => Ok(Some((name, bytes))),
            None => {
                let message = format!("The part `{wanted}` has no file name.");
                Err(Error::new(Code::NoFile, message))
            }
        }
    }

    async fn text(&mut self, part: Field<'_>) -> Result<String, Error> {
        let bytes = self.bytes(part, self.text_limit).await?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes.into()).ok());
        text.ok_or_else(|| {
            let most = self.text_limit;
            let message = format!("A part that is no file must be a text of at most {most} bytes.");
            Error::new(Code::BadRequest, message)
        })
    }

    /// A part's content; `None` where it has more than `most` bytes.
    async fn bytes(&mut self, mut part: Field<'_>, most: usize) -> Result<Option<Bytes>, Error> {
        let mut bytes = BytesMut::new();
        let mut fits = true;
        while let Some(piece) = part.chunk().await.map_err(|error| self.broken(&error))? {
            fits = fits && bytes.len() + piece.len() <= most;
            // The excess is read and dropped, so that the client, which is still sending, gets the error.
            if fits {
                self.room.grow(piece.len())?;
                bytes.extend_from_slice(&piece);
            }
        }
        Ok(fits.then(|| bytes.freeze()))
    }

    fn too_large(&self) -> Error {
        let message = format!("The file is larger than {} bytes.", self.limit);
        Error::new(Code::FileTooLarge, message)
    }

    /// Why a body could not be read.
    fn broken(&self, error: &MultipartError) -> Error {
        match error.status().as_u16() {
            413 => self.too_large(),
            _ if timed_out(error) => Error::new(Code::SlowBody, "The body did not arrive in time."),
            _ => Error::new(
                Code::BadRequest,
                format!("The multipart body is broken: {}", error.body_text()),
            ),
        }
    }
}
