//! What a listener has heard: whether frames for the cluster MAC with the VIP inside arrive, whether nodes hear each other
//! ask, and whether anybody asks for groups.

use super::finding::{Finding, Found, Unseen};
use super::surroundings::{Surroundings, Wish};
use crate::model::call::Heard;
use crate::model::l2_mode::L2Mode;
use crate::model::written::in_digits;

/// A querier asks every 125 s unless it is told otherwise (RFC 3376 §8.2, RFC 3810 §9.2).
const QUERY_INTERVAL_S: u64 = 125;

fn heard(here: &Surroundings) -> Result<&Heard, Unseen> {
    here.heard.as_ref().map_err(Clone::clone)
}

/// Do the VIP's frames arrive here?
pub(super) fn frames(here: &Surroundings, wish: &Wish) -> Found {
    let heard = heard(here)?;
    let (mac, vip, seconds) = (wish.mac_words(), wish.vip_words(), heard.seconds);
    let mut found = Vec::new();
    for caller in heard.callers() {
        if caller.heard < caller.sent && !heard.has_lost {
            let what = format!(
                "of {} frames for {mac} that {} ({}) sent, {} arrived",
                caller.sent, caller.address, caller.mac, caller.heard
            );
            let why = "clients of buckets that are this node's get no answer where their packets are lost: storm control, a \
                       limit for multicast or unknown unicast frames, a switch that has just begun to snoop; or the \
                       sender went on after this listener, or had begun before it";
            found.push(Finding::warning(what, why));
        }
    }
    if heard.callers().next().is_some() {
        return Ok(found);
    }
    let what = format!("in {seconds} s no frame for {mac} with {vip} inside was heard");
    Ok(vec![match heard.questions.is_empty() {
        // He who sends asks as well.
        false => Finding::fatal(
            what,
            format!(
                "the question of a sender came and his frames did not: the network delivers ARP or neighbour discovery, and \
                 does not deliver what is for {mac}: a switch that snoops, a static entry without this node's port, a \
                 port that does not flood. mode=\"{}\" takes another MAC",
                match wish.mode() {
                    L2Mode::Stealth => "multicast",
                    _ => "stealth",
                }
            ),
        ),
        true => Finding::fatal(
            what,
            format!(
                "either nobody sent any ('nodectl check {vip} --send' on another node or a client, at the same time), or \
                 nothing of his gets here"
            ),
        ),
    }])
}

/// Do nodes hear each other ask?
pub(super) fn question(here: &Surroundings, wish: &Wish) -> Found {
    let heard = heard(here)?;
    if heard.callers().next().is_none() {
        return Err(Unseen::because(
            "no frame was heard of anybody who asks as well",
        ));
    }
    let silent = heard
        .callers()
        .filter(|caller| !heard.questions.contains(&caller.mac) && !heard.has_lost);
    let found = silent.map(|caller| {
        let what = format!(
            "the frames of {} ({}) arrived, and its question for {} did not",
            caller.address,
            caller.mac,
            wish.vip_words()
        );
        let why = "nodes ask each other so before they share an address: a filter for ARP or neighbour discovery, isolated \
                   ports or neigh_suppress keep it away, and a node with another seed or number of buckets can start. \
                   Compare the digests that 'nodectl status' shows on all nodes";
        Finding::warning(what, why)
    });
    Ok(found.collect())
}

/// Do those who call share the VIP by one description, and by this node's?
pub(super) fn description(here: &Surroundings, wish: &Wish) -> Found {
    let heard = heard(here)?;
    let mut others = heard
        .callers()
        .filter_map(|caller| Some((caller, caller.digest?)));
    let Some((first, theirs)) = others.next() else {
        return Ok(Vec::new());
    };
    let expected = wish.digest.unwrap_or(theirs);
    let one = match wish.digest {
        Some(_) => "this node",
        None => "another caller",
    };
    let first = (expected != theirs).then_some((first, theirs));
    let others = others.filter(|(_, theirs)| *theirs != expected);
    let found = first.into_iter().chain(others).map(|(caller, theirs)| {
        let what = format!(
            "{} ({}) shares {} by another description than {one}: its digest begins with {}, not with {}",
            caller.address,
            caller.mac,
            wish.vip_words(),
            in_digits(theirs),
            in_digits(expected)
        );
        let why = "the two hash differently, so some clients are answered by both, and some by none. Compare what 'nodectl \
                   status' shows on both; stop the clone everywhere, wait until nothing drains, and start it with one \
                   configuration";
        Finding::fatal(what, why)
    });
    Ok(found.collect())
}

