//! What is: what a ruleset says of VIPs and of packets. Pure; it knows the rules and the model.
//!
//! | module | what it reads |
//! |---|---|
//! | [`installed`] | which VIPs are here, and their buckets' phases |
//! | [`before`] | how the second lock was before the first VIP came |
//! | [`left_over`] | what a saved file has left here |
//! | `older` | what older versions have written |
//! | [`wanted`] | what should be, given what is here |
//! | [`health`] | where the two differ: drift |
//! | [`explain`] | why a packet is treated as it is |

pub mod before;
pub mod explain;
pub mod health;
pub mod installed;
pub mod left_over;
pub(crate) mod older;
pub mod wanted;
