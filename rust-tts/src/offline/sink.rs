//! Where the commands write.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use chatterbox_audio::{Encoder, Encoding, Length, encoder};

/// The encoded audio on its way out: into a file that appears when it is whole, or into a stream.
pub struct Sink {
    target: Target,
    encoder: Box<dyn Encoder>,
    encoding: Encoding,
    samples: u64,
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
    pub fn create(path: &Path, encoding: Encoding) -> Result<Self, String> {
        let target = Target::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let encoder = encoder(encoding, Length::Unknown);
        let path = path.to_owned();
        let mut sink = Self {
            target,
            encoder,
            encoding,
            samples: 0,
            path,
        };
        let head = sink.encoder.head();
        sink.write(&head)?;
        Ok(sink)
    }

    pub fn push(&mut self, samples: &[f32]) -> Result<(), String> {
        self.samples += samples.len() as u64;
        let bytes = self.encoder.push(samples);
        self.write(&bytes)
    }

    /// Writes what is left; a file gets the head of its real length, and its name.
    pub fn finish(mut self) -> Result<(), String> {
        let bytes = self.encoder.finish();
        self.write(&bytes)?;
        let mut ends = encoder(self.encoding, Length::Samples(self.samples));
        let (head, trailer) = (ends.head(), ends.trailer());
        let path = self.path;
        self.target
            .close(&head, &trailer, &path)
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
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
        // As any other file that a program makes; the process's mask takes off what it must.
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
