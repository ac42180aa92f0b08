//! Where events are written: one line of JSON for each event, through a buffer.
//!
//! All files are opened before the first event is published. First they are opened without any
//! change. They are emptied only after the program has checked that no two of them are the same
//! file, that none is the input, and that none is standard error. So a command line that is refused
//! changes no file, whatever names and links lead to the files, and leaves no new one.
//!
//! The buffer contains whole lines only, so that a program that reads the file sees whole lines
//! only. It is written when it is full, when the input pauses, and at the end.

use fanout::Event;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::identity::{Identity, STANDARD_STREAM, STDERR_PATHS, STDOUT_NAME};
use crate::payload::Payload;
use crate::status::StartError;

/// The buffer is written to the system when it holds this many bytes or more. With the line that
/// fills it, it still fits into a pipe of Linux (64 KiB), unless that line is longer than 4 KiB.
const WRITE_BYTES: usize = 60 << 10;

/// The longest time that an event waits in the buffer of a file while the input pauses.
const FILE_DELAY_MAX: Duration = Duration::from_millis(100);

/// The writer of the events of one subscription.
pub(crate) struct Output {
    /// The name of the output in messages.
    pub(crate) name: String,
    pub(crate) is_stdout: bool,
    pub(crate) is_terminal: bool,
    buffer: Buffer<Box<dyn Write + Send>>,
    /// The time of the last event, and its text: the engine reads the clock once for each block of
    /// events, so consecutive events often have the same time.
    time: Option<(SystemTime, String)>,
}

/// The outputs, which are open and unchanged.
pub(crate) struct OpenOutputs<'a> {
    /// The name of each output, and its file. Standard output has none.
    outputs: Vec<Option<(&'a str, Option<File>)>>,
    created: CreatedFiles<'a>,
}

/// The files that were created in order to open them. Dropping this removes them.
#[derive(Default)]
struct CreatedFiles<'a>(Vec<&'a str>);

impl Drop for CreatedFiles<'_> {
    fn drop(&mut self) {
        for name in self.0.drain(..) {
            // An error remains unreported: there is one already, for which the file is removed.
            let _ = std::fs::remove_file(name);
        }
    }
}

impl OpenOutputs<'_> {
    /// Empties the files.
    pub(crate) fn begin(mut self) -> Result<Vec<Option<Output>>, StartError> {
        self.created.0.clear(); // they remain
        let outputs = std::mem::take(&mut self.outputs).into_iter();
        outputs
            .map(|output| output.map(|(name, file)| begin(name, file)).transpose())
            .collect()
    }
}

/// Opens the outputs in the order of the names. A name that is `None` has no output. `input` is the
/// file that is read.
pub(crate) fn open_all<'a>(
    names: &[Option<&'a str>],
    input: Option<&Identity>,
) -> Result<OpenOutputs<'a>, StartError> {
    let refused = |message: String| Err(StartError::Refused(message));
    let stdout = Identity::of_stdout();
    let stderr = Identity::of_stderr();
    for (stream, identity) in [("output", &stdout), ("error", &stderr)] {
        if input.is_some() && identity.as_ref() == input {
            return refused(format!(
                "standard {stream} is the input file: the run would write into its own input"
            ));
        }
    }

    let mut stdout_name: Option<&str> = None;
    let mut seen: HashMap<Identity, &str> = HashMap::new();
    let mut opened = Vec::new();
    let mut created = CreatedFiles::default();
    for name in names {
        let Some(name) = *name else {
            opened.push(None);
            continue;
        };
        let is_stderr = |name: &str| {
            refused(format!(
                "{name} is standard error, where messages go, so it cannot be an output"
            ))
        };
        // The identity of standard error is that of standard output with `2>&1`, and a terminal has
        // none.
        if STDERR_PATHS.contains(&name) {
            return is_stderr(name);
        }
        let (file, identity) = if name == STANDARD_STREAM {
            (None, stdout.clone())
        } else {
            let failed = |error| StartError::Failed(format!("{name}: {error}"));
            let file = open(name, &mut created).map_err(failed)?;
            let identity = Identity::of(&file, Path::new(name));
            // A file that is opened a second time has a second position, so the report, or the
            // output of another process, would overwrite events.
            let is_stdout = identity.is_some() && identity == stdout;
            ((!is_stdout).then_some(file), identity)
        };
        if file.is_none()
            && let Some(other) = stdout_name.replace(name)
        {
            return refused(format!(
                "two subscriptions cannot both write to standard output (`{other}` and `{name}`)"
            ));
        }
        if let Some(identity) = identity {
            if input == Some(&identity) {
                return refused(format!("{name} is the input, so it cannot be an output"));
            }
            if file.is_some() && stderr.as_ref() == Some(&identity) {
                return is_stderr(name);
            }
            if let Some(other) = seen.insert(identity, name) {
                return refused(format!(
                    "two subscriptions cannot write to the same file ({other} and {name})"
                ));
            }
        }
        opened.push(Some((name, file)));
    }
    Ok(OpenOutputs {
        outputs: opened,
        created,
    })
}

