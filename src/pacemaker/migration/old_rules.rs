//! What of the predecessor's rules on a node the script of the takeover has to know: which there are, what they say, and how
//! they are taken away. Each program's own listing is what is read (iptables 1.8.9, nft 1.0.6). Pure.

use super::super::ipaddr2::FIREWALL;
use super::found::Address;
use super::judged::Renewed;
use crate::model::predecessor::Predecessor;
use crate::model::untrusted::quoted;
use std::fmt::Write;
use std::net::IpAddr;

/// What of the rules must be as the new configuration says.
#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// Among how many instances they share the address.
    Instances,
    /// What enters the hash.
    Hash,
    /// Its initial value.
    Seed,
}

/// Something that the rules tell.
#[derive(Debug)]
pub(super) struct Told {
    /// What.
    pub(super) what: What,
    /// What reads it in them.
    pub(super) how: String,
}

/// What the script has to know.
#[derive(Debug)]
pub(super) struct OldRules {
    /// What prints those that let packets in here.
    pub(super) rules: String,
    /// What prints the numbers of its instances here, from 1.
    pub(super) served: String,
    /// What they tell.
    pub(super) told: Vec<Told>,
    /// What stops the script where there are none of these, but others.
    pub(super) elsewhere: String,
    /// What makes the old address one that is known as a VIP's.
    pub(super) sign: String,
    /// What takes the rules away.
    pub(super) gone: String,
}

impl OldRules {
    /// Of an address, in the network namespace into which the words lead.
    pub(super) fn of(renewed: &Renewed, before: Predecessor, within: &str) -> Self {
        match before {
            Predecessor::ClusterIp => OldRules::by_clusterip(renewed.ip, within),
            Predecessor::Ipaddr2 => {
                let mut rules = match renewed.found.is_by_iptables() {
                    true => OldRules::by_iptables(renewed, within),
                    false => OldRules::by_nft(renewed, within),
                };
                if renewed.ip.is_ipv6() {
                    rules.sign = deprecated(renewed.ip, within);
                }
                rules
            }
        }
    }

    /// The kernel counts what CLUSTERIP itself has joined apart, so that the membership has to be told once more.
    fn by_clusterip(ip: IpAddr, within: &str) -> Self {
        let pattern = ip.to_string().replace('.', r"\.");
        let rule = format!("/-d {pattern}\\/32 .*-j CLUSTERIP/");
        let program = "$(command -v iptables-legacy || command -v iptables)";
        let list = format!("{within}{program} -S INPUT");
        OldRules {
            rules: format!("{list} | sed -n '{rule}p'"),
            served: format!(
                "{within}cat /proc/net/ipt_CLUSTERIP/{ip} 2>/dev/null | tr , '\\n' | grep ."
            ),
            told: vec![
                told(What::Instances, "behind --total-nodes"),
                told(What::Hash, "behind --hashmode"),
                told(What::Seed, "behind --hash-init | seeds"),
            ],
            elsewhere: String::new(),
            sign: format!(
                "    mac=$(rules | behind --clustermac)\n    \
                     nic=$(rules | behind -i)\n    \
                     {within}ip maddr show dev \"$nic\" | grep -q \"$mac.*static\" || {within}ip maddr add \"$mac\" dev \"$nic\"\n"
            ),
            gone: deletes(&format!("{within}{program}"), &list, &rule),
        }
    }

    fn by_nft(renewed: &Renewed, within: &str) -> Self {
        let ip = renewed.ip;
        let table = format!("IPaddr2_{}", ip.to_string().replace([':', '.'], "_"));
        let family = if ip.is_ipv4() { "ip" } else { "ip6" };
        // Where a takeover has taken it away already there is nothing to be said.
        let mut gone = format!(
            "    ! {within}nft list table {family} {table} >/dev/null 2>&1 || {within}nft delete table {family} {table}\n"
        );
        if ip.is_ipv4() {
            let _ = writeln!(
                gone,
                "    {within}nft delete table arp {table} 2>/dev/null || true"
            );
        }
        let firewall = renewed.found.parameter(FIREWALL);
        let elsewhere = match firewall.is_none_or(|firewall| firewall == "auto") {
            true => by_iptables_instead(renewed, within),
            false => String::new(),
        };
        OldRules {
            rules: format!("{within}nft list table {family} {table} 2>/dev/null | grep cip-node-"),
            served: r#"rules | sed -n 's/.*"cip-node-\([0-9]*\)".*/\1/p'"#.to_owned(),
            told: vec![
                told(What::Instances, "behind mod"),
                told(
                    What::Hash,
                    &format!(
                        "sed -n 's/.* jhash \\(.*\\) mod .*/\\1/p' | sed 's/^{family} saddr$/sourceip/'"
                    ),
                ),
                told(What::Seed, "behind seed | seeds"),
            ],
            elsewhere,
            sign: String::new(),
            gone,
        }
    }

