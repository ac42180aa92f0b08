//! The parser of the native language: from text to the intermediate form.
//!
//! First the text is scanned into tokens, with braces kept. Every rule that needs no expansion is
//! checked there. Then the braces are multiplied out, and each expansion is cut at its dots and
//! compiled. The rules of segments can only be checked there, because alternatives may span dots,
//! and a segment may consist of text and alternatives.

use std::sync::Arc;

use super::class::Class;
use super::error::{PatternError, PatternRule};
use super::glob::{Atom, Glob, Piece};
use super::limits::BRACE_EXPANSIONS_MAX;
use super::route::{Route, Segment};
use super::syntax::Syntax;

/// The room that is allocated for the tokens of a pattern at first: most patterns need no more.
const TOKENS_EXPECTED: usize = 16;

/// A pattern that was parsed.
pub(super) struct Parsed<'a> {
    /// The tokens of the text, with braces kept. May be empty if there is one route.
    pub(super) parts: Vec<Part<'a>>,
    /// The different expansions in the order of their first appearance: at least one.
    pub(super) routes: Vec<Route>,
}

/// A token, or braces.
pub(super) enum Part<'a> {
    Token(Placed<'a>),
    Braces(Vec<Alternative<'a>>),
}

/// One of the texts between the braces and commas.
pub(super) struct Alternative<'a> {
    pub(super) tokens: Vec<Placed<'a>>,
    /// Counted from 1.
    number: usize,
    /// The bytes at which it begins and ends, counted from the start of the text.
    start: usize,
    end: usize,
}

/// A token and the byte at which it begins, counted from the start of the text.
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    offset: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Characters that stand for themselves, at least one. The next token may be text, too.
    Text(&'a str),
    /// `?`
    One,
    /// `*`
    Star,
    /// `**`
    DoubleStar,
    Class(Arc<Class>),
    Dot,
}

/// Parses a pattern of the native language, of any length.
pub(super) fn parse(text: &str) -> Result<Parsed<'_>, PatternError> {
    if text.is_empty() {
        return Err(refusal(PatternRule::Empty, 0, text));
    }
    if text != "*"
        && let Some(segments) = plain(text)
    {
        return Ok(Parsed {
            parts: Vec::new(),
            routes: vec![Route::new(segments)],
        });
    }
    let parts = parts(text)?;
    let routes = expand(text, &parts)?;
    Ok(Parsed { parts, routes })
}

/// The segments of a text that consists of plain text and wildcards for whole segments, as most
/// patterns do. `None` if the text has any other part, or breaks a rule.
///
/// The text is cut at its dots without being scanned into tokens: that took 0.8 of the time (a
/// million patterns of four segments, November 2026).
fn plain(text: &str) -> Option<Vec<Segment>> {
    // Checked before anything is allocated.
    if memchr::memchr3(b'{', b'[', b'\\', text.as_bytes()).is_some() {
        return None;
    }
    let mut segments = Vec::with_capacity(memchr::memchr_iter(b'.', text.as_bytes()).count() + 1);
    for segment in text.split('.') {
        segments.push(match segment {
            "" => return None,
            "*" => Segment::Any,
            "**" => Segment::Many,
            _ if segment.bytes().all(is_plain) => Segment::Literal(segment.into()),
            _ => return None,
        });
    }
    Some(segments)
}

/// The tokens of a text, with braces kept. Does not check the rules of segments.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, PatternError> {
    if text == "*" {
        return Ok(vec![Part::Token(Placed {
            token: Token::DoubleStar,
            offset: 0,
        })]);
    }
    Scanner { text, at: 0 }.parts()
}

