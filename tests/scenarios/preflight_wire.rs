//! What `nodectl check` finds on the wire: who has the address otherwise, and, with one who sends and one who listens,
//! whether the VIP's frames arrive.

use crate::kernel_support::ip_lines;
use crate::predecessor_support::{Kind, Predecessor, kernel_shares_by, nft};
use crate::preflight_support::*;
use crate::product::*;
use crate::switch_support::set_bridge;
use lab::{Context, Host, Lab, Node, Result};
use std::io::{BufRead, BufReader, Read};

#[test]
fn a_stranger_who_has_the_address_is_found_and_nodes_that_share_it_are_none() -> Result<()> {
    let lab = Lab::new("check-stranger")?;
    for vip in [V4, V6] {
        let (first, second) = (lab.node("n1")?, lab.node("n2")?);
        let up = |node: &Node, own: &str| {
            let words = format!("up {vip} --nic eth0 --buckets 2 --own {own} --seed 7");
            nodectl(node, &words.split(' ').collect::<Vec<_>>())
        };
        up(&first, "0")?;
        // One that shares it, and one that is about to.
        Checked::on(&second, &[vip, "--nic", "eth0"])?.expect_nothing()?;
        up(&second, "1")?;
        for node in [&first, &second] {
            Checked::on(node, &[vip])?.expect_nothing()?;
            nodectl(node, &["down", vip])?;
        }
        let stranger = lab.node("n3")?;
        ip_lines(&stranger, &format!("addr add {vip} dev eth0\n"))?;
        let found = Checked::on(&first, &[vip, "--nic", "eth0"])?;
        found.expect_only("address-taken", "warning")?;
        let mac = lab.mac_of("n3")?.to_string();
        assert!(found.answer.to_string().contains(&mac), "{}", found.answer);
        Checked::on(&first, &[vip, "--nic", "eth0", "--local"])?.expect_nothing()?;
    }
    Ok(())
}

#[test]
fn a_predecessor_is_told_as_one_and_a_stranger_beside_it_as_a_stranger() -> Result<()> {
    let lab = Lab::new("check-predecessor")?;
    let (old, node) = (lab.node("n1")?, lab.node("n2")?);
    let mac = nodectl(&old, &["mac", V4, "--nic", "eth0", "--compat", "ipaddr2"])?;
    let predecessor = Predecessor {
        node: &old,
        kind: Kind::Newest,
        vip: V4,
        mac: mac.trim().to_owned(),
        seed: 7,
        total: 2,
    };
    old.run(&["ip", "addr", "add", &format!("{V4}/24"), "dev", "eth0"])?;
    predecessor.begin(&[1])?;
    let words = format!("{} shares {V4} as a predecessor did", lab.mac_of("n1")?);
    let expect_note = |checked: &Checked| {
        let notes = checked.check("address-taken")["notes"].to_string();
        assert!(notes.contains(&words), "{notes}");
    };
    let agent = Agent::new(V4, 2)
        .with("hash_seed", "7")
        .with("nic", "eth0")
        .without("clusterip_hash");
    let deep = agent.clone().variable("OCF_CHECK_LEVEL", "10");
    let warned = deep.call(&node, "validate-all", 0)?.expect(0).stderr;
    assert!(
        warned.contains("WARNING") && warned.contains(&words) && warned.contains("set compat"),
        "{warned}"
    );
    let told = deep.with("compat", "ipaddr2");
    let told = told.call(&node, "validate-all", 0)?.expect(0).stderr;
    assert!(!told.contains("WARNING") && told.contains(&words), "{told}");
    // Before a VIP comes, and while it is there.
    let before = Checked::on(&node, &[V4, "--nic", "eth0"])?;
    before.expect_nothing()?;
    expect_note(&before);
    agent.with("compat", "ipaddr2").start(&node, 1)?;
    let beside = Checked::on(&node, &[V4])?;
    beside.expect_nothing()?;
    expect_note(&beside);
    // Who has the address for himself is one, beside a predecessor too.
    let stranger = lab.node("n3")?;
    ip_lines(&stranger, &format!("addr add {V4} dev eth0\n"))?;
    let mac = lab.mac_of("n3")?.to_string();
    for args in [&[V4, "--nic", "eth0"][..], &[V4]] {
        let found = Checked::on(&node, args)?;
        found.expect_only("address-taken", "warning")?;
        let findings = found.check("address-taken")["findings"].to_string();
        assert!(findings.contains(&mac), "{findings}");
        expect_note(&found);
    }
    Ok(())
}

