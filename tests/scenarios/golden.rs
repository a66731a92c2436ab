//! What people read, compared with reviewed copies: the rules as nft lists them (in `nft/`), the
//! agent's meta-data and nodectl's screens (in `tests/golden/`). `make golden` writes them anew.

use crate::kernel_support::{in_user_namespace, tell_skipped};
use crate::preflight_support::printed_after;
use crate::product::*;
use crate::sharing::MAC4;
use lab::traffic::Held;
use lab::{Client, HoldOptions, Lab, Node, Result};
use std::net::SocketAddr;
use std::path::PathBuf;

/// All verbs of nodectl.
const VERBS: [&str; 20] = [
    "up",
    "down",
    "take",
    "release",
    "drain",
    "undrain",
    "wait-drained",
    "status",
    "buckets",
    "watch",
    "metrics",
    "owner",
    "explain",
    "ruleset",
    "crm",
    "pcs",
    "migrate",
    "arp",
    "mac",
    "check",
];

/// A file of the repository.
fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(name)
}

/// The version of nft whose words the reviewed rulesets have; later ones word the same rules otherwise.
const REVIEWED_NFT: &str = "nftables v1.0.6 ";

/// Compares the node's rules with the reviewed copy, if nft here words them as that has them.
fn check_rules(name: &str, node: &Node) -> Result<()> {
    let version = node.run(&["nft", "--version"])?;
    if !version.starts_with(REVIEWED_NFT) {
        let version = version.trim_end();
        tell_skipped(&format!(
            "{name} is in the words of {REVIEWED_NFT}, not of {version}"
        ));
        return Ok(());
    }
    check(name, &still(&node.run(&["nft", "list", "ruleset"])?));
    Ok(())
}

/// Compares with the reviewed copy; lines of rules that begin with `# ` are for their readers alone.
fn check(name: &str, actual: &str) {
    let path = path(name);
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let is_note = |line: &&str| name.starts_with("nft/") && line.starts_with("# ");
    let (notes, lines): (Vec<&str>, Vec<&str>) = reviewed.lines().partition(is_note);
    let actual: Vec<&str> = actual.lines().map(str::trim_end).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = [notes, actual].concat().join("\n") + "\n";
        std::fs::write(&path, text).expect("the reviewed copy can be written");
        return;
    }
    assert_eq!(
        lines.join("\n"),
        actual.join("\n"),
        "{} differs; if it is meant to, 'make golden' and review the diff",
        path.display()
    );
}

/// A node with one IPv4 and one IPv6 VIP, of which nothing was received yet.
fn node_with_two_vips(lab: &Lab) -> Result<Node> {
    let node = node_with_vip(lab, V4)?;
    up(&node, V6)?;
    Ok(node)
}

fn node_with_vip(lab: &Lab, vip: &str) -> Result<Node> {
    let node = lab.node("n1")?;
    up(&node, vip)?;
    Ok(node)
}

fn up(node: &Node, vip: &str) -> Result<()> {
    let words = "--nic eth0 --buckets 12 --own 0,3-5 --seed 0x516175ce";
    let words: Vec<&str> = ["up", vip].into_iter().chain(words.split(' ')).collect();
    nodectl(node, &words).map(drop)
}

#[test]
fn golden_ruleset_of_the_mode_multicast() -> Result<()> {
    let lab = Lab::new("golden-nft")?;
    let node = node_with_two_vips(&lab)?;
    check_rules("nft/multicast.nft", &node)
}

#[test]
fn golden_rulesets_of_the_other_modes() -> Result<()> {
    for mode in ["igmp", "stealth"] {
        let lab = Lab::new("golden-mode")?;
        let node = lab.node("n1")?;
        for vip in [V4, V6] {
            let words =
                format!("--nic eth0 --buckets 12 --own 0,3-5 --seed 0x516175ce --mode {mode}");
            let words: Vec<&str> = ["up", vip].into_iter().chain(words.split(' ')).collect();
            nodectl(&node, &words)?;
        }
        check_rules(&format!("nft/{mode}.nft"), &node)?;
    }
    Ok(())
}

