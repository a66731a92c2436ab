//! Corosync's timers, from its configuration file: how long a token may be lost, and what must fit in that time.

use super::finding::{Finding, Found};
use super::surroundings::{Surroundings, Wish};

/// Corosync's own values (corosync.conf(5)), in milliseconds.
const TOKEN: u64 = 3000;
const TOKEN_COEFFICIENT: u64 = 650;
const PONG_COUNT: u64 = 2;
/// Where knet's ping time-out is shorter, a busy node is taken for a dead one: at 150 ms 19 to 32 times in two minutes, at
/// 2000 never (tried at load 10).
const SAFE_PING_MS: u64 = 1000;

/// The timers as a configuration has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Timers {
    token: Option<u64>,
    coefficient: Option<u64>,
    consensus: Option<u64>,
    ping_timeout: Option<u64>,
    pong_count: Option<u64>,
    /// Is it knet, as it is if nothing else is said?
    other_transport: bool,
    nodes: u64,
    links: u64,
}

impl Timers {
    fn read(text: &str) -> Self {
        let mut timers = Timers::default();
        let mut sections: Vec<&str> = Vec::new();
        let mut links = 0;
        for line in text.lines().map(str::trim) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_suffix('{') {
                sections.push(name.trim());
                if sections == ["nodelist", "node"] {
                    timers.nodes += 1;
                    links = 0;
                }
                continue;
            }
            if line == "}" {
                sections.pop();
                continue;
            }
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let (key, value) = (key.trim(), value.trim());
            let number = value.parse().ok();
            match (sections.as_slice(), key) {
                (["totem"], "token") => timers.token = number,
                (["totem"], "token_coefficient") => timers.coefficient = number,
                (["totem"], "consensus") => timers.consensus = number,
                (["totem"], "transport") => timers.other_transport = value != "knet",
                (["totem", "interface"], "knet_ping_timeout") => {
                    // Of several links the most impatient one counts.
                    timers.ping_timeout = timers.ping_timeout.map_or(number, |least| {
                        Some(number.map_or(least, |number: u64| number.min(least)))
                    });
                }
                (["totem", "interface"], "knet_pong_count") => timers.pong_count = number,
                (["nodelist", "node"], key)
                    if key.starts_with("ring") && key.ends_with("_addr") =>
                {
                    links += 1;
                    timers.links = timers.links.max(links);
                }
                _ => {}
            }
        }
        timers
    }

    /// What counts: of more than two nodes each adds to it.
    fn effective_token(&self) -> u64 {
        let coefficient = self.coefficient.unwrap_or(TOKEN_COEFFICIENT);
        let more = coefficient.saturating_mul(self.nodes.saturating_sub(2));
        self.token.unwrap_or(TOKEN).saturating_add(more)
    }

    /// After how long knet gives a link up, unless it is another transport.
    fn ping_timeout(&self) -> Option<u64> {
        let pongs = self.pong_count.unwrap_or(PONG_COUNT).max(1);
        let usual = self.effective_token() / pongs;
        (!self.other_transport).then(|| self.ping_timeout.unwrap_or(usual))
    }
}

