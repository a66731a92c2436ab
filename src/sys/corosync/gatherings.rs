//! From what libcpg and libquorum tell to what the cluster's members agree on. Pure.
//!
//! Corosync tells a change of processes and a change of the ring apart (`exec/cpg.c` of 3.1; seen so on three nodes):
//!
//! | what happens | told to every member of the group, in this order |
//! |---|---|
//! | this process joins | processes (JOIN, this one too), then the ring as it stands; the ring *first*, and only then, where another group changes before the join is through |
//! | another process joins, leaves, dies, or its Corosync is stopped in order | processes (JOIN, LEAVE, PROCDOWN), no ring |
//! | another ring forms | if nodes are lost with processes: processes (NODEDOWN); if some come with processes: processes (NODEUP); then the ring, always, to those who have not joined yet too |
//!
//! So what is told with a ring belongs to that ring, and a gathering is told when both are known. All members of a ring
//! are told so at the same place among the messages (Corosync's barrier), hence what they see as one gathering they see
//! with the same messages in the same order. A ring that is told again, with the same members, is told on: a process
//! that joins while a ring forms is told of that ring too early, by itself, and everybody begins anew in it.

use std::collections::{BTreeMap, BTreeSet};

/// A ring of Corosync's: another one stands wherever a node has come or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ring {
    /// The number of the node that formed it.
    pub node: u32,
    /// Its number.
    pub number: u64,
}

/// A process that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// Its node.
    pub node: u32,
    /// Its number there, as it knows it itself.
    pub pid: u32,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// These hear each other from now on; every message before was heard by those before.
    Members {
        /// The ring.
        ring: Ring,
        /// The members' nodes, and the process in each. Where there are several, which should not be, it is the one
        /// with the highest number.
        members: BTreeMap<u32, u32>,
        /// Nodes of the ring that have no member.
        without: BTreeSet<u32>,
        /// Nodes that were lost with their process since the last event of this kind, and that are not in the ring
        /// either. Whose process has left or died (or whose Corosync was stopped in order) is not lost, and whose
        /// Corosync alone was killed is.
        lost: BTreeSet<u32>,
    },
    /// Everybody hears this at the same place.
    Message {
        /// Who says it; oneself too.
        from: Process,
        /// What is said.
        bytes: Vec<u8>,
    },
    /// Has this node's ring quorum? Told once at the beginning, and then whenever a ring has formed or that changes; of
    /// a ring that has just formed a moment after its members.
    Quorate {
        /// The ring.
        ring: Ring,
        /// Has it?
        quorate: bool,
    },
}

/// Why a process has come or gone (`cpg_reason_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its node was lost.
    NodeDown,
    /// Its node has come into the ring.
    NodeUp,
    /// It has joined, left or died, which no change of the ring goes with.
    Itself,
}

impl Reason {
    pub(super) fn of(number: u32) -> Self {
        match number {
            3 => Reason::NodeDown,
            4 => Reason::NodeUp,
            _ => Reason::Itself,
        }
    }
}

/// What the libraries tell.
#[derive(Debug)]
pub(super) enum Told {
    /// The processes of the group, and those that have gone and come.
    Processes {
        members: Vec<Process>,
        left: Vec<(Process, Reason)>,
        joined: Vec<(Process, Reason)>,
    },
    /// The ring and its nodes.
    Ring(Ring, BTreeSet<u32>),
    /// A message.
    Message(Process, Vec<u8>),
    /// Quorum.
    Quorate(Ring, bool),
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Gatherings {
    ring: Option<Ring>,
    /// Empty as long as this process has not joined.
    members: BTreeMap<u32, u32>,
    /// The nodes of the ring.
    nodes: BTreeSet<u32>,
    /// Nodes that were lost, of which nobody was told yet.
    lost: BTreeSet<u32>,
    /// The ring is still to be told.
    incomplete: bool,
}

impl Gatherings {
    pub(super) fn hear(&mut self, told: Told) -> Option<Event> {
        match told {
            Told::Processes {
                members,
                left,
                joined,
            } => {
                self.members.clear();
                for Process { node, pid } in members {
                    let highest = self.members.entry(node).or_insert(pid);
                    *highest = pid.max(*highest);
                }
                let lost = left.iter().filter(|(_, why)| *why == Reason::NodeDown);
                self.lost.extend(lost.map(|(process, _)| process.node));
                let with_ring = |(_, why): &(Process, Reason)| *why != Reason::Itself;
                self.incomplete |= left.iter().chain(&joined).any(with_ring);
                match self.incomplete {
                    true => None,
                    false => self.members(),
                }
            }
            Told::Ring(ring, nodes) => {
                self.ring = Some(ring);
                self.lost.retain(|node| !nodes.contains(node));
                self.nodes = nodes;
                self.incomplete = false;
                self.members()
            }
            Told::Message(from, bytes) => Some(Event::Message { from, bytes }),
            Told::Quorate(ring, quorate) => Some(Event::Quorate { ring, quorate }),
        }
    }

