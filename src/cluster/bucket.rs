//! One bucket on this node: the steps of a handover. Pure.
//!
//! | state | who answers | ends by |
//! |---|---|---|
//! | foreign | another node, or nobody | a start |
//! | coming | the node that has had it, until it lets go | the bucket's arrival; at the latest [`OFFER`] after the start |
//! | held | this node | a stop |
//! | offered | this node, until somebody claims the bucket | letting go; at the latest by the kernel, [`OFFER`] after the stop |
//!
//! **Only the holder gives, and who has given never takes back alone.** A start says so to all (a claim) and takes at
//! the moment when nobody holds the bucket: its own claim's delivery, or the word of the holder that it has let go. Who
//! hears nothing takes when the kernel of whoever has offered the bucket must have ended that: an offer was made
//! before the start was asked for, since Pacemaker ends a stop before it begins the start that belongs to it.

use super::message::Epoch;
use super::view::Claimed;
use std::time::Duration;

/// How long a bucket is offered; then the kernel ends it.
pub const OFFER: Duration = Duration::from_secs(5);
/// How long before that the bucket is let go of in order, so that its connections stay.
pub const MARGIN: Duration = Duration::from_millis(500);
/// How long it may take until an offer is heard by all.
pub const HEARD_WITHIN: Duration = Duration::from_secs(1);

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
    /// When the kernel ends it.
    pub until: Duration,
    /// Who waits for the offer's being heard.
    pub tickets: Vec<Ticket>,
    /// When nobody waits any longer for that.
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
    /// Owned from now on.
    Take,
    /// Owned, but not for longer than [`OFFER`].
    Offer,
    /// Owned without an end again.
    Keep,
    /// Answered no more: no new connections, and no bare resets to those of others.
    Give,
    /// The connections that there are may stay.
    Drain,
    /// Nobody else has connections in it any more.
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

/// What an agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// The bucket is owned here.
    Owned,
    /// The bucket is as good as gone: whoever claims it gets it.
    Left,
    /// The daemon does nothing here: the agent is to do it.
    Alone,
    /// Another node has the bucket and has not been told to stop it.
    Kept,
    /// Another node has the VIP under another description.
    Unlike,
    /// The kernel was told and did not do it.
    Failed,
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

impl State {
    /// What happens next, and what is to be done for it.
    pub fn step(self, input: Input, around: Around) -> (State, Vec<Want>) {
        let mut wants = Vec::new();
        let state = match self {
            State::Foreign => foreign(input, around, &mut wants),
            State::Coming(coming) => coming.step(input, around, &mut wants),
            State::Held { epoch } => held(epoch, input, around, &mut wants),
            State::Offered(offered) => offered.step(input, around, &mut wants),
        };
        (state, wants)
    }

    /// When time alone changes something.
    pub fn wakes(&self, doubt: Duration) -> Option<Duration> {
        match self {
            State::Foreign | State::Held { .. } => None,
            State::Coming(coming) => Some(match coming.stand {
                Stand::Mine(_) => doubt.min(coming.since + OFFER),
                _ => coming.since + OFFER,
            }),
            State::Offered(offered) if offered.tickets.is_empty() => {
                Some(offered.until.saturating_sub(MARGIN))
            }
            State::Offered(offered) => Some(offered.patience),
        }
    }
}

fn foreign(input: Input, around: Around, wants: &mut Vec<Want>) -> State {
    match input {
        Input::Start(ticket, since) => {
            let coming = Coming {
                tickets: vec![ticket],
                since,
                stand: Stand::Unsaid,
            };
            coming.claim(around, wants)
        }
        // What the daemon knows nothing of the agent looks for itself.
        Input::Stop(ticket, _) => {
            wants.push(Want::Answer(ticket, Answer::Alone));
            State::Foreign
        }
        // Nobody asks for it any more.
        Input::Given(_) | Input::Claimed(Claimed::Free, _) => {
            wants.push(Want::SayRelease(false));
            State::Foreign
        }
        Input::Seen(Some(ends)) => found(ends, around, wants),
        _ => State::Foreign,
    }
}

/// The kernel has the bucket, and this daemon did not tell it to.
fn found(ends: Option<Duration>, around: Around, wants: &mut Vec<Want>) -> State {
    wants.push(Want::SayHolds);
    let epoch = around.next;
    match ends {
        None => State::Held { epoch },
        Some(left) => State::Offered(Offered {
            epoch,
            until: around.now + left,
            tickets: Vec::new(),
            patience: around.now,
            goes: false,
            back: None,
        }),
    }
}

