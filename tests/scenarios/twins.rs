//! Two resources with one address, on two nodes: what tells them apart is who manages the address, for
//! all else of their descriptions is the same. At most one of them serves.

use crate::product::*;
use clusterip::model::agreement::Question;
use clusterip::model::hash::{HashMode, Hasher, Layout};
use clusterip::model::mac::Mac;
use clusterip::model::seed::derived_seed;
use clusterip::model::vip::{Manager, Vip};
use lab::frame::checksum;
use lab::{Client, Error, Flow, HoldOptions, Lab, Node, Result};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// nodectl's answer to who does not agree.
const DATA: i32 = 65;
/// A name that is too long to be kept whole.
const LONG: &str = "the-address-of-the-web-servers";

/// The agent, called for this resource.
fn resource(name: &str, vip: &str, instance: u32) -> Agent {
    let instance = format!("{name}:{instance}");
    Agent::new(vip, 2).variable("OCF_RESOURCE_INSTANCE", &instance)
}

fn call(node: &Node, action: &str, name: &str, vip: &str, instance: u32) -> Result<Answer> {
    resource(name, vip, instance).call(node, action, instance)
}

/// A start where `cibadmin` says that these resources have the address.
fn start_in_cluster(
    node: &Node,
    name: &str,
    vip: &str,
    configured: &[&str],
    bucket: u32,
) -> Result<Answer> {
    let primitive = |name: &&str| {
        format!(
            "<clone id=\"c-{name}\"><primitive id=\"{name}\" class=\"ocf\" provider=\"rust\" type=\"ClusterIP\">\
             <instance_attributes id=\"a-{name}\"><nvpair id=\"b-{name}\" name=\"ip\" value=\"{vip}\"/>\
             </instance_attributes></primitive></clone>"
        )
    };
    let primitives: String = configured.iter().map(primitive).collect();
    let resources = format!("<resources>{primitives}</resources>");
    let script = "mount -t tmpfs none /usr/sbin\nprintf %s \"$1\" >/usr/sbin/resources\n\
                  printf '#!/bin/sh\\ncat /usr/sbin/resources\\n' >/usr/sbin/cibadmin\n\
                  chmod 755 /usr/sbin/cibadmin\nshift\nexec \"$@\"";
    let before = ["unshare", "-m", "sh", "-ec", script, "sh", &resources];
    resource(name, vip, bucket).call_behind(&before, node, "start", bucket)
}

/// Every echo is answered, and by one node.
fn expect_one_answer(client: &Client, vip: &str) -> Result<()> {
    let said = client.run(&["ping", "-n", "-c", "5", "-i", "0.2", "-W", "1", vip])?;
    match said.contains("DUP!") {
        true => Err(Error::new(format!("two answers: {said}"))),
        false => Ok(()),
    }
}

