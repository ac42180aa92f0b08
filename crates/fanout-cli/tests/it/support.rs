//! Running the binary, and reading what it wrote.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::process::ChildStdin;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

pub(crate) const FLIGHTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/data/flights-2k.ndjson"
);

pub(crate) const FLIGHTS_TOPIC: &str = "flights.{origin}.{destination}";

/// The directory of one test. It is removed when the test has passed.
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new(test: &str) -> Dir {
        let name = format!("cli-{test}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a directory for the test");
        Dir(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a UTF-8 path").to_owned()
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file for the test");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

pub(crate) fn fanout(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
    command.args(args).stdin(Stdio::null());
    command
}

pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("UTF-8 on standard output")
    }

    /// The report of a run with `--json`.
    pub(crate) fn report(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out(), self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let stderr = String::from_utf8(output.stderr).expect("UTF-8 on standard error");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let code = output.status.code().expect("it ended by itself");
        Ran {
            code,
            stdout: output.stdout,
            stderr,
        }
    }
}

pub(crate) fn ran(args: &[&str]) -> Ran {
    ran_by(&mut fanout(args))
}

pub(crate) fn ran_by(command: &mut Command) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(command.spawn().expect("the binary runs"))
}

/// The longest time that a run of a test may take, so that a run that hangs fails its test.
const LONGEST_RUN: Duration = Duration::from_secs(120);

/// Waits until the program ends, and reads what it wrote.
pub(crate) fn wait(child: Child) -> Ran {
    let id = child.id().to_string();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(child.wait_with_output()));
    match end.recv_timeout(LONGEST_RUN) {
        Ok(output) => output.expect("its output can be read").into(),
        Err(_) => {
            let kill = Command::new("kill").args(["-s", "KILL", &id]).status();
            panic!("the program has not ended after {LONGEST_RUN:?}; killed: {kill:?}");
        }
    }
}

/// Runs with this on standard input.
pub(crate) fn ran_with(args: &[&str], input: &[u8]) -> Ran {
    let mut child = fanout(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(input); // the program may have ended before it read everything
        });
        wait(child)
    })
}

/// A run whose input is a pipe that the test writes to and keeps open.
#[cfg(unix)]
pub(crate) struct Live {
    pub(crate) child: Child,
    pub(crate) stdin: ChildStdin,
}

#[cfg(unix)]
impl Live {
    pub(crate) fn start(mut command: Command) -> Live {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stdin = child.stdin.take().expect("standard input is a pipe");
        Live { child, stdin }
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.write_all(text.as_bytes()).expect("it reads");
    }

    /// Sends the signal of this name, without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name])
            .arg(self.child.id().to_string())
            .status()
            .expect("sh runs");
        assert!(sent.success(), "{name} cannot be sent");
    }

    /// Waits until the run ends, and keeps the input open until then.
    pub(crate) fn end(self) -> Ran {
        let _open = self.stdin;
        wait(self.child)
    }

    /// Ends the input, and waits until the run ends.
    pub(crate) fn end_input(self) -> Ran {
        drop(self.stdin);
        wait(self.child)
    }
}

/// The messages of the program on standard error.
pub(crate) fn errors(stderr: &str) -> Vec<&str> {
    let messages = stderr.lines().filter(|line| line.starts_with("fanout: "));
    messages.collect()
}

/// Waits until the condition holds, and fails after ten seconds.
#[cfg(unix)]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "in ten seconds: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A line that a run wrote for an event.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written<'a> {
    pub(crate) id: u64,
    pub(crate) topic: String,
    pub(crate) name: Option<String>,
    pub(crate) source: Option<String>,
    #[serde(borrow)]
    pub(crate) data: &'a RawValue,
    pub(crate) created_at: String,
}

pub(crate) fn written(text: &str) -> Vec<Written<'_>> {
    let read = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(read).collect()
}

pub(crate) fn data<'a>(written: &[Written<'a>]) -> Vec<&'a str> {
    written.iter().map(|event| event.data.get()).collect()
}

pub(crate) struct Flight<'a> {
    pub(crate) line: &'a str,
    pub(crate) origin: String,
    pub(crate) destination: String,
}

pub(crate) fn flights(text: &str) -> Vec<Flight<'_>> {
    let flight = |line| {
        let fields: Value = serde_json::from_str(line).expect("the example is JSON");
        let field = |name: &str| fields[name].as_str().expect("a string").to_owned();
        Flight {
            line,
            origin: field("origin"),
            destination: field("destination"),
        }
    };
    text.lines().map(flight).collect()
}

/// The subscriptions of the README, and the same conditions on the fields.
pub(crate) type Selection = (&'static str, fn(&Flight<'_>) -> bool);

pub(crate) const SELECTIONS: [Selection; 5] = [
    ("flights.SFO.*", |flight| flight.origin == "SFO"),
    ("flights.*.JFK", |flight| flight.destination == "JFK"),
    ("flights.[A-D]*.**", |flight| {
        ('A'..='D').any(|first| flight.origin.starts_with(first))
    }),
    ("flights.{ORD,ATL}.?*", |flight| {
        flight.origin == "ORD" || flight.origin == "ATL"
    }),
    ("*", |_| true),
];
