//! Which answers (`super::answer`) to the question (`super::agreement`) are to be believed. Pure.
//!
//! Two descriptions would answer packets twice, so one answer that a node could have sent is enough to
//! keep a VIP from coming up. But whoever is on the link can forge answers. A node answers each question
//! once, and names one cluster MAC; and all who share a VIP already share it under one description, for
//! each of them has asked before. So answers are *doubted* where
//!
//! - one sender names two MACs, or answers far more often than he was asked,
//! - or senders name different cluster MACs, or are more than a cluster has nodes.
//!
//! Then there are more questions, and who answered every one of them, always with the same MAC and not
//! too often, is believed as a node, if all such name one cluster MAC. A node among forgers is believed so,
//! and so is a forger who does all that a node does: nothing tells him from one.

use super::answer::Answer;
use super::mac::Mac;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// The questions, and those after which there are no more even if answers are doubted.
const QUESTIONS: u32 = 2;
const QUESTIONS_IN_DOUBT: u32 = 6;

/// How often a node can be heard for each question. An ARP reply goes to who asked alone, but networks may
/// double it, and it may be late. An advertisement goes to all, so there is one for each other node, too,
/// that asks at the same time.
const MOST_REPLIES: u32 = 4;
const MOST_ADVERTISEMENTS: u32 = 32;

/// More senders of cluster MACs than this are doubted.
const MOST_NODES: usize = 64;
/// More senders than this are not remembered, and half as many of those who name MACs of their own.
const MOST_SENDERS: usize = 1024;

/// Who answered, and how.
#[derive(Debug)]
pub struct Answers {
    senders: BTreeMap<Mac, Sender>,
    questions: u32,
    most_each: u32,
    incomplete: bool,
}

#[derive(Debug)]
struct Sender {
    /// The MAC that he named first.
    says: Mac,
    /// He named another as well, and one of them is a cluster's.
    contradicts: bool,
    heard: u32,
    /// How many questions he answered, and which one last.
    answered: u32,
    last: u32,
}

/// What is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// Nobody has the address.
    Free,
    /// Somebody shares it under another description.
    Shared(Answer),
    /// Somebody has the address, but with a MAC of his own.
    Taken(Answer),
    /// This and other answers are forged.
    Forged(Answer),
    /// There were more answers than can be read.
    Drowned,
}

/// Who has an address, with predecessors (`super::predecessor`) told from those who share it by these rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holders {
    /// What is to be believed of all but predecessors.
    pub belief: Belief,
    /// One who shares it as a predecessor did.
    pub predecessor: Option<Answer>,
}

/// The sentence for one who shares an address under another description than it is to have here.
pub fn shared_otherwise(address: &IpAddr, nic: &impl fmt::Display, mac: &Mac) -> String {
    format!(
        "stop the clone first: {mac} on {nic} shares {address} under another description. Compare the \
         digests that 'nodectl status' shows on all nodes. After a change of clone-max, hash, seed, mode or mac \
         no node may own or drain a bucket of before when one starts: 'nodectl wait-drained {address}', or \
         'nodectl down {address}', with --force if Pacemaker has put it there. (agent: \
         conflict_detection=\"false\", nodectl: --force; they are for those who know better)"
    )
}

impl Answers {
    /// No answer yet to the question for this VIP.
    pub fn new(vip: IpAddr) -> Answers {
        Answers {
            senders: BTreeMap::new(),
            questions: 0,
            most_each: match vip {
                IpAddr::V4(_) => MOST_REPLIES,
                IpAddr::V6(_) => MOST_ADVERTISEMENTS,
            },
            incomplete: false,
        }
    }

    /// Should it be asked (again)?
    pub fn want_a_question(&self) -> bool {
        let enough = match self.incomplete || self.are_doubted() {
            true => QUESTIONS_IN_DOUBT,
            false => QUESTIONS,
        };
        self.questions < enough
    }

    /// It is asked.
    pub fn asked(&mut self) {
        self.questions += 1;
    }

