//! The steps of a handover, for one bucket on this node. Pure.
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

use super::bucket::{
    AGAIN, Answer, Around, Coming, Goes, HEARD_WITHIN, Input, MARGIN, OFFER, Offered, Op, Stand,
    State, Ticket, Want,
};
use super::event::Claimed;
use super::message::Epoch;
use std::time::Duration;

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
            State::Offered(offered) => Some(offered.wakes()),
        }
    }

    /// Is that still to be done where the bucket stands now? Much may be heard before anything is done.
    pub fn still(&self, want: &Want) -> bool {
        match (want, self) {
            (Want::Do(Op::Take), state) => matches!(state, State::Coming(_)),
            (Want::Do(Op::Offer) | Want::SayOffer, state) => matches!(state, State::Offered(_)),
            (Want::Do(Op::Keep), State::Offered(offered)) => offered.back.is_some(),
            (Want::Do(Op::Give), State::Offered(offered)) => offered.goes,
            (Want::Do(Op::Keep | Op::Give), _) => false,
            (Want::SayClaim, State::Coming(coming)) => coming.stand == Stand::Said,
            (Want::SayClaim, State::Offered(offered)) => offered.back.is_some(),
            (Want::SayClaim, _) => false,
            _ => true,
        }
    }
}

/// All of these are answered so.
fn answer(tickets: Vec<Ticket>, answer: Answer, wants: &mut Vec<Want>) {
    let tickets = tickets.into_iter();
    wants.extend(tickets.map(|ticket| Want::Answer(ticket, answer)));
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
            until: Some(around.now + left),
            ..Offered::of(epoch, around.now)
        }),
    }
}

