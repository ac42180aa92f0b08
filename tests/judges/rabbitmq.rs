//! RabbitMQ, with AMQP 0-9-1: a topic exchange, and a queue with a consumer for each pattern.
//!
//! A queue keeps its order. So a message that is sent to it last, through the default exchange, is
//! the fence. In this protocol, binding keys and routing keys have 255 bytes at most, so longer
//! ones cannot be asked about.

use super::wire::Wire;
use super::{Answer, Judge};

const EXCHANGE: &str = "judge";

/// The body of the message that comes last.
const FENCE: &[u8] = b"fence";

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

pub(crate) struct RabbitMq {
    wire: Wire,
    version: String,
}

impl RabbitMq {
    pub(crate) fn connect(address: &str, patterns_max: usize) -> Self {
        let mut wire = Wire::connect(address);
        wire.out.extend(b"AMQP\x00\x00\x09\x01");
        wire.send();
        let start = expect(&mut wire, (10, 10));
        let credentials = Arguments::default()
            .u32(0)
            .short("PLAIN")
            .long(b"\0guest\0guest")
            .short("en_US");
        call(&mut wire, 0, (10, 11), credentials);
        wire.send();
        let tune = expect(&mut wire, (10, 30));
        // The limits that the server proposed, and no heartbeat.
        let mut limits = Arguments::default();
        limits.0.extend(&tune[..6]);
        call(&mut wire, 0, (10, 31), limits.u16(0));
        call(
            &mut wire,
            0,
            (10, 40),
            Arguments::default().short("/").short("").bits(0),
        );
        wire.send();
        expect(&mut wire, (10, 41));
        call(&mut wire, 1, (20, 10), Arguments::default().short(""));
        wire.send();
        expect(&mut wire, (20, 11));

        let exchange = Arguments::default()
            .u16(0)
            .short(EXCHANGE)
            .short("topic")
            .bits(0)
            .u32(0);
        call(&mut wire, 1, (40, 10), exchange);
        wire.send();
        expect(&mut wire, (40, 11));
        for number in 0..patterns_max {
            const EXCLUSIVE: u8 = 4;
            const NO_ACK: u8 = 2;
            let queue = queue(number);
            let declare = Arguments::default()
                .u16(0)
                .short(&queue)
                .bits(EXCLUSIVE)
                .u32(0);
            call(&mut wire, 1, (50, 10), declare);
            let consume = Arguments::default()
                .u16(0)
                .short(&queue)
                .short(&number.to_string());
            call(&mut wire, 1, (60, 20), consume.bits(NO_ACK).u32(0));
            wire.send();
            expect(&mut wire, (50, 11));
            expect(&mut wire, (60, 21));
        }
        RabbitMq {
            wire,
            version: version(&start),
        }
    }

    fn publish(&mut self, exchange: &str, key: &str, body: &[u8]) {
        let publish = Arguments::default()
            .u16(0)
            .short(exchange)
            .short(key)
            .bits(0);
        call(&mut self.wire, 1, (60, 40), publish);
        let header = Arguments::default()
            .u16(60)
            .u16(0)
            .u64(body.len() as u64)
            .u16(0);
        frame(&mut self.wire, HEADER, 1, &header.0);
        frame(&mut self.wire, BODY, 1, body);
    }

    /// The next delivery: the number of its queue, and its body.
    fn delivery(&mut self) -> (usize, Vec<u8>) {
        let deliver = expect(&mut self.wire, (60, 60));
        let length = usize::from(deliver[0]);
        let tag = std::str::from_utf8(&deliver[1..=length]).expect("our tag");
        let (kind, _) = read_frame(&mut self.wire);
        assert_eq!(kind, HEADER);
        let (kind, body) = read_frame(&mut self.wire);
        assert_eq!(kind, BODY);
        (tag.parse().expect("our tag"), body)
    }
}

impl Judge for RabbitMq {
    fn name(&self) -> String {
        format!("rabbitmq-server {}", self.version)
    }

