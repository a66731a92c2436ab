//! What the workspace promises of itself.

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
