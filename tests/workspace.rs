//! What the workspace promises of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;
use clusterip::nodectl::cli::Cli;
use serde_json::Value;

/// Of a version such as 1.85 or 1.85.0 the two numbers that count.
fn release(version: &str) -> (u32, u32) {
    let mut numbers = version
        .split('.')
        .map(|number| number.parse().expect(version));
    let mut next = || numbers.next().expect(version);
    (next(), next())
}

#[test]
fn no_crate_wants_a_newer_compiler_than_the_readme_promises() {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(std::env::var_os("CARGO").expect("cargo runs this"))
        .args(["metadata", "--locked", "--format-version=1"])
        .args(["--all-features", "--filter-platform", &platform])
        .output()
        .expect("start cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "{}", packages.len());
    let wants = |package: &&Value| {
        let wanted = package["rust_version"].as_str();
        wanted.is_some_and(|wanted| release(wanted) > release(promised))
    };
    let too_new: Vec<_> = packages
        .iter()
        .filter(wants)
        .map(|package| format!("{} {}", package["name"], package["version"]))
        .collect();
    assert!(
        too_new.is_empty(),
        "with Rust {promised} these do not build: {too_new:?}"
    );
    let readme = include_str!("../README.md");
    assert!(readme.contains(&format!("Rust {promised} or later")));
}

/// Every file of a folder and of those in it.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut all = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path.display().to_string()),
        }
    }
    all
}

/// What the table of the source tree has: folders with the files that it names in them, none for all of them.
fn told(document: &str) -> BTreeMap<String, BTreeSet<String>> {
    let (_, tree) = document
        .split_once("## The source tree")
        .expect("the chapter");
    let rows = tree.lines().filter_map(|line| line.strip_prefix("| `src/"));
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let (place, _) = row.split_once('|').expect("a cell");
        let mut words = place.split('`').step_by(2).map(str::trim);
        let folder = words.next().expect("a folder").trim_end_matches('/');
        let names = place.split('`').skip(2).step_by(2).map(str::to_owned);
        let known = all.entry(folder.to_owned()).or_default();
        for name in names {
            assert!(known.insert(name), "{row}");
        }
    }
    all
}

/// Has this folder, or one that it is in, a row without names? The root's own row tells no folder.
fn is_told_as_a_whole(folder: &str, told: &BTreeMap<String, BTreeSet<String>>) -> bool {
    let mut above = Some(folder);
    while let Some(folder) = above.filter(|folder| !folder.is_empty()) {
        if told.get(folder).is_some_and(BTreeSet::is_empty) {
            return true;
        }
        above = folder.rsplit_once('/').map(|(above, _)| above);
    }
    false
}

/// A sentence for each source file that no row has, and for each row of what is not there. A folder has rows of its own,
/// which name its files (all but the map, `mod.rs`), or is told as a whole, as are those in it: by a row without names.
fn untold(files: &BTreeSet<String>, told: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.ends_with(".rs")) {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        let is_told = match told.get(folder).filter(|names| !names.is_empty()) {
            Some(names) => name == "mod.rs" || names.contains(name),
            None => is_told_as_a_whole(folder, told),
        };
        if !is_told {
            wrong.push(format!("docs/design.md has no row for src/{file}"));
        }
    }
    for (folder, names) in told {
        let folder = match folder.is_empty() {
            true => String::new(),
            false => format!("{folder}/"),
        };
        let is_there = files.iter().any(|file| file.starts_with(&folder));
        let named = names.iter().map(|name| format!("{folder}{name}"));
        let gone = named.filter(|file| !files.contains(file));
        let gone = gone.chain((!is_there).then_some(folder.clone()));
        wrong.extend(
            gone.map(|gone| format!("docs/design.md has a row for src/{gone}, which is not there")),
        );
    }
    wrong
}

#[test]
fn each_file_of_the_source_tree_is_in_the_table_of_it_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let prefix = format!("{}/", root.display());
    let files = files(&root).into_iter();
    let files = files.map(|file| file.strip_prefix(&prefix).expect("in src").to_owned());
    let told = told(include_str!("../docs/design.md"));
    assert!(told.len() > 10, "{told:?}");
    let wrong = untold(&files.collect(), &told);
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn what_the_table_of_the_source_tree_lacks_or_has_besides_is_told() {
    let told = told(
        "## The source tree\n| `src/plan/`: `step.rs` | the way | pure |\n\
         | `src/sys/` | the kernel | |\n| `src/`: `lib.rs` | the map | |\n",
    );
    let there = [
        "lib.rs",
        "plan/mod.rs",
        "plan/step.rs",
        "plan/recorded/a.xml",
        "sys/mod.rs",
        "sys/nft/read.rs",
    ];
    let wrong = |but: &str, besides: &str| {
        let files = there.into_iter().chain([besides]);
        let files = files.filter(|file| !file.is_empty() && !file.starts_with(but));
        untold(&files.map(str::to_owned).collect(), &told)
    };
    assert_eq!(wrong("nothing", ""), [""; 0]);
    for new in [
        "main.rs",
        "plan/new.rs",
        "daemon/main.rs",
        "daemon/mod.rs",
        "plan/sub/new.rs",
        "system/mod.rs",
    ] {
        let expected = format!("docs/design.md has no row for src/{new}");
        assert_eq!(wrong("nothing", new), [expected]);
    }
    for gone in ["lib.rs", "plan/step.rs", "sys/"] {
        let expected = format!("docs/design.md has a row for src/{gone}, which is not there");
        assert_eq!(wrong(gone, ""), [expected]);
    }
}

