//! Where events are written: one JSON line for each, through a buffer.
//!
//! Files are opened before anything is published, first all of them without changing them, then,
//! once it is known that no two are the same file and none is the input, they are emptied. So a
//! refused command line destroys nothing, under whatever names and links the files go.

use fanout::Event;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::SystemTime;

use super::args::STANDARD_STREAM;
use super::run::{Payload, Stop};

/// How much is written to the system at once, in bytes.
const WRITE_BYTES: usize = 1 << 16;

/// What standard output is called in messages.
pub(crate) const STDOUT_NAME: &str = "<stdout>";

/// Which file something is, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity(
    #[cfg(unix)] (u64, u64), // device and inode
    #[cfg(not(unix))] std::path::PathBuf,
);

#[cfg(unix)]
impl Identity {
    /// None where sharing is harmless: terminals, `/dev/null` and the like.
    pub(crate) fn of(file: &File, _path: &Path) -> Option<Identity> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let metadata = file.metadata().ok()?;
        let shared = metadata.file_type().is_char_device();
        (!shared).then(|| Identity((metadata.dev(), metadata.ino())))
    }

    pub(crate) fn of_stdin() -> Option<Identity> {
        use std::os::fd::AsFd;
        let stdin = io::stdin().as_fd().try_clone_to_owned().ok()?;
        Identity::of(&File::from(stdin), Path::new(STANDARD_STREAM))
    }

    fn of_stdout() -> Option<Identity> {
        use std::os::fd::AsFd;
        let stdout = io::stdout().as_fd().try_clone_to_owned().ok()?;
        Identity::of(&File::from(stdout), Path::new(STANDARD_STREAM))
    }
}

/// Elsewhere a path stands for its file, which misses hard links and redirections.
#[cfg(not(unix))]
impl Identity {
    pub(crate) fn of(_file: &File, path: &Path) -> Option<Identity> {
        path.canonicalize().ok().map(Identity)
    }

    pub(crate) fn of_stdin() -> Option<Identity> {
        None
    }

    fn of_stdout() -> Option<Identity> {
        None
    }
}

/// The writer of one subscription's events.
pub(crate) struct Output {
    /// How messages call it.
    pub(crate) name: String,
    writer: BufWriter<Box<dyn Write + Send>>,
    /// Somebody may be waiting at the other end (a pipe, a terminal): see [`Output::rest`].
    is_live: bool,
    /// The time of the last event and its text: the engine reads the clock once per round, so
    /// neighbours often share it.
    time: Option<(SystemTime, String)>,
}

/// Opens the outputs, in the order of the names; a name that is missing has none. `input` is the
/// file that is read.
pub(crate) fn open_all(
    names: &[Option<&str>],
    input: Option<&Identity>,
) -> Result<Vec<Option<Output>>, Stop> {
    let mut seen: HashMap<Identity, &str> = HashMap::new();
    let mut stdout_taken = false;
    let mut opened = Vec::new();
    for name in names {
        let Some(name) = *name else {
            opened.push(None);
            continue;
        };
        let (file, identity) = if name == STANDARD_STREAM {
            if std::mem::replace(&mut stdout_taken, true) {
                return Err(Stop::Refused(
                    "two subscriptions cannot both write to `-`".into(),
                ));
            }
            (None, Identity::of_stdout())
        } else {
            let file = open(name).map_err(|error| Stop::Failed(format!("{name}: {error}")))?;
            let identity = Identity::of(&file, Path::new(name));
            (Some(file), identity)
        };
        if let Some(identity) = identity {
            if input == Some(&identity) {
                return Err(Stop::Refused(format!(
                    "{name} is the input, and cannot be written to"
                )));
            }
            if let Some(other) = seen.insert(identity, name) {
                let both = format!("{other} and {name} are the same file");
                return Err(Stop::Refused(format!(
                    "two subscriptions cannot share one: {both}"
                )));
            }
        }
        opened.push(Some((name, file)));
    }
    opened
        .into_iter()
        .map(|output| output.map(|(name, file)| begin(name, file)).transpose())
        .collect()
}

fn open(name: &str) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(name)
}

/// Empties the file, if it is one, and makes a writer of it.
fn begin(name: &str, file: Option<File>) -> Result<Output, Stop> {
    let (name, writer, is_live): (_, Box<dyn Write + Send>, _) = match file {
        None => (STDOUT_NAME, Box::new(io::stdout()), true),
        Some(file) => {
            let failed = |error: io::Error| Stop::Failed(format!("{name}: {error}"));
            let is_file = file.metadata().map_err(failed)?.is_file();
            if is_file {
                file.set_len(0).map_err(failed)?;
            }
            (name, Box::new(file), !is_file)
        }
    };
    let writer = BufWriter::with_capacity(WRITE_BYTES, writer);
    Ok(Output {
        name: name.to_owned(),
        writer,
        is_live,
        time: None,
    })
}

impl Output {
    /// Writes an event as one line. The payload is a JSON text already and stands there as it is.
    pub(crate) fn write(&mut self, event: &Event<Payload>) -> io::Result<()> {
        write!(self.writer, "{{\"id\":{},\"topic\":", event.id())?;
        serde_json::to_writer(&mut self.writer, event.topic().as_str())?;
        self.writer.write_all(b",\"name\":")?;
        serde_json::to_writer(&mut self.writer, &event.name())?;
        self.writer.write_all(b",\"source\":")?;
        serde_json::to_writer(&mut self.writer, &event.source())?;
        self.writer.write_all(b",\"data\":")?;
        self.writer.write_all(event.data().json.as_bytes())?;
        self.writer.write_all(b",\"created_at\":\"")?;
        self.write_time(event.created_at())?;
        self.writer.write_all(b"\"}\n")
    }

    /// RFC 3339, in UTC, to the nanosecond.
    fn write_time(&mut self, time: SystemTime) -> io::Result<()> {
        let text = match &mut self.time {
            Some((last, text)) if *last == time => text,
            other => {
                let stamp = jiff::Timestamp::try_from(time).map_err(io::Error::other)?;
                &mut other.insert((time, format!("{stamp:.9}"))).1
            }
        };
        self.writer.write_all(text.as_bytes())
    }

    /// Nothing more is there to write at this moment. A pipe or a terminal gets what is buffered,
    /// since somebody may be waiting for it; a file gets it when the buffer is full or at the end.
    pub(crate) fn rest(&mut self) -> io::Result<()> {
        if self.is_live {
            self.writer.flush()
        } else {
            Ok(())
        }
    }

    /// Writes out what is buffered.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}
