//! Programs that see frames before the VIP's rules do. What they let through nobody can tell from here.

use super::finding::{Found, Unseen};
use super::surroundings::{Surroundings, Wish};
use crate::model::untrusted::quoted;

/// Programs of BPF, and filters of tc.
pub(super) fn come_first(here: &Surroundings, wish: &Wish) -> Found {
    let link = here.nic(wish)?;
    let name = quoted(link.name.raw()).unwrap_or_else(|| "NIC".to_owned());
    let xdp = format!(
        "an XDP program ('ip -details link show dev {name}' has its number for 'bpftool prog show')"
    );
    let tc = format!("filters of tc ('tc filter show dev {name} ingress', and egress)");
    let tcx = format!("a program of tcx ('bpftool net show dev {name}')");
    let is_tcx = here.tcx.as_ref().is_ok_and(|is_there| *is_there);
    let all = [(link.xdp, xdp), (link.tc, tc), (is_tcx, tcx)];
    let all = all.into_iter().filter(|(is_there, _)| *is_there);
    let all: Vec<String> = all.map(|(_, what)| what).collect();
    match (all.is_empty(), &here.tcx) {
        (true, Err(Unseen::Because(why))) => Err(Unseen::Because(why.clone())),
        (true, _) => Ok(Vec::new()),
        (false, _) => Err(Unseen::because(format!(
            "frames of {} come first to {}, and what these drop cannot be judged",
            link.name,
            all.join(" and ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_host, a_link, a_wish};
    use super::*;
    use crate::model::l2_mode::L2Mode;
    use crate::model::link::Link;

    #[test]
    fn programs_that_come_first_cannot_be_judged() {
        let unasked = || Err(Unseen::because("not permitted"));
        for (xdp, tc, tcx, words) in [
            (false, false, Ok(false), None),
            (true, false, Ok(false), Some("an XDP program")),
            (
                false,
                true,
                Ok(false),
                Some("tc filter show dev eth0 ingress"),
            ),
            (true, true, Ok(false), Some(" and filters of tc")),
            (
                false,
                false,
                Ok(true),
                Some("tcx ('bpftool net show dev eth0')"),
            ),
            (false, false, unasked(), Some("not permitted")),
            (true, false, unasked(), Some("an XDP program")),
        ] {
            let eth0 = Link {
                xdp,
                tc,
                ..a_link(2, "eth0")
            };
            let here = Surroundings {
                links: Ok(vec![eth0]),
                tcx,
                ..a_host()
            };
            let unseen = come_first(&here, &a_wish("10.77.0.99", L2Mode::Multicast)).err();
            let is_right = match (&unseen, words) {
                (None, None) => true,
                (Some(Unseen::Because(why)), Some(words)) => why.contains(words),
                _ => false,
            };
            assert!(is_right, "{xdp} {tc} {:?}: {unseen:?}", here.tcx);
        }
    }
}
