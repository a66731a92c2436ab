//! What `nodectl check` finds of other programs on the node, by their files, their tables and their answers.

use crate::kernel_support::{in_user_namespace, ip_lines, tell_skipped};
use crate::preflight_support::*;
use crate::product::*;
use crate::switch_support::answered;
use lab::{Error, Lab, Node, Result};
use std::path::Path;

/// `nodectl check --json` with these lines of a shell before it.
fn checked_after(node: &Node, lines: &str, args: &str) -> Result<Checked> {
    let text = printed_after(node, lines, &format!("check --json {args}"))?;
    let Some((document, code)) = text.trim_end().rsplit_once('\n') else {
        return Err(Error::new(text));
    };
    Checked::of(code.parse().expect("a code"), &format!("{document}\n"))
}

/// The number of a node's eth0.
fn index(node: &Node) -> Result<String> {
    let shown = node.run(&["ip", "-o", "link", "show", "dev", "eth0"])?;
    let (index, _) = shown.split_once(':').expect("a number");
    Ok(index.to_owned())
}

#[test]
fn tables_of_others_that_drop_are_found() -> Result<()> {
    let lab = Lab::new("check-tables")?;
    let (client, node) = (lab.client("c1")?, node_with(&lab, "n1", V4, "multicast")?);
    let load = |text: &str| node.exec(&["nft", "-f", "-"]).stdin(text).run();
    // As firewalld has it: its policy accepts.
    load(
        "table inet firewalld { chain filter_INPUT { type filter hook input priority 10; policy accept; }; }",
    )?;
    Checked::on(&node, &[V4])?.expect_nothing()?;
    for (table, is_deaf) in [
        (
            "inet theirs { chain gate { type filter hook input priority 0; policy drop; }; }",
            true,
        ),
        (
            "ip theirs { chain gate { type filter hook prerouting priority 0; policy drop; }; }",
            true,
        ),
        (
            "arp theirs { chain gate { type filter hook input priority 0; policy drop; }; }",
            true,
        ),
        (
            "netdev theirs { chain gate { type filter hook ingress device eth0 priority 0; policy drop; }; }",
            true,
        ),
        (
            "ip6 theirs { chain gate { type filter hook input priority 0; policy drop; }; }",
            false,
        ),
        // The policy accepts, and a last rule does not.
        (
            "inet theirs { chain gate { type filter hook input priority 0; ct state established accept; \
             counter reject with icmpx admin-prohibited; }; }",
            true,
        ),
        (
            "ip theirs { chain gate { type filter hook input priority 0; tcp dport 22 accept; log drop; }; }",
            true,
        ),
        // What comes back, or to an end, is the policy's.
        (
            "inet theirs { chain gate { type filter hook input priority 0; policy drop; return; }; }",
            true,
        ),
        (
            "ip theirs { chain x { tcp dport 22 accept; }; chain gate { type filter hook input priority 0; policy drop; goto x; }; }",
            true,
        ),
        (
            "inet theirs { chain gate { type filter hook input priority 0; return; drop; }; }",
            false,
        ),
        // Of some, and behind what accepts all.
        (
            "ip theirs { chain gate { type filter hook input priority 0; tcp dport 22 reject; accept; drop; }; }",
            false,
        ),
        (
            "inet theirs { chain gate { type filter hook forward priority 0; policy drop; }; }",
            false,
        ),
    ] {
        let family = table.split(' ').next().expect("a family");
        load(&format!("table {table}"))?;
        let found = Checked::on(&node, &[V4])?;
        if is_deaf {
            found.expect_only("other-tables", "warning")?;
            wait_for_deafness(&lab, &client, V4)?;
        } else {
            found.expect_nothing()?;
        }
        node.run(&["nft", "delete", "table", family, "theirs"])?;
        Checked::on(&node, &[V4])?.expect_nothing()?;
        assert_eq!(answered(&client, V4)?, 20, "{table}");
    }
    Ok(())
}

