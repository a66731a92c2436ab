//! What one file of Rust imports, read from its text: the paths that begin with `crate`, `self`, `super`, the name of
//! the library, or that of a module which the file declares, in `use` lines and wherever else they stand.
//!
//! This is no parser of Rust. It knows what imports nothing (comments, strings), where modules begin and end, and
//! what is there for tests alone: behind `#[cfg(test)]`, or any other `cfg` that asks for `test`.

use std::collections::BTreeSet;

/// The library, as its programs name it.
const LIBRARY: &str = "clusterip";

/// What a file says.
#[derive(Debug, Default)]
pub struct Source {
    /// The paths that it names.
    pub named: Vec<Named>,
    /// The modules in files of their own that it declares for tests alone.
    pub test_files: BTreeSet<String>,
    /// The modules for tests that stand in the file itself.
    pub test_modules: BTreeSet<String>,
}

/// A path that is named.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// From the root of the library on.
    pub path: Vec<String>,
    /// Where it begins.
    pub line: usize,
    /// Is it there for tests alone?
    pub in_test: bool,
}

/// Reads the file of this module.
pub fn read(module: &[String], text: &str) -> Source {
    let tokens = Tokens::of(text);
    let declared = tokens.declared();
    let mut source = Source::default();
    // The modules in the file that are open, and the depth of their braces.
    let mut open: Vec<(usize, String)> = Vec::new();
    let (mut depth, mut test_until) = (0_usize, 0);
    for at in 0..tokens.0.len() {
        if let Some(behind) = tokens.test_attribute(at) {
            test_until = test_until.max(tokens.end_of_item(behind));
        }
        let in_test = at < test_until;
        let name = tokens.word(at + 1).to_owned();
        match (tokens.word(at), tokens.word(at + 2)) {
            ("mod", ";") if in_test => {
                source.test_files.insert(name);
            }
            ("mod", "{") => {
                if in_test {
                    source.test_modules.insert(name.clone());
                }
                open.push((depth, name));
            }
            ("{", _) => depth += 1,
            ("}", _) => {
                depth = depth.saturating_sub(1);
                if open.last().is_some_and(|(opened, _)| *opened == depth) {
                    open.pop();
                }
            }
            _ if tokens.begins_path(at, &declared) => {
                let inline = open.iter().map(|(_, name)| name.clone());
                let here: Vec<String> = module.iter().cloned().chain(inline).collect();
                let mut paths = Vec::new();
                tokens.tree(at, &[], &mut paths);
                source.named.extend(paths.into_iter().map(|path| Named {
                    path: from_the_root(&path, module, &here),
                    line: tokens.0[at].line,
                    in_test,
                }));
            }
            _ => {}
        }
    }
    source
}

/// A path that stands in module `here` of a file, whose own module is `file`.
fn from_the_root(path: &[&str], file: &[String], here: &[String]) -> Vec<String> {
    let (first, mut rest) = (path[0], path);
    let mut from = match first {
        "self" | "super" => here,
        // A program is a crate of its own.
        "crate" if file.first().is_some_and(|room| room == "bin") => file,
        "crate" | LIBRARY => &[],
        _ => file,
    };
    if matches!(first, "self" | "crate" | LIBRARY) {
        rest = &rest[1..];
    }
    while rest.first() == Some(&"super") {
        (from, rest) = (&from[..from.len().saturating_sub(1)], &rest[1..]);
    }
    let rest = rest.iter().map(|segment| (*segment).to_owned());
    from.iter().cloned().chain(rest).collect()
}

struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// The words, `::`, and everything else sign by sign.
struct Tokens<'a>(Vec<Token<'a>>);

impl<'a> Tokens<'a> {
    fn of(text: &'a str) -> Self {
        let mut tokens = Vec::new();
        let (mut rest, mut line) = (text, 1);
        while let Some(first) = rest.chars().next() {
            let skipped = silent(rest);
            let length = skipped.unwrap_or_else(|| match first {
                _ if is_of_word(first) => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                other => other.len_utf8(),
            });
            let (text, behind) = rest.split_at(length);
            if skipped.is_none() {
                tokens.push(Token { text, line });
            }
            line += text.matches('\n').count();
            rest = behind;
        }
        Tokens(tokens)
    }

