//! nats-server, with its text protocol.
//!
//! Each pattern is a `SUB` and a `PING`: an error before the `PONG` refuses it. Then each topic is
//! a `PUB`, and the answer to a last `PING` comes behind all messages. White space separates the
//! words of the protocol, so subjects that contain any cannot be asked about.

use std::fmt::Write as _;

use super::wire::Wire;
use super::{Answer, Judge};

pub(crate) struct Nats {
    wire: Wire,
    version: String,
    /// The number of the subscription, which is never used again.
    next_sid: usize,
}

impl Nats {
    pub(crate) fn connect(address: &str) -> Self {
        let mut wire = Wire::connect(address);
        let info = wire.line();
        assert!(info.starts_with("INFO {"), "{info}");
        let behind = info
            .split_once("\"version\":\"")
            .expect("it says its version")
            .1;
        let version = behind.split('"').next().unwrap_or_default().to_owned();
        wire.out
            .extend(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n");
        wire.send();
        assert_eq!(wire.line(), "PONG");
        Nats {
            wire,
            version,
            next_sid: 1,
        }
    }

    fn say(&mut self, words: std::fmt::Arguments<'_>) {
        let mut text = String::new();
        write!(text, "{words}\r\n").expect("writing to a string succeeds");
        self.wire.out.extend(text.into_bytes());
    }

    /// The next line that is an answer. The server sometimes asks whether the client is alive.
    fn line(&mut self) -> String {
        loop {
            let line = self.wire.line();
            if line != "PING" {
                return line;
            }
            self.say(format_args!("PONG"));
            self.wire.send();
        }
    }
}

impl Judge for Nats {
    fn name(&self) -> String {
        format!("nats-server {}", self.version)
    }

    fn ask(&mut self, patterns: &[String], topics: &[String]) -> Vec<Answer> {
        let first_sid = self.next_sid;
        self.next_sid += patterns.len();
        for (number, pattern) in patterns.iter().enumerate() {
            self.say(format_args!("SUB {pattern} {}\r\nPING", first_sid + number));
        }
        self.wire.send();
        let mut answers: Vec<Answer> = Vec::new();
        for _ in patterns {
            let mut answer = Answer::Verdicts(vec![false; topics.len()]);
            loop {
                match &*self.line() {
                    "PONG" => break,
                    "-ERR 'Invalid Subject'" => answer = Answer::Refused,
                    other => panic!("unexpected: {other}"),
                }
            }
            answers.push(answer);
        }

        for (number, topic) in topics.iter().enumerate() {
            let payload = number.to_string();
            self.say(format_args!("PUB {topic} {}\r\n{payload}", payload.len()));
        }
        self.say(format_args!("PING"));
        self.wire.send();
        loop {
            let line = self.line();
            if line == "PONG" {
                break;
            }
            let words: Vec<_> = line.split(' ').collect();
            let ["MSG", _, sid, _] = &*words else {
                panic!("unexpected: {line}")
            };
            let topic: usize = self.wire.line().parse().expect("our payload");
            let sid: usize = sid.parse().expect("our number");
            match &mut answers[sid - first_sid] {
                Answer::Verdicts(verdicts) => verdicts[topic] = true,
                Answer::Refused => panic!("{line}, which was refused"),
            }
        }

        for sid in first_sid..self.next_sid {
            self.say(format_args!("UNSUB {sid}"));
        }
        self.wire.send();
        answers
    }
}