/// The expansions of the braces of a valid pattern, as they are written, in the order in which
/// they are compiled. A text may occur several times.
pub(super) fn expansions(text: &str) -> Vec<String> {
    let parts = parts(text).expect("the pattern is valid");
    let count = parts.iter().map(alternatives).product();
    let mut written = vec![String::with_capacity(text.len()); count];
    let begins = parts.iter().skip(1).map(Part::offset).chain([text.len()]);
    let mut repeats = 1;
    for (part, end) in parts.iter().zip(begins) {
        for (expansion, written) in written.iter_mut().enumerate() {
            written.push_str(match part {
                Part::Token(placed) => &text[placed.offset..end],
                Part::Braces(alternatives) => {
                    let Alternative { start, end, .. } =
                        alternatives[expansion / repeats % alternatives.len()];
                    &text[start..end]
                }
            });
        }
        repeats *= alternatives(part);
    }
    written
}

/// Reads the text from left to right.
struct Scanner<'a> {
    text: &'a str,
    /// The offset of the next character: 0 to the length of the text, on a character boundary.
    at: usize,
}

impl<'a> Scanner<'a> {
    fn parts(&mut self) -> Result<Vec<Part<'a>>, PatternError> {
        let mut parts = Vec::with_capacity(TOKENS_EXPECTED);
        let mut expansions = 1;
        while let Some(c) = self.peek() {
            let offset = self.at;
            match c {
                '{' => {
                    let alternatives = self.braces()?;
                    expansions *= alternatives.len();
                    if expansions > BRACE_EXPANSIONS_MAX {
                        return self.refuse(PatternRule::TooManyExpansions, offset);
                    }
                    parts.push(Part::Braces(alternatives));
                }
                '}' => return self.refuse(PatternRule::UnopenedBraces, offset),
                _ => parts.push(Part::Token(self.token()?)),
            }
        }
        Ok(parts)
    }

    /// The alternatives of braces, from `{` to `}`.
    fn braces(&mut self) -> Result<Vec<Alternative<'a>>, PatternError> {
        let open = self.at;
        self.at += 1;
        let mut alternatives = Vec::new();
        let mut start = self.at;
        let mut tokens = Vec::new();
        loop {
            let end = self.at;
            match self.peek() {
                None => return self.refuse(PatternRule::UnclosedBraces, open),
                Some('{') => return self.refuse(PatternRule::NestedBraces, end),
                Some(c @ (',' | '}')) => {
                    self.at += 1;
                    let tokens = std::mem::take(&mut tokens);
                    let alternative = Alternative {
                        tokens,
                        number: alternatives.len() + 1,
                        start,
                        end,
                    };
                    self.check_own_segments(&alternative)?;
                    alternatives.push(alternative);
                    start = self.at;
                    if c == '}' {
                        break;
                    }
                }
                Some(_) => tokens.push(self.token()?),
            }
        }
        match &*alternatives {
            [only] if only.tokens.is_empty() => self.refuse(PatternRule::EmptyBraces, open),
            [_] => self.refuse(PatternRule::SingleAlternative, open),
            _ => Ok(alternatives),
        }
    }

    /// Refuses an alternative that contains an empty segment: one that begins or ends with a dot,
    /// or has two dots in a row.
    fn check_own_segments(&self, alternative: &Alternative<'_>) -> Result<(), PatternError> {
        let tokens = &alternative.tokens;
        let is_dot = |at: usize| {
            tokens
                .get(at)
                .is_none_or(|placed| placed.token == Token::Dot)
        };
        let empty = (0..tokens.len()).find(|&at| is_dot(at) && (at == 0 || is_dot(at + 1)));
        let Some(at) = empty else { return Ok(()) };
        let offset = tokens[at].offset + usize::from(at > 0);
        let error = refusal(PatternRule::EmptySegment, offset, self.text);
        Err(alternative.blame(error, self.text))
    }

    /// The token that begins here. There must be a character, and it must not belong to braces.
    fn token(&mut self) -> Result<Placed<'a>, PatternError> {
        let offset = self.at;
        let token = match self.text.as_bytes()[offset] {
            b'.' => self.one_byte(Token::Dot),
            b'?' => self.one_byte(Token::One),
            b'*' => self.stars()?,
            b'[' => Token::Class(Arc::new(self.class()?)),
            b'\\' => {
                self.at += 1;
                self.escaped(PatternRule::EscapedDot, offset)?;
                self.text_from(offset + 1)
            }
            _ => {
                self.next()?;
                self.text_from(offset)
            }
        };
        Ok(Placed { token, offset })
    }

    fn one_byte(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        token
    }

    /// The text that begins at `start` and continues here up to a byte that may mean something
    /// else.
    fn text_from(&mut self, start: usize) -> Token<'a> {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|&&byte| is_plain(byte)).count();
        Token::Text(&self.text[start..self.at])
    }

    fn stars(&mut self) -> Result<Token<'a>, PatternError> {
        let offset = self.at;
        let stars = self.text[offset..]
            .bytes()
            .take_while(|&byte| byte == b'*')
            .count();
        self.at += stars;
        match stars {
            1 => Ok(Token::Star),
            2 => Ok(Token::DoubleStar),
            _ => self.refuse(PatternRule::GluedDoubleStar, offset),
        }
    }

    /// The class from `[` to `]`.
    fn class(&mut self) -> Result<Class, PatternError> {
        let open = self.at;
        self.at += 1;
        self.check_no_posix(open)?;
        let negated = matches!(self.peek(), Some('^' | '!'));
        self.at += usize::from(negated);

        let mut items = Vec::with_capacity(1); // most have one range
        loop {
            let offset = self.at;
            match self.peek() {
                None => return self.refuse(PatternRule::UnclosedClass, open),
                Some(']') if items.is_empty() => return self.nothing_in_class(open),
                Some(']') => break,
                Some('-') => return self.refuse(PatternRule::BareDash, offset),
                Some(_) => items.push(self.item(open)?),
            }
        }
        self.at += 1;
        let class = Class::new(negated, items);
        if class.is_void() {
            self.refuse(PatternRule::EmptyClass, open)
        } else {
            Ok(class)
        }
    }

    /// A character or a range of a class.
    fn item(&mut self, open: usize) -> Result<(char, char), PatternError> {
        let start = self.at;
        let first = self.member(open)?;
        let dash = self.at;
        if self.peek() != Some('-') {
            return Ok((first, first));
        }
        self.at += 1;
        if matches!(self.peek(), Some(']' | '-')) {
            return self.refuse(PatternRule::BareDash, dash);
        }
        let last = self.member(open)?;
        if last < first {
            return self.refuse(PatternRule::ReversedRange, start);
        }
        match &self.text.as_bytes()[self.at..] {
            [b'-', b']', ..] => self.refuse(PatternRule::BareDash, self.at),
            [b'-', ..] => self.refuse(PatternRule::ChainedRange, self.at),
            _ => Ok((first, last)),
        }
    }

    /// A character of a class, escaped or not.
    fn member(&mut self, open: usize) -> Result<char, PatternError> {
        let offset = self.at;
        match self.next()? {
            None => self.refuse(PatternRule::UnclosedClass, open),
            Some('.') => self.refuse(PatternRule::DotInClass, offset),
            Some('\\') => self.escaped(PatternRule::DotInClass, offset),
            Some('[') => self.check_no_posix(offset).map(|()| '['),
            Some(c) => Ok(c),
        }
    }

    /// The character behind the `\` at `offset`.
    fn escaped(&mut self, dot: PatternRule, offset: usize) -> Result<char, PatternError> {
        match self.next()? {
            None => self.refuse(PatternRule::TrailingBackslash, offset),
            Some('.') => self.refuse(dot, offset),
            Some(c) => Ok(c),
        }
    }

    /// Refuses the `[` at `offset` if the next character makes it `[:`, `[.` or `[=`. A dot that
    /// begins no collating element, such as `[.a.]`, is refused as a character of the class.
    fn check_no_posix(&self, offset: usize) -> Result<(), PatternError> {
        match self.peek() {
            Some('.') if !self.is_collating_element() => {
                self.refuse(PatternRule::DotInClass, self.at)
            }
            Some(':' | '.' | '=') => self.refuse(PatternRule::PosixClass, offset),
            _ => Ok(()),
        }
    }

    /// Whether the dot at the current position begins a collating element of POSIX, such as `.a.]`.
    fn is_collating_element(&self) -> bool {
        let behind = &self.text[self.at + 1..];
        let element = behind.split_once(']').map_or("", |(element, _)| element);
        element.len() > 1 && element.ends_with('.')
    }

    /// The error for a `]` at the beginning of a class. It was meant as a character if another `]`
    /// follows.
    fn nothing_in_class<T>(&self, open: usize) -> Result<T, PatternError> {
        let behind = &self.text[self.at + 1..];
        match behind.find([']', '[', '.']).map(|at| behind.as_bytes()[at]) {
            Some(b']') => self.refuse(PatternRule::LeadingBracket, self.at),
            _ => self.refuse(PatternRule::EmptyClass, open),
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// The next character, whatever its meaning; `None` at the end.
    fn next(&mut self) -> Result<Option<char>, PatternError> {
        let Some(c) = self.peek() else {
            return Ok(None);
        };
        if c.is_control() {
            return self.refuse(PatternRule::Control, self.at);
        }
        self.at += c.len_utf8();
        Ok(Some(c))
    }

    fn refuse<T>(&self, rule: PatternRule, offset: usize) -> Result<T, PatternError> {
        Err(refusal(rule, offset, self.text))
    }
}

/// Whether this byte belongs to a character that stands for itself everywhere outside of classes.
fn is_plain(byte: u8) -> bool {
    // A comma is plain outside of braces only. Each control character has a byte of the second
    // line.
    !matches!(byte, b'.' | b'*' | b'?' | b'[' | b'{' | b'}' | b',' | b'\\')
        && !matches!(byte, 0..=0x1f | 0x7f | 0xc2)
}

fn refusal(rule: PatternRule, offset: usize, text: &str) -> PatternError {
    PatternError::new(rule, offset, text, Syntax::Segments)
}

/// A part of an expansion: a token, or an empty alternative.
#[derive(Clone, Copy)]
struct Element<'a> {
    token: Option<&'a Token<'a>>,
    offset: usize,
    /// The alternative that it belongs to.
    origin: Option<&'a Alternative<'a>>,
}

