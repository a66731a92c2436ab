//! A vendor, and its guide: what to configure, how to check it, what to beware of.

use super::site::Site;
use crate::model::l2_mode::L2Mode;
use serde::Serialize;

/// What every system has to be told of a unicast MAC that no switch learns.
const NOTHING_TO_DO: &str = "needs no entry, as far as is known: routers believe a unicast MAC, and switches flood one \
                             that they have not learnt. What limits the flooding of unknown unicast frames gets in \
                             the way";

/// What a static entry is called where it is for ARP.
const ARP_ENTRY: &str = "static ARP entry";

/// A system that forwards packets to the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Vendor {
    /// The word for it on the command line.
    pub name: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// What it needs in the modes `multicast` and `igmp`.
    pub(super) advice: fn(&Site) -> Guide,
    /// What it needs in the mode `stealth`.
    pub(super) stealth: fn(&Site) -> Guide,
}

impl Vendor {
    /// What to configure there for this site.
    pub fn guide(&self, site: &Site) -> Guide {
        match site.mode {
            L2Mode::Multicast | L2Mode::Igmp => (self.advice)(site).for_family_of(site),
            L2Mode::Stealth => (self.stealth)(site),
        }
    }
}

/// What a system needs in the mode `stealth` of which nothing else is known.
pub(super) fn nothing_to_do(_: &Site) -> Guide {
    Guide::default().beware(None, NOTHING_TO_DO)
}

/// How far a line is confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmed {
    /// Run by a test of this project, with packets.
    Tried,
    /// Run once by hand, with packets; docs/network.md says with which versions.
    ByHand,
    /// The vendor's text, or another named source, says so.
    Documented,
    /// Nobody has checked it.
    Unconfirmed,
}

/// A line to type, or a fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The line.
    pub text: String,
    /// How far it is confirmed.
    pub confirmed: Confirmed,
    /// By what, if it is documented.
    pub source: Option<&'static str>,
}

/// Lines that are typed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What they do.
    pub purpose: &'static str,
    /// The lines, in order.
    pub lines: Vec<Line>,
    #[serde(skip)]
    scope: Scope,
}

/// For which addresses a step's lines are as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// They name an IPv4 address and have no meaning for another.
    Ip4,
    /// They name a MAC alone; they were looked up for those of IPv4 groups.
    AnyMac,
    /// IPv4 and IPv6.
    Both,
}

/// What is known of a vendor's system, for one site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Guide {
    /// What to configure.
    pub steps: Vec<Step>,
    /// How to see whether it took.
    pub check: Vec<Line>,
    /// What it cannot do, and what gets in the way.
    pub beware: Vec<Line>,
    /// It was looked up for IPv4 and IPv6 alike.
    #[serde(skip)]
    both_families: bool,
}

/// Where a line comes from: `Some` source makes it documented.
pub(super) type Source = Option<&'static str>;

/// A line that was run here, or a fact that was seen here.
pub(super) fn tried(text: impl Into<String>) -> Line {
    Line {
        confirmed: Confirmed::Tried,
        ..line(None, text)
    }
}

/// A line as far confirmed as its source says.
pub(super) fn line(source: Source, text: impl Into<String>) -> Line {
    Line {
        text: text.into(),
        confirmed: match source {
            Some(_) => Confirmed::Documented,
            None => Confirmed::Unconfirmed,
        },
        source,
    }
}

impl Guide {
    /// Of a system that was looked at with IPv4 and IPv6.
    pub(super) fn of_both_families() -> Self {
        Guide {
            both_families: true,
            ..Guide::default()
        }
    }

    fn step(
        mut self,
        purpose: &'static str,
        scope: Scope,
        source: Source,
        lines: impl IntoIterator<Item = String>,
    ) -> Self {
        let lines = lines.into_iter().map(|text| line(source, text));
        self.steps.push(Step {
            purpose,
            lines: lines.collect(),
            scope,
        });
        self
    }

    /// A static entry that says under which MAC the VIP is.
    pub(super) fn arp<const N: usize>(self, source: Source, lines: [String; N]) -> Self {
        self.step(ARP_ENTRY, Scope::Ip4, source, lines)
    }

