//! The texts that `--help` prints after the list of arguments.

pub(crate) const MAIN: &str = r#"Examples:
  Count the flights that two patterns match, and write those of the second one to a file:
    fanout run --input examples/data/flights-2k.ndjson \
               --topic 'flights.{origin}.{destination}' \
               --subscribe 'flights.SFO.*' --subscribe 'flights.*.JFK=jfk.ndjson'

  Test a pattern:
    fanout match 'flights.{ORD,ATL}.?*' flights.ATL.DEN

  Measure the engine on this machine, in less than a minute:
    fanout bench

`fanout run --help`, `fanout match --help` and `fanout bench --help` have the details."#;

pub(crate) const RUN: &str = r#"Examples:
  Count the flights that leave San Francisco, and all flights:
    fanout run -i examples/data/flights-2k.ndjson -t 'flights.{origin}.{destination}' \
               -s 'flights.SFO.*' -s '*'

  Write the matching events to files, and print the report as JSON:
    fanout run -i flights.ndjson -t 'flights.{origin}.{destination}' --json \
               -s 'flights.[A-D]*.**=a-to-d.ndjson' -s 'flights.{ORD,ATL}.?*=hubs.ndjson'

  Read from a pipe and write to a pipe (the report goes to standard error):
    zcat flights.ndjson.gz | fanout run -i - -t 'flights.{origin}' -s '*=-' | jq .data.delay

  Follow a file that grows, until Ctrl-C:
    tail -f flights.ndjson | fanout run -i - -t 'flights.{origin}' -s 'flights.SFO=sfo.ndjson'

Topics:
  {field} in the template stands for the value of that top-level field of the line. The name of the
  field is taken literally: {a.b} is the field "a.b". {{ and }} stand for { and }. The value must
  be a string or a number. A string must not be empty, and must not contain a dot or a control
  character. A number is used as it is written, and must not contain a dot. If a field is given
  twice, the last one counts.

Patterns:
  The segments of a topic are separated by dots. In a pattern, `*` stands for any characters of one
  segment, `?` for one character, [a-z] for one character of a class, [!a-z] for one outside of it,
  {x,y} for either text, and `**` for any number of whole segments. The pattern `*` matches every
  topic. A backslash takes the special meaning from the next character. This is the language
  `segments`; `fanout match --help` lists the others (--syntax).

Subscriptions:
  PATTERN=FILE is split at the last `=`. The events of a pattern without a file (PATTERN or
  PATTERN=) are only counted. Write `\=` for an `=` that belongs to the pattern or to the file
  name, and `\\=` for a backslash before an `=` that separates:
    -s 'a\=b'               the pattern a=b without a file, as with 'a=b='
    -s 'a.*=x\=1.ndjson'    the pattern a.* and the file x=1.ndjson
  A file is replaced. Each event becomes one line of JSON, in the order of the ids:
    {"id":1,"topic":"..","name":null,"source":null,"data":<the line>,"created_at":".."}
  `-` is standard output. `/dev/stdout`, and the file that standard output is redirected to, count
  as `-`. The report then goes to standard error. Two subscriptions cannot write to the same
  file, and none can write to the input or to standard error (if standard error is redirected to
  standard output, as with `2>&1`, messages and the events of `-` are mixed). If a file cannot be
  written any more, its subscription ends, and the others continue.

Live input:
  Events are written to pipes and terminals at once, and to files at most 0.1 seconds after the
  input pauses. SIGINT (Ctrl-C), SIGTERM and SIGHUP end the run: the lines that have arrived are
  published, all events are written, and the report is printed. A line that has arrived in part is
  not published. If the run has not ended after one second, a message names the outputs that it
  waits for. A second signal ends the process at once. SIGHUP has no effect under `nohup`.

Bad lines:
  A line is bad if it is not a JSON object in UTF-8, if a field is missing or cannot be part of a
  topic, or if it is longer than 1 MiB. Bad lines are skipped. The first 20 are printed on standard
  error as FILE:LINE: PLACE: RULE; further ones are only counted. Blank lines are skipped, and are
  not bad. A byte order mark before the first line is ignored.

Report (with --json, one object with these keys):
  input topic syntax overflow block_timeout_ms lines blank_lines bad_lines events matched received
  lost unread superseded elapsed_s events_per_s deliveries_per_s latency_ns signal error
  subscriptions
  Each of the subscriptions has these keys:
  pattern output matched received written lost unread superseded high_water latency_ns error
  What some of them mean:
  superseded  events that were replaced by a later one of the same topic (policy conflate)
  high_water  the most events (topics, with policy conflate) that waited in the ring
  latency_ns  null, or p50 p90 p99 p99_9 max: the time from the call that publishes, including the
              wait for room, until the event is received
  signal      null, or the name of the signal that ended the run
  error       null, or why publishing or the subscription ended early

Exit status:
  0    every line was published (except blank ones), and no event was lost: each one was written to
       the output of its subscription, or replaced by a later one (policy conflate)
  1    a failure: a file could not be read or written, a subscription ended because the policy is
       disconnect, or events were lost although the policy is block without --block-timeout
  2    refused: an argument, a pattern or the topic template; nothing was published
  3    some lines were bad (unless --strict is given, all other lines were published)
  4    everything worked, but events were lost by the policy that was chosen: drop-newest,
       drop-oldest, conflate, or block with --block-timeout. A line for each subscription on
       standard error says how many events it lost, and why
  129  SIGHUP ended the run, and everything that had arrived was written
  130  the same for SIGINT
  143  the same for SIGTERM
  If several of them apply, 1 comes before 129 to 143, these come before 3, and 3 before 4."#;

