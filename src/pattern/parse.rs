//! From text to the intermediate form.
//!
//! First the text is scanned into tokens, with braces kept; every rule that needs no expansion is
//! checked there. Then the braces are multiplied out, and each expansion is cut at its dots and
//! compiled, where the rules of segments are checked: only there can they be, since alternatives
//! may span dots, and text and alternatives share segments.

use std::sync::Arc;

use super::class::Class;
use super::error::{PatternError, PatternRule};
use super::glob::{Atom, Glob, Piece};
use super::route::{Route, Segment};
use super::{BRACE_EXPANSIONS_MAX, Syntax};

/// Room that is made for the tokens of a pattern beforehand, so that most need no more.
const TOKENS_EXPECTED: usize = 16;

/// A pattern, read.
pub(super) struct Parsed<'a> {
    /// The text in tokens, braces kept; maybe none if there is one route.
    pub(super) parts: Vec<Part<'a>>,
    /// The different expansions, in the order of their first appearance; at least one.
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
    /// Where it begins and ends, in bytes from the start of the text.
    start: usize,
    end: usize,
}

/// A token and where it begins, in bytes from the start of the text.
pub(super) struct Placed<'a> {
    pub(super) token: Token<'a>,
    offset: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Characters that stand for themselves, at least one; more may follow in the next token.
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

/// Reads a pattern of the native language, of any length.
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

/// The segments of a text of whole wildcards and plain text, as most are: cut at its dots as it stands, which took 0.8
/// of the time that it takes by tokens (a million patterns of four segments, November 2026). `None` where there is
/// anything else, or a rule is broken.
fn plain(text: &str) -> Option<Vec<Segment>> {
    // Before anything is allocated in vain.
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

/// The tokens of a text, braces kept; the rules of segments are not checked.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, PatternError> {
    if text == "*" {
        return Ok(vec![Part::Token(Placed {
            token: Token::DoubleStar,
            offset: 0,
        })]);
    }
    Scanner { text, at: 0 }.parts()
}

/// Walks over the text.
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

    /// Braces, from `{` to `}`.
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

    /// Refuses an alternative with an empty segment of its own: one that begins or ends with a dot,
    /// or has two in a row.
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
        Err(alternative.names(
            refusal(PatternRule::EmptySegment, offset, self.text),
            self.text,
        ))
    }

    /// The token that begins here; there is a character, and it has no part in braces.
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

    /// The text that begins at `start`, and goes on here as far as nothing comes that could mean something else.
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

    /// A class, from `[` to `]`.
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

    /// The character behind a `\`, which stands at `offset`.
    fn escaped(&mut self, dot: PatternRule, offset: usize) -> Result<char, PatternError> {
        match self.next()? {
            None => self.refuse(PatternRule::TrailingBackslash, offset),
            Some('.') => self.refuse(dot, offset),
            Some(c) => Ok(c),
        }
    }

    /// Refuses what follows the `[` at `offset` if that makes it `[:`, `[.` or `[=`.
    fn check_no_posix(&self, offset: usize) -> Result<(), PatternError> {
        match self.peek() {
            Some(':' | '.' | '=') => self.refuse(PatternRule::PosixClass, offset),
            _ => Ok(()),
        }
    }

    /// A `]` right at the beginning of a class: meant as a character if there is another one.
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

    /// Passes one character, whatever its meaning; `None` at the end.
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

/// Whether this byte of a text is surely part of a character that stands for itself, wherever it stands but in a class.
fn is_plain(byte: u8) -> bool {
    // A comma may be plain, too. No control character is spelled without one of the bytes of the second line.
    !matches!(byte, b'.' | b'*' | b'?' | b'[' | b'{' | b'}' | b',' | b'\\')
        && !matches!(byte, 0..=0x1f | 0x7f | 0xc2)
}

fn refusal(rule: PatternRule, offset: usize, text: &str) -> PatternError {
    PatternError::new(rule, offset, text, Syntax::Segments)
}

/// What an expansion is made of: a token, or the place of an empty alternative.
#[derive(Clone, Copy)]
struct Element<'a> {
    token: Option<&'a Token<'a>>,
    offset: usize,
    /// The alternative that it stands in.
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

    /// The refusal of what stands in this alternative of `text`.
    fn names(&self, error: PatternError, text: &str) -> PatternError {
        error.in_alternative(self.number, &text[self.start..self.end])
    }
}

/// A rule of segments that an expansion breaks.
struct Fault<'a> {
    rule: PatternRule,
    offset: usize,
    /// What stands around the place; the first one out of braces names the alternative.
    around: Vec<Element<'a>>,
}

impl Fault<'_> {
    fn in_text(self, text: &str) -> PatternError {
        let error = refusal(self.rule, self.offset, text);
        match self.around.iter().find_map(|element| element.origin) {
            Some(alternative) => alternative.names(error, text),
            None => error,
        }
    }
}

/// Compiles one expansion after the other.
#[derive(Default)]
struct Compiler {
    /// The segments without a part in braces: the same ones in every expansion, in the same order. They are compiled
    /// for the first, and kept here for the others.
    fixed: Vec<Segment>,
    glob: GlobBuilder,
}

impl Compiler {
    /// Cuts an expansion at its dots and compiles the segments. What is kept for others goes into the last one.
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

    /// Compiles what stands between two dots; there is at least one token.
    fn segment<'a>(&mut self, elements: &[Element<'a>]) -> Result<Segment, Fault<'a>> {
        // As most are.
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
        // Two stars side by side in the text are one token: these come from two sides of a brace.
        let pairs = tokens().zip(tokens().skip(1));
        for ((before, _), (after, offset)) in pairs {
            if (before, after) == (&Token::Star, &Token::Star) {
                return Err(fault(PatternRule::JoinedDoubleStar, offset));
            }
        }
        Ok(self.glob.build(tokens().map(|(token, _)| token)))
    }
}

/// Between `start` and `stop` there is nothing: an empty alternative made that, or a dot beside it.
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

/// Builds globs; what it allocates for one serves the next.
#[derive(Default)]
struct GlobBuilder {
    /// Complete ones.
    pieces: Vec<Piece>,
    /// Complete ones, of the piece that is not.
    atoms: Vec<Atom>,
    /// What comes behind them and is no atom yet.
    text: String,
}

impl GlobBuilder {
    /// The simplest segment that these tokens mean.
    ///
    /// In a run of `?` and `*` the `?` go first and one `*` is kept: k of `?` and at least one `*`
    /// match k or more characters in any order. A `?*` alone is any segment, since none is empty.
    fn build<'a>(&mut self, tokens: impl Iterator<Item = &'a Token<'a>>) -> Segment {
        let mut in_star = false;
        for token in tokens {
            // A `?` behind a star belongs before it, as long as nothing else came between.
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
                Token::DoubleStar | Token::Dot => unreachable!("no part of a glob"),
            }
        }
        self.end_piece();
        if in_star {
            self.end_piece();
        }
        let mut pieces = self.pieces.drain(..);
        let mut head = pieces.next().expect("a piece came to its end");
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
