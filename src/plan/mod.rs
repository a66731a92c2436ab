//! The way: from what is asked for and what is found to what is to be done, in order. Pure: data in, data out, and
//! tested without a kernel.
//!
//! **The vital order.** The rules, and with them the description, are there before anything else is, and outlast
//! everything else: whoever is interrupted leaves behind what the next action needs to finish the work, and at no moment
//! is a foreign packet answered.
//!
//! | | coming (`coming`) | going (`going`) |
//! |---|---|---|
//! | 1 | the link's consent, if nothing of the VIP is here ([`step::Step::Agree`]) | the buckets: foreign, or closing, listed and draining |
//! | 2 | the rules, which drop what is foreign | the address, unless connections stay: then its lifetime |
//! | 3 | the second lock | the way to its network, the membership |
//! | 4 | the membership, the interface | the second lock, as it was |
//! | 5 | the address, the way to its network, the announcement | the rules |
//! | 6 | consent again, before the first bucket | |
//! | 7 | what is left of connections falls silent | |
//! | 8 | the buckets | |
//!
//! | module | what lives there |
//! |---|---|
//! | [`step`] | the words of both directions: intent, step, look, refusal |
//! | `coming`, `going` | the two directions |
//! | [`stale`], `flows` | what this node has left of connections; those that stay |
//! | [`removal`] | what goes with a VIP or a bucket, in rules that may be broken |
//! | [`handover`] | what a daemon tells the kernel of buckets that are handed over |
//! | [`diff`] | from one ruleset to another, in one transaction |

mod coming;
pub mod diff;
mod flows;
mod going;
pub mod handover;
pub mod removal;
pub mod stale;
pub mod step;

use crate::model::host::Observed;
use crate::reading::installed::find;
use coming::Coming;
pub use coming::is_own;
pub use going::ABANDONED_MS;
use std::net::IpAddr;
use step::{Intent, Refusal, Step};

/// The steps to what is asked for; none if it is so already.
///
/// # Errors
/// Why nothing is done.
pub fn steps(observed: &Observed, intent: &Intent) -> Result<Vec<Step>, Refusal> {
    match intent {
        Intent::Take {
            vip,
            buckets,
            adopt_ms,
        } => match coming::take(observed, vip, buckets, *adopt_ms)? {
            Coming::By(steps) => Ok(steps),
            Coming::AfterWhatIsLeft => make_way(observed, vip.address),
        },
        Intent::Come {
            vip,
            buckets,
            within_ms,
        } => match coming::come(observed, vip, buckets, *within_ms)? {
            Coming::By(steps) => Ok(steps),
            Coming::AfterWhatIsLeft => make_way(observed, vip.address),
        },
        Intent::Ready { address } => going::ready(observed, *address),
        Intent::Release {
            address,
            buckets,
            drain_ms,
        } => match find(&observed.rules, *address) {
            None => Err(Refusal::Unknown(*address)),
            Some(_) => Ok(going::release(observed, *address, buckets, *drain_ms)),
        },
        Intent::Leave {
            address,
            buckets,
            drain_ms,
            place,
        } => Ok(going::leave(
            observed,
            *address,
            buckets.as_ref(),
            *drain_ms,
            place.as_ref(),
        )),
        Intent::Adopted { address, buckets } => Ok(going::adopted(observed, *address, buckets)),
        Intent::Settle { address } => Ok(going::settle(observed, *address)),
    }
}

/// What is left of the VIP by another description goes.
fn make_way(observed: &Observed, address: IpAddr) -> Result<Vec<Step>, Refusal> {
    match going::leave(observed, address, None, 0, None) {
        steps if steps.is_empty() => Err(Refusal::Ending(address)),
        steps => Ok(steps),
    }
}
