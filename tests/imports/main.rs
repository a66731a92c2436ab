//! The imports of `src/` run downhill, from room to room as [`ROOMS`] says, and from file to file in no circle.
//!
//! An import is a path that begins with `crate`, `super`, `self` or a module that the file declares, in a `use` line
//! or in the midst of code; `source` reads them, `graph` joins them. What stands in a file for tests alone counts as
//! a file of its own, which is above the file that it tests.

mod graph;
mod source;

use graph::{Import, TESTS, circles, imports};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The rooms, which are the folders and files in `src/`, and those right below each: it may import them, what is
/// below them, and nothing else. A room that is not there imports nothing.
const ROOMS: &[(&str, &[&str])] = &[
    ("bin", &["agent", "nodectl", "daemon", "logging"]),
    ("agent", &["host", "pacemaker", "guidance", "logging"]),
    ("nodectl", &["host", "pacemaker", "guidance", "logging"]),
    ("host", &["plan", "preflight", "sys", "talk"]),
    ("pacemaker", &["plan", "sys"]),
    ("guidance", &["plan"]),
    ("plan", &["reading"]),
    ("reading", &["rules"]),
    ("rules", &["model"]),
    ("preflight", &["model"]),
    ("sys", &["model"]),
    ("logging", &["model"]),
    ("model", &[]),
    // It declares the others, and is imported by none.
    ("lib", &[]),
    ("daemon", &["cluster", "host", "logging"]),
    ("cluster", &["talk"]),
    ("talk", &["model"]),
    (TRIALS, &["plan", "cluster"]),
];

/// What judges the rest: whatever is there for tests alone may import it, and nothing else.
const TRIALS: &str = "trials";

/// A sentence for each circle.
fn runs_in_circles(imports: &BTreeSet<Import>) -> Vec<String> {
    let told = circles(imports).into_iter().map(|circle| {
        let way = circle.join(" → ");
        format!(
            "these files import each other in a circle: {way} → {}",
            circle[0]
        )
    });
    told.collect()
}

/// The rooms that a room may import, by way of others too.
fn below(room: &str) -> BTreeSet<&'static str> {
    let row = ROOMS.iter().find(|(name, _)| *name == room);
    let next = row.into_iter().flat_map(|(_, next)| next.iter().copied());
    next.flat_map(|next| below(next).into_iter().chain([next]))
        .collect()
}

fn room(file: &str) -> &str {
    let file = file.strip_suffix(TESTS).unwrap_or(file);
    let (room, _) = file.split_once('/').unwrap_or((file, ""));
    room.strip_suffix(".rs").unwrap_or(room)
}

/// A sentence for each import that leads into a room that is not below, and for each room that is nowhere.
fn climbs(files: &BTreeMap<String, String>, imports: &BTreeSet<Import>) -> Vec<String> {
    let rooms: BTreeSet<&str> = files.keys().map(|file| room(file)).collect();
    let is_unknown = |room: &&str| !ROOMS.iter().any(|(name, _)| name == room);
    let mut wrong: Vec<String> = rooms
        .into_iter()
        .filter(is_unknown)
        .map(|room| format!("ROOMS does not say what src/{room} may import"))
        .collect();
    for import in imports {
        let (from, to) = (room(&import.from), room(&import.to));
        let is_judged = import.in_test && to == TRIALS;
        if from != to && !is_judged && !below(from).contains(to) {
            let Import {
                from: file,
                to: other,
                line,
                ..
            } = import;
            wrong.push(format!(
                "src/{file}:{line} imports src/{other}: {to} is not below {from}"
            ));
        }
    }
    wrong
}

fn without_tests(imports: BTreeSet<Import>) -> BTreeSet<Import> {
    imports
        .into_iter()
        .filter(|import| !import.in_test)
        .collect()
}

