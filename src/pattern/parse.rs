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

/// A pattern, read.
pub(super) struct Parsed {
    /// The text in tokens, braces kept; maybe none if there is one route.
    pub(super) parts: Vec<Part>,
    /// The different expansions, in the order of their first appearance; at least one.
    pub(super) routes: Vec<Route>,
}

/// A token, or braces.
pub(super) enum Part {
    Token(Placed),
    Braces(Vec<Alternative>),
}

/// One of the texts between the braces and commas.
pub(super) struct Alternative {
    pub(super) tokens: Vec<Placed>,
    /// Counted from 1.
    number: usize,
    /// Where it begins and ends, in bytes from the start of the text.
    start: usize,
    end: usize,
}

/// A token and where it begins, in bytes from the start of the text.
pub(super) struct Placed {
    pub(super) token: Token,
    offset: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A character that stands for itself.
    Char(char),
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
pub(super) fn parse(text: &str) -> Result<Parsed, PatternError> {
    if text.is_empty() {
        return Err(refusal(PatternRule::Empty, 0, text));
    }
    if text != "*"
        && let Some(route) = plain(text)
    {
        return Ok(Parsed {
            parts: Vec::new(),
            routes: vec![route],
        });
    }
    let parts = parts(text)?;
    let routes = expand(text, &parts)?;
    Ok(Parsed { parts, routes })
}

/// The one expansion of a text with neither braces nor classes nor escapes, which most texts are: cut at its dots as it
/// stands, several times as fast as by tokens. `None` where there is any of these, or a rule is broken: that is for
/// the scanner to tell.
fn plain(text: &str) -> Option<Route> {
    // No control character is spelled without one of these bytes.
    let is_special = |byte| matches!(byte, b'{' | b'}' | b'[' | b'\\' | 0..=0x1f | 0x7f | 0xc2);
    if text.bytes().any(is_special) {
        return None;
    }
    let mut segments = Vec::with_capacity(memchr::memchr_iter(b'.', text.as_bytes()).count() + 1);
    for segment in text.split('.') {
        segments.push(match segment {
            "" => return None,
            "*" => Segment::Any,
            "**" => Segment::Many,
            _ if memchr::memchr2(b'*', b'?', segment.as_bytes()).is_none() => {
                Segment::Literal(segment.into())
            }
            _ if segment.contains("**") => return None,
            _ => {
                let tokens: Vec<Token> = segment.chars().map(plain_token).collect();
                glob(tokens.iter())
            }
        });
    }
    Some(Route::new(segments))
}

fn plain_token(c: char) -> Token {
    match c {
        '*' => Token::Star,
        '?' => Token::One,
        _ => Token::Char(c),
    }
}

/// The tokens of a text, braces kept; the rules of segments are not checked.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, PatternError> {
    if text == "*" {
        return Ok(vec![Part::Token(Placed {
            token: Token::DoubleStar,
            offset: 0,
        })]);
    }
    Scanner { text, at: 0 }.parts()
}

/// Walks over the text, character by character.
struct Scanner<'a> {
    text: &'a str,
    /// The offset of the next character: 0 to the length of the text, on a character boundary.
    at: usize,
}

