//! Go's `path.Match`, in a separate program (`path_match.go`) with standard input and output.
//!
//! Whether a pattern is refused must not depend on the topic, so it is asked with each topic.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use super::{Answer, Judge};

pub(crate) struct PathMatch {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    version: String,
}

impl PathMatch {
    pub(crate) fn start(program: &str) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let stdin = child.stdin.take().expect("a pipe");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut version = String::new();
        stdout.read_line(&mut version).expect("it says its version");
        PathMatch {
            child,
            stdin,
            stdout,
            version: version.trim_end().to_owned(),
        }
    }
}

impl Judge for PathMatch {
    fn name(&self) -> String {
        format!("path.Match of {}", self.version)
    }

    fn ask(&mut self, patterns: &[String], topics: &[String]) -> Vec<Answer> {
        let mut questions = String::new();
        for pattern in patterns {
            write_hexadecimal(&mut questions, 'P', pattern);
            for topic in topics {
                write_hexadecimal(&mut questions, 'T', topic);
            }
        }
        questions.push('\n');
        let (stdin, stdout) = (&mut self.stdin, &mut self.stdout);
        let mut verdicts = vec![0; patterns.len() * topics.len()];
        thread::scope(|scope| {
            // A separate thread writes, so that neither side waits for the other to read.
            scope.spawn(|| stdin.write_all(questions.as_bytes()).expect("it reads"));
            stdout.read_exact(&mut verdicts).expect("it answers");
        });
        let answers = verdicts
            .chunks(topics.len())
            .zip(patterns)
            .map(|(verdicts, pattern)| {
                let refusals = verdicts.iter().filter(|&&verdict| verdict == b'E').count();
                assert!(
                    [0, topics.len()].contains(&refusals),
                    "{pattern:?} is refused with some topics"
                );
                if refusals > 0 {
                    Answer::Refused
                } else {
                    Answer::Verdicts(verdicts.iter().map(|&verdict| verdict == b'1').collect())
                }
            });
        answers.collect()
    }
}

impl Drop for PathMatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_hexadecimal(out: &mut String, kind: char, text: &str) {
    out.push(kind);
    out.extend(
        text.bytes()
            .flat_map(|byte| [byte >> 4, byte & 0xf])
            .map(|digit| char::from_digit(u32::from(digit), 16).expect("a digit")),
    );
    out.push('\n');
}
