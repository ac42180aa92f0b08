//! Patterns in another language: `--syntax`, and the hint for a pattern that lacks it.

use crate::support::*;

const INPUT: &[u8] = b"{\"a\":\"eu\",\"b\":\"new\"}\n{\"a\":\"us\",\"b\":\"new\"}\n";

fn run_with(args: &[&str]) -> Ran {
    let base = ["run", "-i", "-", "-t", "orders.{a}.{b}", "--json"];
    ran_with(&[&base[..], args].concat(), INPUT)
}

#[test]
fn the_patterns_of_a_run_are_read_in_its_language() {
    for (syntax, pattern, matched) in [
        ("segments", "orders.eu.**", 1),
        ("nats", "orders.>", 2),
        ("NATS", "orders.eu.>", 1),
        ("amqp", "#.new", 2),
        ("Mqtt", "orders/+/new", 2),
        ("path", "orders*new", 2),
        ("redis", "*[u]s.new", 1),
    ] {
        let ran = run_with(&["--syntax", syntax, "-s", pattern]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{syntax}");
        assert_eq!(ran.report()["matched"], matched, "{syntax} {pattern}");
        assert_eq!(ran.report()["syntax"], syntax.to_lowercase());
        assert_eq!(ran.report()["subscriptions"][0]["pattern"], pattern);
        let ran = run_with(&["-s", pattern, "-x", syntax]);
        assert_eq!(ran.report()["matched"], matched, "{syntax} {pattern}");
    }
    let refused = run_with(&["--syntax", "nats", "-s", "orders.>.x"]);
    assert_eq!((refused.code, refused.out()), (2, ""));
    assert!(
        refused.stderr.contains("--subscribe \"orders.>.x\""),
        "{}",
        refused.stderr
    );
    let unknown = run_with(&["--syntax", "kafka", "-s", "orders"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("redis"),
        "the names are listed: {}",
        unknown.stderr
    );
}

#[test]
fn a_pattern_that_matches_nothing_in_its_language_gets_a_hint() {
    for (args, hint) in [
        (
            &["-s", "orders.>"][..],
            "in NATS, `>` stands for one or more segments: use --syntax nats",
        ),
        (
            &["-s", "orders.#"],
            "in AMQP, `#` stands for any number of segments: use --syntax amqp",
        ),
        (&["-s", "orders/+/new"], "use --syntax mqtt"),
        (
            &["-s", "orders.+.new"],
            "write `orders/+/new` and use --syntax mqtt",
        ),
        (&["-x", "nats", "-s", "orders.**"], "use --syntax segments"),
        (
            &["-x", "mqtt", "-s", "orders.eu.new"],
            "in MQTT, `/` separates levels and stands for the dots of the topic: write \
             `orders/eu/new`\n",
        ),
    ] {
        let ran = run_with(args);
        let pattern = args.last().expect("a pattern");
        assert_eq!(ran.code, 0, "a hint is no failure");
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        let begin = format!("fanout: {pattern:?} matched no event; ");
        assert!(
            ran.stderr.starts_with(&begin) && ran.stderr.contains(hint),
            "{}",
            ran.stderr
        );
    }
    // Only if it matches nothing, and only if something could be matched.
    assert_eq!(run_with(&["-s", "orders.paid.**"]).stderr, "");
    assert_eq!(run_with(&["-s", "*", "-s", "orders.eu.new"]).stderr, "");
    let empty = ran_with(&["run", "-i", "-", "-t", "a", "-s", "a.>"], b"");
    assert_eq!(empty.stderr, "");
    let literal = ran_with(&["run", "-i", "-", "-t", "a.>", "-s", "a.>"], b"{}\n");
    assert_eq!(literal.stderr, "", "it matches the topic with this text");
}

#[test]
fn match_has_the_same_hint_if_the_other_language_would_match() {
    for explain in [&[][..], &["--explain"]] {
        let ask = |args: &[&str]| ran(&[&["match"], explain, args].concat());
        let hinted = ask(&["orders.>", "orders.eu"]);
        assert_eq!(hinted.code, 1);
        assert_eq!(
            hinted.stderr,
            "fanout: \"orders.>\" would match in another language; in NATS, `>` stands for one or \
             more segments: use --syntax nats\n"
        );
        assert!(hinted.out().ends_with("no match\n"));
        assert_eq!(ask(&["orders.>", "invoices.eu"]).stderr, "");
        assert_eq!(ask(&["orders.>", "orders.>"]).stderr, "");
    }
}

#[test]
fn a_filter_of_mqtt_with_dots_learns_its_separator_and_not_its_language() {
    let levels = "in MQTT, `/` separates levels and stands for the dots of the topic";
    let ran_dotted = ran(&["match", "-x", "mqtt", "a.b", "a.b"]);
    assert_eq!((ran_dotted.code, ran_dotted.out()), (1, "no match\n"));
    assert_eq!(
        ran_dotted.stderr,
        format!("fanout: \"a.b\" would match in another spelling; {levels}: write `a/b`\n")
    );

    let rule = "`+` and `#` must be a level of their own, and levels are separated by `/`";
    let refused = [
        ran(&["match", "-x", "mqtt", "a.+", "a.b"]),
        ran(&["match", "-x", "mqtt", "--explain", "a.+"]),
        run_with(&["-x", "mqtt", "-s", "a.+"]),
    ];
    for ran in &refused {
        assert_eq!((ran.code, ran.out()), (2, ""));
        assert!(ran.stderr.contains(rule), "{}", ran.stderr);
    }
    let explained = &refused[1].stderr;
    let advice = format!("\n\n  {levels}: write `a/+`\n");
    assert!(explained.ends_with(&advice), "{explained}");
}

#[test]
fn a_refusal_names_the_wildcard_of_the_language() {
    for (syntax, pattern, wildcard) in [("nats", "a.>.b", ">"), ("mqtt", "a/#/b", "#")] {
        let ran = ran(&["match", "-x", syntax, pattern, "a.b"]);
        let rule = format!(": `{wildcard}` stands for the rest of the topic and must be last");
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains(&rule), "{}", ran.stderr);
    }
}
