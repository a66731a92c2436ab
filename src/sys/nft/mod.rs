//! nf_tables over netlink: one transaction at a time in, the whole of our tables out. No policy.
//!
//! libnftnl (the crate nftnl) builds tables, base chains, rules and the batch; what its crate has
//! no words for is encoded here. libmnl (the crate mnl) is the socket.

mod batch;
mod chains;
mod changes;
mod decode;
mod encode;
mod expr;
mod heard;
mod numbers;
mod read;
mod socket;
mod wire;
mod words;

pub use changes::{ChangedBy, Changes};
pub use read::Snapshot;
pub use socket::{NftError, NftSocket};