/// Multiplies the braces out and compiles each expansion.
fn expand(text: &str, parts: &[Part<'_>]) -> Result<Vec<Route>, PatternError> {
    let expansions = parts.iter().map(alternatives).product();
    let mut routes = Vec::with_capacity(expansions);
    let mut elements = Vec::with_capacity(TOKENS_EXPECTED);
    let mut compiler = Compiler::default();
    for expansion in 0..expansions {
        elements.clear();
        let mut choice = expansion;
        for part in parts {
            match part {
                Part::Token(placed) => elements.push(placed.element(None)),
                Part::Braces(alternatives) => {
                    let index = choice % alternatives.len();
                    choice /= alternatives.len();
                    alternatives[index].elements(&mut elements);
                }
            }
        }
        let is_last = expansion + 1 == expansions;
        let route = compiler
            .route(&elements, is_last)
            .map_err(|fault| fault.in_text(text))?;
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    Ok(routes)
}

impl Part<'_> {
    /// The byte at which it begins.
    fn offset(&self) -> usize {
        match self {
            Part::Token(placed) => placed.offset,
            Part::Braces(alternatives) => alternatives[0].start - 1,
        }
    }
}

fn alternatives(part: &Part<'_>) -> usize {
    match part {
        Part::Token(_) => 1,
        Part::Braces(alternatives) => alternatives.len(),
    }
}

impl Placed<'_> {
    fn element<'a>(&'a self, origin: Option<&'a Alternative<'a>>) -> Element<'a> {
        Element {
            token: Some(&self.token),
            offset: self.offset,
            origin,
        }
    }
}