/// The timers against each other.
pub(super) fn timers(here: &Surroundings, _: &Wish) -> Found {
    let Some(text) = here.corosync.as_ref().map_err(Clone::clone)? else {
        return Ok(Vec::new());
    };
    let timers = Timers::read(text);
    let effective = timers.effective_token();
    let mut found = Vec::new();
    if let Some(token) = timers.token.filter(|token| *token < effective) {
        if token < TOKEN {
            let what = format!(
                "Corosync's token is {token} ms, and with {} nodes {effective} ms",
                timers.nodes
            );
            let why = "each node beyond the second adds token_coefficient (650 ms by default), so that a dead node is noticed \
                       that much later than the token says: set token_coefficient: 0 beside it, if that was not meant";
            found.push(Finding::warning(what, why));
        }
    }
    if let Some(ping) = timers.ping_timeout() {
        if ping < SAFE_PING_MS && timers.links <= 1 {
            let what = format!("knet gives Corosync's only link up after {ping} ms without a pong");
            let why = "a node that is busy for as long is taken for a dead one and fenced (tried with 150 ms: some 25 times in \
                       two minutes at load 10): set knet_ping_interval: 200, knet_ping_timeout: 2000 and \
                       knet_pong_count: 2 in totem's interface {}, on all nodes; the token goes on as it is";
            found.push(Finding::warning(what, why));
        }
        if ping >= effective && timers.links > 1 {
            let what = format!(
                "knet gives a link of Corosync's up after {ping} ms, the token after {effective} ms"
            );
            let why = "when one link fails the node is taken for dead before the other link is used: with several links \
                       knet_ping_timeout must be shorter than the token";
            found.push(Finding::warning(what, why));
        }
    }
    let least = effective.saturating_mul(12) / 10;
    if let Some(consensus) = timers.consensus.filter(|consensus| *consensus < least) {
        let what = format!("Corosync's consensus is {consensus} ms, and its token {effective} ms");
        let why = format!(
            "it must be 1.2 times the token at least, {least} ms: with less, memberships may be formed twice; leave it out, \
             and Corosync takes that"
        );
        found.push(Finding::warning(what, why));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_host, a_wish};
    use super::*;
    use crate::model::l2_mode::L2Mode;

    fn file(totem: &str, nodes: usize, rings: usize) -> String {
        let addresses: String = (0..rings)
            .map(|ring| format!("    ring{ring}_addr: 10.{ring}.0.1\n"))
            .collect();
        let nodes = format!("  node {{\n{addresses}    nodeid: 1\n  }}\n").repeat(nodes);
        format!("# token: 1\ntotem {{\n  version: 2\n{totem}}}\nnodelist {{\n{nodes}}}\n")
    }

    /// The first words of what is told.
    fn told(totem: &str, nodes: usize, rings: usize) -> Vec<String> {
        let here = Surroundings {
            corosync: Ok(Some(file(totem, nodes, rings))),
            ..a_host()
        };
        let found = timers(&here, &a_wish("10.77.0.99", L2Mode::Multicast)).expect("seen");
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn timers_that_were_tried_are_judged_as_they_were_seen() {
        let pings = "  interface {\n    knet_ping_interval: 200\n    knet_ping_timeout: 2000\n    knet_pong_count: 2\n  }\n";
        let lean = "  token: 300\n  token_coefficient: 0\n";
        for (totem, nodes, rings, words) in [
            ("", 3, 1, &[][..]),
            ("  token: 1000\n", 2, 1, &["after 500 ms without a pong"]),
            (
                "  token: 1000\n",
                3,
                1,
                &["with 3 nodes 1650 ms", "after 825 ms"],
            ),
            (
                "  token: 300\n",
                3,
                1,
                &["with 3 nodes 950 ms", "after 475 ms"],
            ),
            (lean, 3, 1, &["after 150 ms"]),
            (&format!("{lean}{pings}"), 3, 1, &[]),
            (&format!("{lean}  transport: udpu\n"), 3, 1, &[]),
            (
                &format!("{lean}{pings}"),
                3,
                2,
                &["after 2000 ms, the token after 300 ms"],
            ),
            (
                &format!("{lean}{pings}  consensus: 350\n"),
                3,
                1,
                &["consensus is 350 ms"],
            ),
            (&format!("{lean}{pings}  consensus: 360\n"), 3, 1, &[]),
        ] {
            let told = told(totem, nodes, rings);
            assert_eq!(told.len(), words.len(), "{totem}: {told:?}");
            for (told, words) in told.iter().zip(words) {
                assert!(told.contains(words), "{told}");
            }
        }
    }

    #[test]
    fn whatever_stands_in_the_file_is_no_panic() {
        for text in [
            "}",
            "}}}{",
            "totem {\n token: 99999999999999999999\n",
            "nodelist {\nnode {\n",
            "a:b:c {",
        ] {
            let _ = Timers::read(text).effective_token();
        }
        let most = format!("totem {{\n token: {}\n consensus: 1\n}}\n", u64::MAX);
        assert_eq!(Timers::read(&most).effective_token(), u64::MAX);
    }
}