/// The section of a document that is about a verb, by its heading, which may name several.
fn about<'a>(document: &'a str, verb: &str) -> &'a str {
    let mut sections = document.split("\n## ").skip(1);
    let found = sections.find(|section| {
        let heading = section.lines().next().unwrap_or_default();
        heading.split(", ").any(|named| named == verb)
    });
    found.unwrap_or_default()
}

/// A sentence for each option that the sections about the verbs do not name, and for each that they do name and that is
/// none of any program's in it.
fn options_untold(document: &str) -> Vec<String> {
    let command = Cli::command();
    let mut wrong = Vec::new();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for verb in command.get_subcommands() {
        let section = about(document, verb.get_name());
        let options = verb.get_arguments().filter_map(|option| option.get_long());
        for option in options.map(|option| format!("--{option}")) {
            let mut words = section.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
            if !words.any(|word| word == option) {
                wrong.push(format!("nothing is said of {} {option}", verb.get_name()));
            }
            known.insert(option);
        }
    }
    known.extend(
        command
            .get_arguments()
            .filter_map(|option| option.get_long())
            .map(|it| format!("--{it}")),
    );
    // The whole of what can be said to 'up' stands there at a glance, and nothing else.
    let up = about(document, "up");
    let synopsis = up.lines().skip(2).take_while(|line| !line.is_empty());
    let synopsis: String = synopsis.map(|line| format!("{line} ")).collect();
    for word in synopsis
        .split([' ', '[', ']'])
        .filter(|word| word.starts_with("--"))
    {
        if !known.contains(word) {
            wrong.push(format!("the synopsis of up has {word}"));
        }
    }
    let verb = command.find_subcommand("up").expect("up");
    let options = verb.get_arguments().filter_map(|option| option.get_long());
    for option in options.map(|option| format!("--{option} ")) {
        if !synopsis.replace(']', " ").contains(&option) {
            wrong.push(format!("the synopsis of up lacks {option}"));
        }
    }
    wrong
}

#[test]
fn the_document_of_nodectl_names_each_option_of_each_verb() {
    let document = include_str!("../docs/nodectl.md");
    let wrong = options_untold(document);
    assert!(wrong.is_empty(), "docs/nodectl.md:\n{}\n", wrong.join("\n"));
}

#[test]
fn an_option_that_the_document_of_nodectl_lacks_is_told() {
    let document = include_str!("../docs/nodectl.md");
    let but = |words: &str, others: &str| options_untold(&document.replace(words, others));
    assert_eq!(
        but("[--mode MODE] [--mac MAC]", "[--mac MAC]"),
        ["the synopsis of up lacks --mode "]
    );
    assert_eq!(
        but(
            "[--mode MODE] [--mac MAC]",
            "[--mode MODE] [--moed MODE] [--mac MAC]"
        ),
        ["the synopsis of up has --moed"]
    );
    let without = but("--listen", "--hark");
    assert_eq!(without, ["nothing is said of check --listen"]);
}

/// The metrics that a text names.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_word(c));
    words
        .filter(|word| word.starts_with("clusterip_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn alert_rules_and_dashboard_ask_for_metrics_that_the_daemon_has() {
    let told = metrics_in(include_str!("../src/daemon/metrics.rs"));
    assert!(told.len() > 10, "{told:?}");
    let rules = metrics_in(include_str!("../packaging/clusterip.rules.yml"));
    let shown = metrics_in(include_str!("../packaging/clusterip.dashboard.json"));
    for asked in [&rules, &shown] {
        assert!(asked.len() > 5, "{asked:?}");
        let unknown: Vec<_> = asked.difference(&told).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
    // Whatever the daemon counts can be seen.
    let hidden: Vec<_> = told.difference(&shown).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn the_dashboard_is_one() {
    let dashboard: Value =
        serde_json::from_str(include_str!("../packaging/clusterip.dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut numbers = BTreeSet::new();
    for panel in panels {
        assert!(numbers.insert(panel["id"].as_u64()), "{panel}");
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{panel}");
        for target in targets {
            let asked = target["expr"].as_str().expect("an expression");
            assert!(!metrics_in(asked).is_empty(), "{asked}");
        }
    }
}