    /// The rule that drops goes first, so that nothing is dark. That of a node is listed with a mask, which iptables does
    /// not take from the seventh node on (`findings`), so its number is said again.
    fn by_iptables(renewed: &Renewed, within: &str) -> Self {
        let (found, ip) = (&renewed.found, renewed.ip);
        let Chain {
            program,
            list,
            pattern,
        } = Chain::of(renewed, within);
        let delete = |rule: &str| deletes(&program, &list, &format!("/{pattern}{rule}/"));
        let mut gone = delete("-i [^ ]* -j DROP")
            + &format!(
                "    {list} | sed -n '/{pattern}.*-m cluster /p' | while read -r rule; do\n        \
                     node=$(echo \"$rule\" | behind --cluster-local-nodemask | bits)\n        \
                     {program} $(echo \"$rule\" | sed \"s/^-A/-D/; s/--cluster-local-nodemask [^ ]*/--cluster-local-node $node/\")\n    \
                     done\n"
            );
        if ip.is_ipv6() {
            gone += &delete(".*--icmpv6-type 136 -j ACCEPT");
        }
        if found.is_set("clusterip_mac_mangle") {
            let _ = write!(
                gone,
                "    mac=$({within}arptables -L OUTPUT -n | sed -n 's/.*-s {ip} .*--mangle-mac-s \\([^ ]*\\).*/\\1/p')\n    \
                 [ -z \"$mac\" ] || {within}arptables --delete OUTPUT -s {ip} -j mangle --mangle-mac-s \"$mac\"\n"
            );
        }
        OldRules {
            rules: format!("{list} 2>/dev/null | sed -n '/{pattern}.*-m cluster /p'"),
            // They are listed as a mask, in which the first one is the lowest bit.
            served: "rules | behind --cluster-local-nodemask | bits".to_owned(),
            // Its hash is always that of the source.
            told: vec![
                told(What::Instances, "behind --cluster-total-nodes"),
                told(What::Seed, "behind --cluster-hash-seed | seeds"),
            ],
            elsewhere: String::new(),
            sign: String::new(),
            gone,
        }
    }
}

fn told(what: What, how: &str) -> Told {
    let how = how.to_owned();
    Told { what, how }
}

/// What deletes the listed rules that fit.
fn deletes(program: &str, list: &str, rule: &str) -> String {
    format!(
        "    {list} | sed -n '{rule}s/^-A/-D/p' | while read -r rule; do\n        {program} $rule\n    done\n"
    )
}

/// Where the rules of iptables are.
struct Chain {
    /// What changes its table.
    program: String,
    /// What lists it.
    list: String,
    /// What the rules of the address begin with, for sed.
    pattern: String,
}

impl Chain {
    fn of(renewed: &Renewed, within: &str) -> Self {
        let ip = renewed.ip;
        let table = own(&renewed.found, "clusterip_table", "mangle");
        let chain = own(&renewed.found, "clusterip_chain", "PREROUTING");
        let (program, bits) = match ip {
            IpAddr::V4(_) => ("iptables", 32),
            IpAddr::V6(_) => ("ip6tables", 128),
        };
        let program = format!("{within}{program} -t {table}");
        Chain {
            list: format!("{program} -S {chain}"),
            pattern: format!("-d {}\\/{bits} ", ip.to_string().replace('.', r"\.")),
            program,
        }
    }
}

fn own(found: &Address, name: &str, usual: &str) -> String {
    let word = found.parameter(name).unwrap_or(usual);
    quoted(word).unwrap_or_else(|| usual.to_owned())
}

/// Left to itself IPaddr2 goes by iptables on a node that has no nft.
fn by_iptables_instead(renewed: &Renewed, within: &str) -> String {
    let ip = renewed.ip;
    let Chain { list, pattern, .. } = Chain::of(renewed, within);
    format!(
        r#"if [ "$what" != back ] && [ -z "$buckets" ] && {list} 2>/dev/null | sed -n '/{pattern}.*-m cluster /p' | grep -q .; then
    echo "{ip}: here IPaddr2 shares it by iptables, for it has found no nft: say clusterip_firewall=\"iptables\" of it in the" \
        "file that this was written from, and have it written anew" >&2
    exit 1
fi
"#
    )
}

/// The predecessor's IPv6 address is a source like any other; ours never are.
fn deprecated(ip: IpAddr, within: &str) -> String {
    format!(
        "    old=$({within}ip -6 -o address show to {ip} | while read -r _ nic _ address _; do echo \"$address dev $nic\"; done)\n    \
             {within}ip -6 address change $old preferred_lft 0\n"
    )
}
