//! The folder of voices as a place of files: opening what lies in it, whole writes, sweeping.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// Temporary files are named so that they can never be the id of a voice.
const TEMPORARY_PREFIX: &str = ".upload-";
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Temporary files that are made for one write at most.
const ATTEMPTS: usize = 8;
/// A file that was written so recently may be one that another process is still writing.
const FRESH: Duration = Duration::from_secs(60);

/// Identifies a state of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the content was written, in seconds since 1970. A rename leaves it alone.
    pub(super) fn modified(&self) -> u64 {
        u64::try_from(self.modified.0).unwrap_or_default()
    }
}

/// The stamp of a regular file, or of one in the same folder that a link leads to; `None` for anything else.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let metadata = if metadata.is_symlink() {
        open_inside(path).ok()?.metadata().ok()?
    } else {
        metadata
    };
    metadata.is_file().then(|| Stamp::of(&metadata))
}

/// Reads a regular file of at most `max_bytes`, with its stamp from before the reading. A link is followed inside the
/// file's folder alone, and a pipe never waited for.
pub(super) fn read(path: &Path, max_bytes: u64) -> io::Result<(Stamp, Vec<u8>)> {
    let file = match open_itself(path) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => open_inside(path),
        opened => opened,
    }?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed shows that a file is too large, even if it grows meanwhile.
    (&file)
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than the limit for voices",
        ));
    }
    Ok((Stamp::of(&metadata), bytes))
}

/// Opens what the path names, not what it may link to.
fn open_itself(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// Opens what a link leads to, if all of its way lies below the link's folder, as in a `ConfigMap` of Kubernetes: there
/// the files are links to `..data/NAME`, and `..data` is one to the folder of the current version.
#[cfg(target_os = "linux")]
fn open_inside(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, ResolveFlags, openat2};

    let (folder, name) = path
        .parent()
        .zip(path.file_name())
        .ok_or(io::ErrorKind::NotFound)?;
    let folder = File::open(folder)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(folder, name, flags, Mode::empty(), inside)?.into())
}

/// Other systems cannot restrict a path to a folder: there links are not followed.
#[cfg(not(target_os = "linux"))]
fn open_inside(path: &Path) -> io::Result<File> {
    open_itself(path)
}

/// The names in a folder, sorted. One that is not UTF-8 has a sign that no voice's name has in place of what is not.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<String> = entries
        .into_iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// Writes a file that is there whole or not at all, also after a power cut: a temporary file in the same folder,
/// synced and renamed. Returns its stamp; fails with `AlreadyExists` rather than replace a file unless `overwrite`.
pub(super) fn write_whole(
    folder: &Path,
    name: &str,
    bytes: &[u8],
    overwrite: bool,
) -> io::Result<Stamp> {
    let mut temporary = temporary(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    let target = folder.join(name);
    let persisted = if overwrite {
        temporary.persist(&target)
    } else {
        temporary.persist_noclobber(&target)
    };
    // The guard in the error removes the temporary file.
    let file = persisted.map_err(|failed| failed.error)?;
    sync_folder(folder)?;
    Ok(Stamp::of(&file.metadata()?))
}

/// A temporary file that no sweep takes away: it is locked until it is closed, which tells a file in use from one left
/// behind. A folder that knows no locks still works.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut attempts = 0;
    loop {
        let file = tempfile::Builder::new()
            .prefix(TEMPORARY_PREFIX)
            .suffix(TEMPORARY_SUFFIX)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(folder)?;
        let locked = flock(file.as_file(), FlockOperation::NonBlockingLockExclusive);
        // Else a sweep came between its making and its lock.
        let kept = locked != Err(Errno::WOULDBLOCK) && file.as_file().metadata()?.nlink() > 0;
        attempts += 1;
        if kept || attempts == ATTEMPTS {
            return Ok(file);
        }
    }
}

/// Gives a file another name in the same folder, durably and in one moment. Fails with `AlreadyExists` rather than
/// replace a file.
pub(super) fn rename(folder: &Path, from: &str, to: &str) -> io::Result<Stamp> {
    let (from, to) = (folder.join(from), folder.join(to));
    match renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
        // Some file systems know no such rename. A crash between the two steps leaves the voice under both names.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(&from, &to)?;
            fs::remove_file(&from)?;
        }
        renamed => renamed?,
    }
    sync_folder(folder)?;
    Ok(Stamp::of(&fs::symlink_metadata(&to)?))
}

/// Makes a folder in `parent`, durably, unless it is there.
pub(super) fn make_folder(parent: &Path, folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => sync_folder(parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a file for good.
pub(super) fn remove(folder: &Path, name: &str) -> io::Result<()> {
    fs::remove_file(folder.join(name))?;
    sync_folder(folder)
}

/// Removes the temporary files of processes that have ended: theirs are not locked any more.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_temporary(&entry.file_name()) || !entry.file_type()?.is_file() {
            continue;
        }
        let path = entry.path();
        let free = open_itself(&path)
            .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
        if free && let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "a leftover temporary file could not be removed");
        }
    }
    Ok(())
}

/// Whether a file has been written within the last minute, or at no time that is known.
pub(super) fn is_fresh(path: &Path) -> bool {
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    // A clock that was set back makes ages that are none.
    modified.is_ok_and(|at| at.elapsed().map_or(true, |age| age < FRESH))
}

fn is_temporary(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX))
}

/// Makes a rename or a removal durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