/// Does anybody ask for groups, as the mode `igmp` needs it?
pub(super) fn queries(here: &Surroundings, wish: &Wish) -> Found {
    let heard = heard(here)?;
    if wish.mode() != L2Mode::Igmp || !heard.queries_ip4.is_empty() {
        return Ok(Vec::new());
    }
    if heard.seconds < QUERY_INTERVAL_S {
        return Err(Unseen::because(format!(
            "no query was heard in {} s, and queriers ask every {QUERY_INTERVAL_S} s: listen longer",
            heard.seconds
        )));
    }
    let what = format!("in {} s nobody asked who is in which group", heard.seconds);
    let why = "without a querier in this VLAN a switch that snoops forgets the nodes after some four minutes, and drops the \
               VIP's frames or floods them: let the router or the switch be one";
    Ok(vec![Finding::warning(what, why)])
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::super::tests::{a_host, a_wish};
    use super::*;
    use crate::model::call::Call;
    use crate::model::mac::Mac;
    use crate::model::written::Digest;
    use std::net::IpAddr;

    const V4: &str = "10.77.0.99";
    const NIC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    /// So many of ten frames were heard, in so many seconds.
    fn after(frames: u32, seconds: u64, asked: bool) -> Surroundings {
        let vip: IpAddr = V4.parse().expect("an address");
        let mac = L2Mode::Multicast.mac(vip);
        let mut heard = Heard::within(seconds);
        for number in 0..frames {
            let call = Call {
                vip,
                to: mac,
                nic_mac: NIC,
                from: [10, 77, 0, 1].into(),
                round: 1,
                number,
                of: 10,
                digest: None,
            };
            heard.take(&call.frame(), vip, mac);
        }
        if asked {
            heard.questions.insert(NIC);
        }
        Surroundings {
            heard: Ok(heard),
            ..a_host()
        }
    }

    fn severities(found: Found) -> Vec<Severity> {
        let found = found.expect("seen");
        found.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn frames_that_do_not_arrive_are_fatal_and_some_are_a_warning() {
        let wish = a_wish(V4, L2Mode::Multicast);
        let found = |heard, asked| frames(&after(heard, 10, asked), &wish);
        assert_eq!(severities(found(10, true)), []);
        assert_eq!(severities(found(9, true)), [Severity::Warning]);
        for (asked, words) in [(true, "ARP"), (false, "--send")] {
            let found = found(0, asked).expect("seen");
            assert_eq!(found[0].severity, Severity::Fatal);
            assert!(found[0].why.contains(words), "{}", found[0].why);
        }
    }

    #[test]
    fn a_question_that_is_not_heard_is_told() {
        let wish = a_wish(V4, L2Mode::Multicast);
        let found = |heard, asked| severities(question(&after(heard, 10, asked), &wish));
        assert_eq!(found(10, true), []);
        assert_eq!(found(10, false), [Severity::Warning]);
        let nobody = question(&after(0, 10, true), &wish);
        assert!(matches!(nobody, Err(Unseen::Because(_))));
    }

    #[test]
    fn descriptions_are_compared_with_this_nodes_or_with_each_others() {
        let heard_from = |digests: &[Option<Digest>]| {
            let mut here = after(1, 10, true);
            if let Ok(heard) = &mut here.heard {
                for (n, digest) in digests.iter().enumerate() {
                    let vip: IpAddr = V4.parse().expect("an address");
                    let mac = L2Mode::Multicast.mac(vip);
                    let call = Call {
                        vip,
                        to: mac,
                        nic_mac: Mac([2, 0, 0, 0, 1, n as u8]),
                        from: [10, 77, 0, 9].into(),
                        round: 2,
                        number: 0,
                        of: 10,
                        digest: *digest,
                    };
                    heard.take(&call.frame(), vip, mac);
                }
            }
            here
        };
        let (one, other) = (Some([1; 6]), Some([2; 6]));
        let shared = |digest| Wish {
            digest,
            ..a_wish(V4, L2Mode::Multicast)
        };
        for (here, heard, differing) in [
            (None, &[][..], 0),
            (None, &[None, one], 0),
            (None, &[one, other, one], 1),
            (one, &[one, None], 0),
            (one, &[other, one, other], 2),
        ] {
            let found = description(&heard_from(heard), &shared(here)).expect("seen");
            assert_eq!(found.len(), differing, "{here:?} {heard:?}: {found:?}");
            let mut all = found.iter();
            assert!(
                all.all(|found| found.severity == Severity::Fatal && found.what.contains("0202"))
            );
        }
    }

    #[test]
    fn a_querier_is_missed_where_the_mode_needs_one_and_after_a_while() {
        let igmp = a_wish(V4, L2Mode::Igmp);
        assert!(matches!(
            queries(&after(1, 10, true), &igmp),
            Err(Unseen::Because(_))
        ));
        assert_eq!(
            severities(queries(&after(1, 130, true), &igmp)),
            [Severity::Warning]
        );
        let other = a_wish(V4, L2Mode::Multicast);
        assert_eq!(severities(queries(&after(1, 10, true), &other)), []);
        let mut asked = after(1, 10, true);
        if let Ok(heard) = &mut asked.heard {
            heard.queries_ip4.insert(NIC);
        }
        assert_eq!(severities(queries(&asked, &igmp)), []);
    }
}