    fn word(&self, at: usize) -> &'a str {
        self.0.get(at).map_or("", |token| token.text)
    }

    /// The modules in files of their own.
    fn declared(&self) -> BTreeSet<&'a str> {
        let is_file = |at: &usize| self.word(*at) == "mod" && self.word(at + 2) == ";";
        let files = (0..self.0.len()).filter(is_file);
        files.map(|at| self.word(at + 1)).collect()
    }

    fn begins_path(&self, at: usize, declared: &BTreeSet<&str>) -> bool {
        let first = self.word(at);
        let before = |back: usize| at.checked_sub(back).map_or("", |before| self.word(before));
        // `pub(in …)` says who may import, and imports nothing.
        let is_of_pub = [before(2), before(1)] == ["(", "in"];
        self.word(at + 1) == "::"
            && !is_of_pub
            && !matches!(before(1), "::" | ".")
            && (matches!(first, "crate" | "self" | "super" | LIBRARY) || declared.contains(first))
    }

    /// The paths of the tree that begins here, of which one that is in no `use` has but one; says where it ends.
    fn tree(&self, mut at: usize, prefix: &[&'a str], paths: &mut Vec<Vec<&'a str>>) -> usize {
        let mut path = prefix.to_vec();
        loop {
            if self.word(at) == "{" {
                at += 1;
                while !matches!(self.word(at), "}" | "") {
                    at = self.tree(at, &path, paths);
                    at += usize::from(self.word(at) == ",");
                }
                return at + 1;
            }
            path.push(self.word(at));
            at += 1;
            let next = self.word(at + 1);
            if self.word(at) != "::" || !(next.starts_with(is_of_word) || next == "{") {
                break;
            }
            at += 1;
        }
        paths.push(path);
        // The rest is `as …` or `::*`.
        while !matches!(self.word(at), "," | "}" | ";" | "") && !prefix.is_empty() {
            at += 1;
        }
        at
    }

    /// Where the attribute ends that begins here, if it wants `test`.
    fn test_attribute(&self, at: usize) -> Option<usize> {
        if [self.word(at), self.word(at + 1), self.word(at + 2)] != ["#", "[", "cfg"] {
            return None;
        }
        let end = (at..self.0.len()).find(|at| self.word(*at) == "]")?;
        let wants = |at: usize| {
            let negated = [self.word(at - 2), self.word(at - 1)] == ["not", "("];
            self.word(at) == "test" && !negated
        };
        (at + 3..end).any(wants).then_some(end + 1)
    }

    /// Where the item ends that begins here: behind its body, or its semicolon.
    fn end_of_item(&self, from: usize) -> usize {
        let (mut depth, mut is_use) = (0_usize, false);
        for at in from..self.0.len() {
            match self.word(at) {
                "use" => is_use |= depth == 0,
                "(" | "[" | "{" => depth += 1,
                ";" if depth == 0 => return at + 1,
                close @ (")" | "]" | "}") => {
                    let Some(outer) = depth.checked_sub(1) else {
                        return at;
                    };
                    depth = outer;
                    if close == "}" && depth == 0 && !is_use {
                        return at + 1;
                    }
                }
                _ => {}
            }
        }
        self.0.len()
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of what stands first, if it imports nothing: white space, a comment, a string, a character.
fn silent(rest: &str) -> Option<usize> {
    let behind = |from: usize, end: &str| {
        let found = rest[from..].find(end);
        found.map_or(rest.len(), |at| from + at + end.len())
    };
    let first = rest.chars().next()?;
    if first.is_whitespace() {
        return Some(first.len_utf8());
    }
    if rest.starts_with("//") {
        return Some(behind(2, "\n"));
    }
    if rest.starts_with("/*") {
        return Some(behind(2, "*/"));
    }
    let bare = rest.strip_prefix(['b', 'c']).unwrap_or(rest);
    let prefix = rest.len() - bare.len();
    if let Some(raw) = bare.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            return Some(behind(prefix + 1 + hashes + 1, &end));
        }
    }
    if bare.starts_with('"') {
        return Some(prefix + quoted(bare, '"'));
    }
    let character = bare.strip_prefix('\'')?;
    let closes = character.chars().nth(1) == Some('\'');
    match character.starts_with('\\') || closes {
        true => Some(prefix + quoted(bare, '\'')),
        // A lifetime: its name imports nothing either.
        false => Some(prefix + 1),
    }
}