#[test]
fn golden_ruleset_by_source_address_alone() -> Result<()> {
    let lab = Lab::new("golden-sourceip")?;
    let node = lab.node("n1")?;
    nodectl(
        &node,
        &[
            "up",
            V4,
            "--nic",
            "eth0",
            "--buckets",
            "12",
            "--own",
            "0,3-5",
            "--seed",
            "0x516175ce",
            "--hash",
            "sourceip",
            "--layout",
            "network",
        ],
    )?;
    check_rules("nft/multicast-sourceip.nft", &node)
}

/// What moves while a reviewed copy does not: how long something lasts yet, and what was counted.
pub fn still(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        for n in 1..words.len() {
            let ends = words[n].trim_start_matches(|c: char| c.is_ascii_alphanumeric());
            let (ends, number) = (ends.to_owned(), words[n].starts_with(char::is_numeric));
            match words[n - 1].as_str() {
                "expires" => words[n] = format!("...{ends}"),
                "packets" | "bytes" if number => words[n] = format!("0{ends}"),
                _ => {}
            }
        }
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// Seconds that are nearly 300 are on the way there.
fn still_seconds(text: &str) -> String {
    ["300", "299", "298", "297", "296", "295"]
        .iter()
        .fold(text.to_owned(), |text, left| {
            text.replace(&format!("{left} s"), "... s")
                .replace(&format!("--adopt {left}"), "--adopt ...")
                .replace(&format!("\"deadline_s\":{left}"), "\"deadline_s\":...")
        })
}

/// A connection to the IPv4 VIP, in bucket 0 of 12.
fn hold_in_bucket_0(client: &Client) -> Result<Held> {
    let hasher = hasher(Default::default(), Default::default(), 0x5161_75ce);
    let flow = client
        .sources_for(ip(V4), 100)
        .into_iter()
        .map(|source| (source, 40_000))
        .find(|(source, port)| hasher.bucket(&flow_from(*source, *port), 12) == 0);
    let target = SocketAddr::new(ip(V4), PORT);
    client.hold(target, flow, HoldOptions::default())
}

/// Bucket 0 is drained, with one connection, and bucket 1 is adopted.
#[test]
fn golden_ruleset_and_screens_while_buckets_move() -> Result<()> {
    let lab = Lab::new("golden-moves")?;
    let (client, node) = (lab.client("c1")?, node_with_vip(&lab, V4)?);
    node.serve(&SERVICES)?;
    let held = hold_in_bucket_0(&client)?;
    nodectl(&node, &["drain", V4, "0", "--timeout", "300"])?;
    nodectl(&node, &["take", V4, "1", "--adopt", "300", "--force"])?;
    check_rules("nft/moving.nft", &node)?;
    for (name, args) in [
        ("status-moving", &["status"][..]),
        ("buckets-moving", &["buckets", V4]),
        ("buckets-moving-json", &["buckets", V4, "--json"]),
    ] {
        let text = nodectl(&node, args)?;
        if name.ends_with("-json") {
            expect_fits_schema(&text)?;
        }
        let screen = still_seconds(&text);
        check(&format!("tests/golden/nodectl-{name}.txt"), &screen);
    }
    held.stop()?.expect_none_lost()
}

/// What the verbs say that move buckets: a transcript, each sentence and its document.
#[test]
fn golden_transcript_of_moves() -> Result<()> {
    let lab = Lab::new("golden-changes")?;
    let (client, node) = (lab.client("c1")?, lab.node("n1")?);
    node.serve(&SERVICES)?;
    let mut transcript = String::new();
    let mut tell = |words: &str| -> Result<()> {
        let text = nodectl(&node, &words.split(' ').collect::<Vec<_>>())?;
        if words.ends_with("--json") {
            expect_fits_schema(&text)?;
        }
        transcript += &format!("# nodectl {words}\n{text}");
        Ok(())
    };
    let up =
        format!("up {V4} --nic eth0 --buckets 12 --own 0-5 --seed 0x516175ce --drain-timeout 300");
    tell(&format!("{up} --force"))?;
    tell(&format!("{up} --force --json"))?;
    tell(&format!("take {V4} 6 --adopt 300"))?;
    tell(&format!("take {V4} 7 --adopt 0 --json"))?;
    // In bucket 0 there is a connection, so that it drains.
    let held = hold_in_bucket_0(&client)?;
    tell(&format!("drain {V4} 0"))?;
    tell(&format!("drain {V4} 0 --json"))?;
    tell(&format!("undrain {V4} 0"))?;
    tell(&format!("undrain {V4} 0 --json"))?;
    held.stop()?.expect_none_lost()?;
    tell(&format!("release {V4} 3-7 --now"))?;
    tell(&format!("release {V4} 0 --now --json"))?;
    tell(&format!("wait-drained {V4} --timeout 60"))?;
    tell(&format!("wait-drained {V4} --timeout 60 --json"))?;
    tell(&format!("down {V4}"))?;
    tell(&format!("down {V4} --json"))?;
    check(
        "tests/golden/nodectl-moves.txt",
        &still_seconds(&transcript),
    );
    Ok(())
}

#[test]
fn golden_screens_of_nodectl() -> Result<()> {
    let lab = Lab::new("golden-nodectl")?;
    let node = node_with_two_vips(&lab)?;
    for (name, args) in [
        ("status", &["status"][..]),
        ("status-json", &["status", "--json"]),
        ("buckets", &["buckets", V4]),
        ("buckets-json", &["buckets", V4, "--json"]),
        ("owner", &["owner", V4, "192.0.2.1:40000"]),
        (
            "owner-json",
            &["owner", V6, "[2001:db8::1]:40000", "--json"],
        ),
        ("explain", &["explain", V4, "192.0.2.1:40000"]),
        (
            "explain-json",
            &["explain", V6, "[2001:db8::1]:40000", "--json"],
        ),
        ("ruleset", &["ruleset"]),
        ("ruleset-json", &["ruleset", V4, "--buckets", "2", "--json"]),
        (
            "crm",
            &[
                "crm",
                "10.77.0.99/24",
                "--nic",
                "eth0",
                "--seed",
                "7",
                "--service",
                "systemd:nginx",
            ],
        ),
        (
            "pcs-json",
            &[
                "pcs", V6, "--nic", "eth0", "--seed", "7", "--netns", "web", "--json",
            ],
        ),
        (
            "crm-bare",
            &[
                "crm",
                V6,
                "--nic",
                "eth0",
                "--nodes",
                "2",
                "--seed",
                "7",
                "--drain-timeout",
                "0",
            ],
        ),
        (
            "pcs",
            &[
                "pcs",
                "10.77.0.99/24",
                "--nic",
                "eth0",
                "--seed",
                "7",
                "--service",
                "systemd:nginx",
            ],
        ),
        (
            "pcs-clone",
            &[
                "pcs",
                V6,
                "--nic",
                "eth0",
                "--seed",
                "7",
                "--service",
                "cloneWeb",
                "--mac",
                "33:33:00:00:00:07",
            ],
        ),
        ("arp-list", &["arp", "--list"]),
        ("arp", &["arp", V4]),
        (
            "arp-all",
            &[
                "arp",
                V4,
                "--vendor",
                "all",
                "--vlan",
                "10",
                "--ports",
                "Gi1/0/1,Gi1/0/2",
            ],
        ),
        (
            "arp-ip6",
            &["arp", V6, "--vendor", "cisco-ios", "--vendor", "linux"],
        ),
        (
            "arp-switches",
            &[&["arp", V4, "--ports", "vnet1,vnet2"], &SWITCHES[..]].concat(),
        ),
        ("arp-switches-ip6", &[&["arp", V6], &SWITCHES[..]].concat()),
        (
            "arp-switches-stealth",
            &[&["arp", V4, "--mode", "stealth"], &SWITCHES[..]].concat(),
        ),
        ("arp-json", &["arp", V4, "--vendor", "cisco-ios", "--json"]),
        (
            "arp-stealth",
            &["arp", V4, "--mode", "stealth", "--vendor", "linux"],
        ),
        ("mac", &["mac", V4]),
        ("mac-igmp", &["mac", V4, "--mode", "igmp"]),
        ("mac-ip6-json", &["mac", V6, "--json"]),
        ("arp-list-json", &["arp", "--list", "--json"]),
        (
            "crm-json",
            &["crm", V4, "--nic", "eth0", "--seed", "7", "--json"],
        ),
        ("help", &["--help"]),
    ] {
        let text = nodectl(&node, args)?;
        if name.ends_with("-json") {
            expect_fits_schema(&text)?;
        }
        check(&format!("tests/golden/nodectl-{name}.txt"), &text);
    }
    expect_fits_schema(&nodectl(&node, &["ruleset", "--json"])?)?;
    assert!(expect_fits_schema("{\"schema\":2}").is_err());
    for verb in VERBS {
        let text = nodectl(&node, &[verb, "--help"])?;
        check(&format!("tests/golden/nodectl-help-{verb}.txt"), &text);
    }
    Ok(())
}

/// The switches that are programs.
const SWITCHES: [&str; 10] = [
    "--vendor",
    "linux-bridge",
    "--vendor",
    "open-vswitch",
    "--vendor",
    "vxlan",
    "--vendor",
    "libvirt",
    "--vendor",
    "proxmox",
];

/// What nodectl shows on a screen of so many columns; on a terminal it is in colour, unless somebody does
/// not want that.
fn on_screen(node: &Node, args: &str, columns: &str, more: &[(&str, &str)]) -> Result<String> {
    let program = lab::built("nodectl")?.display().to_string();
    let terminal = ["script", "-qec", &format!("{program} {args}"), "/dev/null"];
    let mut exec = node.exec(&terminal).env("COLUMNS", columns);
    for (name, value) in more {
        exec = exec.env(name, *value);
    }
    Ok(exec.run()?.replace('\r', ""))
}

#[test]
fn golden_screens_wide_narrow_and_in_colour() -> Result<()> {
    let lab = Lab::new("golden-screens")?;
    let node = lab.node("n1")?;
    let words = "--nic eth0 --buckets 200 --own 0,3-5,64-127 --seed 0x516175ce";
    let words: Vec<&str> = ["up", V4].into_iter().chain(words.split(' ')).collect();
    nodectl(&node, &words)?;
    node.run(&["ip", "maddr", "del", MAC4, "dev", "eth0"])?;
    let client = "192.0.2.1:40000";
    // All its buckets have a line each.
    let other = lab.node("n2")?;
    up(&other, V6)?;
    for (node, name, args) in [
        (&node, "status", "status --rate 0".to_owned()),
        (&other, "buckets", format!("buckets {V6}")),
        (&node, "owner", format!("owner {V4} {client}")),
        (&node, "explain", format!("explain {V4} {client}")),
        (&node, "arp", format!("arp {V4} --vendor freebsd")),
    ] {
        for (kind, columns, more) in [
            ("80", "80", &[("NO_COLOR", "1")][..]),
            ("wide", "160", &[("NO_COLOR", "1")]),
            ("colour", "80", &[]),
        ] {
            let screen = on_screen(node, &args, columns, more)?;
            // One sentence needs no colour.
            let colour = kind == "colour" && name != "owner";
            assert_eq!(screen.contains('\x1b'), colour, "{screen}");
            check(&format!("tests/golden/nodectl-{name}-{kind}.txt"), &screen);
        }
    }
    Ok(())
}

/// Configurations of IPaddr2, as crm shell and pcs have written them, and how each is asked about.
const MIGRATIONS: [(&str, &str, &str); 9] = [
    ("classic", "classic.crm", "--compat clusterip"),
    ("group", "group.xml", "--for pcs"),
    ("newest", "newest.crm", ""),
    ("iptables", "iptables.xml", "--for pcs"),
    ("none", "none.xml", ""),
    ("doubtful", "doubtful.crm", "--seed 0x3f7a91c4 --for pcs"),
    ("several", "several.xml", "--for pcs --compat clusterip"),
    ("dual-stack", "dual-stack.crm", ""),
    ("odd", "odd.xml", "--for pcs"),
];

#[test]
fn golden_migrations() -> Result<()> {
    let lab = Lab::new("golden-migrate")?;
    let node = lab.node("n1")?;
    for (name, file, options) in MIGRATIONS {
        let file = path("tests/scenarios/recorded/migrate").join(file);
        let file = file.to_string_lossy();
        let mut words = vec!["migrate", &*file];
        words.extend(options.split_whitespace());
        check(
            &format!("tests/golden/nodectl-migrate-{name}.txt"),
            &nodectl(&node, &words)?,
        );
        words.push("--json");
        expect_fits_schema(&nodectl(&node, &words)?)?;
    }
    for name in [
        "classic.crm",
        "group.xml",
        "newest.crm",
        "iptables.xml",
        "dual-stack.crm",
    ] {
        let file = path("tests/scenarios/recorded/migrate").join(name);
        let file = file.to_string_lossy();
        let script = nodectl(&node, &["migrate", &file, "--print", "takeover"])?;
        node.exec(&["sh", "-n"]).stdin(script.clone()).run()?;
        let name = name.replace('.', "-");
        check(&format!("tests/golden/migrate-takeover-{name}.sh"), &script);
    }
    Ok(())
}

#[test]
fn golden_screens_of_check() -> Result<()> {
    if in_user_namespace()? {
        tell_skipped("less can be looked at in a user namespace");
        return Ok(());
    }
    let lab = Lab::new("golden-check")?;
    let node = lab.node("n1")?;
    let setting = "net.ipv4.conf.eth0.arp_ignore";
    let flushing = "mkdir -p /etc/systemd/system/sysinit.target.wants\n\
                    touch /etc/systemd/system/sysinit.target.wants/nftables.service\n\
                    echo 'flush ruleset' > /etc/nftables.conf\n";
    for (name, arp_ignore, lines, args) in [
        ("check-fine", 0, "", "check 10.77.0.99 --nic eth0 --local"),
        ("check", 8, flushing, "check 10.77.0.99 --nic eth0"),
        (
            "check-json",
            8,
            flushing,
            "check 10.77.0.99 --nic eth0 --json",
        ),
        (
            "check-listen",
            0,
            "",
            "check 10.77.0.99 --nic eth0 --listen --for 1",
        ),
    ] {
        node.sysctl(setting, arp_ignore)?;
        let printed = printed_after(&node, lines, args)?;
        check(&format!("tests/golden/nodectl-{name}.txt"), &printed);
    }
    let coloured = "script -qec 'nodectl check 10.77.0.99 --nic eth0 --local' /dev/null";
    let folder = lab::built("nodectl")?;
    let folder = folder.parent().expect("a folder").display().to_string();
    node.sysctl(setting, 8)?;
    let path = format!("{folder}:/usr/bin:/bin");
    let screen = |name: &str, value: &str| {
        let exec = node.exec(&["sh", "-c", &format!("{coloured}; true")]);
        exec.env("PATH", &path).env(name, value).run()
    };
    assert!(screen("TERM", "linux")?.contains("\u{1b}[31;1mFATAL"));
    assert!(!screen("NO_COLOR", "1")?.contains('\u{1b}'));
    Ok(())
}

#[test]
fn golden_meta_data() -> Result<()> {
    let lab = Lab::new("golden-meta")?;
    let node = lab.node("n1")?;
    let answer = Agent::new(V4, 12).call(&node, "meta-data", 0)?.expect(0);
    check("tests/golden/meta-data.xml", &answer.stdout);
    node.exec(&["xmllint", "--noout", "-"])
        .stdin(answer.stdout)
        .run()?;
    Ok(())
}

#[test]
fn what_would_be_installed_is_what_is_installed() -> Result<()> {
    let lab = Lab::new("would-be")?;
    let node = lab.node("n1")?;
    let description = [V4, "--nic", "eth0", "--buckets", "12", "--own", "1,2"];
    let would_be = nodectl(&node, &[&["ruleset"], &description[..]].concat())?;
    assert_eq!(node.run(&["nft", "list", "ruleset"])?, "");
    nodectl(&node, &[&["up"], &description[..]].concat())?;
    let installed = nodectl(&node, &["ruleset"])?;
    // Only what is installed knows how the interface was before, and has counted.
    let comparable = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| !line.contains("comment \"before:"));
        let lines = lines.map(|line| {
            line.replace(" packets 0 bytes 0", "")
                .replace(" counter :", " :")
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(comparable(&would_be), comparable(&installed));
    Ok(())
}

/// The documents that docs/nodectl.md shows fit the published schema.
#[test]
fn documented_documents_fit_the_schema() -> Result<()> {
    let text = std::fs::read_to_string(path("docs/nodectl.md")).expect("docs/nodectl.md");
    let blocks = text.split("\n\n");
    let shown = blocks.filter(|block| block.starts_with("    {\"schema\"") && !block.contains('…'));
    let mut count = 0;
    for block in shown {
        expect_fits_schema(&block.replace('\n', " "))?;
        count += 1;
    }
    assert!(count >= 3, "{count} documents are shown");
    Ok(())
}
