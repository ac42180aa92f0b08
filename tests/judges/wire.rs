//! A connection to a program: it sends bytes and receives lines and bytes, and each wait has a
//! limit.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest wait for an answer: long enough for a busy machine, and short enough for a person.
const WAIT_MAX: Duration = Duration::from_secs(20);

pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
    /// The bytes that [`send`](Self::send) sends next.
    pub(crate) out: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("no judge at {address}: {error}"));
        stream.set_nodelay(true).expect("an option of every socket");
        stream
            .set_read_timeout(Some(WAIT_MAX))
            .expect("a limit is set");
        stream
            .set_write_timeout(Some(WAIT_MAX))
            .expect("a limit is set");
        Wire {
            reader: BufReader::with_capacity(1 << 16, stream),
            out: Vec::new(),
        }
    }

    /// Sends the bytes in `out`. Returns false if the other side has closed the connection.
    pub(crate) fn send(&mut self) -> bool {
        let sent = self.reader.get_mut().write_all(&self.out);
        self.out.clear();
        sent.is_ok()
    }

    /// The next line without its end (CR LF).
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        self.reader
            .read_until(b'\n', &mut line)
            .expect("the judge answers");
        assert!(line.ends_with(b"\r\n"), "the judge hung up: {line:?}");
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("the judge speaks UTF-8")
    }

    /// The next `count` bytes; `None` if the other side has closed the connection.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        match self.reader.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the judge does not answer: {error}")
            }
            Err(_) => None,
        }
    }
}