impl Scanner<'_> {
    fn parts(&mut self) -> Result<Vec<Part>, PatternError> {
        let mut parts = Vec::new();
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
    fn braces(&mut self) -> Result<Vec<Alternative>, PatternError> {
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
    fn check_own_segments(&self, alternative: &Alternative) -> Result<(), PatternError> {
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
    fn token(&mut self) -> Result<Placed, PatternError> {
        let offset = self.at;
        let token = match self.peek() {
            Some('[') => Token::Class(Arc::new(self.class()?)),
            Some('*') => self.stars()?,
            _ => match self.next()? {
                Some('?') => Token::One,
                Some('.') => Token::Dot,
                Some('\\') => Token::Char(self.escaped(PatternRule::EscapedDot, offset)?),
                Some(c) => Token::Char(c),
                None => unreachable!("a token begins with a character"),
            },
        };
        Ok(Placed { token, offset })
    }

    fn stars(&mut self) -> Result<Token, PatternError> {
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

        let mut items = Vec::new();
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

fn refusal(rule: PatternRule, offset: usize, text: &str) -> PatternError {
    PatternError::new(rule, offset, text, Syntax::Segments)
}

/// What an expansion is made of: a token, or the place of an empty alternative.
#[derive(Clone, Copy)]
struct Element<'a> {
    token: Option<&'a Token>,
    offset: usize,
    /// The alternative that it stands in.
    origin: Option<&'a Alternative>,
}

/// Multiplies the braces out and compiles each expansion.
fn expand(text: &str, parts: &[Part]) -> Result<Vec<Route>, PatternError> {
    let mut routes = Vec::new();
    let mut elements = Vec::new();
    let expansions = parts.iter().map(alternatives).product();
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
        let route = compile(&elements).map_err(|fault| fault.in_text(text))?;
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    Ok(routes)
}

fn alternatives(part: &Part) -> usize {
    match part {
        Part::Token(_) => 1,
        Part::Braces(alternatives) => alternatives.len(),
    }
}

impl Placed {
    fn element<'a>(&'a self, origin: Option<&'a Alternative>) -> Element<'a> {
        Element {
            token: Some(&self.token),
            offset: self.offset,
            origin,
        }
    }
}

impl Alternative {
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

/// Cuts an expansion at its dots and compiles the segments.
fn compile<'a>(elements: &[Element<'a>]) -> Result<Route, Fault<'a>> {
    if elements.iter().all(|element| element.token.is_none()) {
        return Err(Fault {
            rule: PatternRule::Empty,
            offset: 0,
            around: elements.to_vec(),
        });
    }
    let mut segments = Vec::new();
    let mut start = 0;
    loop {
        let is_dot = |element: &Element<'_>| element.token == Some(&Token::Dot);
        let length = elements[start..].iter().position(is_dot);
        let stop = length.map_or(elements.len(), |length| start + length);
        let segment = &elements[start..stop];
        if segment.iter().all(|element| element.token.is_none()) {
            return Err(empty_segment(elements, start, stop));
        }
        segments.push(compile_segment(segment)?);
        if stop == elements.len() {
            return Ok(Route::new(segments));
        }
        start = stop + 1;
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

/// Compiles what stands between two dots; there is at least one token.
fn compile_segment<'a>(elements: &[Element<'a>]) -> Result<Segment, Fault<'a>> {
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
    Ok(glob(tokens().map(|(token, _)| token)))
}

/// The simplest segment that these tokens mean.
///
/// In a run of `?` and `*` the `?` go first and one `*` is kept: k of `?` and at least one `*`
/// match k or more characters in any order. A `?*` alone is any segment, since none is empty.
fn glob<'a>(tokens: impl Iterator<Item = &'a Token>) -> Segment {
    let mut pieces = vec![PieceBuilder::default()];
    let mut in_star = false;
    for token in tokens {
        let last = pieces.len() - 1;
        match token {
            Token::Star if !in_star => {
                pieces.push(PieceBuilder::default());
                in_star = true;
            }
            Token::Star => {}
            // Behind a star, a `?` belongs before it as long as nothing else came between.
            Token::One if in_star => pieces[last - 1].atom(Atom::One),
            Token::One => pieces[last].atom(Atom::One),
            Token::Class(class) => {
                in_star = false;
                match class.single() {
                    Some(c) => pieces[last].text.push(c),
                    None => pieces[last].atom(Atom::Class(Arc::clone(class))),
                }
            }
            Token::Char(c) => {
                in_star = false;
                pieces[last].text.push(*c);
            }
            Token::DoubleStar | Token::Dot => unreachable!("no part of a glob"),
        }
    }
    let mut pieces = pieces.into_iter().map(PieceBuilder::build);
    let head = pieces.next().expect("begins with one piece");
    let rest: Box<[Piece]> = pieces.collect();
    match (&*head, &*rest) {
        ([Atom::Text(text)], []) => Segment::Literal(text.clone()),
        ([] | [Atom::One], [tail]) if tail.is_empty() => Segment::Any,
        _ => Segment::Glob(Arc::new(Glob { head, rest })),
    }
}

/// Collects characters into texts.
#[derive(Default)]
struct PieceBuilder {
    atoms: Vec<Atom>,
    text: String,
}

impl PieceBuilder {
    fn atom(&mut self, atom: Atom) {
        self.end_text();
        self.atoms.push(atom);
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            self.atoms
                .push(Atom::Text(std::mem::take(&mut self.text).into()));
        }
    }

    fn build(mut self) -> Piece {
        self.end_text();
        self.atoms.into()
    }
}