impl Alternative<'_> {
    fn elements<'a>(&'a self, elements: &mut Vec<Element<'a>>) {
        let origin = Some(self);
        if self.tokens.is_empty() {
            elements.push(Element {
                token: None,
                offset: self.start,
                origin,
            });
        }
        elements.extend(self.tokens.iter().map(|placed| placed.element(origin)));
    }

    /// The error, which is due to this alternative of `text`.
    fn blame(&self, error: PatternError, text: &str) -> PatternError {
        error.in_alternative(self.number, &text[self.start..self.end])
    }
}

/// A rule of segments that an expansion breaks.
struct Fault<'a> {
    rule: PatternRule,
    offset: usize,
    /// The elements at and next to `offset`. The error names the first alternative among them.
    around: Vec<Element<'a>>,
}

impl Fault<'_> {
    fn in_text(self, text: &str) -> PatternError {
        let error = refusal(self.rule, self.offset, text);
        match self.around.iter().find_map(|element| element.origin) {
            Some(alternative) => alternative.blame(error, text),
            None => error,
        }
    }
}

/// Compiles one expansion after the other.
#[derive(Default)]
struct Compiler {
    /// The segments without a part in braces. They are the same in each expansion, in the same
    /// order: they are compiled for the first expansion and kept for the others.
    fixed: Vec<Segment>,
    glob: GlobBuilder,
}