/// The usage of `match`. That of `clap` has all arguments in one line, which none of the three ways
/// to use the command fits.
pub(crate) const MATCH_USAGE: &str = "\
fanout match [OPTIONS] <PATTERN> <TOPIC>
       fanout match [OPTIONS] --explain <PATTERN> [TOPIC]
       fanout match [OPTIONS] --stdin";

pub(crate) const MATCH: &str = r#"Examples:
  One question; the exit status is the answer, too:
    fanout match 'flights.SFO.*' flights.SFO.LAX        prints `match`, exit status 0
    fanout match 'flights.SFO.*' flights.LAX.SFO        prints `no match`, exit status 1
    fanout match 'flights..*' flights.SFO               refused, exit status 2
    fanout match -- '-x.*' -x.y                         a pattern that starts with a dash

  In another language:
    fanout match --syntax mqtt 'flights/+/#' flights.SFO.LAX

  How a pattern is read, or where and why it is refused:
    fanout match --explain --syntax nats 'flights.*.>' flights.SFO
    fanout match --explain 'flights.[D-A]*'

  Many questions:
    printf 'a.*\ta.b\n' | fanout match --stdin          prints `a.*<TAB>a.b<TAB>1`

Languages (--syntax):
  segments  the native language, see `fanout run --help`
  nats      `*` stands for one segment, `>` at the end for one or more
  amqp      `*` stands for one segment, `#` for any number, at any place, as in topic exchanges
  mqtt      `+` stands for one segment, `#` at the end for any number; slashes in the filter stand
            for the dots of the topic
  path      path.Match of Go on the whole topic; `*` alone matches every topic
  redis     the globs of PSUBSCRIBE on the whole topic

With --stdin, each line is a pattern, a TAB and a topic. The line is printed unchanged, followed by
a TAB and a verdict:
  1  the pattern matches the topic
  0  it does not
  E  the pattern is refused (and perhaps the topic, too)
  T  the topic is refused
The first TAB separates. A topic with a further TAB, with a carriage return at its end or with bytes
that are not UTF-8 is refused. A byte order mark before the first line is dropped. A line without a
TAB, or longer than 1 MiB, has no verdict: nothing is printed for it on standard output, and the
exit status is 3. The first 20 such lines are printed on standard error; further ones are only
counted. Output is flushed whenever there is no more input to read, so that a program can ask a
question and wait for the answer.

Exit status:
  0  match; with --stdin, every line has a verdict; with --explain without a topic, the pattern is
     valid
  1  no match; with --stdin, reading or writing failed
  2  no answer: the pattern, the topic or an argument is refused, or the answer cannot be written
  3  with --stdin: some lines have no verdict"#;

pub(crate) const BENCH: &str = r#"Examples:
  Everything, in less than a minute:
    fanout bench

  Two publishers and large payloads:
    fanout bench --scenario threads --subscribers 1,16 --publishers 2 --payload 1024

  Before and after a change (of the machine, its settings, or the version of fanout):
    fanout bench --json > before.json
    fanout bench --compare before.json

Measurements:
  Every number is the median of the rounds; the spread is the distance from the lowest to the
  highest round, in percent of the median. Each round has a bus of its own, one topic, and
  subscriptions with one pattern. Each round checks that every event arrived once and in order, and
  that every missing event was reported as lost or replaced. Close other programs, and compare
  numbers of the same machine only.
  Throughput: all publishers publish as fast as they can for the time of a round. The round ends
  when everything is received. A delivery is one event for one subscriber; ns/event is the time of
  a round divided by the number of published events.
  Latency: one publisher, one subscriber, and a fixed rate. The time counts from the planned time
  of an event, so a delay of the publisher is part of it. At rates that the machine cannot reach,
  the latency grows with the time of a round.
  Look-ups: 1,000 groups of 10 patterns. Each topic matches 6 of them.
  Tasks run on a small executor with one thread for each processor, each with its share of the
  tasks. A runtime has other costs, such as those of moving tasks between threads.

--json prints one object with these keys:
  format format_version fanout debug_assertions measured_at machine duration_ms rounds signal error
  measurements comparison
  Each of the measurements has these keys:
  case     the scenario and its settings; two reports are compared by it
  summary  for each metric: metric median min max
  rounds   for each round: elapsed_s operations deliveries lost latency_ns
           operations are published events, or look-ups; deliveries are received events, or values
           that were found; latency_ns is null, or p50 p90 p99 p99_9 max
  comparison is null without --compare. Each of its rows has these keys:
  case metric before before_spread_percent now now_spread_percent ratio verdict
  The ratio is the median of now, divided by that of before. For throughput and look-ups more is
  better, for latency less. The verdict is within_spread if the rounds of before and of now overlap.

--compare needs a file that --json of the same format version wrote, with every case of this run,
with the same settings. The duration and the number of rounds may differ.

SIGINT (Ctrl-C), SIGTERM and SIGHUP end the run: the report has the rounds that were complete. A
second signal ends the process at once. SIGHUP has no effect under `nohup`.

Exit status:
  0    everything was measured
  1    a failure: an event was missing, arrived twice or out of order, a thread could not be
       started, or a file could not be read or written
  2    refused: an argument, or the file of --compare; nothing was measured
  129  SIGHUP ended the run, and what had been measured is in the report
  130  the same for SIGINT
  143  the same for SIGTERM
  If several of them apply, 1 comes before 129 to 143."#;
