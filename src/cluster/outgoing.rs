//! What the state machine has to do and to say, put together for many buckets. Pure.

use super::bucket::{Op, Stand, State, Want};
use super::machine::Machine;
use super::message::{Holds, MAJOR, MINOR, Message, Part, Said};
use super::order::{Order, Todo};
use crate::model::bucket::BucketSet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

impl Machine {
    /// What is to be done now, in order: what the kernel is told first, then what others wait for, and last what nobody
    /// waits for. What concerns one bucket keeps its order.
    pub fn todo(&mut self, now: Duration) -> Vec<Todo> {
        let mut wants: BTreeMap<(usize, IpAddr, Want), BTreeSet<u16>> = BTreeMap::new();
        let mut last: BTreeMap<(IpAddr, u16), (usize, Want)> = BTreeMap::new();
        let mut answers = Vec::new();
        let mut drains: BTreeMap<IpAddr, BTreeSet<u16>> = BTreeMap::new();
        for (vip, bucket, want) in std::mem::take(&mut self.wants) {
            let state = self.state(vip, bucket).unwrap_or(&State::Foreign);
            match want {
                Want::Answer(..) => answers.extend(self.one(vip, &want, BucketSet::one(bucket))),
                Want::Do(Op::Drain) => {
                    drains.entry(vip).or_default().insert(bucket);
                }
                want if state.still(&want) => {
                    let before = last.get(&(vip, bucket));
                    // What is heard and the time that it is may both be a reason: it is done once.
                    if before.is_some_and(|(_, before)| *before == want) {
                        continue;
                    }
                    let place = before.map_or(0, |(place, _)| place + 1);
                    last.insert((vip, bucket), (place, want.clone()));
                    wants.entry((place, vip, want)).or_default().insert(bucket);
                }
                _ => {}
            }
        }
        let mut todo = Vec::new();
        for ((_, vip, want), buckets) in wants {
            todo.extend(self.one(vip, &want, buckets.into_iter().collect()));
        }
        for (vip, buckets) in std::mem::take(&mut self.adopted) {
            todo.push(order(Op::Adopted, vip, buckets.into_iter().collect()));
        }
        for (vip, buckets) in std::mem::take(&mut self.drained) {
            let buckets = buckets.into_iter().collect();
            todo.extend(self.say(Said::Drained { vip, buckets }));
        }
        todo.extend(self.holdings(now));
        todo.extend(answers);
        for (vip, buckets) in drains {
            todo.push(order(Op::Drain, vip, buckets.into_iter().collect()));
        }
        todo
    }

    /// What is held, of the VIPs of which it has to be said.
    fn holdings(&mut self, now: Duration) -> Vec<Todo> {
        let mut todo = Vec::new();
        let all = std::mem::take(&mut self.to_say_all);
        let mut vips = std::mem::take(&mut self.to_say);
        if all {
            for vip in self.own.keys() {
                vips.entry(*vip).or_default();
            }
        }
        for (vip, confirms) in vips {
            let mut holds = self.holds(now, vip);
            holds.confirms = confirms;
            todo.extend(self.say(Said::Holds(holds)));
        }
        if all {
            todo.extend(self.say(Said::Whole));
        }
        todo
    }

    fn one(&mut self, vip: IpAddr, want: &Want, buckets: BucketSet) -> Option<Todo> {
        match want {
            Want::Do(op) => Some(order(*op, vip, buckets)),
            Want::Confirm => Some(Todo::Look(vip)),
            Want::SayHolds => {
                self.to_say.entry(vip).or_default();
                None
            }
            Want::SayClaim => {
                let epoch = self.view.next_epoch(vip, buckets.iter());
                let description = self.description(vip);
                self.say(Said::Claims {
                    vip,
                    description,
                    buckets,
                    epoch,
                })
            }
            Want::SayOffer => self.say(Said::Offers { vip, buckets }),
            Want::SayRelease(drains) => {
                let drains = *drains;
                if drains {
                    let own = self.own.entry(vip).or_default();
                    own.drains.extend(buckets.iter());
                }
                self.say(Said::Releases {
                    vip,
                    buckets,
                    drains,
                })
            }
            Want::SayTook(epoch) => {
                let (description, epoch) = (self.description(vip), *epoch);
                self.say(Said::Took {
                    vip,
                    description,
                    buckets,
                    epoch,
                })
            }
            Want::Answer(ticket, answer) => Some(Todo::Answer(*ticket, *answer)),
        }
    }

    /// A message, if there is anybody to hear it.
    fn say(&mut self, said: Said) -> Option<Todo> {
        let (_, gathering) = self.gathering.as_ref()?;
        self.said += 1;
        Some(Todo::Say(Message {
            major: MAJOR,
            minor: MINOR,
            gathering: *gathering,
            from: self.me,
            number: self.said,
            said,
        }))
    }

    /// What this node's kernel holds of a VIP, as far as it was told or looked at.
    fn holds(&self, now: Duration, vip: IpAddr) -> Holds {
        let own = self.own.get(&vip);
        let mut parts: BTreeMap<(u64, Option<u64>), BTreeSet<u16>> = BTreeMap::new();
        let mut open = BTreeSet::new();
        for (bucket, state) in own.iter().flat_map(|own| &own.buckets) {
            let like = match state {
                State::Held { epoch } => (*epoch, None),
                State::Offered(offered) => {
                    let left = offered.until.map(|until| until.saturating_sub(now));
                    (offered.epoch, left.map(millis))
                }
                // By what everybody has heard it is.
                State::Coming(coming) => match coming.stand {
                    Stand::Mine(epoch) => (epoch, None),
                    _ => {
                        open.insert(*bucket);
                        continue;
                    }
                },
                State::Foreign => continue,
            };
            parts.entry(like).or_default().insert(*bucket);
        }
        let part = |((epoch, ends_ms), buckets): (_, BTreeSet<u16>)| Part {
            buckets: buckets.into_iter().collect(),
            epoch,
            ends_ms,
        };
        Holds {
            vip,
            description: self.description(vip),
            held: parts.into_iter().map(part).collect(),
            drains: own
                .iter()
                .flat_map(|own| own.drains.iter().copied())
                .collect(),
            open: open.into_iter().collect(),
            confirms: BTreeSet::new(),
        }
    }
}

fn order(op: Op, vip: IpAddr, buckets: BucketSet) -> Todo {
    Todo::Do(Order { op, vip, buckets })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
