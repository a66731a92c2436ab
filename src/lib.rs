//! One IP address, shared actively by all nodes of a cluster, with no director in front.
#![warn(missing_docs)]

pub mod agent;
pub mod host;
pub mod logging;
pub mod model;
pub mod nodectl;
pub mod plan;
pub mod sys;
