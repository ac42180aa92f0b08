//! The input of a run: a file or standard input, read until its end or until an interrupt.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::identity::{Identity, STANDARD_STREAM, STDIN_NAME};
use crate::interrupt::Interrupt;
use crate::lines::Lines;

/// An opened input.
pub(crate) struct Input {
    /// What messages call it.
    pub(crate) name: String,
    source: Source,
    /// Its size if it is a file. This is used for showing progress only.
    pub(crate) size_bytes: Option<u64>,
    /// Which file it is, so that no output overwrites it.
    pub(crate) identity: Option<Identity>,
}

#[cfg(unix)]
type Source = File;
#[cfg(not(unix))]
type Source = Box<dyn Read>;

impl Input {
    pub(crate) fn open(path: &Path) -> io::Result<Input> {
        if path.as_os_str() == STANDARD_STREAM {
            return Ok(Input {
                name: STDIN_NAME.to_owned(),
                source: stdin()?,
                size_bytes: None,
                identity: Identity::of_stdin(),
            });
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        Ok(Input {
            name: path.display().to_string(),
            size_bytes: metadata.is_file().then_some(metadata.len()),
            identity: Identity::of(&file, path),
            source: of_file(file),
        })
    }

    /// Its lines. Reading them fails with an error for which [`is_stop`] is true when the
    /// interrupt comes.
    pub(crate) fn lines(self, interrupt: &Interrupt) -> Lines<Interruptible<'_>> {
        Lines::new(Interruptible {
            source: self.source,
            interrupt,
            is_last_read_done: false,
        })
    }
}

#[cfg(unix)]
fn of_file(file: File) -> Source {
    file
}

#[cfg(not(unix))]
fn of_file(file: File) -> Source {
    Box::new(file)
}

/// Not `Stdin`, which has a buffer of its own: waiting for the descriptor would miss what is in
/// that buffer.
#[cfg(unix)]
fn stdin() -> io::Result<Source> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(not(unix))]
fn stdin() -> io::Result<Source> {
    Ok(Box::new(io::stdin().lock()))
}

/// Reads a source until an interrupt comes, and a last time then.
///
/// The last read takes what had arrived before the interrupt: the content of a pipe, as a rule.
/// There is only one, because an input that never pauses would never let the run end.
pub(crate) struct Interruptible<'a> {
    source: Source,
    interrupt: &'a Interrupt,
    is_last_read_done: bool,
}

impl Read for Interruptible<'_> {
    #[cfg(unix)]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let is_stopped = self.interrupt.is_stopped();
            if is_stopped && self.is_last_read_done {
                return Err(io::Error::other(Stopped));
            }
            self.is_last_read_done = is_stopped;
            if self.interrupt.wait_readable(&self.source)? {
                match self.source.read(buffer) {
                    // A descriptor that does not block, shared with another process that was
                    // faster: wait again.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return result,
                }
            }
        }
    }

    #[cfg(not(unix))]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::replace(&mut self.is_last_read_done, self.interrupt.is_stopped()) {
            return Err(io::Error::other(Stopped));
        }
        self.source.read(buffer)
    }
}

/// The interrupt came.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reading was interrupted")
    }
}

impl Error for Stopped {}

/// Whether reading ended because of the interrupt, and not because it failed.
pub(crate) fn is_stop(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Stopped>())
}