fn held(epoch: Epoch, input: Input, around: Around, wants: &mut Vec<Want>) -> State {
    match input {
        Input::Start(ticket, _) => wants.push(Want::Answer(ticket, Answer::Owned)),
        Input::Stop(ticket, Goes::ToAMember) if around.whole => {
            wants.push(Want::Do(Op::Offer));
            return State::Offered(Offered {
                epoch,
                until: around.now + OFFER,
                tickets: vec![ticket],
                patience: around.now + HEARD_WITHIN,
                goes: false,
                back: None,
            });
        }
        Input::Stop(ticket, _) => wants.push(Want::Answer(ticket, Answer::Alone)),
        Input::Loses => {
            wants.push(Want::Do(Op::Give));
            return State::Offered(Offered {
                epoch,
                until: around.now + OFFER,
                tickets: Vec::new(),
                patience: around.now,
                goes: true,
                back: None,
            });
        }
        // Perhaps the agent has just let it go.
        Input::Wanted(_) => wants.push(Want::Confirm),
        Input::Seen(None) => {
            wants.push(Want::SayHolds);
            return State::Foreign;
        }
        Input::Seen(Some(Some(left))) => return found(Some(left), around, wants),
        _ => {}
    }
    State::Held { epoch }
}

impl Coming {
    fn claim(mut self, around: Around, wants: &mut Vec<Want>) -> State {
        self.stand = Stand::Unsaid;
        if around.whole {
            wants.push(Want::SayClaim);
            self.stand = Stand::Said;
        }
        State::Coming(self)
    }

    fn answered(self, answer: Answer, wants: &mut Vec<Want>) {
        let tickets = self.tickets.into_iter();
        wants.extend(tickets.map(|ticket| Want::Answer(ticket, answer)));
    }

    /// It is this node's; if nobody who has gone may answer it any more, it is taken.
    fn mine(mut self, epoch: Epoch, around: Around, wants: &mut Vec<Want>) -> State {
        self.stand = Stand::Mine(epoch);
        if around.now >= around.doubt.min(self.since + OFFER) {
            wants.push(Want::Do(Op::Take));
        }
        State::Coming(self)
    }

    fn step(mut self, input: Input, around: Around, wants: &mut Vec<Want>) -> State {
        match (input, self.stand) {
            (Input::Start(ticket, _), _) => self.tickets.push(ticket),
            (Input::Cancel(ticket), stand) => {
                self.tickets.retain(|known| *known != ticket);
                if self.tickets.is_empty() {
                    if matches!(stand, Stand::Mine(_)) {
                        wants.push(Want::SayRelease(false));
                    }
                    return State::Foreign;
                }
            }
            (Input::Stop(ticket, _), stand) => {
                self.answered(Answer::Failed, wants);
                if matches!(stand, Stand::Mine(_)) {
                    wants.push(Want::SayRelease(false));
                }
                wants.push(Want::Answer(ticket, Answer::Alone));
                return State::Foreign;
            }
            (Input::Claimed(Claimed::Free, epoch) | Input::Given(epoch), _) => {
                return self.mine(epoch, around, wants);
            }
            (Input::Claimed(Claimed::Promised(_), _), Stand::Said) => self.stand = Stand::Promised,
            (Input::Claimed(Claimed::Kept(_), _), Stand::Said) => self.stand = Stand::Kept,
            (Input::Claimed(Claimed::Unlike(_), _), _) => {
                self.answered(Answer::Unlike, wants);
                return State::Foreign;
            }
            (Input::Free, Stand::Kept | Stand::Promised) => return self.claim(around, wants),
            (Input::Gathered(_), _) => self.stand = Stand::Unsaid,
            (Input::Whole, Stand::Unsaid) => return self.claim(around, wants),
            (Input::Loses, Stand::Mine(_)) => self.stand = Stand::Kept,
            (Input::Time, Stand::Mine(epoch)) => return self.mine(epoch, around, wants),
            // Whoever has offered it has it no more; of anybody else Pacemaker knows, as it does without daemons.
            (Input::Time, _) if around.now >= self.since + OFFER => wants.push(Want::Do(Op::Take)),
            (Input::Confirmed, Stand::Kept) => {
                self.answered(Answer::Kept, wants);
                return State::Foreign;
            }
            (Input::Done(Op::Take, true), stand) => {
                let epoch = match stand {
                    Stand::Mine(epoch) => epoch,
                    _ => {
                        wants.push(Want::SayTook(around.next));
                        around.next
                    }
                };
                self.answered(Answer::Owned, wants);
                return State::Held { epoch };
            }
            (Input::Done(Op::Take, false), stand) => {
                self.answered(Answer::Failed, wants);
                if matches!(stand, Stand::Mine(_)) {
                    wants.push(Want::SayRelease(false));
                }
                return State::Foreign;
            }
            (Input::Seen(Some(None)), _) => {
                self.answered(Answer::Owned, wants);
                return found(None, around, wants);
            }
            _ => {}
        }
        State::Coming(self)
    }
}