fn held(epoch: Epoch, input: Input, around: Around, wants: &mut Vec<Want>) -> State {
    match input {
        Input::Start(ticket, _) => wants.push(Want::Answer(ticket, Answer::Owned)),
        Input::Stop(ticket, Goes::ToAMember) if around.whole => {
            wants.push(Want::Do(Op::Offer));
            return State::Offered(Offered {
                tickets: vec![ticket],
                ..Offered::of(epoch, around.now + HEARD_WITHIN)
            });
        }
        Input::Stop(ticket, _) => wants.push(Want::Answer(ticket, Answer::Alone)),
        Input::Loses => {
            wants.push(Want::Do(Op::Give));
            return State::Offered(Offered {
                goes: true,
                ..Offered::of(epoch, around.now + AGAIN)
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

    fn answered(self, how: Answer, wants: &mut Vec<Want>) {
        answer(self.tickets, how, wants);
    }

    /// Nobody takes it here. If it is this node's by what everybody has heard, it is nobody's from now on.
    fn given_up(self, wants: &mut Vec<Want>) -> State {
        let is_mine = matches!(self.stand, Stand::Mine(_));
        self.answered(Answer::Failed, wants);
        wants.extend(is_mine.then_some(Want::SayRelease(false)));
        State::Foreign
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
            (Input::Cancel(ticket), _) => {
                self.tickets.retain(|known| *known != ticket);
                if self.tickets.is_empty() {
                    return self.given_up(wants);
                }
            }
            (Input::Stop(ticket, _), _) => {
                let state = self.given_up(wants);
                wants.push(Want::Answer(ticket, Answer::Alone));
                return state;
            }
            (Input::Claimed(Claimed::Free, epoch), _) => return self.mine(epoch, around, wants),
            // Whoever has just let go was the only one.
            (Input::Given(epoch), _) => {
                self.stand = Stand::Mine(epoch);
                wants.push(Want::Do(Op::Take));
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
            (Input::Done(Op::Take, false), _) => return self.given_up(wants),
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
    /// Nothing has been told to the kernel or to anybody; who waits does so until then.
    fn of(epoch: Epoch, patience: Duration) -> Self {
        Offered {
            epoch,
            until: None,
            heard: false,
            tickets: Vec::new(),
            patience,
            goes: false,
            back: None,
        }
    }

    fn wakes(&self) -> Duration {
        let lets_go = self.until.map(|until| until.saturating_sub(MARGIN));
        match self.goes || !self.tickets.is_empty() {
            true => self.patience,
            false => lets_go.unwrap_or(self.patience),
        }
    }

    fn answered(&mut self, how: Answer, wants: &mut Vec<Want>) {
        answer(std::mem::take(&mut self.tickets), how, wants);
    }

    fn back_answered(&mut self, how: Answer, wants: &mut Vec<Want>) {
        let (tickets, _) = self.back.take().unwrap_or_default();
        answer(tickets, how, wants);
    }

    fn give(&mut self, around: Around, wants: &mut Vec<Want>) {
        self.goes = true;
        self.patience = around.now + AGAIN;
        wants.push(Want::Do(Op::Give));
    }

    fn has_ended(&self, now: Duration) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    fn step(mut self, input: Input, around: Around, wants: &mut Vec<Want>) -> State {
        match input {
            // The kernel counts from when it was told.
            Input::Done(Op::Offer, true) => {
                self.until = Some(around.now + OFFER);
                wants.push(Want::SayOffer);
            }
            Input::Done(Op::Offer, false) => {
                self.answered(Answer::Alone, wants);
                self.back_answered(Answer::Owned, wants);
                return State::Held { epoch: self.epoch };
            }
            // It was said with all else, if the kernel was told.
            Input::OfferHeard | Input::Whole if self.until.is_some() => {
                self.heard = true;
                self.answered(Answer::Left, wants);
                if input == Input::Whole {
                    wants.extend(self.back.iter().map(|_| Want::SayClaim));
                }
            }
            Input::Gathered(true) => self.heard = false,
            // The agent lets the bucket go by itself then, which is seen.
            Input::Cancel(ticket) => {
                self.tickets.retain(|known| *known != ticket);
                if let Some((tickets, _)) = &mut self.back {
                    tickets.retain(|known| *known != ticket);
                }
                self.back = self.back.filter(|(tickets, _)| !tickets.is_empty());
            }
            Input::Stop(ticket, _) => {
                // By its claim everybody may take it for this node's again.
                if self.back.is_some() && self.until.is_some() {
                    self.heard = false;
                    wants.push(Want::SayOffer);
                }
                self.back_answered(Answer::Failed, wants);
                self.tickets.push(ticket);
                if self.heard {
                    self.answered(Answer::Left, wants);
                } else if !self.goes {
                    self.patience = around.now + HEARD_WITHIN;
                }
            }
            // It comes back by a claim, like any other: somebody else's may have been heard before.
            Input::Start(ticket, since) => {
                let back = self.back.get_or_insert((Vec::new(), since));
                back.0.push(ticket);
                if around.whole {
                    wants.push(Want::SayClaim);
                }
            }
            Input::Claimed(Claimed::Free, epoch) if self.back.is_some() => {
                self.epoch = epoch;
                self.answered(Answer::Left, wants);
                wants.push(Want::Do(Op::Keep));
            }
            Input::Done(Op::Keep, true) => {
                self.back_answered(Answer::Owned, wants);
                return State::Held { epoch: self.epoch };
            }
            // The kernel was faster. It is this node's by what everybody has heard.
            Input::Done(Op::Keep, false) => return self.come_back(Stand::Mine(0), around, wants),
            Input::Wanted(Claimed::Promised(_)) | Input::Loses => self.give(around, wants),
            Input::Done(Op::Give, true) => return self.gone(around, wants),
            // What was not let go is ended by the kernel, if it was told to.
            Input::Done(Op::Give, false) | Input::Time if self.has_ended(around.now) => {
                return self.gone(around, wants);
            }
            Input::Time if around.now >= self.wakes() => self.give(around, wants),
            // Nobody is there to claim it.
            Input::Gathered(false) => self.give(around, wants),
            Input::Unclaimed if self.back.is_none() && !self.goes => self.give(around, wants),
            Input::Seen(None) => {
                self.answered(Answer::Left, wants);
                wants.push(Want::SayHolds);
                return self.come_back(Stand::Unsaid, around, wants);
            }
            // Somebody has taken away the end that the kernel was given.
            Input::Seen(Some(None)) if !self.goes && self.until.is_some() => {
                self.answered(Answer::Alone, wants);
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
        self.answered(Answer::Left, wants);
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