/// Before a migration all nodes are such.
#[test]
fn the_newest_ipaddr2s_own_rules_are_told_on_the_node_that_has_them() -> Result<()> {
    let lab = Lab::new("check-own-rules")?;
    let (node, other) = (lab.node("n1")?, lab.node("n2")?);
    let args = [V4, "--nic", "eth0"];
    let predecessor = |node, kind| Predecessor {
        node,
        kind,
        vip: V4,
        mac: "51:00:00:00:00:01".to_owned(),
        seed: 7,
        total: 2,
    };
    let told = |words: &str| -> Result<()> {
        let found = Checked::on(&node, &args)?;
        found.expect_only("predecessor-here", "warning")?;
        let findings = found.check("predecessor-here")["findings"].to_string();
        assert!(findings.contains(words), "{findings}");
        Ok(())
    };
    predecessor(&node, Kind::Newest).begin(&[1])?;
    let tables = ["ip", "arp"].map(|family| format!("table {family} IPaddr2_10_77_0_99"));
    told(&format!(
        "IPaddr2's own rules for {V4} are still installed here: {}",
        tables.join(", ")
    ))?;
    // Another VIP is not concerned.
    Checked::on(&node, &["10.77.0.98", "--nic", "eth0"])?.expect_nothing()?;
    // The agent says so when the address comes, and once; of one that is to be beside it, without a warning.
    let agent = Agent::new(V4, 2).with("clusterip_hash", "sourceip");
    for (compat, level) in [("none", "WARNING"), ("ipaddr2", "INFO")] {
        let agent = agent.clone().with("compat", compat);
        let says = |instance| -> Result<bool> {
            let said = agent.call(&node, "start", instance)?.expect(0).stderr;
            let mut lines = said.lines();
            Ok(lines.any(|line| line.contains(level) && line.contains("IPaddr2's own rules")))
        };
        assert!(says(0)?, "{compat}");
        assert!(!says(1)?, "{compat}");
        for instance in [0, 1] {
            agent.call(&node, "stop", instance)?.expect(0);
        }
    }
    for table in &tables {
        told(&format!("nft delete {table}"))?;
        nft(&node, &format!("delete {table}\n"))?;
    }
    Checked::on(&node, &args)?.expect_nothing()?;
    // By iptables over nf_tables.
    if kernel_shares_by(Kind::XtCluster)? {
        let rule = format!(
            "iptables-nft -t mangle -A PREROUTING -i eth0 -d {V4} -m cluster --cluster-total-nodes 2 \
             --cluster-local-node 1 --cluster-hash-seed 7 -j ACCEPT"
        );
        node.run(&rule.split_whitespace().collect::<Vec<_>>())?;
        told("a predecessor's own rules")?;
        told("a rule of xt_cluster in the chain PREROUTING of table ip mangle")?;
        nft(&node, "delete table ip mangle\n")?;
    }
    // Without clusterip_mac_mangle the others answer with MACs of their own, as strangers do.
    for node in [&node, &other] {
        node.run(&["ip", "addr", "add", &format!("{V4}/24"), "dev", "eth0"])?;
        predecessor(node, Kind::NewestUnmangled).begin(&[1])?;
    }
    let found = Checked::on(&node, &args)?;
    for name in ["predecessor-here", "address-taken"] {
        assert_eq!(found.check(name)["outcome"], "warning");
    }
    let stranger = found.check("address-taken")["findings"].to_string();
    assert!(
        stranger.contains("without clusterip_mac_mangle"),
        "{stranger}"
    );
    Ok(())
}

