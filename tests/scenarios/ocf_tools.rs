//! What the testers of resource agents say of the agent: `ocf-tester` and `ocft`, both of Debian's
//! package resource-agents. They run on a node, with mounts of their own for what they write.

use crate::product::*;
use lab::{Host, Lab, Result};
use std::collections::BTreeSet;
use std::time::Duration;

const AGENT: &str = "/usr/lib/ocf/resource.d/rust/ClusterIP";
const GATE: &str = "/usr/lib/ocf/resource.d/rust/ClusterIPDrain";

/// The agents where a tester looks for them, and empty folders where a tester writes; then the tester.
const PREPARED: &str = "mount -t tmpfs lab /usr/lib/ocf/resource.d
    mkdir /usr/lib/ocf/resource.d/rust
    install -m 755 \"$1\" /usr/lib/ocf/resource.d/rust/ClusterIP
    install -m 755 \"$2\" /usr/lib/ocf/resource.d/rust/ClusterIPDrain
    mount -t tmpfs lab /run
    mkdir /run/resource-agents
    mount -t tmpfs lab /var/lib
    shift 2
    exec \"$@\" 2>&1";

/// Runs a tester; gives its exit code and the lines that it printed, colours left out.
fn run(host: &Host, tester: &[&str]) -> Result<(i32, Vec<String>)> {
    let agent = lab::built("ocf-clusterip")?.display().to_string();
    let gate = lab::built("ocf-clusterip-drain")?.display().to_string();
    let mut words = vec!["unshare", "--mount", "sh", "-ec", PREPARED, "sh"];
    words.extend([agent.as_str(), &gate]);
    words.extend(tester);
    let output = host
        .exec(&words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("TERM", "dumb")
        .deadline(Duration::from_secs(300))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m", "\x1b[0m"]
        .iter()
        .fold(text, |text, colour| text.replace(colour, ""));
    let lines = text.lines().map(|line| line.trim_end().to_owned());
    let lines = lines.filter(|line| !line.is_empty()).collect();
    Ok((output.status.code().unwrap_or(-1), lines))
}

/// What ocf-tester's DTD, which is older than OCF 1.1, has no words for.
const UNKNOWN_TO_THE_DTD: [&str; 13] = [
    "No declaration for attribute unique-group of element parameter",
    "No declaration for attribute reloadable of element parameter",
    "No declaration for attribute value of element option",
    "No declaration for element option",
    "Value \"select\" for attribute type of content is not among the enumerated set",
    "Element content was declared EMPTY this one has content",
    "No declaration for attribute lang of element desc",
    "No declaration for element desc",
    "No declaration for element deprecated",
    "Element parameter content does not follow the DTD, expecting (longdesc+ , shortdesc+ , \
     content), got (deprecated longdesc shortdesc content )",
    "Value \"reload-agent\" for attribute name of action is not among the enumerated set",
    "* rc=4: Your agent produces meta-data which does not conform to ra-api-1.dtd",
    "Tests failed: /usr/lib/ocf/resource.d/rust/ClusterIP failed 1 tests",
];

/// What an agent may leave out, and this one does.
const OPTIONAL: [&str; 5] = [
    "* Your agent does not support the notify action (optional)",
    "* Your agent does not support the demote action (optional)",
    "* Your agent does not support the promote action (optional)",
    "* Your agent does not support promotable clones (optional)",
    "* Your agent does not support the reload action (optional)",
];

#[test]
fn ocf_tester_misses_nothing_but_what_is_newer_than_its_dtd() -> Result<()> {
    let lab = Lab::new("ocf-tester")?;
    let node = lab.node("n1")?;
    for vip in [V4, V6] {
        let ip = format!("ip={vip}");
        let mut words = vec!["ocf-tester", "-n", "resIP:0", "-o", &ip, "-o", "nic=eth0"];
        // The tester knows no clones, but what Pacemaker would say of one can be said as options.
        for meta in [
            "CRM_meta_clone=0",
            "CRM_meta_clone_max=4",
            "CRM_meta_globally_unique=true",
        ] {
            words.extend(["-o", meta]);
        }
        words.push(AGENT);
        let (code, lines) = run(&node, &words)?;
        let text = lines.join("\n");

        let mut said: BTreeSet<&str> = BTreeSet::new();
        let mut rest = lines.iter().map(String::as_str);
        while let Some(line) = rest.next() {
            match line.split_once("validity error : ") {
                None => drop(said.insert(line)),
                Some((_, complaint)) => {
                    said.insert(complaint);
                    // Where it is in the meta-data, and a caret below it.
                    rest.next();
                    rest.next();
                }
            }
        }
        let mut expected: BTreeSet<&str> = UNKNOWN_TO_THE_DTD.into_iter().chain(OPTIONAL).collect();
        let beginning = format!("Beginning tests for {AGENT}...");
        expected.insert(&beginning);
        if !lab::cluster::boot::is_real_root() {
            // In a user namespace nobody can become the user nobody.
            said.retain(|line| !line.contains("permissions") && !line.contains("nobody"));
            said.retain(|line| !line.starts_with("Tests failed") && !line.starts_with("su: "));
            expected.retain(|line| !line.starts_with("Tests failed"));
        }
        assert_eq!(said, expected, "{text}");
        assert_eq!(code, 1, "the DTD's complaint is a failed test: {text}");
        assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    }
    Ok(())
}

/// The gate's meta-data has nothing that is newer than the DTD.
#[test]
fn ocf_tester_finds_the_gate_whole() -> Result<()> {
    let lab = Lab::new("gate-tester")?;
    let node = lab.node("n1")?;
    let words = ["ocf-tester", "-n", "gate:0", GATE];
    let (code, lines) = run(&node, &words)?;
    let text = lines.join("\n");
    if !lab::cluster::boot::is_real_root() {
        // In a user namespace nobody can become the user nobody.
        let others = lines.iter().filter(|line| line.starts_with("* rc="));
        assert_eq!(others.count(), 1, "{text}");
        assert!(!text.contains("validity error"), "{text}");
        return Ok(());
    }
    assert!(text.contains(&format!("{GATE} passed all tests")), "{text}");
    assert_eq!(code, 0, "{text}");
    Ok(())
}

#[test]
fn every_case_of_ocft_is_as_it_should_be() -> Result<()> {
    cases("ClusterIP", 21)?;
    cases("ClusterIPDrain", 6)
}

/// All cases of an agent, of which there are so many.
fn cases(agent: &str, count: usize) -> Result<()> {
    let lab = Lab::new("ocft")?;
    let node = lab.node("n1")?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../ocf/ocft");
    let both = "ocft make -d \"$0\" \"$1\" && ocft test \"$1\"";
    let (code, lines) = run(&node, &["sh", "-c", both, folder, agent])?;
    let text = lines.join("\n");
    // "    - case 0: …" for each when they are made, "ClusterIP: … - OK." when they are run.
    let made = lines.iter().filter(|line| line.contains("- case ")).count();
    let begins = format!("{agent}: ");
    let begun = lines
        .iter()
        .filter(|line| line.starts_with(&begins))
        .count();
    assert_eq!((made, begun), (count, count), "{text}");
    let around = [
        format!("Making '{agent}':"),
        format!("Initializing '{agent}' ..."),
        format!("Cleaning '{agent}' ..."),
        "Done.".to_owned(),
    ];
    for line in &lines {
        let good = line.ends_with("OK.") || line.contains("- case ") || around.contains(line);
        assert!(good, "{line:?} in:\n{text}");
    }
    assert_eq!(code, 0, "{text}");
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    Ok(())
}