#[test]
fn of_two_resources_with_one_address_the_second_fails_and_names_the_first() -> Result<()> {
    let lab = Lab::new("twins")?;
    let (n1, n2, client) = (lab.node("n1")?, lab.node("n2")?, lab.client("c1")?);
    let mut wrong = Vec::new();
    for vip in [V4, V6] {
        for bucket in [0, 1] {
            call(&n1, "start", "resA", vip, bucket)?.expect(0);
        }
        for (other, configured, named) in [
            ("resB", vec!["resA", "resB", "resC"], "resA"),
            // Nobody tells who it is.
            ("resB", vec!["resB", "resC"], "another"),
            (LONG, vec!["resA", LONG], "resA"),
        ] {
            for bucket in [0, 1] {
                let answer = start_in_cluster(&n2, other, vip, &configured, bucket)?;
                let said = format!("{vip}, {other} of {configured:?}: {}", answer.stderr);
                let reason = answer.reason();
                if answer.code != 1 || !reason.contains(named) || reason.contains("resC") {
                    wrong.push(format!("{}: {said}", answer.code));
                }
            }
            let one = expect_one_answer(&client, vip);
            wrong.extend(one.err().map(|error| error.to_string()));
            call(&n2, "stop", other, vip, 0)?.expect(0);
            call(&n2, "stop", other, vip, 1)?.expect(0);
            assert_eq!(n2.run(&["nft", "list", "ruleset"])?, "");
        }
        // The first one goes on, and comes to the other node.
        call(&n1, "monitor", "resA", vip, 0)?.expect(0);
        call(&n1, "stop", "resA", vip, 1)?.expect(0);
        call(&n2, "start", "resA", vip, 1)?.expect(0);
        expect_one_answer(&client, vip)?;
        call(&n1, "stop", "resA", vip, 0)?.expect(0);
        call(&n2, "stop", "resA", vip, 1)?.expect(0);
        // When it is gone everywhere the other may have the address.
        call(&n2, "start", "resB", vip, 0)?.expect(0);
        call(&n2, "stop", "resB", vip, 0)?.expect(0);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn of_two_that_come_at_the_same_time_not_both_serve() -> Result<()> {
    let lab = Lab::new("twins-at-once")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    for vip in [V4, V6] {
        for _ in 0..5 {
            let start = |node, name| {
                resource(name, vip, 0)
                    .meta("timeout", "1500")
                    .call(node, "start", 0)
            };
            let codes = std::thread::scope(|scope| {
                let first = scope.spawn(|| start(&n1, "resA"));
                let second = scope.spawn(|| start(&n2, "resB"));
                [first, second]
                    .map(|start| start.join().expect("no panic").map(|answer| answer.code))
            });
            let [first, second] = codes;
            let codes = [first?, second?];
            assert_ne!(codes, [0, 0], "{vip}");
            call(&n1, "stop", "resA", vip, 0)?.expect(0);
            call(&n2, "stop", "resB", vip, 0)?.expect(0);
        }
    }
    Ok(())
}

#[test]
fn by_hand_on_one_node_and_by_pacemaker_on_another_is_refused() -> Result<()> {
    let lab = Lab::new("by-hand-too")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    for vip in [V4, V6] {
        let up = ["up", vip, "--nic", "eth0", "--buckets", "2", "--own", "1"];
        nodectl(&n1, &up)?;
        let answer = resource("resA", vip, 0)
            .meta("timeout", "1500")
            .call(&n2, "start", 0)?;
        let answer = answer.expect(1);
        assert!(answer.reason().contains("nodectl"), "{}", answer.stderr);
        nodectl(&n1, &["down", vip])?;
        call(&n2, "start", "resA", vip, 0)?.expect(0);
        let (code, said) = nodectl_fails(&n1, &up)?;
        assert_eq!(code, DATA, "{said}");
        assert!(said.contains(&lab.mac_of("n2")?.to_string()), "{said}");
        // By force it is its user's affair, and so it is on the node itself.
        nodectl(&n1, &[&up[..], &["--force"]].concat())?;
        nodectl(&n1, &["down", vip])?;
        nodectl(&n2, &["take", vip, "1", "--force"])?;
        call(&n2, "stop", "resA", vip, 0)?.expect(0);
        call(&n2, "stop", "resA", vip, 1)?.expect(0);
    }
    Ok(())
}

/// What builds asked that knew of no managers.
fn older_question(vip: &str, digest: [u8; 6], from: [u8; 6]) -> Vec<u8> {
    match ip(vip) {
        IpAddr::V4(vip) => {
            let mut frame = [[0xff; 6], from].concat();
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            frame.extend(from);
            frame.extend([0; 4]);
            frame.extend(digest);
            frame.extend(vip.octets());
            frame.resize(60, 0);
            frame
        }
        IpAddr::V6(vip) => {
            let [.., x, y, z] = vip.octets();
            let to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z];
            let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
            message.extend(vip.octets());
            message.extend([14, 1]);
            message.extend(digest);
            let summed = [&[0; 16], &to[..], &[0, 0, 0, 32, 0, 0, 0, 58], &message].concat();
            message[2..4].copy_from_slice(&checksum(&summed).to_be_bytes());
            let mut frame = [[0x33, 0x33, 0xff, x, y, z], from].concat();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
            frame.extend([0; 16]);
            frame.extend(to);
            frame.extend(message);
            frame
        }
    }
}

/// Has the node the rules of such a build.
fn make_older(node: &Node, vip: &str) -> Result<()> {
    let rules = match ip(vip) {
        IpAddr::V4(_) => {
            "flush chain arp clusterip input; delete set arp clusterip managers; \
             add rule arp clusterip input arp operation request arp saddr ip 0.0.0.0 \
             arp daddr ether . arp daddr ip @agreed drop"
        }
        IpAddr::V6(_) => {
            "flush chain netdev clusterip agree-ip6; delete set netdev clusterip managers-ip6; \
             add rule netdev clusterip agree-ip6 @nh,48,8 0x3a @nh,64,128 0x0 @th,0,8 0x87 \
             @th,192,16 0xe01 @th,208,48 . @th,64,128 @agree-ip6 drop"
        }
    };
    let rules = format!("{rules}; {}", without_tags(node)?);
    node.exec(&["nft", "-f", "-"]).stdin(rules).run()?;
    Ok(())
}

/// What takes away the rules that look at tags, which such a build did not have either.
fn without_tags(node: &Node) -> Result<String> {
    let listed = node.run(&["nft", "--handle", "list", "table", "netdev", "clusterip"])?;
    let (mut chain, mut changes) = ("", String::new());
    for line in listed.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["chain", name, ..] => chain = name,
            // It is flushed already.
            [.., "handle", _] if chain == "agree-ip6" => {}
            [.., "handle", handle] if line.contains("jump tagged") => {
                changes += &format!("delete rule netdev clusterip {chain} handle {handle}; ");
            }
            _ => {}
        }
    }
    Ok(changes + "flush chain netdev clusterip tagged; delete chain netdev clusterip tagged")
}

