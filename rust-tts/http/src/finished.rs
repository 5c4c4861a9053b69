//! Finished files that are kept for a while: players that read audio in parts, as iPhones' do, ask for the same file
//! several times, and each part must be of one synthesis.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use chatterbox_audio::Format;
use chatterbox_speech::Timing;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

/// How long a file is kept after it was last asked for.
const LIFETIME: Duration = Duration::from_secs(60);
/// Most files that are kept, those that are being made included.
const MAX_FILES: usize = 64;
/// Most bytes of all files that are kept.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The identity of a file: requests that agree in it ask for the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileKey {
    pub client: String,
    pub query: String,
    pub format: Format,
    /// The voice, by the hash of its clip where it has one.
    pub voice: String,
}

pub struct FinishedFile {
    pub bytes: Bytes,
    pub timing: Timing,
    /// Its `ETag`.
    pub tag: String,
}

impl FinishedFile {
    pub fn new(bytes: Vec<u8>, timing: Timing) -> Self {
        Self {
            bytes: bytes.into(),
            timing,
            tag: format!("\"{}\"", uuid::Uuid::new_v4().simple()),
        }
    }
}

/// A file, once it has been made.
pub type FileCell = Arc<OnceCell<FinishedFile>>;

struct CachedFile {
    key: FileKey,
    used: Instant,
    file: FileCell,
}

/// The files, in the order in which they were last asked for.
#[derive(Default)]
pub struct FinishedFiles(Mutex<VecDeque<CachedFile>>);

impl FinishedFiles {
    fn kept(&self) -> MutexGuard<'_, VecDeque<CachedFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file that is kept for a request, if there is one.
    pub fn find(&self, key: &FileKey) -> Option<FileCell> {
        let mut kept = self.kept();
        let at = kept.iter().position(|kept| kept.key == *key)?;
        let mut found = kept.remove(at)?;
        found.used = Instant::now();
        let file = Arc::clone(&found.file);
        kept.push_back(found);
        Some(file)
    }

    /// A place for a new file, in the stead of one that was kept for the same request.
    pub fn place(self: &Arc<Self>, key: FileKey) -> FileCell {
        let file = FileCell::default();
        let mut kept = self.kept();
        kept.retain(|kept| kept.key != key);
        if kept.len() == MAX_FILES {
            kept.pop_front();
        }
        kept.push_back(CachedFile {
            key,
            used: Instant::now(),
            file: Arc::clone(&file),
        });
        drop(kept);
        tokio::spawn(expire(Arc::downgrade(self), Arc::downgrade(&file)));
        file
    }

    /// Makes room for a file that has been made.
    pub fn trim(&self) {
        let mut kept = self.kept();
        let size = |kept: &CachedFile| kept.file.get().map_or(0, |file| file.bytes.len());
        let mut bytes: usize = kept.iter().map(size).sum();
        while bytes > MAX_BYTES
            && let Some(oldest) = kept.pop_front()
        {
            bytes -= size(&oldest);
        }
    }

    /// Drops a file that nobody has asked for since `before`; whether it is gone.
    fn drop_unused(&self, file: &FileCell, before: Instant) -> bool {
        let mut kept = self.kept();
        kept.retain(|kept| kept.used > before || !Arc::ptr_eq(&kept.file, file));
        !kept.iter().any(|kept| Arc::ptr_eq(&kept.file, file))
    }
}

/// Drops a file at the end of its lifetime, unless it has gone before.
async fn expire(files: Weak<FinishedFiles>, file: Weak<OnceCell<FinishedFile>>) {
    loop {
        let before = Instant::now();
        sleep(LIFETIME).await;
        let (Some(files), Some(file)) = (files.upgrade(), file.upgrade()) else {
            return;
        };
        if files.drop_unused(&file, before) {
            return;
        }
    }
}

/// A part of a file, as `Range` asks for it (RFC 9110, section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    From(u64),
    /// Both included.
    Between(u64, u64),
    Last(u64),
}

impl ByteRange {
    /// What Apple's players ask for before anything else. They play nothing where the answer is not this part.
    pub const PROBE: Self = Self::Between(0, 1);

    /// The one range that a request asks for. Other units, several ranges and what is no range are passed over.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return None;
        };
        let (unit, range) = value.to_str().ok()?.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        match (first, last) {
            ("", count) => position(count).map(Self::Last),
            (first, "") => position(first).map(Self::From),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// The bytes of a file of this length that are meant; `None` where it has none of them.
    pub fn within(self, length: usize) -> Option<Range<usize>> {
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let range = match self {
            Self::From(first) => bytes(first)..length,
            Self::Between(first, last) => bytes(first)..length.min(bytes(last).saturating_add(1)),
            Self::Last(count) => length.saturating_sub(bytes(count))..length,
        };
        (range.start < range.end).then_some(range)
    }
}

