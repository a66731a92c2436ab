//! The resource agent `ocf:rust:ClusterIP`: what Pacemaker asks, in Pacemaker's words.
//!
//! Source: the OCF Resource Agent API 1.1, and how Pacemaker 2.1 keeps it. Nothing here knows how
//! buckets are moved: parameters become a `Vip` and an `Intent`, results become exit codes.

pub mod actions;
pub mod adoption;
mod carrier;
mod cutting;
pub mod describe;
pub mod environment;
pub mod exit;
mod failures;
pub mod gate;
mod handed;
mod insist;
pub mod metadata;
pub mod monitor;
pub mod newest_ipaddr2;
pub mod parameters;
mod prepare;
mod queue;
pub mod report;
pub mod stop;
mod twins;