    /// The system is told to believe ARP replies with a multicast MAC.
    pub(super) fn believe<const N: usize>(self, source: Source, lines: [String; N]) -> Self {
        self.step(
            "believe ARP replies that name a multicast MAC",
            Scope::Ip4,
            source,
            lines,
        )
    }

    /// A static entry that says at which ports the cluster MAC is.
    pub(super) fn ports<const N: usize>(self, source: Source, lines: [String; N]) -> Self {
        self.step(
            "static MAC entry for the nodes' ports",
            Scope::AnyMac,
            source,
            lines,
        )
    }

    /// One of several ways, for IPv4 and IPv6.
    pub(super) fn way(
        self,
        purpose: &'static str,
        source: Source,
        lines: impl IntoIterator<Item = String>,
    ) -> Self {
        self.step(purpose, Scope::Both, source, lines)
    }

    /// Anything else about the forwarding of multicast frames.
    pub(super) fn flood<const N: usize>(self, source: Source, lines: [String; N]) -> Self {
        self.step(
            "flood the cluster MAC's frames to the nodes",
            Scope::AnyMac,
            source,
            lines,
        )
    }

    /// The lines of the last step were run here, for IPv4 and IPv6.
    pub(super) fn tried(self) -> Self {
        self.confirmed(Confirmed::Tried)
    }

    /// The lines of the last step were run by hand, for IPv4 and IPv6.
    pub(super) fn by_hand(self) -> Self {
        self.confirmed(Confirmed::ByHand)
    }

    fn confirmed(mut self, confirmed: Confirmed) -> Self {
        if let Some(step) = self.steps.last_mut() {
            step.scope = Scope::Both;
            for line in &mut step.lines {
                line.confirmed = confirmed;
                line.source = None;
            }
        }
        self
    }

    /// A command that shows whether it took.
    pub(super) fn check(mut self, text: impl Into<String>) -> Self {
        self.check.push(line(None, text));
        self
    }

    /// The last check was run here.
    pub(super) fn check_tried(mut self, text: impl Into<String>) -> Self {
        self.check.push(tried(text));
        self
    }

    /// What it cannot do, or needs.
    pub(super) fn beware(mut self, source: Source, text: impl Into<String>) -> Self {
        self.beware.push(line(source, text));
        self
    }

    /// The same, tried here.
    pub(super) fn beware_tried(mut self, text: impl Into<String>) -> Self {
        self.beware.push(tried(text));
        self
    }

    /// The same, seen by hand.
    pub(super) fn beware_by_hand(mut self, text: impl Into<String>) -> Self {
        self.beware.push(Line {
            confirmed: Confirmed::ByHand,
            ..line(None, text)
        });
        self
    }

    /// What of it holds for the site's VIP: for IPv6 no vendor's syntax was looked up.
    fn for_family_of(mut self, site: &Site) -> Self {
        if site.vip.is_ipv4() {
            return self;
        }
        for step in self
            .steps
            .iter_mut()
            .filter(|step| step.purpose == ARP_ENTRY)
        {
            step.purpose = "static neighbour entry";
        }
        if self.both_families {
            return self;
        }
        let is_arps = |line: &Line| ["arp", "ARP"].iter().any(|word| line.text.contains(word));
        let before = self.steps.len() + self.beware.len();
        self.steps.retain(|step| step.scope != Scope::Ip4);
        self.beware.retain(|line| !is_arps(line));
        if self.steps.len() + self.beware.len() < before {
            self = self.beware(
                None,
                "the syntax of a static IPv6 neighbour entry was not looked up; one is needed only \
                 where the router refuses the cluster MAC in neighbour advertisements",
            );
        }
        let steps = self.steps.iter_mut();
        let lines = steps
            .filter(|step| step.scope == Scope::AnyMac)
            .flat_map(|step| &mut step.lines);
        let documented = |line: &&mut Line| line.confirmed == Confirmed::Documented;
        for line in lines.chain(self.beware.iter_mut().filter(documented)) {
            (line.confirmed, line.source) = (Confirmed::Unconfirmed, None);
        }
        // What shows ARP's table shows no neighbour.
        self.check.retain(|line| !is_arps(line));
        self
    }
}
