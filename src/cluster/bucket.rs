//! One bucket on this node: where it stands, what happens to it, what is to be done. The steps are `handover`'s. Pure.

use super::event::Claimed;
use super::message::Epoch;
use crate::model::phase::OFFERED_MS;
pub use crate::talk::reply::Answer;
use std::time::Duration;

/// How long a bucket is offered; then the kernel ends it.
pub const OFFER: Duration = Duration::from_millis(OFFERED_MS);
/// How long before that the bucket is let go of in order, so that its connections stay.
pub const MARGIN: Duration = Duration::from_millis(700);
/// How long it may take until an offer is heard by all.
pub const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// The pause before the kernel is told again what it did not do.
pub const AGAIN: Duration = Duration::from_millis(200);

/// A request of an agent's, which is to be answered.
pub type Ticket = u64;

/// Where a bucket stands here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum State {
    /// Nothing of it is here.
    #[default]
    Foreign,
    /// Pacemaker starts it here.
    Coming(Coming),
    /// It is this node's.
    Held {
        /// Since when.
        epoch: Epoch,
    },
    /// It is this node's until somebody claims it.
    Offered(Offered),
}

impl State {
    /// Does this node have it, and keep it?
    pub fn is_held(&self) -> bool {
        matches!(self, State::Held { .. })
    }
}

/// A bucket that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// Who asked for it.
    pub tickets: Vec<Ticket>,
    /// Since when.
    pub since: Duration,
    /// How far it has come.
    pub stand: Stand,
}

/// How far a bucket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// The claim has to be said.
    Unsaid,
    /// It is said.
    Said,
    /// Its holder is going to let go.
    Promised,
    /// Its holder keeps it.
    Kept,
    /// It is this node's, by what everybody has heard.
    Mine(Epoch),
}

/// A bucket that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Since when it is this node's.
    pub epoch: Epoch,
    /// When the kernel ends it, if it was told to.
    pub until: Option<Duration>,
    /// Have all heard that it is offered?
    pub heard: bool,
    /// Who waits for that.
    pub tickets: Vec<Ticket>,
    /// When nobody waits any longer for that, or when letting go is tried again.
    pub patience: Duration,
    /// Somebody has claimed it, or nobody will.
    pub goes: bool,
    /// Pacemaker starts it here again: who asked for it, and since when.
    pub back: Option<(Vec<Ticket>, Duration)>,
}

/// Something that happens to a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Pacemaker starts it here; when the agent was called.
    Start(Ticket, Duration),
    /// Pacemaker stops it here; it starts elsewhere, where a daemon hears this one, or not.
    Stop(Ticket, Goes),
    /// Who asked for it waits no longer.
    Cancel(Ticket),
    /// A claim is heard by all: this node's.
    Claimed(Claimed, Epoch),
    /// Another's claim is heard by all.
    Wanted(Claimed),
    /// This node's offer is heard by all.
    OfferHeard,
    /// Its holder has let go: it is this node's, since this epoch.
    Given(Epoch),
    /// Its holder has it no more, or offers it.
    Free,
    /// Its holder has looked, and keeps it.
    Confirmed,
    /// Another gathering, or none.
    Gathered(bool),
    /// All members have said what they hold.
    Whole,
    /// Another node has it by right.
    Loses,
    /// Nobody will claim it.
    Unclaimed,
    /// Time has passed.
    Time,
    /// The kernel was told something; so it is, or it failed.
    Done(Op, bool),
    /// What the kernel has of it, whoever told it.
    Seen(Option<Option<Duration>>),
}

/// Where a bucket goes that stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    /// To another member: it is worth waiting for its claim.
    ToAMember,
    /// Nobody is to be waited for.
    Away,
}

/// Something to tell the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Owned from now on, and adopted: somebody may have connections in it of whom no daemon tells.
    Take,
    /// Owned, but not for longer than [`OFFER`].
    Offer,
    /// Owned without an end again.
    Keep,
    /// Answered no more: no new connections, and no bare resets to those of others.
    Give,
    /// The connections that there are may stay.
    Drain,
    /// Who has given it has no connections in it any more, nor has any other of whom a daemon has told.
    Adopted,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Tell the kernel.
    Do(Op),
    /// Say that it is claimed.
    SayClaim,
    /// Say that it is offered.
    SayOffer,
    /// Say that it was let go; may connections stay here?
    SayRelease(bool),
    /// Say that it was taken without anybody's word.
    SayTook(Epoch),
    /// Say all that is held of its VIP.
    SayHolds,
    /// Look what the kernel has of its VIP, and say that.
    Confirm,
    /// Answer an agent.
    Answer(Ticket, Answer),
}

/// What a bucket needs to know of the rest.
#[derive(Debug, Clone, Copy)]
pub struct Around {
    /// The time.
    pub now: Duration,
    /// Have all members said what they hold, so that a claim can be said?
    pub whole: bool,
    /// Until when somebody who is not here any more may answer the bucket.
    pub doubt: Duration,
    /// The epoch that a new holder would have.
    pub next: Epoch,
}
