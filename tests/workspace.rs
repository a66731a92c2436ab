//! What the workspace promises of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

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

#[test]
fn each_file_of_the_source_tree_is_in_the_table_of_it_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    let prefix = format!("{}/", root.display());
    let mut told = told(include_str!("../docs/design.md"));
    assert!(told.len() > 10, "{told:?}");
    let mut missing = Vec::new();
    for file in files(&root) {
        let file = file.strip_prefix(&prefix).expect("in src");
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        // What is not named one by one is told as a folder, with all that is in it.
        let mut above = folder;
        let names = loop {
            if let Some(names) = told.get_mut(above) {
                break names;
            }
            above = above.rsplit_once('/').map_or("", |(above, _)| above);
        };
        let as_a_whole = names.is_empty() && !above.is_empty();
        let is_map = name == "mod.rs" || !name.ends_with(".rs") || above != folder;
        if !as_a_whole && !is_map && !names.contains(name) {
            missing.push(file.to_owned());
        }
    }
    assert!(
        missing.is_empty(),
        "docs/design.md has no row for src/{}",
        missing.join(", src/")
    );
    let gone: Vec<String> = told
        .iter()
        .flat_map(|(folder, names)| names.iter().map(move |name| format!("{folder}/{name}")))
        .filter(|file| !root.join(file.trim_start_matches('/')).exists())
        .collect();
    assert!(
        gone.is_empty(),
        "docs/design.md has rows for {gone:?}, which are not there"
    );
}