    /// The members, once this process is one and the ring is known.
    fn members(&mut self) -> Option<Event> {
        let ring = self.ring.filter(|_| !self.members.is_empty())?;
        Some(Event::Members {
            ring,
            members: self.members.clone(),
            without: {
                let nodes = self.nodes.iter().copied();
                nodes
                    .filter(|node| !self.members.contains_key(node))
                    .collect()
            },
            lost: std::mem::take(&mut self.lost),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ring(number: u64) -> Ring {
        Ring { node: 1, number }
    }

    fn process((node, pid): (u32, u32)) -> Process {
        Process { node, pid }
    }

    fn why((node, pid, reason): (u32, u32, u32)) -> (Process, Reason) {
        (process((node, pid)), Reason::of(reason))
    }

    fn processes<const M: usize, const L: usize, const J: usize>(
        members: [(u32, u32); M],
        left: [(u32, u32, u32); L],
        joined: [(u32, u32, u32); J],
    ) -> Told {
        Told::Processes {
            members: members.map(process).into(),
            left: left.map(why).into(),
            joined: joined.map(why).into(),
        }
    }

    fn gathered<const M: usize>(number: u64, members: [(u32, u32); M], lost: &[u32]) -> Event {
        beside(&[], number, members, lost)
    }

    /// The same in a ring that has other nodes too.
    fn beside<const M: usize>(
        without: &[u32],
        number: u64,
        members: [(u32, u32); M],
        lost: &[u32],
    ) -> Event {
        Event::Members {
            ring: ring(number),
            members: members.into(),
            without: without.iter().copied().collect(),
            lost: lost.iter().copied().collect(),
        }
    }

    const JOIN: u32 = 1;
    const LEAVE: u32 = 2;
    const NODEDOWN: u32 = 3;
    const NODEUP: u32 = 4;
    const PROCDOWN: u32 = 5;
    const THREE: [(u32, u32); 3] = [(1, 70), (2, 71), (3, 72)];

    /// Process 70 on node 1, in a ring of three nodes.
    fn joined() -> Gatherings {
        let mut gatherings = Gatherings::default();
        let mine = processes(THREE, [], [(1, 70, JOIN)]);
        assert_eq!(gatherings.hear(mine), None);
        let told = gatherings.hear(Told::Ring(ring(8), [1, 2, 3].into()));
        assert_eq!(told, Some(gathered(8, THREE, &[])));
        gatherings
    }

    #[test]
    fn whoever_is_told_of_the_ring_before_it_has_joined_is_told_no_more() {
        let mut gatherings = Gatherings::default();
        assert_eq!(gatherings.hear(Told::Ring(ring(4), [1].into())), None);
        assert_eq!(gatherings.hear(Told::Ring(ring(8), [1, 2, 3].into())), None);
        let told = gatherings.hear(processes(THREE, [], [(1, 70, JOIN)]));
        assert_eq!(told, Some(gathered(8, THREE, &[])));
    }

    #[test]
    fn a_ring_may_form_before_the_join_is_through() {
        let mut gatherings = Gatherings::default();
        // Too early: the others are told of it only once all have agreed on who is in it.
        assert_eq!(gatherings.hear(Told::Ring(ring(12), [1, 2].into())), None);
        let two = [(1, 70), (2, 71)];
        let told = gatherings.hear(processes(two, [], [(1, 70, JOIN)]));
        assert_eq!(told, Some(gathered(12, two, &[])));
        let told = gatherings.hear(processes(THREE, [], [(3, 72, NODEUP)]));
        assert_eq!(told, None);
        let told = gatherings.hear(Told::Ring(ring(12), [1, 2, 3].into()));
        assert_eq!(told, Some(gathered(12, THREE, &[])));
    }

    #[test]
    fn processes_come_and_go_within_a_ring() {
        let mut all = joined();
        for reason in [LEAVE, PROCDOWN] {
            let two = [(1, 70), (2, 71)];
            let told = all.hear(processes(two, [(3, 72, reason)], []));
            assert_eq!(told, Some(beside(&[3], 8, two, &[])));
            let told = all.hear(processes(THREE, [], [(3, 72, JOIN)]));
            assert_eq!(told, Some(gathered(8, THREE, &[])));
        }
    }

    #[test]
    fn what_is_told_with_a_ring_is_told_once_it_is_known() {
        let mut all = joined();
        let one = [(1, 70)];
        let lost = processes(one, [(2, 71, NODEDOWN), (3, 72, NODEDOWN)], []);
        assert_eq!(all.hear(lost), None);
        let told = all.hear(Told::Ring(ring(12), [1].into()));
        assert_eq!(told, Some(gathered(12, one, &[2, 3])));

        assert_eq!(
            all.hear(processes(THREE, [], [(2, 71, NODEUP), (3, 72, NODEUP)])),
            None
        );
        let told = all.hear(Told::Ring(ring(16), [1, 2, 3].into()));
        assert_eq!(told, Some(gathered(16, THREE, &[])));
    }

    #[test]
    fn a_node_that_is_lost_and_back_in_one_ring_is_not_lost() {
        let mut all = joined();
        let two = [(1, 70), (2, 71)];
        assert_eq!(all.hear(processes(two, [(3, 72, NODEDOWN)], [])), None);
        assert_eq!(all.hear(processes(THREE, [], [(3, 72, NODEUP)])), None);
        let told = all.hear(Told::Ring(ring(12), [1, 2, 3].into()));
        assert_eq!(told, Some(gathered(12, THREE, &[])));
        // Its Corosync may be back without the process.
        assert_eq!(all.hear(processes(two, [(3, 72, NODEDOWN)], [])), None);
        let told = all.hear(Told::Ring(ring(16), [1, 2, 3].into()));
        assert_eq!(told, Some(beside(&[3], 16, two, &[])));
        // Who is not told at once is told with the next ring, once.
        let told = all.hear(Told::Ring(ring(20), [1, 2].into()));
        assert_eq!(told, Some(gathered(20, two, &[])));
    }

    #[test]
    fn a_process_that_dies_while_a_ring_forms_belongs_to_that_ring() {
        let mut all = joined();
        let two = [(1, 70), (2, 71)];
        assert_eq!(all.hear(processes(two, [(3, 72, NODEDOWN)], [])), None);
        assert_eq!(
            all.hear(processes([(1, 70)], [(2, 71, PROCDOWN)], [])),
            None
        );
        let told = all.hear(Told::Ring(ring(12), [1, 2].into()));
        assert_eq!(told, Some(beside(&[2], 12, [(1, 70)], &[3])));
    }

    #[test]
    fn a_ring_that_is_told_again_is_told_on() {
        let mut all = joined();
        let again = || Told::Ring(ring(8), [1, 2, 3].into());
        assert_eq!(all.hear(again()), Some(gathered(8, THREE, &[])));
        assert_eq!(all.hear(again()), Some(gathered(8, THREE, &[])));
    }

    #[test]
    fn of_two_processes_on_a_node_the_one_with_the_higher_number_counts() {
        let mut all = joined();
        let told = all.hear(processes(
            [(1, 70), (2, 80), (2, 71), (3, 72)],
            [],
            [(2, 80, JOIN)],
        ));
        assert_eq!(told, Some(gathered(8, [(1, 70), (2, 80), (3, 72)], &[])));
    }
}