fn open<'a>(name: &'a str, created: &mut CreatedFiles<'a>) -> io::Result<File> {
    match OpenOptions::new().write(true).create_new(true).open(name) {
        Ok(file) => {
            created.0.push(name);
            Ok(file)
        }
        // It exists, or it is a link to a file that does not.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(name),
        Err(error) => Err(error),
    }
}

/// Empties the file, if it is a regular file, and makes a writer of it. Without a file, the output
/// is standard output.
fn begin(name: &str, file: Option<File>) -> Result<Output, StartError> {
    let is_stdout = file.is_none();
    let (name, writer, is_terminal, delay_max): (_, Box<dyn Write + Send>, _, _) = match file {
        None => {
            let stdout = io::stdout();
            let is_terminal = stdout.is_terminal();
            (STDOUT_NAME, Box::new(stdout), is_terminal, Duration::ZERO)
        }
        Some(file) => {
            let failed = |error: io::Error| StartError::Failed(format!("{name}: {error}"));
            let is_terminal = file.is_terminal();
            // A program or a user may be waiting at the other end of a pipe or a terminal.
            let mut delay_max = Duration::ZERO;
            if file.metadata().map_err(failed)?.is_file() {
                file.set_len(0).map_err(failed)?;
                delay_max = FILE_DELAY_MAX;
            }
            (name, Box::new(file), is_terminal, delay_max)
        }
    };
    Ok(Output {
        name: name.to_owned(),
        is_stdout,
        is_terminal,
        buffer: Buffer::new(writer, delay_max),
        time: None,
    })
}

impl Output {
    /// Writes an event as one line. The payload is JSON already and is written as it is. `now` is
    /// the current time.
    pub(crate) fn write(&mut self, event: &Event<Payload>, now: Instant) -> io::Result<()> {
        let line = self.buffer.line();
        write!(line, "{{\"id\":{},\"topic\":", event.id())?;
        serde_json::to_writer(&mut *line, event.topic().as_str())?;
        line.extend_from_slice(b",\"name\":");
        serde_json::to_writer(&mut *line, &event.name())?;
        line.extend_from_slice(b",\"source\":");
        serde_json::to_writer(&mut *line, &event.source())?;
        line.extend_from_slice(b",\"data\":");
        line.extend_from_slice(event.data().json.as_bytes());
        line.extend_from_slice(b",\"created_at\":\"");
        let time = event.created_at();
        let text = match &mut self.time {
            Some((last, text)) if *last == time => text,
            // RFC 3339, in UTC, with nanoseconds.
            other => {
                let stamp = jiff::Timestamp::try_from(time).map_err(io::Error::other)?;
                &mut other.insert((time, format!("{stamp:.9}"))).1
            }
        };
        line.extend_from_slice(text.as_bytes());
        line.extend_from_slice(b"\"}\n");
        self.buffer.line_done(now)
    }

