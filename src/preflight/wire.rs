//! What a listener has heard: whether frames for the cluster MAC with the VIP inside arrive, whether nodes hear each other
//! ask, and whether anybody asks for groups.

use super::finding::{Finding, Found, Unseen};
use super::surroundings::{Surroundings, Wish};
use crate::model::call::{Elsewhere, Heard};
use crate::model::l2_mode::L2Mode;
use crate::model::mac::Mac;
use crate::model::written::{Digest, in_digits};
use std::net::IpAddr;

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
    let mode = wish.mode().name();
    let elsewhere = heard.elsewhere().map(|call| sends_elsewhere(call, wish));
    if heard.callers().next().is_some() {
        let why = "what he sends says nothing about that MAC: have all send and listen in one mode (--mode)";
        found.extend(elsewhere.map(|what| Finding::warning(what, why)));
        return Ok(found);
    }
    let elsewhere: Vec<String> = elsewhere.collect();
    if !elsewhere.is_empty() {
        return Err(Unseen::because(format!(
            "{}, so that nothing is known of {mac}: have all send and listen in one mode (--mode)",
            elsewhere.join("; ")
        )));
    }
    // He who sends asks as well.
    if heard.questions.is_empty() {
        return Err(Unseen::because(format!(
            "nothing was heard in {seconds} s; was anybody sending? ('nodectl check {vip} --mode {mode} --send' on another \
             node or a client, at the same time) If so, nothing of his gets here"
        )));
    }
    let what = format!(
        "in {seconds} s the question of a sender came, and no frame for {mac} with {vip} inside"
    );
    let why = format!(
        "he may send in another mode, whose MAC does not get here: have all send and listen with --mode {mode}. If he does, the \
         network delivers ARP or neighbour discovery, and not what is for {mac}: a switch that snoops, a static entry \
         without this node's port, a port that does not flood. mode=\"{}\" takes another MAC",
        match wish.mode() {
            L2Mode::Stealth => "multicast",
            _ => "stealth",
        }
    );
    Ok(vec![Finding::fatal(what, why)])
}

/// That one sends for another MAC, and in which mode.
fn sends_elsewhere(call: &Elsewhere, wish: &Wish) -> String {
    let whose = match wish.modes_of(call.to) {
        None => "a MAC of no mode".to_owned(),
        Some(modes) => format!("that of {modes}"),
    };
    format!(
        "{} ({}) sends for {}, {whose}, and not for {}",
        call.address,
        call.mac,
        call.to,
        wish.mac_words()
    )
}

/// All who called, under whichever MAC.
fn all_callers(heard: &Heard) -> impl Iterator<Item = (IpAddr, Mac, Option<Digest>)> {
    let here = heard.callers();
    let here = here.map(|caller| (caller.address, caller.mac, caller.digest));
    let elsewhere = heard.elsewhere();
    here.chain(elsewhere.map(|call| (call.address, call.mac, call.digest)))
}

/// Do nodes hear each other ask?
pub(super) fn question(here: &Surroundings, wish: &Wish) -> Found {
    let heard = heard(here)?;
    if all_callers(heard).next().is_none() && heard.questions.is_empty() {
        return Err(Unseen::because("nobody was heard who asks as well"));
    }
    let silent =
        all_callers(heard).filter(|(_, mac, _)| !heard.questions.contains(mac) && !heard.has_lost);
    let found = silent.map(|(address, mac, _)| {
        let what = format!(
            "the frames of {address} ({mac}) arrived, and its question for {} did not",
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
    let mut others =
        all_callers(heard).filter_map(|(address, mac, digest)| Some(((address, mac), digest?)));
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
    let all = first.into_iter().chain(others);
    let found = all.map(|((address, mac), theirs)| {
        let what = format!(
            "{address} ({mac}) shares {} by another description than {one}: its digest begins with {}, not with {}",
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
        // His question came: the network may be to blame, or another mode.
        let asked = found(0, true).expect("seen");
        assert_eq!(asked[0].severity, Severity::Fatal);
        for words in ["--mode multicast", "ARP"] {
            assert!(asked[0].why.contains(words), "{}", asked[0].why);
        }
        // Without it nobody may have sent.
        let silent = found(0, false);
        assert!(
            matches!(&silent, Err(Unseen::Because(why)) if why.contains("was anybody sending?")),
            "{silent:?}"
        );
    }

    #[test]
    fn who_sends_in_another_mode_is_told_and_the_network_is_not_blamed() {
        let listener = |digest| Wish {
            digest,
            ..a_wish(V4, L2Mode::Stealth)
        };
        let heard_of = |digest| {
            let vip: IpAddr = V4.parse().expect("an address");
            let call = Call {
                vip,
                to: L2Mode::Multicast.mac(vip),
                nic_mac: NIC,
                from: [10, 77, 0, 1].into(),
                round: 1,
                number: 0,
                of: 10,
                digest,
            };
            let mut heard = Heard::within(10);
            heard.take(&call.frame(), vip, L2Mode::Stealth.mac(vip));
            heard.questions.insert(NIC);
            Surroundings {
                heard: Ok(heard),
                ..a_host()
            }
        };
        let here = heard_of(None);
        let found = frames(&here, &listener(None));
        assert!(
            matches!(&found, Err(Unseen::Because(why)) if why.contains(
                "10.77.0.1 (02:00:00:00:00:01) sends for 01:00:5e:7f:00:63, that of the mode multicast or igmp"
            )),
            "{found:?}"
        );
        assert_eq!(severities(question(&here, &listener(None))), []);
        assert_eq!(severities(description(&here, &listener(None))), []);
        // If both share the VIP they disagree.
        let told = description(&heard_of(Some([1; 6])), &listener(Some([2; 6])));
        assert_eq!(severities(told), [Severity::Fatal]);
    }

    #[test]
    fn a_question_that_is_not_heard_is_told() {
        let wish = a_wish(V4, L2Mode::Multicast);
        let found = |heard, asked| severities(question(&after(heard, 10, asked), &wish));
        assert_eq!(found(10, true), []);
        assert_eq!(found(10, false), [Severity::Warning]);
        assert_eq!(found(0, true), [], "it came, whatever else did not");
        let nobody = question(&after(0, 10, false), &wish);
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