    /// Somebody answers.
    pub fn heard(&mut self, answer: Answer) {
        let room = match answer.says.is_shared() {
            true => MOST_SENDERS,
            false => MOST_SENDERS / 2,
        };
        if self.senders.len() >= room && !self.senders.contains_key(&answer.from) {
            self.incomplete = true;
            return;
        }
        let sender = self.senders.entry(answer.from).or_insert(Sender {
            says: answer.says,
            contradicts: false,
            heard: 0,
            answered: 0,
            last: 0,
        });
        // Who has two MACs of his own is a stranger with two interfaces.
        let of_cluster = sender.says.is_shared() || answer.says.is_shared();
        sender.contradicts |= of_cluster && sender.says != answer.says;
        sender.heard = sender.heard.saturating_add(1);
        if sender.last != self.questions {
            sender.last = self.questions;
            sender.answered += 1;
        }
    }

    /// Frames came that could not be read.
    pub fn lost(&mut self) {
        self.incomplete = true;
    }

    /// What is to be believed when there are no more questions.
    pub fn belief(&self) -> Belief {
        let macs: BTreeSet<Mac> = self.nodes().map(|(_, sender)| sender.says).collect();
        match (self.nodes().next(), self.sharing().next()) {
            (Some(node), _) if macs.len() == 1 => Belief::Shared(answer_of(node)),
            (_, Some(forger)) => Belief::Forged(answer_of(forger)),
            (_, None) if self.incomplete => Belief::Drowned,
            (_, None) => match self.strangers().next() {
                Some(stranger) => Belief::Taken(answer_of(stranger)),
                None => Belief::Free,
            },
        }
    }

    /// The same with those told apart who answered where nobody answers who has these rules. Beside a predecessor a stranger
    /// is one all the same.
    pub fn holders(&self, without_rules: &BTreeSet<Mac>) -> Holders {
        let belief = self.belief();
        let Belief::Shared(Answer { says, .. }) = belief else {
            return Holders {
                belief,
                predecessor: None,
            };
        };
        let all = self.who_say(says);
        let answer = |from: &Mac| Answer { from: *from, says };
        let predecessor = all.intersection(without_rules).next().map(answer);
        let ours = all.difference(without_rules).next().map(answer);
        let belief = match (ours, self.strangers().next()) {
            (Some(ours), _) => Belief::Shared(ours),
            (None, Some(stranger)) => Belief::Taken(answer_of(stranger)),
            (None, None) => Belief::Free,
        };
        Holders {
            belief,
            predecessor,
        }
    }

    /// Those who are believed as nodes and named this MAC.
    pub fn who_say(&self, mac: Mac) -> BTreeSet<Mac> {
        let say = self.nodes().filter(|(_, sender)| sender.says == mac);
        say.map(|(from, _)| *from).collect()
    }

    /// Those who may be nodes; where answers are doubted, those of them who answered every question.
    fn nodes(&self) -> impl Iterator<Item = (&Mac, &Sender)> {
        let doubted = self.are_doubted();
        let steady = |sender: &Sender| sender.answered == self.questions;
        let may_be = self
            .sharing()
            .filter(|(_, sender)| self.may_be_node(sender));
        may_be.filter(move |(_, sender)| !doubted || steady(sender))
    }

    fn are_doubted(&self) -> bool {
        let macs: BTreeSet<Mac> = self.sharing().map(|(_, sender)| sender.says).collect();
        macs.len() > 1
            || self.sharing().count() > MOST_NODES
            || self.sharing().any(|(_, sender)| !self.may_be_node(sender))
    }

    /// Those who named a cluster MAC.
    fn sharing(&self) -> impl Iterator<Item = (&Mac, &Sender)> {
        let names_cluster = |sender: &Sender| sender.says.is_shared() || sender.contradicts;
        self.senders
            .iter()
            .filter(move |(_, sender)| names_cluster(sender))
    }

    /// Those who named none.
    fn strangers(&self) -> impl Iterator<Item = (&Mac, &Sender)> {
        let names_own = |sender: &Sender| !sender.says.is_shared() && !sender.contradicts;
        self.senders
            .iter()
            .filter(move |(_, sender)| names_own(sender))
    }

    fn may_be_node(&self, sender: &Sender) -> bool {
        !sender.contradicts && sender.heard <= self.most_each.saturating_mul(self.questions)
    }
}

