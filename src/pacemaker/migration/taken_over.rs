//! The script by which a node takes over from IPaddr2, run by a shell in which programs answer as they are told to.

use super::judged::{Chosen, judge};
use super::read;
use super::takeover::script;
use std::process::Command;

/// That of an address with these parameters.
pub(super) fn written(parameters: &str) -> String {
    let text = format!(
        "primitive resIP IPaddr2 params {parameters}\nclone cloneIP resIP meta globally-unique=true clone-max=4"
    );
    let all = read(&text).expect("crm's words");
    let judgement = judge(&all, Chosen::default(), None);
    script(judgement.shared.first().expect("one that is migrated"))
}

/// What the script says with this word where programs answer so, or with what it stops.
fn runs(script: &str, word: &str, answers: &[(&str, &str)]) -> Result<String, String> {
    let script = script
        .replace("/usr/lib/ocf/resource.d/rust/ClusterIP", "true")
        .replace(
            "$(command -v iptables-legacy || command -v iptables)",
            "iptables",
        );
    let of = |(program, answer): &(&str, &str)| {
        format!("{program}() {{ printf '%s\\n' '{answer}'; }}\n")
    };
    let silent = ["nft", "iptables", "ip", "nodectl", "crm_node"].map(|program| (program, ""));
    let programs: String = silent.iter().chain(answers).map(of).collect();
    let told = Command::new("sh")
        .args(["-c", &(programs + &script), "script", word])
        .output()
        .expect("a shell");
    let [said, complaint] =
        [&told.stdout, &told.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    match told.status.success() {
        true => Ok(said),
        false => Err(complaint),
    }
}

/// Of the newest IPaddr2's rules, as nft 1.0.6 lists them, those for two instances.
fn listed_by_nft(hashed: &str, all: u16, seed: u32) -> String {
    let rule = |number: u16| {
        format!(
            "iif \"eth0\" ip daddr 10.0.0.99 jhash {hashed} mod {all} seed {seed:#x} offset 1 {number} meta pkttype \
             set host accept comment \"cip-node-{number}\"\n"
        )
    };
    format!(
        "table ip IPaddr2_10_0_0_99 {{\n{}{}iif \"eth0\" ip daddr 10.0.0.99 drop",
        rule(10),
        rule(2)
    )
}

/// As iptables 1.8.9 lists them, with those of another address.
fn listed_by_iptables(all: u16, seed: u32) -> String {
    let cluster = |mask: u32, all: u16| {
        format!(
            "-m cluster --cluster-local-nodemask {mask:#010x} --cluster-total-nodes {all} --cluster-hash-seed {seed:#010x} -j ACCEPT"
        )
    };
    format!(
        "-P PREROUTING ACCEPT\n-A PREROUTING -d 10.0.0.99/32 -i eth0 {}\n-A PREROUTING -d 10.0.0.98/32 -i eth0 {}\n\
         -A PREROUTING -d 10.0.0.99/32 -i eth0 -j DROP",
        cluster(0b100, all),
        cluster(1, 9)
    )
}

fn listed_clusterip(mode: &str, all: u16, seed: u32) -> String {
    format!(
        "-P INPUT ACCEPT\n-A INPUT -d 10.0.0.99/32 -i eth0 -j CLUSTERIP --new --hashmode {mode} --clustermac \
         01:00:5e:00:00:63 --total-nodes {all} --local-node 1 --hash-init {seed}"
    )
}

#[test]
fn buckets_are_the_numbers_of_the_old_rules_less_one() {
    let mac = "mac=01:00:5e:00:00:63 clusterip_hash_seed=7";
    let nft = written(&format!("ip=10.0.0.99 clusterip_firewall=nft {mac}"));
    let listed = listed_by_nft("ip saddr", 4, 7);
    let said = |buckets: &str| {
        Ok(format!(
            "10.0.0.99: the predecessor's rules serve here: {buckets}\n"
        ))
    };
    assert_eq!(runs(&nft, "look", &[("nft", &listed)]), said("1,9"));
    assert_eq!(runs(&nft, "look", &[]), said("nothing"));
    let iptables = written(&format!("ip=10.0.0.99 clusterip_firewall=iptables {mac}"));
    let listed = listed_by_iptables(4, 7);
    assert_eq!(runs(&iptables, "look", &[("iptables", &listed)]), said("2"));
    let classic = written("ip=10.0.0.99 clusterip_hash=sourceip mac=01:00:5e:00:00:63");
    let listed = listed_clusterip("sourceip", 4, 0);
    let answers = [("iptables", listed.as_str()), ("cat", "1,3,4")];
    assert_eq!(runs(&classic, "look", &answers), said("0,2,3"));
}

#[test]
fn old_rules_that_do_not_do_what_the_new_configuration_says_stop_it() {
    const SEED: u32 = 0x39fb_b802;
    let made = format!(
        r#"{{"schema":1,"vip":"10.0.0.99","macs":[{{"mode":"multicast","mac":"39:fb:b8:02:09:50","compat":"ipaddr2","seed":{SEED}}}]}}"#
    );
    let of = |parameters: &str, program: &str, listed: String| {
        let script = written(&format!("ip=10.0.0.99 {parameters}"));
        let answers = [
            ("nodectl", made.as_str()),
            ("ip", "link  39:fb:b8:02:09:50 static"),
            ("cat", "1,3"),
            (program, &listed),
        ];
        let back = runs(&script, "back", &answers);
        assert!(back.is_ok(), "{back:?}");
        ["look", "take"].map(|word| runs(&script, word, &answers))
    };
    let nft = |hashed, all, seed| {
        of(
            "clusterip_firewall=nft",
            "nft",
            listed_by_nft(hashed, all, seed),
        )
    };
    let by_iptables = |all, seed| {
        of(
            "clusterip_firewall=iptables",
            "iptables",
            listed_by_iptables(all, seed),
        )
    };
    let classic = |mode, all, seed| {
        of(
            "clusterip_hash=sourceip-sourceport",
            "iptables",
            listed_clusterip(mode, all, seed),
        )
    };
    let usual = "sourceip-sourceport";
    for all_well in [
        nft("ip saddr", 4, SEED),
        by_iptables(4, SEED),
        classic(usual, 4, 0),
        of(
            "clusterip_firewall=nft clusterip_hash_seed=0x51",
            "nft",
            listed_by_nft("ip saddr", 4, 0x51),
        ),
    ] {
        assert!(all_well.iter().all(Result::is_ok), "{all_well:?}");
    }
    let mixed = listed_by_nft("ip saddr", 4, SEED) + "\n" + &listed_by_nft("ip saddr", 6, SEED);
    for (stopped, why) in [
        (
            nft("ip saddr", 6, SEED),
            "instances is 6 by the predecessor's rules here and 4 by",
        ),
        (
            of("clusterip_firewall=nft", "nft", mixed),
            "instances is 4,6 by",
        ),
        (
            nft("ip saddr . tcp sport", 4, SEED),
            "hash is ip saddr . tcp sport by the predecessor's rules here and sourceip by",
        ),
        (
            nft("ip saddr", 4, 7),
            "seed is 0x00000007 by the predecessor's rules here and 0x39fbb802 by",
        ),
        (
            of(
                "clusterip_firewall=nft clusterip_hash_seed=8",
                "nft",
                listed_by_nft("ip saddr", 4, 7),
            ),
            "seed is 0x00000007 by the predecessor's rules here and 0x00000008 by",
        ),
        (by_iptables(3, SEED), "instances is 3 by"),
        (by_iptables(4, 7), "seed is 0x00000007 by"),
        (
            classic("sourceip", 4, 0),
            "hash is sourceip by the predecessor's rules here and sourceip-sourceport by",
        ),
        (classic(usual, 2, 0), "instances is 2 by"),
        (
            classic(usual, 4, 9),
            "seed is 0x00000009 by the predecessor's rules here and 0x00000000 by",
        ),
    ] {
        for told in stopped {
            let told = told.expect_err(why);
            assert!(told.contains(why), "{told}");
        }
    }
}

#[test]
fn nothing_is_done_to_one_address_where_another_does_not_fit() {
    let own = "clusterip_firewall=nft mac=01:00:5e:00:00:63 clusterip_hash_seed=7";
    let text = format!(
        "primitive a IPaddr2 params ip=10.0.0.98 {own}\nprimitive b IPaddr2 params ip=10.0.0.99 {own}\n\
         group g a b\nclone c g meta globally-unique=true clone-max=4"
    );
    let judgement = judge(&read(&text).expect("crm's words"), Chosen::default(), None);
    let script = script(&judgement.shared[0]);
    // The second one's rules have another seed.
    let [fits, other] = [7, 8].map(|seed| listed_by_nft("ip saddr", 4, seed));
    let program = |second: &str| {
        format!(
            "nft() {{ case \"$*\" in delete*) echo deleted ;; *_98) echo '{fits}' ;; *) echo '{second}' ;; esac; }}\n"
        )
    };
    // All that it says is looked at.
    let stops = format!("exec >&2\n{}{script}", program(&other));
    let told = runs(&stops, "take", &[]).expect_err("a stop");
    assert!(told.contains("10.0.0.99: the seed"), "{told}");
    assert!(
        !told.contains("deleted") && !told.contains("taken over"),
        "{told}"
    );
    let said = runs(&(program(&fits) + &script), "take", &[]).expect("a takeover");
    assert_eq!(said.matches("taken over: 1,9").count(), 2, "{said}");
}

#[test]
fn the_way_back_after_a_takeover_complains_of_nothing_that_has_gone() {
    let script =
        written("ip=10.0.0.99 clusterip_firewall=nft mac=01:00:5e:00:00:63 clusterip_hash_seed=7");
    // All that it says is looked at; nft has no such table any more.
    let gone = "exec 2>&1\nnft() { echo 'Error: Could not process rule: No such file or directory' >&2; return 1; }\n";
    let said = runs(&(gone.to_owned() + &script), "back", &[]).expect("a way back");
    assert!(
        said.contains("given back") && !said.contains("Error"),
        "{said}"
    );
    // One that is there goes.
    let there = "nft() { case \"$*\" in delete*) echo \"$*\" ;; esac; }\n";
    let said = runs(&(there.to_owned() + &script), "back", &[]).expect("a way back");
    assert!(
        said.contains("delete table ip IPaddr2_10_0_0_99\n"),
        "{said}"
    );
}

#[test]
fn a_word_that_is_none_does_nothing() {
    let script = written("ip=10.0.0.99 clusterip_firewall=nft");
    let told = runs(&script, "bakc", &[]).expect_err("a stop");
    assert!(told.contains("'bakc' is not known"), "{told}");
}

#[test]
fn a_node_without_nft_is_not_taken_for_one_that_serves_nothing() {
    let listed = listed_by_iptables(4, 7);
    let auto = written("ip=10.0.0.99 clusterip_mac_mangle=true");
    let told = runs(&auto, "take", &[("iptables", &listed)]).expect_err("a stop");
    assert!(told.contains("clusterip_firewall=\"iptables\""), "{told}");
    let nft = written("ip=10.0.0.99 clusterip_firewall=nft");
    assert!(runs(&nft, "look", &[("iptables", &listed)]).is_ok());
}

#[test]
fn only_the_old_agents_rules_go() {
    let script = written(
        "ip=fd77::99 clusterip_firewall=iptables mac=33:33:00:00:00:99 clusterip_hash_seed=7",
    );
    let its = [
        "-i eth0 -p ipv6-icmp -m icmp6 --icmpv6-type 136 -j ACCEPT",
        "-i eth0 -m cluster --cluster-local-nodemask 0x00000001 --cluster-total-nodes 4 --cluster-hash-seed 0x00000007 -j ACCEPT",
        "-i eth0 -j DROP",
    ];
    let others = [
        "-i eth0 -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT",
        "-i eth0 -p tcp -m tcp --dport 22 -j DROP",
    ];
    let listed: Vec<String> = its
        .iter()
        .chain(&others)
        .map(|rule| format!("-A PREROUTING -d fd77::99/128 {rule}"))
        .collect();
    // It lists, or tells what it is to delete.
    let program = format!(
        "ip6tables() {{ case \"$*\" in *-S*) printf '%s\\n' '{}' ;; *) echo \"$*\" ;; esac; }}\n",
        listed.join("\n")
    );
    let said = runs(&(program + &script), "take", &[]).expect("a takeover");
    // From the seventh node on iptables refuses the mask that it lists.
    for rule in its.map(|rule| rule.replace("nodemask 0x00000001", "node 1")) {
        assert!(
            said.contains(&format!("-D PREROUTING -d fd77::99/128 {rule}")),
            "{said}"
        );
    }
    for rule in others {
        assert!(!said.contains(rule), "{said}");
    }
}