/// Does anybody answer this frame, which asks for the VIP?
fn is_answered(lab: &Lab, client: &Client, frame: &[u8], question: &Question) -> Result<bool> {
    let tap = lab.switch_tap(client.name())?;
    client.wire("eth0")?.send(frame)?;
    let mut buffer = [0; 2048];
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(300) {
        let heard = tap.receive(&mut buffer, Duration::from_millis(20))?;
        if heard.is_some_and(|length| question.answer(&buffer[..length]).is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn nodes_of_builds_that_know_of_no_managers_agree_with_those_of_today() -> Result<()> {
    let lab = Lab::new("twins-older")?;
    let (n1, n2, client) = (lab.node("n1")?, lab.node("n2")?, lab.client("c1")?);
    for vip in [V4, V6] {
        // An older one is here, and one of today comes.
        call(&n1, "start", "resA", vip, 0)?.expect(0);
        make_older(&n1, vip)?;
        let answer = call(&n2, "start", "resA", vip, 1)?.expect(0);
        assert!(!answer.stderr.contains("WARNING"), "{}", answer.stderr);
        // Its agent is replaced: that is no drift, and the next start writes the rules anew.
        let answer = call(&n1, "monitor", "resA", vip, 0)?.expect(0);
        assert_eq!(answer.stderr, "");
        call(&n2, "stop", "resA", vip, 1)?.expect(0);
        call(&n1, "start", "resA", vip, 1)?.expect(0);
        assert!(n1.run(&["nft", "list", "ruleset"])?.contains("@managers"));
        // One of today is here, and an older one asks.
        let nic_mac = Mac(client.mac().0);
        let description = |name| Vip {
            manager: Manager::pacemaker(name),
            ..described(ip(vip), hasher(vip), 2)
        };
        let question = |name| Question::of(&description(name), nic_mac);
        let (own, other) = (question("resA"), question("resB"));
        for (what, frame, expected) in [
            ("older", older_question(vip, own.digest, nic_mac.0), false),
            (
                "older, another description",
                older_question(vip, [7; 6], nic_mac.0),
                true,
            ),
            ("the same manager", own.frame(), false),
            ("another manager", other.frame(), true),
        ] {
            assert_eq!(
                is_answered(&lab, &client, &frame, &own)?,
                expected,
                "{vip}: {what}"
            );
        }
        for bucket in [0, 1] {
            call(&n1, "stop", "resA", vip, bucket)?.expect(0);
        }
    }
    Ok(())
}

/// As the agent makes it where no parameter says otherwise.
fn hasher(vip: &str) -> Hasher {
    Hasher {
        mode: HashMode::default(),
        layout: Layout::default(),
        seed: derived_seed(ip(vip)),
    }
}

#[test]
fn a_resource_that_is_renamed_while_connections_drain_comes_up() -> Result<()> {
    let lab = Lab::new("twins-renamed")?;
    let nodes = serving(&lab, &["n1", "n2"])?;
    let client = lab.client("c1")?;
    for vip in [V4, V6] {
        let agent = |name, bucket| resource(name, vip, bucket).with("drain_timeout", "300");
        let everywhere = |action, name| -> Result<()> {
            std::thread::scope(|scope| {
                let calls = nodes.iter().zip(0..).map(|(node, bucket)| {
                    scope.spawn(move || agent(name, bucket).call(node, action, bucket))
                });
                let calls: Vec<_> = calls.collect();
                for call in calls {
                    call.join().expect("no panic")?.expect(0);
                }
                Ok(())
            })
        };
        everywhere("start", "resA")?;
        let target = ip(vip);
        let sources = client.sources_for(target, 12).into_iter().zip(20_000..);
        let flows = sources.map(|(src, sport)| Flow { src, sport });
        let held = client.hold(SocketAddr::new(target, PORT), flows, HoldOptions::default())?;
        everywhere("stop", "resA")?;
        for node in &nodes {
            let draining = &status(node)?["vips"][0]["draining"];
            assert_ne!(*draining, serde_json::json!([]), "{}", node.name());
        }
        everywhere("start", "resB")?;
        drop(held);
        everywhere("stop", "resB")?;
        for node in &nodes {
            nodectl(node, &["down", vip, "--force"])?;
        }
    }
    Ok(())
}