impl Compiler {
    /// Cuts an expansion at its dots and compiles its segments. The last expansion takes the kept
    /// segments, the others clone them.
    fn route<'a>(&mut self, elements: &[Element<'a>], is_last: bool) -> Result<Route, Fault<'a>> {
        if elements.iter().all(|element| element.token.is_none()) {
            return Err(Fault {
                rule: PatternRule::Empty,
                offset: 0,
                around: elements.to_vec(),
            });
        }
        let is_dot = |element: &Element<'_>| element.token == Some(&Token::Dot);
        let dots = elements.iter().filter(|element| is_dot(element)).count();
        let mut segments = Vec::with_capacity(dots + 1);
        let mut fixed_passed = 0;
        let mut start = 0;
        loop {
            let length = elements[start..].iter().position(is_dot);
            let stop = length.map_or(elements.len(), |length| start + length);
            let segment = &elements[start..stop];
            if segment.iter().all(|element| element.token.is_none()) {
                return Err(empty_segment(elements, start, stop));
            }
            let is_fixed = segment.iter().all(|element| element.origin.is_none());
            let kept = is_fixed.then(|| self.fixed.get_mut(fixed_passed)).flatten();
            fixed_passed += usize::from(is_fixed);
            segments.push(match kept {
                Some(kept) if is_last => std::mem::replace(kept, Segment::Any),
                Some(kept) => kept.clone(),
                None => {
                    let segment = self.segment(segment)?;
                    if is_fixed && !is_last {
                        self.fixed.push(segment.clone());
                    }
                    segment
                }
            });
            if stop == elements.len() {
                return Ok(Route::new(segments));
            }
            start = stop + 1;
        }
    }

    /// Compiles the elements between two dots, which have at least one token.
    fn segment<'a>(&mut self, elements: &[Element<'a>]) -> Result<Segment, Fault<'a>> {
        // Most segments are of this form.
        if let [only] = elements {
            match only.token {
                Some(Token::Text(text)) => return Ok(Segment::Literal((*text).into())),
                Some(Token::Star) => return Ok(Segment::Any),
                Some(Token::DoubleStar) => return Ok(Segment::Many),
                _ => {}
            }
        }
        let fault = |rule, offset| Fault {
            rule,
            offset,
            around: elements.to_vec(),
        };
        let tokens = || {
            elements
                .iter()
                .filter_map(|e| e.token.map(|token| (token, e.offset)))
        };
        if let Some((_, offset)) = tokens().find(|(token, _)| **token == Token::DoubleStar) {
            return match tokens().count() {
                1 => Ok(Segment::Many),
                _ => Err(fault(PatternRule::GluedDoubleStar, offset)),
            };
        }
        // Two stars in a row in the text are one token: these are on the two sides of a brace.
        let pairs = tokens().zip(tokens().skip(1));
        for ((before, _), (after, offset)) in pairs {
            if (before, after) == (&Token::Star, &Token::Star) {
                return Err(fault(PatternRule::JoinedDoubleStar, offset));
            }
        }
        Ok(self.glob.build(tokens().map(|(token, _)| token)))
    }
}

