//! What the product is about, as values: the hash, buckets, link-layer addresses, a VIP's whole
//! description, the frames that announce it. Pure: no input, no output, no clock.
//!
//! Text that somebody else wrote is `untrusted`, and printed by nothing else.
//!
//! `packet` foretells what the kernel does with a packet; tests hold the kernel against it.

pub mod agreement;
pub mod announce;
pub mod answer;
pub mod belief;
pub mod bucket;
pub mod call;
pub mod change;
pub mod draft;
mod extensions;
pub mod foreign;
pub mod frame;
pub mod hash;
pub mod host;
pub mod l2_mode;
pub mod link;
pub mod mac;
pub mod network;
pub mod nic;
pub mod packet;
pub mod phase;
pub mod predecessor;
pub mod protocol;
mod rule;
pub mod ruleset;
pub mod seed;
pub mod set;
pub mod untrusted;
pub mod vip;
pub mod written;
