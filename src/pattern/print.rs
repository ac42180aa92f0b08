//! The canonical text of a pattern.
//!
//! A pattern with one route prints that route. A pattern with several routes keeps its braces, and
//! only its characters and classes are in normal form: multiplied out, it could be 64 times as long
//! as the text that was written, and reordering `*` and `?` next to a brace could make stars meet.

use std::fmt::{self, Write};

use super::class::Class;
use super::glob::{Atom, Glob, Piece};
use super::parse::{Parsed, Part, Placed, Token};
use super::route::{Route, Segment};

/// The room that is allocated for a text at first, in bytes: most texts need no more.
const CAPACITY_BYTES: usize = 64;

/// The canonical text. It is never longer than the text that was parsed, except `**` for `*`.
pub(super) fn canonical(parsed: &Parsed<'_>) -> String {
    let mut text = String::with_capacity(CAPACITY_BYTES);
    let written = match &*parsed.routes {
        [route] => write_route(&mut text, route),
        _ => write_parts(&mut text, &parsed.parts),
    };
    written.expect("writing to a string succeeds");
    text
}

/// `text` with a `\` before each character that has a meaning outside of classes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    write_text(&mut escaped, text, true);
    escaped
}

fn write_route(out: &mut String, route: &Route) -> fmt::Result {
    if let [Segment::Any] = route.segments() {
        return out.write_str("?*"); // a single `*` would match everything
    }
    for (at, segment) in route.segments().iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        match segment {
            Segment::Literal(text) => write_text(out, text, false),
            Segment::Any => out.push('*'),
            Segment::Many => out.push_str("**"),
            Segment::Glob(glob) => write_glob(out, glob)?,
        }
    }
    Ok(())
}

fn write_glob(out: &mut String, glob: &Glob) -> fmt::Result {
    write_piece(out, &glob.head)?;
    for piece in &glob.rest {
        out.push('*');
        write_piece(out, piece)?;
    }
    Ok(())
}

fn write_piece(out: &mut String, piece: &Piece) -> fmt::Result {
    for atom in piece {
        match atom {
            Atom::Text(text) => write_text(out, text, false),
            Atom::One => out.push('?'),
            Atom::Class(class) => class.write(out)?,
        }
    }
    Ok(())
}

fn write_parts(out: &mut String, parts: &[Part<'_>]) -> fmt::Result {
    for part in parts {
        match part {
            Part::Token(placed) => write_token(out, placed, false)?,
            Part::Braces(alternatives) => {
                for (at, alternative) in alternatives.iter().enumerate() {
                    out.push(if at == 0 { '{' } else { ',' });
                    for placed in &alternative.tokens {
                        write_token(out, placed, true)?;
                    }
                }
                out.push('}');
            }
        }
    }
    Ok(())
}

fn write_token(out: &mut String, placed: &Placed<'_>, in_braces: bool) -> fmt::Result {
    match &placed.token {
        Token::Text(text) => write_text(out, text, in_braces),
        Token::One => out.push('?'),
        Token::Star => out.push('*'),
        Token::DoubleStar => out.push_str("**"),
        Token::Dot => out.push('.'),
        Token::Class(class) => return write_class(out, class, in_braces),
    }
    Ok(())
}

fn write_class(out: &mut String, class: &Class, in_braces: bool) -> fmt::Result {
    match class.single() {
        Some(c) => write_char(out, c, in_braces),
        None => class.write(out)?,
    }
    Ok(())
}

fn write_text(out: &mut String, text: &str, in_braces: bool) {
    if text.contains(|c| needs_escape(c, in_braces)) {
        text.chars().for_each(|c| write_char(out, c, in_braces));
    } else {
        out.push_str(text);
    }
}

fn write_char(out: &mut String, c: char, in_braces: bool) {
    if needs_escape(c, in_braces) {
        out.push('\\');
    }
    out.push(c);
}

fn needs_escape(c: char, in_braces: bool) -> bool {
    matches!(c, '*' | '?' | '[' | '{' | '}' | '\\') || (in_braces && c == ',')
}
