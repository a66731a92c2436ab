//! What is: what a ruleset says of VIPs and of packets. Pure; it knows the rules and the model.
//!
//! | module | what it reads |
//! |---|---|
//! | [`installed`] | which VIPs are here, and their buckets' phases |
//! | [`before`] | how the second lock was before the first VIP came |
//! | [`loaded`] | whether nft has loaded the rules from a file |
//! | [`left_over`] | what a saved file has left here |
//! | `older` | what older versions have written |
//! | [`wanted`] | what should be, given what is here |
//! | [`addressing`] | how the address stands, and whether there is a way to its network |
//! | [`health`] | where the two differ: drift |
//! | [`mending`] | what a VIP has lost, and whether and how often it is put back |
//! | [`explain`] | why a packet is treated as it is |

pub mod addressing;
pub mod before;
pub mod explain;
pub mod health;
pub mod installed;
pub mod left_over;
pub mod loaded;
pub mod mending;
pub(crate) mod older;
pub mod wanted;
