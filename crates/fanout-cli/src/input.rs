//! The input of a run: a file or standard input, read until its end or until an interrupt.
//!
//! An input that cannot be read at all, such as a directory, is refused when it is opened. Outputs
//! are emptied only after that, so such a run changes no file.

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
    /// The name of the input in messages.
    pub(crate) name: String,
    source: Source,
    /// The size of the input if it is a file. It is used only to show progress.
    pub(crate) size_bytes: Option<u64>,
    /// The identity of the file, so that no output overwrites it.
    pub(crate) identity: Option<Identity>,
}

/// The name of the input in messages.
pub(crate) fn name_of(path: &Path) -> String {
    if path.as_os_str() == STANDARD_STREAM {
        return STDIN_NAME.to_owned();
    }
    path.display().to_string()
}

#[cfg(unix)]
type Source = File;
#[cfg(not(unix))]
type Source = Box<dyn Read>;

impl Input {
    pub(crate) fn open(path: &Path) -> io::Result<Input> {
        if path.as_os_str() == STANDARD_STREAM {
            let source = stdin()?;
            #[cfg(unix)]
            check_readable(&source)?;
            return Ok(Input {
                name: name_of(path),
                source,
                size_bytes: None,
                identity: Identity::of_stdin(),
            });
        }
        let file = File::open(path)?;
        check_readable(&file)?;
        let metadata = file.metadata()?;
        Ok(Input {
            name: name_of(path),
            size_bytes: metadata.is_file().then_some(metadata.len()),
            identity: Identity::of(&file, path),
            source: of_file(file),
        })
    }

    /// Returns the lines of the input. After an interrupt, reading them fails with an error for
    /// which [`is_stop`] is true.
    pub(crate) fn lines(self, interrupt: &Interrupt) -> Lines<Interruptible<'_>> {
        Lines::new(Interruptible {
            source: self.source,
            interrupt,
            is_last_read_done: false,
        })
    }
}

/// Fails if no line can be read from the file. Consumes nothing, and does not wait for input.
fn check_readable(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other(
            "this is a directory; a file of lines is needed",
        ));
    }
    #[cfg(unix)]
    if metadata.is_file() {
        use rustix::io::Errno;
        use std::os::unix::fs::FileExt;
        match file.read_at(&mut [0], 0) {
            // Some files of the kernel have no positions, and can be read only once.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SPIPE) => {}
            result => drop(result?),
        }
    } else if !io::IsTerminal::is_terminal(file) {
        // A read of no bytes fails if the descriptor is open for writing only. It never waits,
        // except perhaps on a terminal.
        let none = (&*file).read(&mut [])?;
        debug_assert_eq!(none, 0);
    }
    Ok(())
}

#[cfg(unix)]
fn of_file(file: File) -> Source {
    file
}

#[cfg(not(unix))]
fn of_file(file: File) -> Source {
    Box::new(file)
}

/// Opens standard input as a file. `Stdin` has its own buffer, and a wait for the descriptor would
/// miss the content of that buffer.
#[cfg(unix)]
fn stdin() -> io::Result<Source> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(not(unix))]
fn stdin() -> io::Result<Source> {
    Ok(Box::new(io::stdin().lock()))
}

/// Reads a source until there is an interrupt, and then one last time.
///
/// The last read returns the bytes that arrived before the interrupt, usually the content of a
/// pipe. There is only one last read, because otherwise an input that never pauses would prevent
/// the run from ending.
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
                    // The descriptor does not block and is shared with another process, which has
                    // read the input: wait again.
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

/// The error of a read that was interrupted.
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
