//! The scenarios: one module each, over the lab's shared plumbing.
#![forbid(unsafe_code)]

mod dataplane;
mod lab_cluster;
mod lab_itself;
mod product;
mod sharing;
mod tampering;
