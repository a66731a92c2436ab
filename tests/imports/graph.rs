//! Which file imports which, and where that runs in a circle.

use crate::source::{Source, read};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A file imports another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The file that imports; what stands in it for tests alone is a file of its own, with [`TESTS`] behind its name.
    pub from: String,
    /// The file that is imported.
    pub to: String,
    /// Where.
    pub line: usize,
    /// Is it there for tests alone?
    pub in_test: bool,
}

/// What stands in a file for tests alone is above the file, as if it stood in another one: a test of `a` may go by
/// what imports `a`, and nobody but tests can import it.
pub const TESTS: &str = " (tests)";

/// All imports of these files, which are named by their paths.
pub fn imports(files: &BTreeMap<String, String>) -> BTreeSet<Import> {
    let sources: BTreeMap<Vec<String>, (&str, Source)> = files
        .iter()
        .map(|(path, text)| {
            let module = module(path);
            let source = read(&module, text);
            (module, (path.as_str(), source))
        })
        .collect();
    let is_test_file = |module: &[String]| {
        (1..=module.len()).any(|length| {
            let parent = sources.get(&module[..length - 1]);
            parent.is_some_and(|(_, source)| source.test_files.contains(&module[length - 1]))
        })
    };
    let mut imports = BTreeSet::new();
    for (module, (path, source)) in &sources {
        for named in &source.named {
            let in_test = named.in_test || is_test_file(module);
            // The root has a file too: every path leads to one.
            let is_file = |length: &usize| sources.contains_key(&named.path[..*length]);
            let length = (0..=named.path.len()).rev().find(is_file).unwrap_or(0);
            let (found, inside) = named.path.split_at(length);
            let Some((to, target)) = sources.get(found) else {
                continue;
            };
            let of_tests = |path: &str, is: bool| match is {
                true => format!("{path}{TESTS}"),
                false => path.to_owned(),
            };
            let is_inside = inside.first();
            let to_tests = is_inside.is_some_and(|name| target.test_modules.contains(name));
            let import = Import {
                from: of_tests(path, named.in_test),
                to: of_tests(to, to_tests),
                line: named.line,
                in_test,
            };
            if import.from != import.to {
                imports.insert(import);
            }
        }
    }
    imports
}

/// The module that a file is, from the root of the library on.
fn module(path: &str) -> Vec<String> {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    let mut segments: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if segments.last().is_some_and(|last| last == "mod") || segments == ["lib"] {
        segments.pop();
    }
    segments
}

/// Who imports whom, without where.
type Ways<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn ways(imports: &BTreeSet<Import>) -> Ways<'_> {
    let mut ways = Ways::new();
    for import in imports {
        ways.entry(&import.from).or_default().insert(&import.to);
    }
    ways
}

/// Circles in which files import each other, the shortest first, and no file in two of them: where one is broken the
/// next one is found.
pub fn circles(imports: &BTreeSet<Import>) -> Vec<Vec<String>> {
    let ways = ways(imports);
    let circles = ways.keys().filter_map(|start| way(&ways, start, start));
    let mut circles: Vec<Vec<String>> = circles.map(from_its_first).collect();
    circles.sort_by_key(|circle| (circle.len(), circle.clone()));
    let mut told: BTreeSet<String> = BTreeSet::new();
    circles.retain(|circle| {
        let is_new = circle.iter().all(|file| !told.contains(file));
        if is_new {
            told.extend(circle.iter().cloned());
        }
        is_new
    });
    circles
}

/// The shortest way from one file to another, without that one.
fn way<'a>(ways: &Ways<'a>, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut come_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in ways.get(at).into_iter().flatten().copied() {
            if next == to {
                let back = std::iter::successors(Some(at), |at| come_from.get(at).copied());
                let mut way: Vec<&str> = back.collect();
                way.reverse();
                return Some(way);
            }
            if next != from && !come_from.contains_key(next) {
                come_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

/// The same circle, told from the file on whose name is the first in the alphabet.
fn from_its_first(mut circle: Vec<&str>) -> Vec<String> {
    let first = (0..circle.len()).min_by_key(|at| circle[*at]);
    circle.rotate_left(first.unwrap_or_default());
    circle.into_iter().map(str::to_owned).collect()
}
