//! The file as the demuxers read it.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::time::Instant;

use symphonia::core::io::MediaSource;

/// The file in memory; reads fail once the time is up, so that no loop inside a demuxer outlives the deadline.
pub(super) struct TimedSource<'a> {
    bytes: Cursor<&'a [u8]>,
    due: Instant,
}

impl<'a> TimedSource<'a> {
    pub(super) fn new(bytes: &'a [u8], due: Instant) -> Self {
        Self {
            bytes: Cursor::new(bytes),
            due,
        }
    }
}

impl Read for TimedSource<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if Instant::now() >= self.due {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.bytes.read(into)
    }
}

impl Seek for TimedSource<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.bytes.seek(to)
    }
}

impl MediaSource for TimedSource<'_> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        self.bytes.byte_len()
    }
}
