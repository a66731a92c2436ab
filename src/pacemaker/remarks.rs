//! What a printed configuration leaves alone and its reader has to look at himself: what belongs to the whole
//! cluster (fencing, Corosync's times, Pacemaker's limits), and what only he can know. Comments before the rest, for
//! crm shell and for a shell alike. Pure.

use super::configuration::gate_stop_s;
use super::wish::{Service, Wish};

/// Pacemaker's default of shutdown-escalation.
const ESCALATION_S: u32 = 20 * 60;

/// What the reader has to look at himself; every line is a comment for crm shell and for a shell.
pub(super) fn remarks(wish: &Wish, loaded_by: &str) -> String {
    let (ip, buckets, nodes, seed) = (wish.ip, wish.buckets(), wish.nodes, wish.seed);
    let mut text = format!(
        "# {ip}, shared by {nodes} nodes in {buckets} buckets. Load it with:\n\
         #     {loaded_by}\n\
         #\n\
         # To print it again for the running cluster, ask for this seed, {seed:#010x}, and for {buckets} buckets.\n\
         # Another seed restarts every instance and cuts every connection; another number restarts nothing,\n\
         # and leaves buckets dark or refuses to start them: stop the clone before.\n\
         #\n\
         # Left alone, and worth a look before:\n\
         # - Fencing is not optional: a node whose user space is dead goes on answering in its kernel.\n\
         #   Configure a fence device for every node, and leave fencing enabled, as it is by default.\n\
         # - Corosync's token (3 s from Corosync 3.1 on, plus 650 ms for each node beyond the second)\n\
         #   is how long a dead node goes unnoticed; then come consensus, 1.2 times as long, and fencing. So\n\
         #   long its buckets are dark. A shorter token also fences for shorter hiccups.\n\
         # - node-action-limit is 0: twice as many actions at once as a node has cores. A node that\n\
         #   comes back starts its {each} buckets in so many rounds of some 10 ms.\n",
        each = buckets.div_ceil(nodes.max(1)),
    );
    if wish.has_gate() && gate_stop_s(wish) >= ESCALATION_S {
        text += "# - shutdown-escalation (20 min): a cluster stack that is stopped on a node and waits longer for the\n\
                 #   gate gives up, and the node is fenced. Set it to more than the gate's stop takes.\n";
    }
    // No name that somebody gave stands in a comment: those of the CIB take no two hyphens in a row.
    if wish.netns.is_some() && wish.service.is_some() {
        text += "# - The service must listen in the address's network namespace, which is its own business\n\
                 #   (systemd: NetworkNamespacePath=).\n";
    }
    if let Some(Service::Clone(_)) = &wish.service {
        text += &match wish.attribute() {
            Some(up) => format!(
                "# - The rule goes by the node attribute {up}, which stands behind the service in the\n\
                 #   configuration of the first address. Without it no node has a bucket.\n"
            ),
            None => "# - A node where the service cannot run keeps its buckets, and they are dark. A node attribute\n\
                     #   behind the service, and a rule for it, have them move: docs/agent.md, at A service in front.\n"
                .to_owned(),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::wish::tests::{a_wish, in_front};
    use super::*;

    #[test]
    fn who_has_a_clone_is_told_where_buckets_go() {
        let second = Wish {
            ip: "2001:db8::99".parse().expect("an address"),
            ..in_front("clone-service-10-0-0-99")
        };
        for (wish, expected) in [
            (in_front("cloneWeb"), Some("cannot run")),
            (in_front("clone-service-web"), Some("cannot run")),
            (second, Some("goes by the node attribute up-10-0-0-99")),
            (in_front("systemd:nginx"), None),
            (a_wish(), None),
        ] {
            let told = remarks(&wish, "");
            for remark in ["cannot run", "goes by the node attribute up-10-0-0-99"] {
                assert_eq!(told.contains(remark), expected == Some(remark), "{told}");
            }
        }
    }

    #[test]
    fn who_waits_for_long_is_told_of_the_escalation() {
        let of = |drain_s| {
            let wish = Wish {
                drain_s,
                ..in_front("systemd:nginx")
            };
            remarks(&wish, "")
        };
        assert!(!of(300).contains("escalation"));
        assert!(of(3600).contains("escalation"));
    }
}
