//! The identity of a file, independent of its name, so that no output overwrites another file of
//! the same run.

use std::fs::File;
use std::path::Path;

/// The name that stands for standard input and standard output.
pub(crate) const STANDARD_STREAM: &str = "-";

/// The names of the standard streams in messages.
pub(crate) const STDIN_NAME: &str = "<stdin>";
pub(crate) const STDOUT_NAME: &str = "<stdout>";

/// The paths under which systems offer the standard error of a process.
#[cfg(unix)]
pub(crate) const STDERR_PATHS: &[&str] = &["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"];
#[cfg(not(unix))]
pub(crate) const STDERR_PATHS: &[&str] = &[];

/// The identity of a file, a pipe or a block device, independent of its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity(
    #[cfg(unix)] (u64, u64), // device and inode
    #[cfg(not(unix))] std::path::PathBuf,
);

#[cfg(unix)]
impl Identity {
    /// Returns `None` for files that can be shared: terminals, `/dev/null` and other character
    /// devices, and sockets, whose two directions are independent.
    pub(crate) fn of(file: &File, _path: &Path) -> Option<Identity> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let metadata = file.metadata().ok()?;
        let kind = metadata.file_type();
        let is_shareable = kind.is_char_device() || kind.is_socket();
        (!is_shareable).then(|| Identity((metadata.dev(), metadata.ino())))
    }

    pub(crate) fn of_stdin() -> Option<Identity> {
        Identity::of_stream(&std::io::stdin())
    }

    pub(crate) fn of_stdout() -> Option<Identity> {
        Identity::of_stream(&std::io::stdout())
    }

    pub(crate) fn of_stderr() -> Option<Identity> {
        Identity::of_stream(&std::io::stderr())
    }

    fn of_stream(stream: &impl std::os::fd::AsFd) -> Option<Identity> {
        let copy = stream.as_fd().try_clone_to_owned().ok()?;
        Identity::of(&File::from(copy), Path::new(STANDARD_STREAM))
    }
}

/// On other systems a path identifies its file. This misses hard links and redirections.
#[cfg(not(unix))]
impl Identity {
    pub(crate) fn of(_file: &File, path: &Path) -> Option<Identity> {
        path.canonicalize().ok().map(Identity)
    }

    pub(crate) fn of_stdin() -> Option<Identity> {
        None
    }

    pub(crate) fn of_stdout() -> Option<Identity> {
        None
    }

    pub(crate) fn of_stderr() -> Option<Identity> {
        None
    }
}