fn answer_of((from, sender): (&Mac, &Sender)) -> Answer {
    Answer {
        from: *from,
        says: sender.says,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 99));
    const V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn host(n: u16) -> Mac {
        let [high, low] = n.to_be_bytes();
        Mac([2, 0, 0, 0, high, low])
    }

    /// Of both kinds, by turns.
    fn cluster(n: u16) -> Mac {
        let [high, low] = n.to_be_bytes();
        match n % 2 {
            0 => Mac([1, 0, 0x5e, 0, high, low]),
            _ => Mac([2, 0xbf, 0, 0, high, low]),
        }
    }

    fn says(from: u16, says: Mac) -> Answer {
        let from = host(from);
        Answer { from, says }
    }

    /// Asks as often as it is wanted; how often that is, and what is believed.
    fn ask(vip: IpAddr, mut answers_to: impl FnMut(u32) -> Vec<Answer>) -> (u32, Belief) {
        let mut answers = Answers::new(vip);
        let mut question = 0;
        while answers.want_a_question() {
            question += 1;
            answers.asked();
            for answer in answers_to(question) {
                answers.heard(answer);
            }
        }
        (question, answers.belief())
    }

    #[test]
    fn predecessors_are_told_from_nodes_and_hide_no_stranger() {
        let (old, ours) = (says(1, cluster(1)), says(2, cluster(1)));
        let stranger = says(3, host(3));
        for (heard, without_rules, belief, predecessor) in [
            (&[][..], &[][..], Belief::Free, None),
            (&[old], &[host(1)], Belief::Free, Some(old)),
            (&[ours], &[], Belief::Shared(ours), None),
            (&[old, ours], &[host(1)], Belief::Shared(ours), Some(old)),
            (
                &[old, stranger],
                &[host(1)],
                Belief::Taken(stranger),
                Some(old),
            ),
            (&[stranger], &[], Belief::Taken(stranger), None),
            // Who is silent to all else is nobody.
            (&[], &[host(1)], Belief::Free, None),
        ] {
            let mut answers = Answers::new(V4);
            while answers.want_a_question() {
                answers.asked();
                heard.iter().for_each(|answer| answers.heard(*answer));
            }
            let holders = Holders {
                belief,
                predecessor,
            };
            let without_rules = without_rules.iter().copied().collect();
            assert_eq!(answers.holders(&without_rules), holders, "{heard:?}");
        }
    }

    #[test]
    fn nobody_strangers_and_nodes() {
        assert_eq!(ask(V4, |_| vec![]), (2, Belief::Free));
        let stranger = says(1, host(1));
        assert_eq!(ask(V4, |_| vec![stranger]), (2, Belief::Taken(stranger)));
        // Two interfaces in one network.
        let also = says(1, host(2));
        assert_eq!(ask(V4, |_| vec![stranger, also]).0, 2);
        let node = says(2, cluster(1));
        assert_eq!(ask(V4, |_| vec![stranger, node]), (2, Belief::Shared(node)));
        // An answer may get lost, and another be doubled.
        for lost in [1, 2] {
            let answers = |n| vec![node; if n == lost { 0 } else { 2 }];
            assert_eq!(ask(V4, answers), (2, Belief::Shared(node)));
        }
        let nodes: Vec<Answer> = (1..=30).map(|n| says(n, cluster(1))).collect();
        assert_eq!(ask(V6, |_| nodes.clone()), (2, Belief::Shared(nodes[0])));
    }

    #[test]
    fn an_advertisement_is_heard_by_all_who_ask() {
        let node = says(1, cluster(1));
        let heard = |times| move |_| vec![node; times];
        assert_eq!(ask(V6, heard(32)), (2, Belief::Shared(node)));
        assert_eq!(ask(V6, heard(33)), (6, Belief::Forged(node)));
        assert_eq!(ask(V4, heard(4)), (2, Belief::Shared(node)));
        assert_eq!(ask(V4, heard(5)), (6, Belief::Forged(node)));
    }

    #[test]
    fn who_contradicts_himself_or_others_is_not_believed() {
        let forged = says(1, cluster(1));
        for other in [says(1, cluster(2)), says(2, cluster(2)), says(1, host(1))] {
            let expected = (6, Belief::Forged(forged));
            assert_eq!(ask(V4, |_| vec![forged, other]), expected);
            let in_turn = |n| vec![if n % 2 == 0 { other } else { forged }];
            assert_eq!(ask(V4, in_turn).1, Belief::Forged(forged));
        }
    }

    #[test]
    fn a_node_among_forgers_is_believed() {
        let node = says(7, cluster(1));
        let in_turn = |n: u32| says(n as u16 % 2, cluster(8 + n as u16 % 2));
        let answers = |n| vec![in_turn(n), node, says(50, cluster(n as u16))];
        assert_eq!(ask(V4, answers), (6, Belief::Shared(node)));
        // Unless another does all that a node does.
        let other = says(8, cluster(2));
        assert_eq!(ask(V4, |_| vec![other, node]).1, Belief::Forged(node));
    }

    #[test]
    fn more_senders_than_a_cluster_has_nodes_are_asked_again() {
        let once = |n: u32| {
            (0..40)
                .map(|i| says(40 * n as u16 + i, cluster(1)))
                .collect()
        };
        let (questions, belief) = ask(V4, once);
        assert!(
            questions == 6 && matches!(belief, Belief::Forged(_)),
            "{belief:?}"
        );
        // A cluster of so many would answer each time.
        let nodes: Vec<Answer> = (0..100).map(|n| says(n, cluster(1))).collect();
        assert_eq!(ask(V4, |_| nodes.clone()), (6, Belief::Shared(nodes[0])));
    }

    #[test]
    fn what_was_lost_is_asked_again_and_told() {
        let belief_after_loss = |answers: &[Answer]| {
            let mut heard = Answers::new(V4);
            heard.asked();
            heard.lost();
            for answer in answers {
                heard.heard(*answer);
            }
            while heard.want_a_question() {
                heard.asked();
            }
            (heard.questions, heard.belief())
        };
        assert_eq!(belief_after_loss(&[]), (6, Belief::Drowned));
        let stranger = says(1, host(1));
        assert_eq!(belief_after_loss(&[stranger]), (6, Belief::Drowned));
        let node = says(2, cluster(1));
        assert_eq!(belief_after_loss(&[node]), (6, Belief::Shared(node)));
    }

    #[test]
    fn strangers_leave_room_for_nodes() {
        let node = says(5000, cluster(1));
        let strangers = (0..2000).map(|n| says(n, host(n)));
        let all: Vec<Answer> = strangers.chain([node]).collect();
        assert_eq!(ask(V4, |_| all.clone()).1, Belief::Shared(node));
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        (0..2000u16, any::<bool>(), 0..3u16).prop_map(|(from, shares, mac)| {
            let mac = if shares { cluster(mac) } else { host(mac) };
            says(from, mac)
        })
    }

    proptest! {
        /// Whatever comes, the questions have an end, little is remembered, and a belief names somebody
        /// who was heard.
        #[test]
        fn whatever_comes_is_bounded(
            rounds in prop::collection::vec(prop::collection::vec(any_answer(), 0..600), 6),
        ) {
            let mut answers = Answers::new(V4);
            let mut questions = 0;
            let mut all = BTreeSet::new();
            while answers.want_a_question() {
                answers.asked();
                for answer in &rounds[questions] {
                    answers.heard(*answer);
                    all.insert((answer.from, answer.says));
                }
                questions += 1;
                prop_assert!(questions <= 6);
            }
            prop_assert!(answers.senders.len() <= MOST_SENDERS);
            match answers.belief() {
                Belief::Free => prop_assert!(all.is_empty()),
                Belief::Shared(answer) => {
                    prop_assert!(answer.says.is_shared());
                    prop_assert!(all.contains(&(answer.from, answer.says)));
                }
                Belief::Taken(answer) | Belief::Forged(answer) => {
                    prop_assert!(all.contains(&(answer.from, answer.says)));
                }
                Belief::Drowned => prop_assert!(all.len() > MOST_SENDERS / 2),
            }
        }

        /// Nodes of one other description never go unheard, however many, with whatever strangers, and
        /// if any one answer of each gets lost.
        #[test]
        fn nodes_bar_a_start(
            nodes in 1..60u16,
            strangers in 0..20u16,
            lost in prop::collection::vec(1..3u32, 60),
        ) {
            let answers = |n: u32| {
                let nodes = (0..nodes).filter(|node| lost[usize::from(*node)] != n);
                let nodes = nodes.map(|node| says(node, cluster(1)));
                let strangers = (0..strangers).map(|n| says(100 + n, host(100 + n)));
                strangers.chain(nodes).collect()
            };
            let (questions, belief) = ask(V4, answers);
            prop_assert_eq!(questions, 2);
            prop_assert!(matches!(belief, Belief::Shared(_)), "{:?}", belief);
        }
    }
}