/// The length of what stands first, up to the quotation mark that closes it.
fn quoted(text: &str, mark: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<(String, usize, bool)> {
        let module = ["plan".to_owned(), "steps".to_owned()];
        let named = read(&module, text).named.into_iter();
        named
            .map(|named| (named.path.join("::"), named.line, named.in_test))
            .collect()
    }

    fn paths(text: &str) -> Vec<String> {
        named(text).into_iter().map(|(path, ..)| path).collect()
    }

    #[test]
    fn every_form_of_an_import_is_read() {
        for (text, expected) in [
            ("use crate::model::vip::Vip;", &["model::vip::Vip"][..]),
            ("pub(crate) use super::names;", &["plan::names"]),
            ("use self::inner::X as Y;", &["plan::steps::inner::X"]),
            ("use super::names::*;", &["plan::names"]),
            ("use super::super::model::mac;", &["model::mac"]),
            (
                "use crate::{\n  model::{mac::{self, Mac}, vip},\n  plan::going as way,\n};",
                &[
                    "model::mac::self",
                    "model::mac::Mac",
                    "model::vip",
                    "plan::going",
                ],
            ),
            (
                "fn f(x: crate::sys::Wire<u8>) { super::diff::changes::<u8>(x) }",
                &["sys::Wire", "plan::diff::changes"],
            ),
            (
                "mod wire; use wire::{Answer, Wire};",
                &["plan::steps::wire::Answer", "plan::steps::wire::Wire"],
            ),
            ("use clusterip::agent::stop;", &["agent::stop"]),
        ] {
            assert_eq!(paths(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_import_is_none() {
        for text in [
            "// use crate::a;",
            "/// [`crate::a`]",
            "/* use crate::a; */",
            r#"const A: &str = "use crate::a; \" use super::b;";"#,
            r##"const A: &str = r#"" use crate::a;"#;"##,
            r#"const A: &[u8] = b"\\"; const B: char = '"'; const C: u8 = b'\'';"#,
            "pub(crate) fn f(self) -> &'static str { other::super_::x() }",
            "use std::fmt; use names::X; pub(in crate::plan) fn f() {}",
        ] {
            assert_eq!(paths(text), Vec::<String>::new(), "{text}");
        }
        // And what comes behind it is one.
        assert_eq!(paths("const B: char = '\"'; use crate::a;"), ["a"]);
    }

    #[test]
    fn what_is_for_tests_alone_is_told_from_the_rest() {
        let text = "use crate::a;\n#[cfg(test)]\nuse crate::{b, c};\n#[cfg(not(test))]\nuse crate::d;\n\
            #[cfg(test)]\npub(super) fn f(x: [u8; 3]) {\n  crate::e::g(x);\n}\nfn h() { crate::f::g() }\n\
            #[cfg(any(test, feature = \"x\"))]\nmod tests {\n  use super::*;\n  use super::super::g;\n}\nuse crate::h;";
        let of = |path: &str, line, in_test| (path.to_owned(), line, in_test);
        assert_eq!(
            named(text),
            [
                of("a", 1, false),
                of("b", 3, true),
                of("c", 3, true),
                of("d", 5, false),
                of("e::g", 8, true),
                of("f::g", 10, false),
                of("plan::steps", 13, true),
                of("plan::g", 14, true),
                of("h", 16, false),
            ]
        );
        let source = read(&[], "#[cfg(test)]\nmod a;\nmod b;\n#[cfg(test)] mod c { }");
        assert_eq!(source.test_files, BTreeSet::from(["a".to_owned()]));
        assert_eq!(source.test_modules, BTreeSet::from(["c".to_owned()]));
    }
}
