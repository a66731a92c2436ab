//! One IP address, shared actively by all nodes of a cluster, with no director in front.
//!
//! The map of the house. Imports run downhill only, from room to room as the chapter of the source tree in
//! `docs/design.md` draws it; a test looks.
//!
//! | module | what lives there |
//! |---|---|
//! | `bin` | a `main` each, and nothing else |
//! | [`agent`] | the resource agent: Pacemaker's words for what the rest does |
//! | [`nodectl`] | the same for people at a terminal, one file a verb |
//! | `daemon` | the shell around what daemons agree on; the feature `daemon` builds it |
//! | [`pacemaker`] | what Pacemaker knows of who did what, read by its own programs; configurations for it |
//! | [`guidance`] | pure: what routers and switches are to be told, one file a vendor |
//! | [`cluster`] | pure: what daemons agree on: who holds which bucket, and how it goes from one to another |
//! | [`preflight`] | pure: what of a host will bite a VIP, one function a check |
//! | [`host`] | the thin shell: lock, look, plan, do, look again |
//! | [`talk`] | pure: what agent, nodectl and daemon say to each other |
//! | [`plan`] | pure: the ordered way from what is to what should be |
//! | [`reading`] | pure: what is: installed VIPs, drift, why a packet is treated as it is |
//! | [`rules`] | pure: what should be: what the kernel is told for a VIP |
//! | [`logging`] | lines on stderr, for people and for Pacemaker's log |
//! | [`sys`] | the kernel's interfaces and Corosync's, without policy; all `unsafe` is here |
//! | [`model`] | pure: the hash, buckets, MACs, a VIP's description, rulesets, frames |
//! | `trials` | models that judge all this, and the trials that it stands; no product file knows them |
//!
//! Read [`rules::dataplane`] for what the kernel is told, [`plan`] for the order in which it is told, and
//! [`host::reach`] for how that is done.
#![warn(missing_docs)]

pub mod agent;
pub mod cluster;
#[cfg(feature = "daemon")]
pub mod daemon;
pub mod guidance;
pub mod host;
pub mod logging;
pub mod model;
pub mod nodectl;
pub mod pacemaker;
pub mod plan;
pub mod preflight;
pub mod reading;
pub mod rules;
pub mod sys;
pub mod talk;
#[cfg(any(test, feature = "trials"))]
pub mod trials;
