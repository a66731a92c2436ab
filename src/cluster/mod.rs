//! What daemons agree on: who holds which bucket, and how it goes from one to another. Pure, and without a clock: time
//! comes in.
//!
//! | module | what lives there |
//! |---|---|
//! | [`gathering`] | who is here: nodes, rings, daemons that hear each other |
//! | [`message`] | what they say, and how it is written |
//! | [`view`] | what all hold, as everybody hears it alike |
//! | [`bucket`] | one bucket on this node: the steps of a handover |
//! | [`machine`] | all of it together: what comes in, what is to be done |
//!
//! **A handover.** Pacemaker stops a bucket on n1 and starts it on n2; meanwhile n1 goes on answering:
//!
//! | n1 | is said to all | n2 |
//! |---|---|---|
//! | stop: the kernel is given an end, five seconds on | n1 offers | |
//! | | n2 claims | start: everything but the bucket is installed |
//! | lets go, in one transaction | n1 releases | |
//! | lists its connections, and drains | | takes, in one transaction |
//!
//! The bucket is dark between the two transactions: for the way of one message. Nothing depends on anybody's going on:
//! n1's kernel ends an offer by itself, and n2 takes after that. What is said in one gathering counts in no other one,
//! and after each change everybody says anew what its kernel holds; the kernel stays the only state.
//!
//! What may not live here: sockets, clocks, the kernel, Corosync.

pub mod bucket;
pub mod gathering;
pub mod machine;
pub mod message;
#[cfg(test)]
mod transitions;
pub mod view;
