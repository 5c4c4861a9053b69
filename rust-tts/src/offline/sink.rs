//! The commands' output files.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use chatterbox_audio::{Encoding, Length, encoder};

/// The encoded audio on its way out: into a file that appears when it is whole, or into a stream.
pub struct Sink {
    target: Target,
    path: PathBuf,
}

/// Writes a file that appears when it is whole. The error is a sentence.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let written = Target::open(path).and_then(|mut target| {
        match &mut target {
            Target::File(file) => file.write_all(bytes)?,
            Target::Stream(stream) => stream.write_all(bytes)?,
        }
        target.close(&[], &[], path)
    });
    written.map_err(|error| format!("{}: {error}", path.display()))
}

enum Target {
    File(NamedTempFile),
    /// Standard output, a device, a pipe: what cannot be rewound to correct its head.
    Stream(Box<dyn Write>),
}

impl Sink {
    /// `-` is standard output. The error is a sentence.
    pub fn create(path: &Path) -> Result<Self, String> {
        let target = Target::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let path = path.to_owned();
        Ok(Self { target, path })
    }

    /// Ends a file of so many `samples`: it gets the head of its real length, and its name.
    pub fn finish(self, encoding: Encoding, samples: u64) -> Result<(), String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let ends = encoder(encoding, Length::Samples(samples));
        let ends = ends.and_then(|mut encoder| Ok((encoder.head()?, encoder.trailer())));
        let (head, trailer) = ends.map_err(|error| named(&error))?;
        let closed = self.target.close(&head, &trailer, &self.path);
        closed.map_err(|error| named(&error))
    }

    /// Writes encoded audio.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = match &mut self.target {
            Target::File(file) => file.write_all(bytes),
            Target::Stream(stream) => stream.write_all(bytes),
        };
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

impl Target {
    fn open(path: &Path) -> std::io::Result<Self> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stream(Box::new(std::io::stdout())));
        }
        if path
            .metadata()
            .is_ok_and(|found| !found.is_file() && !found.is_dir())
        {
            return Ok(Self::Stream(Box::new(File::create(path)?)));
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        if !folder.is_dir() {
            let problem = "there is no such folder";
            return Err(std::io::Error::new(ErrorKind::NotFound, problem));
        }
        let mut builder = tempfile::Builder::new();
        // The usual mode of a new file; the process's umask applies.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder
            .tempfile_in(folder)
            .map(Self::File)
            // Its own text has the name of the temporary file.
            .map_err(|error| error.kind().into())
    }

    /// Ends a file with `trailer` and corrects its head, if that is possible; a stream ends as it is.
    fn close(self, head: &[u8], trailer: &[u8], path: &Path) -> std::io::Result<()> {
        match self {
            Self::Stream(mut stream) => stream.flush(),
            Self::File(mut file) => {
                file.write_all(trailer)?;
                file.seek(SeekFrom::Start(0))?;
                file.write_all(head)?;
                file.persist(path)
                    .map(|_| ())
                    .map_err(|failed| failed.error)
            }
        }
    }
}