#[test]
fn two_nodes_of_two_descriptions_are_told_what_they_are() -> Result<()> {
    let lab = Lab::new("check-disagreement")?;
    let nodes = [lab.node("n1")?, lab.node("n2")?];
    for (node, seed) in nodes.iter().zip(["7", "8"]) {
        let words = format!("up {V4} --nic eth0 --buckets 2 --own 0 --seed {seed} --force");
        nodectl(node, &words.split(' ').collect::<Vec<_>>())?;
    }
    for node in &nodes {
        Checked::on(node, &[V4])?.expect_only("address-taken", "warning")?;
    }
    // Where nodes do not hear each other ask, what they send tells.
    let told = heard(&nodes[0], &nodes[1], V4)?;
    told.expect_only("description", "fatal")?;
    let digest = status(&nodes[0])?["vips"][0]["digest"].to_string();
    let digest = &digest[1..13];
    assert_eq!(
        told.answer["checked"][0]["heard"]["senders"][0]["digest"],
        digest
    );
    nodectl(&nodes[1], &["down", V4])?;
    nodectl(
        &nodes[1],
        &["up", V4, "--buckets", "2", "--own", "1", "--seed", "7"],
    )?;
    heard(&nodes[0], &nodes[1], V4)?.expect_nothing()?;
    Ok(())
}

/// What one hears while the other sends, who begins when the first one says that it listens.
fn heard(sender: &Host, listener: &Node, args: &str) -> Result<Checked> {
    heard_of(sender, args, listener, args)
}

/// The same where the two are asked about otherwise.
fn heard_of(sender: &Host, sent: &str, listener: &Node, args: &str) -> Result<Checked> {
    let program = lab::built("nodectl")?.display().to_string();
    let listen = format!("{program} check --json {args} --listen --for 4");
    let mut listening = listener.spawn(&listen.split(' ').collect::<Vec<_>>())?;
    let child = listening.child();
    let (said, printed) = (child.stderr.take(), child.stdout.take());
    let mut line = String::new();
    BufReader::new(said.expect("a pipe"))
        .read_line(&mut line)
        .context("what the listener says")?;
    assert!(line.starts_with("nodectl: listening on eth0"), "{line:?}");
    let send = format!("check {sent} --send --for 1 --json");
    let sent = nodectl(sender, &send.split(' ').collect::<Vec<_>>())?;
    expect_fits_schema(&sent)?;
    assert!(sent.contains("\"frames\":10"), "{sent}");
    let mut text = String::new();
    printed
        .expect("a pipe")
        .read_to_string(&mut text)
        .context("what the listener prints")?;
    let end = listening.child().wait().context("the listener")?;
    Checked::of(end.code().unwrap_or(-1), &text)
}