    /// Returns how long the events in the buffer may still wait while no further event arrives.
    /// `None` if the buffer is empty.
    pub(crate) fn may_wait(&self, now: Instant) -> Option<Duration> {
        self.buffer.may_wait(now)
    }

    /// Writes the buffer to the system.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.buffer.flush()
    }
}

/// Collects lines and writes them in large pieces.
struct Buffer<W> {
    writer: W,
    /// Whole lines, except while one is being added. Fewer than `WRITE_BYTES` bytes after that.
    lines: Vec<u8>,
    /// When the first of these lines was added.
    since: Option<Instant>,
    /// The longest time that a line waits here while no further line arrives.
    delay_max: Duration,
}

impl<W: Write> Buffer<W> {
    fn new(writer: W, delay_max: Duration) -> Self {
        Buffer {
            writer,
            lines: Vec::with_capacity(2 * WRITE_BYTES),
            since: None,
            delay_max,
        }
    }

    /// Returns the buffer, to add the next line. The caller calls [`line_done`](Self::line_done)
    /// when the line is complete.
    fn line(&mut self) -> &mut Vec<u8> {
        &mut self.lines
    }

    fn line_done(&mut self, now: Instant) -> io::Result<()> {
        debug_assert_eq!(self.lines.last(), Some(&b'\n'));
        if self.lines.len() >= WRITE_BYTES {
            return self.flush();
        }
        self.since.get_or_insert(now);
        Ok(())
    }

    fn may_wait(&self, now: Instant) -> Option<Duration> {
        debug_assert_eq!(self.since.is_none(), self.lines.is_empty());
        let waited = now.saturating_duration_since(self.since?);
        Some(self.delay_max.saturating_sub(waited))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.lines)?;
        self.writer.flush()?;
        self.lines.clear();
        // Releases the memory of a very long line.
        self.lines.shrink_to(2 * WRITE_BYTES);
        self.since = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores the bytes of each write.
    #[derive(Default)]
    struct Calls(Vec<Vec<u8>>);

    impl Write for Calls {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn add(buffer: &mut Buffer<Calls>, line: &[u8], now: Instant) {
        buffer.line().extend_from_slice(line);
        buffer.line_done(now).expect("memory can be written");
    }

    #[test]
    fn lines_are_written_whole_and_in_large_pieces() {
        let mut buffer = Buffer::new(Calls::default(), FILE_DELAY_MAX);
        let now = Instant::now();
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..1000 {
            add(&mut buffer, &line, now);
        }
        add(&mut buffer, &[&[b'x'; 3 << 20][..], b"\n"].concat(), now);
        let calls = &buffer.writer.0;
        assert!(
            calls.len() <= 1 + (1000 * 1000) / WRITE_BYTES,
            "{}",
            calls.len()
        );
        assert!(calls.iter().all(|call| call.last() == Some(&b'\n')));
        assert!(buffer.lines.is_empty() && buffer.lines.capacity() <= 3 * WRITE_BYTES);
        assert_eq!(buffer.may_wait(now), None);
    }

    #[test]
    fn the_delay_counts_from_the_first_line_in_the_buffer() {
        let mut buffer = Buffer::new(Calls::default(), FILE_DELAY_MAX);
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(buffer.may_wait(start), None);
        add(&mut buffer, b"a\n", start);
        add(&mut buffer, b"b\n", after(60));
        assert_eq!(buffer.may_wait(after(60)), Some(Duration::from_millis(40)));
        assert_eq!(buffer.may_wait(after(100)), Some(Duration::ZERO));
        assert_eq!(buffer.may_wait(after(500)), Some(Duration::ZERO));
        buffer.flush().expect("memory can be written");
        assert_eq!(buffer.may_wait(after(500)), None);
        assert_eq!(buffer.writer.0, [b"a\nb\n"]);
    }

    #[test]
    fn nothing_waits_in_front_of_a_pipe() {
        let mut buffer = Buffer::new(Calls::default(), Duration::ZERO);
        let now = Instant::now();
        add(&mut buffer, b"a\n", now);
        assert_eq!(buffer.may_wait(now), Some(Duration::ZERO));
    }
}