impl Offered {
    fn answered(&mut self, wants: &mut Vec<Want>) {
        let tickets = std::mem::take(&mut self.tickets).into_iter();
        wants.extend(tickets.map(|ticket| Want::Answer(ticket, Answer::Left)));
    }

    fn back_answered(&mut self, answer: Answer, wants: &mut Vec<Want>) {
        let (tickets, _) = self.back.take().unwrap_or_default();
        wants.extend(
            tickets
                .into_iter()
                .map(|ticket| Want::Answer(ticket, answer)),
        );
    }

    fn give(&mut self, wants: &mut Vec<Want>) {
        self.goes = true;
        wants.push(Want::Do(Op::Give));
    }

    fn step(mut self, input: Input, around: Around, wants: &mut Vec<Want>) -> State {
        match input {
            // The kernel counts from when it was told.
            Input::Done(Op::Offer, true) => {
                self.until = around.now + OFFER;
                wants.push(Want::SayOffer);
            }
            Input::Done(Op::Offer, false) => {
                let tickets = std::mem::take(&mut self.tickets).into_iter();
                wants.extend(tickets.map(|ticket| Want::Answer(ticket, Answer::Alone)));
                self.back_answered(Answer::Owned, wants);
                return State::Held { epoch: self.epoch };
            }
            Input::OfferHeard => self.answered(wants),
            // The agent lets the bucket go by itself then, which is seen.
            Input::Cancel(ticket) => {
                self.tickets.retain(|known| *known != ticket);
                if let Some((tickets, _)) = &mut self.back {
                    tickets.retain(|known| *known != ticket);
                }
                self.back = self.back.filter(|(tickets, _)| !tickets.is_empty());
            }
            Input::Stop(ticket, _) => {
                self.back_answered(Answer::Failed, wants);
                wants.push(Want::Answer(ticket, Answer::Left));
            }
            // It comes back by a claim, like any other: somebody else's may have been heard before.
            Input::Start(ticket, since) => {
                let back = self.back.get_or_insert((Vec::new(), since));
                back.0.push(ticket);
                if around.whole {
                    wants.push(Want::SayClaim);
                }
            }
            // It was said with all else.
            Input::Whole => {
                self.answered(wants);
                wants.extend(self.back.iter().map(|_| Want::SayClaim));
            }
            Input::Claimed(Claimed::Free, epoch) if self.back.is_some() => {
                self.epoch = epoch;
                self.answered(wants);
                wants.push(Want::Do(Op::Keep));
            }
            Input::Done(Op::Keep, true) => {
                self.back_answered(Answer::Owned, wants);
                return State::Held { epoch: self.epoch };
            }
            // The kernel was faster. It is this node's by what everybody has heard.
            Input::Done(Op::Keep, false) => return self.come_back(Stand::Mine(0), around, wants),
            Input::Wanted(Claimed::Promised(_)) | Input::Loses => self.give(wants),
            Input::Done(Op::Give, true) => return self.gone(around, wants),
            // What was not let go is ended by the kernel.
            Input::Done(Op::Give, false) | Input::Time if around.now >= self.until => {
                return self.gone(around, wants);
            }
            Input::Time if self.goes || around.now + MARGIN >= self.until => self.give(wants),
            Input::Time if !self.tickets.is_empty() && around.now >= self.patience => {
                self.give(wants);
            }
            // Nobody is there to claim it.
            Input::Gathered(false) => self.give(wants),
            Input::Seen(None) => {
                self.answered(wants);
                wants.push(Want::SayHolds);
                return self.come_back(Stand::Unsaid, around, wants);
            }
            Input::Seen(Some(None)) if !self.goes => {
                self.answered(wants);
                self.back_answered(Answer::Owned, wants);
                return found(None, around, wants);
            }
            _ => {}
        }
        State::Offered(self)
    }

    /// It is not answered here any more.
    fn gone(mut self, around: Around, wants: &mut Vec<Want>) -> State {
        wants.push(Want::SayRelease(true));
        self.answered(wants);
        wants.push(Want::Do(Op::Drain));
        self.come_back(Stand::Unsaid, around, wants)
    }

    /// It is gone, and comes if it was to come back.
    fn come_back(self, stand: Stand, around: Around, wants: &mut Vec<Want>) -> State {
        let Some((tickets, since)) = self.back else {
            return State::Foreign;
        };
        let coming = Coming {
            tickets,
            since,
            stand,
        };
        match stand {
            Stand::Mine(_) => coming.mine(self.epoch, around, wants),
            _ => coming.claim(around, wants),
        }
    }
}
