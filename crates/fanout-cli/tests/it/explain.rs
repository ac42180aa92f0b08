//! `fanout match --explain`.

use crate::support::*;

#[test]
fn match_explains_how_a_pattern_was_read() {
    let whole = ran(&["match", "--explain", "flights.{SFO,L?X}.*"]);
    assert_eq!((whole.code, whole.stderr.as_str()), (0, ""));
    assert_eq!(
        whole.out(),
        "\
pattern    flights.{SFO,L?X}.*
syntax     segments
canonical  flights.{SFO,L?X}.*

expansion 1 of 2
  flights  this text
  SFO      this text
  *        any one segment

expansion 2 of 2
  flights  this text
  L?X      the text `L`, any one character, the text `X`
  *        any one segment
"
    );
    for (syntax, pattern, topic, code, verdict) in [
        ("mqtt", "#", "a.b", 0, "match"),
        ("mqtt", "#", "$a.b", 1, "no match"),
        ("redis", "a?c", "a.c", 0, "match"),
    ] {
        let ran = ran(&["match", "--explain", "-x", syntax, pattern, topic]);
        assert_eq!(ran.code, code);
        let end = format!("\ntopic      {topic}\nverdict    {verdict}\n");
        assert!(ran.out().ends_with(&end), "{}", ran.out());
        assert!(ran.out().contains(&format!("\nsyntax     {syntax}\n")));
    }
    let guarded = ran(&["match", "--explain", "-x", "mqtt", "#"]);
    assert!(
        guarded.out().contains("the topic must not begin with `$`"),
        "{}",
        guarded.out()
    );
    assert_eq!(ran(&["match", "--explain", "--stdin"]).code, 2);
    assert_eq!(ran(&["match", "--explain"]).code, 2);
}

/// A user must not have to guess where a text comes from that the user did not write.
#[test]
fn match_explains_the_text_that_was_written() {
    let ran_star = ran(&["match", "--explain", "a.?*"]);
    assert_eq!(
        ran_star.out(),
        "\
pattern    a.?*
syntax     segments
canonical  a.*  (another spelling, for the same topics)

  a   this text
  ?*  any one segment
"
    );
    for (pattern, line) in [
        ("?*", "\n  ?*  any one segment\n"),
        ("*", "\n  *  any number of segments: every topic matches\n"),
        ("flights.{ORD,ATL}.?*", "\n  ?*       any one segment\n"),
    ] {
        let ran = ran(&["match", "--explain", pattern]);
        assert!(ran.out().ends_with(line), "{}", ran.out());
    }
}

#[test]
fn match_explains_a_refusal_with_a_caret_below_the_place() {
    for (args, place) in [
        (&["flights.[D-A]*"][..], "  flights.[D-A]*\n           ^\n"),
        (&["日本.**é"], "  日本.**é\n       ^\n"),
        (&["a\tb..c"], "  a\\tb..c\n"),
        (&["a."], "  a.\n    ^\n"),
        (&["-x", "mqtt", "a/#/b"], "  a/#/b\n    ^\n"),
        (&["-x", "path", "é[a-]"], "  é[a-]\n     ^\n"),
        (&["a", "b..c"], "  b..c\n    ^\n"),
    ] {
        let args = [&["match", "--explain"], args].concat();
        let ran = ran(&args);
        assert_eq!(ran.code, 2, "{args:?}");
        assert!(ran.stderr.contains(place), "{args:?}:\n{}", ran.stderr);
    }
    let hinted = ran(&["match", "--explain", "a**"]);
    assert!(hinted.stderr.contains("`.**`"), "{}", hinted.stderr);
    assert_eq!(hinted.out(), "");
}