    fn ask(&mut self, patterns: &[String], topics: &[String]) -> Vec<Answer> {
        for (number, pattern) in patterns.iter().enumerate() {
            let bind = Arguments::default()
                .u16(0)
                .short(&queue(number))
                .short(EXCHANGE)
                .short(pattern);
            call(&mut self.wire, 1, (50, 20), bind.bits(0).u32(0));
        }
        self.wire.send();
        for _ in patterns {
            expect(&mut self.wire, (50, 21));
        }

        for (number, topic) in topics.iter().enumerate() {
            self.publish(EXCHANGE, topic, number.to_string().as_bytes());
        }
        for number in 0..patterns.len() {
            self.publish("", &queue(number), FENCE);
        }
        self.wire.send();
        let mut verdicts = vec![vec![false; topics.len()]; patterns.len()];
        let mut fences = 0;
        while fences < patterns.len() {
            let (queue, body) = self.delivery();
            if body == FENCE {
                fences += 1;
            } else {
                let topic: usize = String::from_utf8_lossy(&body).parse().expect("our payload");
                verdicts[queue][topic] = true;
            }
        }

        for (number, pattern) in patterns.iter().enumerate() {
            let unbind = Arguments::default()
                .u16(0)
                .short(&queue(number))
                .short(EXCHANGE)
                .short(pattern);
            call(&mut self.wire, 1, (50, 50), unbind.u32(0));
        }
        self.wire.send();
        for _ in patterns {
            expect(&mut self.wire, (50, 51));
        }
        verdicts.into_iter().map(Answer::Verdicts).collect()
    }
}

fn queue(number: usize) -> String {
    format!("judge-{number}")
}

/// Reads the table of the server's properties: a key, `S`, a length, and the text.
fn version(start: &[u8]) -> String {
    const KEY: &[u8] = b"\x07versionS";
    let at = start
        .windows(KEY.len())
        .position(|window| window == KEY)
        .expect("it says its version");
    let value = &start[at + KEY.len()..];
    let length = u32::from_be_bytes(value[..4].try_into().expect("four bytes")) as usize;
    String::from_utf8_lossy(&value[4..4 + length]).into_owned()
}

/// The arguments of a method, or the properties of a header.
#[derive(Default)]
struct Arguments(Vec<u8>);

impl Arguments {
    fn bits(mut self, bits: u8) -> Self {
        self.0.push(bits);
        self
    }

    fn u16(mut self, number: u16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Also an empty table, as 0.
    fn u32(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn short(mut self, text: &str) -> Self {
        self.0
            .push(u8::try_from(text.len()).expect("255 bytes at most"));
        self.0.extend(text.bytes());
        self
    }

    fn long(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u32).to_be_bytes());
        self.0.extend(bytes);
        self
    }
}

/// A method is identified by its class number and its method number.
fn call(wire: &mut Wire, channel: u16, method: (u16, u16), arguments: Arguments) {
    let mut payload = Arguments::default().u16(method.0).u16(method.1).0;
    payload.extend(arguments.0);
    frame(wire, METHOD, channel, &payload);
}

fn frame(wire: &mut Wire, kind: u8, channel: u16, payload: &[u8]) {
    wire.out.push(kind);
    wire.out.extend(channel.to_be_bytes());
    wire.out.extend((payload.len() as u32).to_be_bytes());
    wire.out.extend(payload);
    wire.out.push(FRAME_END);
}

/// The arguments of the next frame, which must be this method.
fn expect(wire: &mut Wire, method: (u16, u16)) -> Vec<u8> {
    let (kind, mut payload) = read_frame(wire);
    let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    assert_eq!(
        (kind, (number(0), number(2))),
        (METHOD, method),
        "{}",
        String::from_utf8_lossy(&payload)
    );
    payload.split_off(4)
}

fn read_frame(wire: &mut Wire) -> (u8, Vec<u8>) {
    let head = wire.bytes(7).expect("the judge hung up");
    let length = u32::from_be_bytes(head[3..7].try_into().expect("four bytes")) as usize;
    let mut payload = wire.bytes(length + 1).expect("the judge hung up");
    assert_eq!(payload.pop(), Some(FRAME_END));
    (head[0], payload)
}
