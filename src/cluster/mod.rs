//! What daemons agree on: who holds which bucket, and how it goes from one to another. Pure, and without a clock: time
//! comes in.
//!
//! | module | what lives there |
//! |---|---|
//! | [`gathering`] | who is here: nodes, rings, daemons that hear each other |
//! | [`message`] | what they say, and how it is written |
//! | [`holding`] | what a member holds |
//! | [`view`] | what all hold, as everybody hears it alike |
//! | [`event`] | what follows from what is said |
//! | [`bucket`] | one bucket on this node: where it stands, what happens to it |
//! | [`handover`] | the steps of a handover; `transitions` has all of them as a table |
//! | [`order`] | the words between the state machine and the shell |
//! | [`machine`] | the state machine: what it is asked, what its kernel has, time |
//! | `hearing` | what it hears |
//! | [`outgoing`] | what it has to do and to say |
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
//! **An agent without its daemon**, on a node where one is to be (its socket's file is there), waits for as long as an
//! offer may last before it takes what it starts: somebody may have offered it to the daemon that it cannot reach.
//!
//! What may not live here: sockets, clocks, the kernel, Corosync.

pub mod bucket;
pub mod event;
pub mod gathering;
pub mod handover;
mod hearing;
pub mod holding;
pub mod machine;
pub mod message;
pub mod order;
pub mod outgoing;
#[cfg(test)]
mod transitions;
pub mod view;
