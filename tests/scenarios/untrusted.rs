//! What others wrote comes out of the programs as text: it colours nothing, turns nothing round, begins no line,
//! and ends no quotes.

use crate::product::*;
use lab::{Lab, Node, Result};
use std::process::Output;

/// Lines of its own, a colour, the other direction, no width, and both quotes.
const NASTY: &str = "a'\nERROR: forged \u{1b}[31m\u{9b}2J\u{202e}\u{200b}\r\"; reboot #";

/// The same as far as XML can say it.
const IN_XML: &str = "a'&#10;ERROR: forged \u{9b}2J\u{202e}\u{200b}&#13;&quot;; reboot #";
const OF_XML: &str = "a'\nERROR: forged \u{9b}2J\u{202e}\u{200b}\r\"; reboot #";

/// The first character that a terminal obeys or that nobody sees, but for the ends of lines.
fn raw_in(text: &str) -> Option<char> {
    let hidden = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars()
        .find(|c| (c.is_control() && *c != '\n') || hidden(*c))
}

/// Fails if there is such a character, or a line that was not the program's to say.
fn expect_clean(about: &str, text: &str) -> Result<(), String> {
    if let Some(c) = raw_in(text) {
        return Err(format!("{about}: {c:?} in {text:?}"));
    }
    match text.lines().find(|line| line.starts_with("ERROR: forged")) {
        Some(_) => Err(format!("{about}: a line of its own in {text:?}")),
        None => Ok(()),
    }
}

