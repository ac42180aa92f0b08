//! mosquitto, with MQTT 3.1.1.
//!
//! It sends a message to a client once, even if several filters of the client match. So each
//! pattern has a connection of its own. If mosquitto refuses a filter, it closes the connection,
//! which is then opened again. Publisher and subscribers use `PINGREQ` as a fence: the server has
//! one thread and answers in order.
//!
//! Our topics are translated: a dot becomes a slash, and characters that are plain here and special
//! there (`/`, `+`, `#`) become characters that no filter has. Topics with more than 200 levels, or
//! with Unicode noncharacters, are not asked about: this server refuses them, as the standard
//! permits.

use super::wire::Wire;
use super::{Answer, Judge};

/// Private-use characters that stand for `/`, `+` and `#` in topics.
const STAND_INS: [(char, char); 4] = [
    ('/', '\u{e000}'),
    ('+', '\u{e001}'),
    ('#', '\u{e002}'),
    ('.', '/'),
];

const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const SUBACK: u8 = 0x90;
const UNSUBACK: u8 = 0xb0;
const PINGRESP: u8 = 0xd0;

pub(crate) struct Mosquitto {
    address: String,
    version: String,
    publisher: Wire,
    subscribers: Vec<Wire>,
}

impl Mosquitto {
    pub(crate) fn connect(address: &str, patterns_max: usize) -> Self {
        let mut publisher = connect(address);
        subscribe(&mut publisher, "$SYS/broker/version");
        publisher.send();
        assert_eq!(packet(&mut publisher).expect("connected").0, SUBACK);
        let (kind, body) = packet(&mut publisher).expect("connected");
        assert_eq!(kind & 0xf0, PUBLISH);
        let (_, payload) = publish_parts(&body);
        let version = String::from_utf8(payload.to_vec()).expect("text");
        publisher.out.extend(unsubscribe("$SYS/broker/version"));
        publisher.send();
        while packet(&mut publisher).expect("connected").0 != UNSUBACK {}
        Mosquitto {
            address: address.to_owned(),
            version: version.replace("version ", ""),
            publisher,
            subscribers: (0..patterns_max).map(|_| connect(address)).collect(),
        }
    }
}

impl Judge for Mosquitto {
    fn name(&self) -> String {
        self.version.clone()
    }

    fn ask(&mut self, patterns: &[String], topics: &[String]) -> Vec<Answer> {
        let subscribers = &mut self.subscribers[..patterns.len()];
        for (subscriber, pattern) in subscribers.iter_mut().zip(patterns) {
            subscribe(subscriber, pattern);
            subscriber.send();
        }
        let mut answers = Vec::new();
        for subscriber in subscribers.iter_mut() {
            answers.push(match packet(subscriber) {
                Some((SUBACK, body)) if body[2] < 0x80 => {
                    Answer::Verdicts(vec![false; topics.len()])
                }
                Some((SUBACK, _)) => Answer::Refused,
                Some(other) => panic!("unexpected: {other:?}"),
                None => {
                    *subscriber = connect(&self.address);
                    Answer::Refused
                }
            });
        }

        for (number, topic) in topics.iter().enumerate() {
            let mut body = text(&their_topic(topic));
            body.extend(number.to_string().bytes());
            self.publisher.out.extend(framed(PUBLISH, &body));
        }
        ping(&mut self.publisher);
        assert_eq!(
            packet(&mut self.publisher)
                .unwrap_or_else(|| panic!("publishing one of these is refused: {topics:?}"))
                .0,
            PINGRESP
        );

        let asked = subscribers.iter_mut().zip(patterns).zip(&mut answers);
        for ((subscriber, pattern), answer) in asked {
            let Answer::Verdicts(verdicts) = answer else {
                continue;
            };
            ping(subscriber);
            loop {
                let (kind, body) = packet(subscriber).expect("connected");
                if kind == PINGRESP {
                    break;
                }
                assert_eq!(kind & 0xf0, PUBLISH, "{body:?}");
                let (topic, payload) = publish_parts(&body);
                if topic.starts_with(b"$SYS/") {
                    continue; // a message of the server about itself
                }
                let number = String::from_utf8_lossy(payload).parse::<usize>();
                verdicts[number.expect("our payload")] = true;
            }
            subscriber.out.extend(unsubscribe(pattern));
            subscriber.send();
            assert_eq!(packet(subscriber).expect("connected").0, UNSUBACK);
        }
        answers
    }
}

fn their_topic(topic: &str) -> String {
    let stand_in = |c: char| {
        STAND_INS
            .iter()
            .find(|(ours, _)| *ours == c)
            .map_or(c, |(_, theirs)| *theirs)
    };
    topic.chars().map(stand_in).collect()
}

/// A connection whose name the server chooses.
fn connect(address: &str) -> Wire {
    let mut wire = Wire::connect(address);
    let mut body = text("MQTT");
    body.extend([4, 2, 0, 0]); // version 3.1.1, a clean session, no keep-alive
    body.extend(text(""));
    wire.out.extend(framed(0x10, &body));
    wire.send();
    let (kind, body) = packet(&mut wire).expect("connecting is allowed");
    assert_eq!((kind, body[1]), (CONNACK, 0));
    wire
}

fn subscribe(wire: &mut Wire, filter: &str) {
    let mut body = vec![0, 1];
    body.extend(text(filter));
    body.push(0);
    wire.out.extend(framed(0x82, &body));
}

fn unsubscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(text(filter));
    framed(0xa2, &body)
}

fn ping(wire: &mut Wire) {
    wire.out.extend([0xc0, 0]);
    wire.send();
}

/// The topic and the payload of a PUBLISH with quality of service 0.
fn publish_parts(body: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    body[2..].split_at(length)
}

/// The first byte and the body of the next packet; `None` if the server has closed the connection.
fn packet(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
    let kind = wire.bytes(1)?[0];
    let mut length = 0;
    for place in 0.. {
        let byte = wire.bytes(1)?[0];
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            break;
        }
    }
    Some((kind, wire.bytes(length)?))
}

fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let (byte, more) = (length & 0x7f, length >> 7);
        packet.push(if more > 0 { byte | 0x80 } else { byte } as u8);
        length = more;
        if more == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short texts");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