/// The fault of a segment without a token, between `start` and `stop`. It is due to an empty
/// alternative, or to a dot next to it.
fn empty_segment<'a>(elements: &[Element<'a>], start: usize, stop: usize) -> Fault<'a> {
    let inside = &elements[start..stop];
    let dots = [start.checked_sub(1), Some(stop)].map(|dot| elements.get(dot?));
    let offset = match (inside.first(), dots) {
        (Some(nothing), _) => nothing.offset,
        (None, [Some(before), _]) => before.offset + 1,
        (None, [None, after]) => after.map_or(0, |after| after.offset),
    };
    let around = inside
        .iter()
        .chain(dots.into_iter().flatten())
        .copied()
        .collect();
    Fault {
        rule: PatternRule::EmptySegment,
        offset,
        around,
    }
}

/// Builds globs, one after the other, with the same buffers.
#[derive(Default)]
struct GlobBuilder {
    /// The complete pieces.
    pieces: Vec<Piece>,
    /// The complete atoms of the last piece.
    atoms: Vec<Atom>,
    /// The text behind them, which is not yet an atom.
    text: String,
}

impl GlobBuilder {
    /// The simplest segment with the meaning of these tokens.
    ///
    /// In a run of `?` and `*`, the `?` come first and one `*` is kept: k `?` and at least one `*`
    /// match k or more characters in any order. A `?*` alone is any segment, because no segment is
    /// empty.
    fn build<'a>(&mut self, tokens: impl Iterator<Item = &'a Token<'a>>) -> Segment {
        let mut in_star = false;
        for token in tokens {
            // A star ends the piece only before the next token that is neither star nor `?`.
            if in_star && !matches!(token, Token::Star | Token::One) {
                self.end_piece();
                in_star = false;
            }
            match token {
                Token::Star => in_star = true,
                Token::One => self.atom(Atom::One),
                Token::Text(text) => self.text.push_str(text),
                Token::Class(class) => match class.single() {
                    Some(c) => self.text.push(c),
                    None => self.atom(Atom::Class(Arc::clone(class))),
                },
                Token::DoubleStar | Token::Dot => unreachable!("not a part of a glob"),
            }
        }
        self.end_piece();
        if in_star {
            self.end_piece();
        }
        let mut pieces = self.pieces.drain(..);
        let mut head = pieces.next().expect("there is at least one piece");
        let rest: Box<[Piece]> = pieces.collect();
        match (&mut *head, &*rest) {
            ([Atom::Text(text)], []) => Segment::Literal(std::mem::take(text)),
            ([] | [Atom::One], [tail]) if tail.is_empty() => Segment::Any,
            _ => Segment::Glob(Arc::new(Glob { head, rest })),
        }
    }

    fn atom(&mut self, atom: Atom) {
        self.end_text();
        self.atoms.push(atom);
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.atoms.push(Atom::Text(self.text.as_str().into()));
            self.text.clear();
        }
    }

    fn end_piece(&mut self) {
        self.end_text();
        self.pieces.push(self.atoms.drain(..).collect());
    }
}