/// A number of bytes; a great one is behind the end of every file.
fn position(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(query: &str) -> FileKey {
        FileKey {
            client: "somebody".into(),
            query: query.into(),
            format: Format::Wav,
            voice: String::new(),
        }
    }

    async fn make(files: &Arc<FinishedFiles>, query: &str, bytes: usize) {
        let file = FinishedFile::new(vec![0; bytes], Timing::default());
        let place = files.place(key(query));
        place.get_or_init(async || file).await;
        files.trim();
    }

    #[test]
    fn test_ranges_are_read_or_passed_over() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::RANGE, value.parse().unwrap());
            }
            ByteRange::of(&headers)
        };
        for (value, range) in [
            ("bytes=0-1", ByteRange::PROBE),
            ("Bytes=0-1", ByteRange::PROBE),
            ("bytes= 5-5 ", ByteRange::Between(5, 5)),
            ("bytes=7-", ByteRange::From(7)),
            ("bytes=-9", ByteRange::Last(9)),
            (
                "bytes=1-99999999999999999999",
                ByteRange::Between(1, u64::MAX),
            ),
        ] {
            assert_eq!(read(&[value]), Some(range), "{value}");
        }
        for other in [
            "bytes=1-0",
            "bytes=-",
            "bytes=",
            "bytes",
            "",
            "items=0-1",
            "bytes=0-1,4-5",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=0 - 1",
        ] {
            assert_eq!(read(&[other]), None, "{other}");
        }
        assert_eq!(read(&["bytes=0-1", "bytes=2-3"]), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn test_ranges_are_cut_at_end_of_file() {
        for (range, found) in [
            (ByteRange::PROBE, Some(0..2)),
            (ByteRange::Between(8, u64::MAX), Some(8..10)),
            (ByteRange::Between(9, 9), Some(9..10)),
            (ByteRange::Between(10, 11), None),
            (ByteRange::From(3), Some(3..10)),
            (ByteRange::From(10), None),
            (ByteRange::From(u64::MAX), None),
            (ByteRange::Last(4), Some(6..10)),
            (ByteRange::Last(u64::MAX), Some(0..10)),
            (ByteRange::Last(0), None),
        ] {
            assert_eq!(range.within(10), found, "{range:?}");
        }
        assert_eq!(ByteRange::From(0).within(0), None);
    }

    #[tokio::test]
    async fn test_files_are_found_until_they_are_replaced_or_unused() {
        let files = Arc::new(FinishedFiles::default());
        make(&files, "a", 1).await;
        make(&files, "b", 1).await;
        let first = files.find(&key("a")).unwrap();
        let other_client = FileKey {
            client: "somebody else".into(),
            ..key("a")
        };
        assert!(files.find(&other_client).is_none());
        make(&files, "a", 2).await;
        assert_eq!(files.find(&key("a")).unwrap().get().unwrap().bytes.len(), 2);
        assert_eq!(first.get().unwrap().bytes.len(), 1);
        assert_ne!(
            first.get().unwrap().tag,
            files.find(&key("a")).unwrap().get().unwrap().tag
        );
        let b = files.find(&key("b")).unwrap();
        assert!(!files.drop_unused(&b, Instant::now().checked_sub(LIFETIME).unwrap()));
        assert!(files.drop_unused(&b, Instant::now()));
        assert!(files.find(&key("b")).is_none());
        assert!(files.find(&key("a")).is_some());
    }

    #[tokio::test]
    async fn test_files_take_no_more_than_their_memory() {
        let files = Arc::new(FinishedFiles::default());
        make(&files, "first", MAX_BYTES / 2).await;
        make(&files, "second", MAX_BYTES / 2).await;
        assert!(files.find(&key("first")).is_some());
        make(&files, "third", 1).await;
        assert!(files.find(&key("second")).is_none());
        assert!(files.find(&key("first")).is_some());
        make(&files, "huge", MAX_BYTES + 1).await;
        assert!(files.kept().is_empty());
        for number in 0..=MAX_FILES {
            make(&files, &number.to_string(), 1).await;
        }
        assert_eq!(files.kept().len(), MAX_FILES);
        assert!(files.find(&key("0")).is_none());
    }
}