/// What nobody can judge from here is no finding, and said with the command that shows it.
#[test]
fn legacy_tables_and_programs_before_the_rules_are_told_as_unknown() -> Result<()> {
    let lab = Lab::new("check-unseen")?;
    let node = lab.node("n1")?;
    let args = [V4, "--nic", "eth0"];
    let unknown = |name: &str| -> Result<String> {
        let found = Checked::on(&node, &args)?;
        found.expect_nothing()?;
        Ok(found.check(name)["unknown"].to_string())
    };
    // In a user namespace nobody tells.
    let unseen = match in_user_namespace()? {
        true => "\"cannot ask for programs of tcx: Operation not permitted\"",
        false => "null",
    };
    // A program that passes everything on (-1 means so to tcx, 2 to XDP), for as long as its link is held.
    let program = "import ctypes, os, struct, sys, time\n\
                   number, kind, passes, place = map(int, sys.argv[1:])\n\
                   call = ctypes.CDLL(None, use_errno=True).syscall\n\
                   code = ctypes.create_string_buffer(struct.pack('<BBhiBBhi', 0xb7, 0, 0, passes, 0x95, 0, 0, 0))\n\
                   word = ctypes.create_string_buffer(b'GPL')\n\
                   load = struct.pack('<IIQQ', kind, 2, ctypes.addressof(code), ctypes.addressof(word)) + bytes(96)\n\
                   program = call(321, 5, load, len(load))\n\
                   make = struct.pack('<IIII', program, number, place, 0) + bytes(48)\n\
                   link = call(321, 28, make, len(make))\n\
                   print('attached' if link >= 0 else os.strerror(ctypes.get_errno()), flush=True)\n\
                   time.sleep(30)\n";
    let number = index(&node)?;
    // BPF_PROG_TYPE_XDP at BPF_XDP; BPF_PROG_TYPE_SCHED_CLS at BPF_TCX_INGRESS and BPF_TCX_EGRESS (Linux 6.6).
    for (what, words) in [
        ("an XDP program", "6 2 37"),
        ("a program of tcx", "3 -1 46"),
        ("a program of tcx", "3 -1 47"),
    ] {
        let attached = format!(
            "cat > /run/bpf.py <<'END'\n{program}END\n/usr/bin/python3 /run/bpf.py {number} {words} > /run/said &\n\
             until [ -s /run/said ]; do sleep 0.05; done; grep -q attached /run/said || {{ cat /run/said >&2; exit 1; }}\n"
        );
        match checked_after(&node, &attached, &args.join(" ")) {
            Ok(found) => {
                found.expect_nothing()?;
                let why = found.check("programs")["unknown"].to_string();
                assert!(why.contains(what), "{why}");
            }
            Err(error) => tell_skipped(&format!("{what} cannot be attached ({words}): {error}")),
        }
    }
    assert_eq!(unknown("programs")?, unseen);
    node.run(&["tc", "qdisc", "add", "dev", "eth0", "clsact"])?;
    let why = unknown("programs")?;
    assert!(why.contains("'tc filter show dev eth0 ingress'"), "{why}");

    // A node has none until somebody looks, on kernels that make them then.
    node.run(&["iptables-legacy", "-t", "mangle", "-S"])?;
    let why = unknown("legacy-tables")?;
    assert!(why.contains("'iptables-legacy -t mangle -S'"), "{why}");
    let other = Checked::on(&node, &[V6, "--nic", "eth0"])?;
    let why = other.check("legacy-tables")["unknown"].to_string();
    assert!(!why.contains("mangle -S"), "{why}");
    Ok(())
}

#[test]
fn a_service_that_flushes_the_ruleset_is_found_if_it_is_enabled() -> Result<()> {
    let lab = Lab::new("check-flush")?;
    let node = lab.node("n1")?;
    let args = format!("{V4} --nic eth0");
    let enabled = "mkdir -p /etc/systemd/system/sysinit.target.wants\n\
                   touch /run/unit && ln -s /run/unit /etc/systemd/system/sysinit.target.wants/nftables.service\n";
    let flushing = "printf '#!/usr/sbin/nft -f\\nflush ruleset\\n' > /etc/nftables.conf\n";
    let own = "printf 'table inet filter\\ndelete table inet filter\\n' > /etc/nftables.conf\n";
    for (lines, outcome) in [
        (String::new(), "fine"),
        (flushing.to_owned(), "fine"),
        (format!("{enabled}{own}"), "fine"),
        (format!("{enabled}{flushing}"), "warning"),
    ] {
        checked_after(&node, &lines, &args)?.expect_only("flushed", outcome)?;
    }
    Ok(())
}

