//! How much memory a run takes, whatever the size of its input.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::support::*;

/// The peak of the resident memory, in KiB, of a run over this many lines. It is measured when the
/// run has read everything except for what is in the pipe, and before the run can end.
#[cfg(target_os = "linux")]
fn peak_kib(lines: usize, out: &str) -> u64 {
    let mut child = fanout(&[
        "run",
        "-i",
        "-",
        "-t",
        "t.{n}.{m}",
        "--json",
        "-s",
        &format!("**={out}"),
        "-s",
        "*",
    ])
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .spawn()
    .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut chunk = String::new();
    for n in 0..lines {
        let _ = writeln!(
            chunk,
            "{{\"n\":{n},\"m\":{},\"text\":\"{:>100}\"}}",
            n % 7,
            n
        );
        if chunk.len() > 1 << 16 || n + 1 == lines {
            stdin.write_all(chunk.as_bytes()).expect("it reads");
            chunk.clear();
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("its peak");
    drop(stdin);
    let ran = wait(child);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.report()["received"], 2 * lines);
    peak.trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of KiB")
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_the_input() {
    let dir = Dir::new("memory");
    let small = peak_kib(20_000, &dir.path("small.ndjson"));
    let large = peak_kib(400_000, &dir.path("large.ndjson"));
    // The large input has 50 MiB, and every line has another topic.
    assert!(
        large < small + (16 << 10),
        "{small} KiB for 20,000 lines, {large} KiB for 400,000"
    );
}
