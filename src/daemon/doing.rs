//! What the main loop does: what the state machine wants, one thing after the other, and what has to be said.

use super::errands::Errand;
use super::work::{Work, now};
use crate::cluster::bucket::Op;
use crate::cluster::order::{Order, Todo};
use crate::sys::corosync::CorosyncError;
use std::net::IpAddr;
use tokio::time::Instant;
use tracing::{debug, error};

/// So much waits for Corosync; what does not fit is said anew in another gathering.
const MOST_UNSAID: usize = 4096;

impl Work {
    /// Does what there is to do.
    pub(super) fn go_on(&mut self) {
        self.say_again();
        if Instant::now() >= self.looks_at() {
            self.look();
        }
        if let Some(machine) = &mut self.machine {
            machine.wake(now());
        }
        while let Some(machine) = &mut self.machine {
            let todo = machine.todo(now());
            if todo.is_empty() {
                break;
            }
            todo.into_iter().for_each(|todo| self.act(todo));
        }
        self.telling.tell(self.machine.as_ref(), &self.kernel);
    }

    fn act(&mut self, todo: Todo) {
        match todo {
            Todo::Do(order) => self.tell(&order),
            Todo::Look(vip) => {
                self.look();
                let seen = self.kernel.seen(vip);
                if let Some(machine) = &mut self.machine {
                    machine.confirm(now(), vip, &seen);
                }
            }
            Todo::Say(message) => match message.written() {
                Ok(bytes) => self.say(bytes),
                Err(error) => error!("{error}"),
            },
            Todo::Answer(ticket, answer) => self.answer(ticket, answer),
        }
    }

    /// Tells the kernel.
    fn tell(&mut self, order: &Order) {
        let (vip, buckets) = (order.vip, order.buckets.clone());
        let errand = match order.op {
            Op::Drain => Some(Errand::Drain {
                vip,
                buckets,
                drain_ms: self.usual_drain(vip),
            }),
            Op::Adopted => Some(Errand::Adopted { vip, buckets }),
            _ => None,
        };
        if let Some(errand) = errand {
            if self.errands.send(errand).is_err() {
                error!("nobody does errands any more");
            }
        }
        let done = self.kernel.tell(order);
        debug!("{:?} {} of {vip}: {done}", order.op, order.buckets);
        self.telling.done(order, &done);
        if let Some(machine) = &mut self.machine {
            machine.done(now(), order, &done);
        }
    }

    fn usual_drain(&self, vip: IpAddr) -> u64 {
        let asked = self.drain_ms.get(&vip).copied();
        asked
            .or_else(|| self.kernel.usual_drain(vip))
            .unwrap_or_default()
    }

    /// Says something to all; what Corosync does not take now is said later, in its place.
    fn say(&mut self, bytes: Vec<u8>) {
        self.unsaid.push_back(bytes);
        self.say_again();
        if self.unsaid.len() > MOST_UNSAID {
            error!("Corosync takes nothing any more");
            self.unsaid.pop_front();
        }
    }

    fn say_again(&mut self) {
        while let (Some(bytes), Some(link)) = (self.unsaid.front(), &self.link) {
            match link.send(bytes) {
                Ok(()) => drop(self.unsaid.pop_front()),
                Err(CorosyncError::TryAgain(_)) => return,
                // What becomes of the connection is heard of by itself.
                Err(error) => {
                    debug!("{error}");
                    self.unsaid.clear();
                }
            }
        }
    }
}