#[test]
fn a_network_manager_that_takes_the_address_away_is_found() -> Result<()> {
    let lab = Lab::new("check-manager")?;
    let node = lab.node("n1")?;
    let (args, index) = (format!("{V4} --nic eth0"), index(&node)?);
    let link = format!("/run/systemd/netif/links/{index}");
    let networkd = |state: &str, network: &str| {
        format!(
            "mkdir -p /run/systemd/netif/links /run/systemd/network /etc/systemd/network\n\
             printf 'ADMIN_STATE={state}\\nNETWORK_FILE=/run/systemd/network/10-eth0.network\\n' > {link}\n\
             printf '[Match]\\nName=eth0\\n[Network]\\n{network}' > /run/systemd/network/10-eth0.network\n"
        )
    };
    for (lines, outcome) in [
        (networkd("configured", "DHCP=yes\\n"), "warning"),
        (
            networkd("configured", "KeepConfiguration=static\\n"),
            "warning",
        ),
        (networkd("configured", "KeepConfiguration=yes\\n"), "fine"),
        (networkd("unmanaged", "DHCP=yes\\n"), "fine"),
    ] {
        checked_after(&node, &lines, &args)?.expect_only("network-manager", outcome)?;
    }
    // The command that is printed, but for the reload, after which networkd has the file in its list.
    let bare = networkd("configured", "DHCP=yes\\n");
    let found = checked_after(&node, &bare, &args)?;
    let cure = found.cures("network-manager").concat();
    let cure = cure
        .strip_suffix(" && networkctl reload")
        .expect("a reload");
    let listed = "/etc/systemd/network/10-eth0.network.d/clusterip.conf";
    let mended = format!("{bare}{cure}\nprintf 'NETWORK_FILE_DROPINS=\"{listed}\"\\n' >> {link}\n");
    checked_after(&node, &mended, &args)?.expect_nothing()?;

    let manager = |state: &str| {
        format!(
            "mkdir -p /run/NetworkManager/devices\nprintf '[device]\\n{state}' > /run/NetworkManager/devices/{index}\n"
        )
    };
    for (state, outcome) in [
        ("managed=true\\nconnection-uuid=0f1e\\n", "warning"),
        ("managed=false\\n", "fine"),
    ] {
        checked_after(&node, &manager(state), &args)?.expect_only("network-manager", outcome)?;
    }
    Ok(())
}

/// A program that answers one question at Open vSwitch's socket: with what ovsdb-server 3.1.0 answered, or with nothing.
fn database(answers: bool) -> String {
    let recorded = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/scenarios/recorded/ovsdb-3.1.0.json"
    );
    let answer = match answers {
        true => format!("c.sendall(open('{recorded}','rb').read())"),
        false => "time.sleep(5)".to_owned(),
    };
    format!(
        "mkdir -p /run/openvswitch\n/usr/bin/python3 -c \"import socket, time\n\
         s = socket.socket(socket.AF_UNIX); s.bind('/run/openvswitch/db.sock'); s.listen()\n\
         c, _ = s.accept(); c.recv(65536); {answer}; time.sleep(1)\" &\n\
         until [ -S /run/openvswitch/db.sock ]; do sleep 0.05; done; sleep 0.2\n"
    )
}

#[test]
fn open_vswitch_is_asked_by_its_database() -> Result<()> {
    let lab = Lab::new("check-ovs")?;
    let node = lab.node("n1")?;
    // In its network are the ports that the answer names, and the other ends of their cables.
    ip_lines(
        &node,
        "link add n1 type veth peer name g1\nlink add n2 type veth peer name g2\n",
    )?;
    for (args, outcome) in [
        ("--nic g1", "fatal"),
        ("--nic n1", "fatal"),
        ("--nic g1 --mode stealth", "fine"),
        ("--nic g2", "fine"),
        ("--nic eth0", "fine"),
    ] {
        let found = checked_after(&node, &database(true), &format!("{V4}/24 {args}"))?;
        found.expect_only("open-vswitch", outcome)?;
        if outcome == "fatal" {
            let cure = "ovs-vsctl set Port n1 other_config:mcast-snooping-flood=true";
            assert_eq!(found.cures("open-vswitch"), [cure]);
        }
    }
    // One that does not answer is not known.
    let silent = checked_after(&node, &database(false), &format!("{V4}/24 --nic g1"))?;
    assert_eq!(silent.check("open-vswitch")["outcome"], "unknown");
    assert_eq!(silent.code, 0);
    Ok(())
}

