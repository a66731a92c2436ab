//! The scenarios: one module each, over the lab's shared plumbing.
#![forbid(unsafe_code)]

mod agreement;
mod bad_input;
mod cables;
mod cluster_changes;
mod cluster_failures;
mod cluster_sharing;
mod cluster_support;
mod cluster_watch;
mod cut_on_the_way;
mod dataplane;
mod forerunners;
mod fragments;
mod golden;
mod interrupted;
mod judged;
mod kernel_support;
mod lab_cluster;
mod lab_itself;
mod lacking_kernel;
mod many_vips;
mod middlebox;
mod moving_fragments;
mod neighbours;
mod nodectl_input;
mod ocf_tools;
mod odd_hosts;
mod on_the_link;
mod packets;
mod path_mtu;
mod product;
mod protocols;
mod raw;
mod sharing;
mod tampering;
mod transports;