/// The text of every file in `src/`, by its path there.
fn sources() -> BTreeMap<String, String> {
    fn gather(folder: &Path, within: &str, files: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = format!("{within}{}", name.expect("a name in UTF-8"));
            if path.is_dir() {
                gather(&path, &format!("{name}/"), files);
            } else if name.ends_with(".rs") {
                files.insert(name, std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    let mut files = BTreeMap::new();
    gather(
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../src")),
        "",
        &mut files,
    );
    assert!(files.len() > 100, "{} files", files.len());
    files
}

fn expect_nothing(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = without_tests(imports(&sources()));
    assert!(imports.len() > 500, "{} imports", imports.len());
    expect_nothing(runs_in_circles(&imports));
}

#[test]
fn neither_do_they_with_what_is_there_for_tests_alone() {
    let all = imports(&sources());
    assert!(all.iter().any(|import| import.to.ends_with(TESTS)));
    expect_nothing(runs_in_circles(&all));
}

/// The arrows that a document draws between rooms.
fn drawn(document: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let (_, tree) = document
        .split_once("## The source tree")
        .expect("the chapter");
    let lines = tree.lines().filter_map(|line| line.strip_prefix("    "));
    let mut drawn: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in lines {
        let rooms: Vec<&str> = line.split(" → ").collect();
        for arrow in rooms.windows(2) {
            for from in arrow[0].split(", ") {
                drawn.entry(from).or_default().extend(arrow[1].split(", "));
            }
        }
    }
    drawn
}

#[test]
fn the_rooms_are_drawn_as_they_are() {
    let above = ROOMS.iter().filter(|(_, next)| !next.is_empty());
    let rooms = above.map(|(room, next)| (*room, next.iter().copied().collect()));
    assert_eq!(drawn(include_str!("../../docs/design.md")), rooms.collect());
}

#[test]
fn imports_run_downhill() {
    let files = sources();
    expect_nothing(climbs(&files, &imports(&files)));
}

/// The judges of the imports are judged themselves, by sources that were made for it.
mod judged {
    use super::*;

    fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
        let files = files.iter().copied().chain([("lib.rs", "")]);
        files
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .collect()
    }

    const CIRCLE: &[(&str, &str)] = &[
        ("plan/a.rs", "use super::{\n    c,\n    b::{self, B},\n};"),
        ("plan/b.rs", "fn f() -> crate::model::d::D { todo!() }"),
        ("plan/c.rs", "use std::fmt;"),
        ("model/d/mod.rs", "mod e;\npub use e::E;"),
        ("model/d/e.rs", "use crate::plan::a::A;"),
    ];

    #[test]
    fn a_circle_is_told_file_by_file() {
        let imports = imports(&files(CIRCLE));
        assert_eq!(
            runs_in_circles(&imports),
            [
                "these files import each other in a circle: model/d/e.rs → plan/a.rs → plan/b.rs → \
                 model/d/mod.rs → model/d/e.rs"
            ]
        );
    }

    #[test]
    fn tests_may_import_what_imports_what_they_test_and_not_each_other() {
        let test = |line: &str| format!("#[cfg(test)]\npub mod tests {{\n    {line}\n}}\n");
        let a = test("use crate::model::b::tests::given;");
        let b = format!("use super::a::A;\n{}", test("use crate::model::a::A;"));
        let found = |b: &str| {
            let imports = imports(&files(&[("model/a.rs", &a), ("model/b.rs", b)]));
            let product = runs_in_circles(&without_tests(imports.clone()));
            assert_eq!(product, [""; 0]);
            runs_in_circles(&imports)
        };
        assert_eq!(found(&b), [""; 0]);
        assert_eq!(
            found(&b.replace("use crate::model::a::A;", "use super::super::a::tests::A;")),
            [
                "these files import each other in a circle: model/a.rs (tests) → model/b.rs (tests) → model/a.rs (tests)"
            ]
        );
    }

    #[test]
    fn who_climbs_is_told() {
        let test =
            "#[cfg(test)]\nmod tests {\n    use crate::trials::World;\n    use crate::sys::x;\n}";
        let files = files(&[
            ("bin/x.rs", "use clusterip::agent::y;"),
            (
                "agent/y.rs",
                "use crate::sys::x;\nuse crate::model::z;\nuse crate::nodectl::x;",
            ),
            ("nodectl/x.rs", ""),
            ("sys/x.rs", "use crate::plan::x;"),
            ("plan/mod.rs", "#[cfg(test)]\nmod only_for_tests;"),
            ("plan/only_for_tests.rs", "use crate::trials::World;"),
            ("plan/x.rs", test),
            (
                "rules/x.rs",
                "use crate::reading::x;\nuse crate::trials::World;",
            ),
            ("reading/x.rs", "use crate::rules::x;"),
            (
                "trials/mod.rs",
                "use crate::reading::x;\nuse crate::sys::x;",
            ),
            ("model/z.rs", ""),
            ("attic/x.rs", ""),
        ]);
        assert_eq!(
            climbs(&files, &imports(&files)),
            [
                "ROOMS does not say what src/attic may import",
                "src/agent/y.rs:3 imports src/nodectl/x.rs: nodectl is not below agent",
                "src/plan/x.rs (tests):4 imports src/sys/x.rs: sys is not below plan",
                "src/rules/x.rs:1 imports src/reading/x.rs: reading is not below rules",
                "src/rules/x.rs:2 imports src/trials/mod.rs: trials is not below rules",
                "src/sys/x.rs:1 imports src/plan/x.rs: plan is not below sys",
                "src/trials/mod.rs:2 imports src/sys/x.rs: sys is not below trials",
            ]
        );
    }
}