#[test]
fn corosyncs_timers_are_judged() -> Result<()> {
    let lab = Lab::new("check-corosync")?;
    let node = lab.node("n1")?;
    let file = |totem: &str| {
        let nodes = "node {\\n ring0_addr: 10.0.0.1\\n }\\n".repeat(3);
        format!(
            "mkdir -p /etc/corosync\nprintf 'totem {{\\n version: 2\\n {totem}}}\\nnodelist {{\\n{nodes}}}\\n' > \
             /etc/corosync/corosync.conf\n"
        )
    };
    let pings = "interface {\\n knet_ping_interval: 200\\n knet_ping_timeout: 2000\\n }\\n";
    for (totem, outcome) in [
        (String::new(), "fine"),
        (
            "token: 300\\n token_coefficient: 0\\n".to_owned(),
            "warning",
        ),
        (
            format!("token: 300\\n token_coefficient: 0\\n {pings}"),
            "fine",
        ),
        (format!("token: 300\\n {pings}"), "warning"),
    ] {
        let found = checked_after(&node, &file(&totem), &format!("{V4} --nic eth0"))?;
        found.expect_only("corosync", outcome)?;
    }
    Ok(())
}

#[test]
fn clocks_that_differ_are_told_from_what_pacemaker_has_seen() -> Result<()> {
    if !Path::new("/usr/sbin/cibadmin").exists() || !Path::new("/usr/sbin/crm_mon").exists() {
        tell_skipped("Pacemaker is not installed");
        return Ok(());
    }
    let lab = Lab::new("check-clocks")?;
    let node = lab.node("n1")?;
    // Both nodes did something in two transitions, n2 by a clock that is off by so much.
    let pacemaker = |off: u32| {
        let operation = |transition: u32, at: u32| {
            format!(
                "<lrm_rsc_op id=\"a_last_0\" interval=\"0\" transition-key=\"31:{transition}:0:dc\" last-rc-change=\"{at}\"/>"
            )
        };
        let state = |name: &str, off: u32| {
            let done = operation(4, 2000 - off) + &operation(5, 3000 - off);
            format!("<node_state uname=\"{name}\"><lrm>{done}</lrm></node_state>")
        };
        let status = format!("<status>{}{}</status>", state("n1", 0), state("n2", off));
        let node = |name: &str| {
            format!(
                "<node name=\"{name}\" online=\"true\" standby=\"false\" unclean=\"false\" pending=\"false\"/>"
            )
        };
        let placement = format!(
            "<pacemaker-result><nodes>{}{}</nodes></pacemaker-result>",
            node("n1"),
            node("n2")
        );
        format!(
            "hostname n1\n\
             printf '#!/bin/sh\\ncase \"$3\" in status) echo '\"'\"'{status}'\"'\"';; *) echo \"<resources/>\";; esac\\n' > /run/cib\n\
             printf '#!/bin/sh\\necho '\"'\"'{placement}'\"'\"'\\n' > /run/mon\n\
             chmod 755 /run/cib /run/mon\n\
             mount --bind /run/cib /usr/sbin/cibadmin\nmount --bind /run/mon /usr/sbin/crm_mon\n"
        )
    };
    let args = format!("{V4} --nic eth0");
    checked_after(&node, &pacemaker(0), &args)?.expect_nothing()?;
    let found = checked_after(&node, &pacemaker(300), &args)?;
    found.expect_only("clocks", "warning")?;
    let words = "the clock of n2 is 300 s behind this node's";
    assert!(found.answer.to_string().contains(words), "{}", found.answer);
    Ok(())
}