fn both(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn what_a_parameter_says_is_told_in_one_line_and_obeyed_by_no_terminal() -> Result<()> {
    let lab = Lab::new("untrusted-agent")?;
    let node = lab.node("n1")?;
    let parameters = [
        "ip",
        "nic",
        "iflabel",
        "mac",
        "cidr_netmask",
        "clusterip_hash",
        "hash_layout",
        "hash_seed",
        "clusterip_hash_seed",
        "buckets",
        "drain_timeout",
        "arp_count",
        "network_namespace",
        "CRM_meta_clone_max",
    ];
    let mut wrong = Vec::new();
    for parameter in parameters {
        for value in [NASTY, &NASTY.repeat(9)] {
            let agent = Agent::new(V4, 12).with(parameter, value);
            for action in ["validate-all", "start", "monitor", "stop"] {
                let answer = agent.call(&node, action, 0)?;
                let about = format!("{action} with {parameter}");
                wrong.extend(expect_clean(&about, &answer.stderr).err());
                let told = |line: &&str| {
                    let words = ["ocf-exit-reason:", "ERROR: ", "WARNING: ", "INFO: "];
                    !words.iter().any(|word| line.starts_with(word))
                };
                wrong.extend(answer.stderr.lines().find(told).map(str::to_owned));
                let reason = answer.reason();
                if reason.len() > 128 {
                    wrong.push(format!("{about}: too long: {reason}"));
                }
                // Something of it is there to be found in the configuration.
                let refused = answer.code == 6 && action == "start";
                if refused && !answer.stderr.contains(r"a'\nERROR: forged") {
                    wrong.push(format!("{about} does not say what is wrong: {reason}"));
                }
            }
        }
    }
    let answer = Agent::new(V4, 12).call(&node, NASTY, 0)?.expect(3);
    wrong.extend(expect_clean("an action", &answer.stderr).err());
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn what_an_argument_says_is_told_as_text() -> Result<()> {
    let lab = Lab::new("untrusted-arguments")?;
    let node = lab.node("n1")?;
    let program = lab::built("nodectl")?.display().to_string();
    let mut wrong = Vec::new();
    for args in [
        &[NASTY][..],
        &["status", NASTY],
        &["--netns", NASTY, "status"],
        &["status", "--rate", NASTY],
        &["up", NASTY, "--buckets", "2"],
        &["up", V4, "--buckets", NASTY],
        &["up", V4, "--buckets", "2", "--nic", NASTY],
        &[
            "up",
            V4,
            "--buckets",
            "2",
            "--nic",
            &format!("eth0:{NASTY}"),
        ],
        &["up", V4, "--buckets", "2", "--hash", NASTY],
        &["up", V4, "--buckets", "2", "--mac", NASTY],
        &["take", V4, NASTY],
        &["owner", V4, NASTY],
        &["crm", V4, "--nic", "eth0", "--service", NASTY],
        &["pcs", V4, "--nic", "eth0", "--netns", NASTY],
        &["arp", V4, "--vendor", NASTY],
        &["arp", V4, "--ports", NASTY],
    ] {
        let output = node.output(&[&[program.as_str()], args].concat())?;
        wrong.extend(expect_clean(&format!("{args:?}"), &both(&output)).err());
        if !both(&output).contains("forged") {
            wrong.push(format!("{args:?} is not named: {}", both(&output)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

/// `nodectl status` where Pacemaker's programs answer so; nobody else sees them, and they go with it.
fn status_with(node: &Node, [placement, resources]: [&str; 2], more: &[&str]) -> Result<Output> {
    let script = "mount -t tmpfs none /usr/sbin\n\
                  printf %s \"$1\" >/usr/sbin/placement\nprintf %s \"$2\" >/usr/sbin/resources\n\
                  for pair in crm_mon:placement cibadmin:resources; do\n\
                  printf '#!/bin/sh\\ncat /usr/sbin/%s\\n' ${pair#*:} >/usr/sbin/${pair%:*}\n\
                  chmod 755 /usr/sbin/${pair%:*}\ndone\nshift 2\nexec \"$@\"";
    let program = lab::built("nodectl")?.display().to_string();
    let mut command = vec!["unshare", "-m", "sh", "-ec", script, "sh"];
    command.extend([placement, resources, &program, "status", "--rate", "0"]);
    command.extend(more);
    node.output(&command)
}

/// A cluster of two nodes that shares an address, with these names; so `crm_mon` and `cibadmin` say it.
fn cluster(node: &str, resource: &str, netns: Option<&str>) -> [String; 2] {
    let netns = netns.map_or(String::new(), |netns| {
        format!("<nvpair id=\"n\" name=\"network_namespace\" value=\"{netns}\"/>")
    });
    let placement = format!(
        "<pacemaker-result api-version=\"2.28\" request=\"crm_mon\"><summary>\
         <current_dc present=\"true\" name=\"{node}\" with_quorum=\"true\"/></summary><nodes>\
         <node name=\"{node}\" online=\"true\"/><node name=\"n2\" online=\"true\"/></nodes><resources>\
         <resource id=\"{resource}:0\" resource_agent=\"ocf:rust:ClusterIP\">\
         <node name=\"{node}\"/><node name=\"n2\"/></resource>\
         <resource id=\"{resource}:1\" resource_agent=\"ocf:rust:ClusterIP\"><node name=\"n2\"/></resource>\
         </resources></pacemaker-result>"
    );
    let resources = format!(
        "<resources><clone id=\"{resource}\"><primitive id=\"{resource}\" class=\"ocf\" provider=\"rust\" \
         type=\"ClusterIP\"><instance_attributes id=\"a\"><nvpair id=\"b\" name=\"ip\" value=\"{V4}\"/>{netns}\
         </instance_attributes></primitive></clone></resources>"
    );
    [placement, resources]
}

#[test]
fn what_pacemaker_says_is_shown_as_text_and_quoted_in_what_is_to_be_copied() -> Result<()> {
    let lab = Lab::new("untrusted-status")?;
    let node = lab.node("n1")?;
    let status = |names: [&str; 3], more: &[&str]| {
        let [placement, resources] = cluster(names[0], names[1], Some(names[2]));
        let output = status_with(&node, [&placement, &resources], more)?;
        assert!(output.status.success(), "{}", both(&output));
        Ok::<_, lab::Error>(both(&output))
    };
    let nasty = status([IN_XML, IN_XML, IN_XML], &[])?;
    assert_eq!(expect_clean("status", &nasty), Ok(()));
    assert!(!nasty.contains("--netns="), "{nasty}");
    assert!(nasty.contains("cannot be shown"), "{nasty}");
    assert!(
        nasty.contains(r"a'\nERROR: forged \u{9b}2J\u{202e}"),
        "{nasty}"
    );
    // What can be shown can be copied, by whatever it is called.
    let tame = status(["n1", "resIP", "web"], &[])?;
    assert!(tame.contains("nodectl --netns=web status\n"), "{tame}");
    let odd = status(["n1", "res IP", "a'b; reboot"], &[])?;
    assert!(
        odd.contains(r"nodectl --netns='a'\''b; reboot' status"),
        "{odd}"
    );
    assert!(odd.contains("crm_resource -r 'res IP' -m"), "{odd}");
    // Programs are told the names themselves, escaped.
    let json = status([IN_XML, IN_XML, IN_XML], &["--json"])?;
    assert_eq!(raw_in(&json), None, "{json:?}");
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let elsewhere = &told["elsewhere"][0];
    assert_eq!(elsewhere["network_namespace"], OF_XML);
    assert_eq!(elsewhere["cluster"]["nodes"][0]["node"], OF_XML);
    expect_fits_schema(&json)?;
    // What is no XML is told of as text as well.
    let broken = format!("<a>&{};</a>", OF_XML.replace(['\n', '\r'], ""));
    let output = status_with(&node, [&broken, "<a/>"], &[])?;
    assert_eq!(expect_clean("no XML", &both(&output)), Ok(()));
    Ok(())
}

#[test]
fn what_stands_beside_the_rules_is_shown_as_text() -> Result<()> {
    let lab = Lab::new("untrusted-rules")?;
    let node = lab.node("n1")?;
    nodectl(&node, &["up", V4, "--buckets", "2", "--own", "0"])?;
    let nasty = NASTY.replace('"', "");
    let rules = format!(
        "table netdev clusterip {{ chain other {{ comment \"{nasty}\"; }}\n\
         chain vip-{V4} {{ goto other; }}\n}}"
    );
    node.exec(&["nft", "-f", "-"]).stdin(&*rules).run()?;
    let shown = nodectl(&node, &["ruleset"])?;
    let others: String = shown.replace('\t', "");
    assert_eq!(expect_clean("ruleset", &others), Ok(()));
    assert!(others.contains(r#"comment "a'\nERROR: forged"#), "{shown}");
    let status = nodectl(&node, &["status"])?;
    assert_eq!(expect_clean("status", &status), Ok(()));
    assert!(status.contains("DRIFTED"), "{status}");
    for args in [&["ruleset", "--json"][..], &["status", "--json"]] {
        let json = nodectl(&node, args)?;
        assert_eq!(raw_in(&json), None, "{json:?}");
        expect_fits_schema(&json)?;
    }
    Ok(())
}