#[test]
fn who_listens_hears_what_arrives_and_says_what_does_not() -> Result<()> {
    let lab = Lab::new("check-listen")?;
    let (client, first, second) = (lab.client("c1")?, lab.node("n1")?, lab.node("n2")?);
    for (vip, mode) in [
        (V4, "multicast"),
        (V6, "multicast"),
        (V4, "stealth"),
        (V6, "stealth"),
    ] {
        let args = format!("{vip} --nic eth0 --mode {mode}");
        // From a node and from elsewhere; with the VIP here and without.
        let all = heard(&first, &second, &args)?;
        all.expect_nothing()?;
        let ear = &all.answer["checked"][0]["heard"];
        assert_eq!(ear["senders"][0]["heard"], 10, "{ear}");
        assert_eq!(ear["senders"][0]["mac"], lab.mac_of("n1")?.to_string());
        let own = first.address_like(ip(vip)).to_string();
        assert_eq!(ear["senders"][0]["address"], own);
        let up = format!("up {vip} --nic eth0 --buckets 2 --own 0-1 --seed 7 --mode {mode}");
        nodectl(&second, &up.split(' ').collect::<Vec<_>>())?;
        heard(&client, &second, &args)?.expect_nothing()?;
        nodectl(&second, &["down", vip])?;

        // A port that lets ARP and neighbour discovery through, and not what is for the cluster MAC.
        let setting = match mode {
            "stealth" => "flood",
            _ => "mcast_flood",
        };
        // IPv6's own question goes to a group.
        if vip == V4 || mode == "stealth" {
            lab.switch(&["bridge", "link", "set", "dev", "n2", setting, "off"])?;
            let silent = heard(&first, &second, &args)?;
            silent.expect_only("frames", "fatal")?;
            let fault = silent.check("frames")["findings"].to_string();
            assert!(fault.contains("the question of a sender came"), "{fault}");
            assert!(fault.contains(&format!("--mode {mode}")), "{fault}");
            lab.switch(&["bridge", "link", "set", "dev", "n2", setting, "on"])?;
        }
    }
    Ok(())
}

#[test]
fn who_sends_in_another_mode_is_told_and_the_network_is_not_blamed() -> Result<()> {
    let lab = Lab::new("check-other-mode")?;
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    for (sent, wanted) in [("multicast", "stealth"), ("stealth", "multicast")] {
        let args = |mode| format!("{V4} --nic eth0 --mode {mode}");
        let told = heard_of(&first, &args(sent), &second, &args(wanted))?;
        assert_eq!((told.code, &told.answer["outcome"]), (2, &"unknown".into()));
        let why = told.check("frames")["unknown"].to_string();
        assert!(why.contains(&format!("that of the mode {sent}")), "{why}");
        assert_eq!(told.check("question-heard")["outcome"], "fine");
        let mac = lab.mac_of("n1")?.to_string();
        assert_eq!(
            told.answer["checked"][0]["heard"]["elsewhere"][0]["mac"],
            mac
        );
    }
    Ok(())
}

/// A VIP is no address of the node's own, nor is a group.
#[test]
fn who_sends_says_an_address_of_its_own() -> Result<()> {
    let lab = Lab::new("check-own-address")?;
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    for vip in ["10.77.0.98", "fd77::98", V4, V6] {
        let up = format!("up {vip} --nic eth0 --buckets 2 --own 0 --seed 7 --mode igmp");
        nodectl(&first, &up.split(' ').collect::<Vec<_>>())?;
    }
    let sender = |vip: &str| -> Result<String> {
        let told = heard(&first, &second, &format!("{vip} --nic eth0 --mode igmp"))?;
        let sender = &told.answer["checked"][0]["heard"]["senders"][0];
        Ok(sender["address"].as_str().unwrap_or_default().to_owned())
    };
    for vip in [V4, V6] {
        assert_eq!(sender(vip)?, first.address_like(ip(vip)).to_string());
    }
    // The group's address and the VIPs are all that it has left then.
    let own = first.address_like(ip(V4));
    first.run(&["ip", "addr", "del", &format!("{own}/24"), "dev", "eth0"])?;
    assert_eq!(sender(V4)?, "0.0.0.0");
    Ok(())
}

/// Nodes answer the sender's question as well, the same host or, IPv6, all: that keeps no VIP from coming up.
#[test]
fn a_vip_comes_up_while_somebody_sends() -> Result<()> {
    let lab = Lab::new("check-send-beside")?;
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    let program = lab::built("nodectl")?.display().to_string();
    for vip in [V4, V6] {
        let words = |verb: &str| format!("up {vip} --nic eth0 --buckets 2 --seed 7{verb}");
        let up = |node: &Node, own: &str| nodectl(node, &words(own).split(' ').collect::<Vec<_>>());
        up(&first, " --own 0")?;
        // Some at once, so that it is asked all the time, a question of each a second.
        let send = format!("{program} check {vip} --nic eth0 --send --for 8");
        let send: Vec<&str> = send.split(' ').collect();
        let mut sending = Vec::new();
        for _ in 0..4 {
            sending.push(second.spawn(&send)?);
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
        for _ in 0..20 {
            up(&second, " --own 1")?;
            nodectl(&second, &["down", vip])?;
        }
        drop(sending);
        nodectl(&first, &["down", vip])?;
    }
    Ok(())
}

/// Who looks who has a VIP that is not here is answered by all who share it: on the same host nobody else asks meanwhile.
#[test]
fn a_vip_comes_up_while_somebody_looks_who_has_it() -> Result<()> {
    let lab = Lab::new("check-beside")?;
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    let program = lab::built("nodectl")?.display().to_string();
    for vip in [V4, V6] {
        let up = |node: &Node, own: &str| {
            let words = format!("up {vip} --nic eth0 --buckets 2 --seed 7 --own {own}");
            nodectl(node, &words.split(' ').collect::<Vec<_>>())
        };
        up(&first, "0")?;
        let look = format!("while :; do {program} check {vip} --nic eth0 >/dev/null 2>&1; done");
        let looking = [0; 2].map(|_| second.spawn(&["sh", "-c", &look]));
        for _ in 0..15 {
            up(&second, "1")?;
            nodectl(&second, &["down", vip])?;
        }
        drop(looking);
        nodectl(&first, &["down", vip])?;
    }
    Ok(())
}

#[test]
fn a_question_that_does_not_pass_is_told_beside_frames_that_do() -> Result<()> {
    let lab = Lab::new("check-deaf")?;
    let (first, second) = (lab.node("n1")?, lab.node("n2")?);
    lab.switch(&["bridge", "link", "set", "dev", "n2", "neigh_suppress", "on"])?;
    let args = format!("{V4} --nic eth0");
    heard(&first, &second, &args)?.expect_only("question-heard", "warning")
}

#[test]
fn what_is_sent_nobody_answers() -> Result<()> {
    let lab = Lab::new("check-unanswered")?;
    let (client, node) = (lab.client("c1")?, lab.node("n1")?);
    for vip in [V4, V6] {
        let up = format!("up {vip} --nic eth0 --buckets 1 --own 0 --seed 7");
        nodectl(&node, &up.split(' ').collect::<Vec<_>>())?;
        let witness = client.witness(&[ip(vip)])?;
        let send = format!("check {vip} --nic eth0 --send --for 1");
        nodectl(&client, &send.split(' ').collect::<Vec<_>>())?;
        assert!(witness.finish()?.by_mac().is_empty());
    }
    Ok(())
}

#[test]
fn queries_are_heard_and_named() -> Result<()> {
    let lab = Lab::new("check-queries")?;
    let (_, second) = (lab.node("n1")?, lab.node("n2")?);
    let args = [
        V4, "--nic", "eth0", "--mode", "igmp", "--listen", "--for", "2",
    ];
    let silent = Checked::on(&second, &args)?;
    assert_eq!(silent.check("queries")["outcome"], "unknown");
    // That nobody sent is no fault of the network, and not well either.
    assert_eq!(
        (silent.code, &silent.answer["outcome"]),
        (2, &"unknown".into())
    );
    let why = silent.check("frames")["unknown"].to_string();
    assert!(why.contains("was anybody sending?"), "{why}");
    // The switch begins to ask, as soon as it snoops.
    set_bridge(
        &lab,
        "mcast_snooping 1 mcast_querier 1 mcast_startup_query_interval 50 mcast_startup_query_count 100",
    )?;
    let asked = Checked::on(&second, &args)?;
    assert_eq!(asked.check("queries")["outcome"], "fine");
    let ear = &asked.answer["checked"][0]["heard"];
    assert_eq!(
        ear["queriers_ip4"].as_array().map(Vec::len),
        Some(1),
        "{ear}"
    );
    Ok(())
}
