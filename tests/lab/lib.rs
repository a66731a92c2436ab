//! The lab: a switch, nodes and clients in network namespaces, with a real cluster on demand.
//!
//! Scenarios, the demo and the benchmarks all stand on this library. It knows nothing of what is
//! being tested, so it does not use the `clusterip` library; it needs root, or root inside a user
//! namespace (the cluster needs real root), and leaves nothing behind, even when it is killed.
//!
//! | module | what lives there |
//! |---|---|
//! | [`topology`] | [`Lab`]: the switch, cables, addresses |
//! | [`router`] | a client one hop further away, by a narrow cable |
//! | [`openvswitch`] | Open vSwitch in the place of the switch |
//! | [`container`] | a service behind a node that translates addresses for it |
//! | [`host`], [`node`], [`client`] | the machines and what can be done on them |
//! | [`namespace`], [`exec`] | a namespace with its holder process; running programs in it |
//! | [`serve`], [`transport`] | the server that says which node answered; SCTP, DCCP, UDP-Lite |
//! | [`traffic`] | what a client sends: TCP, UDP, echo, held connections, steady probes |
//! | [`witness`], [`frame`] | what really was on the wire, and who answered doubly |
//! | [`storm`] | a foreign program that changes nf_tables all the time |
//! | [`syns`] | how long nobody answers, to the millisecond |
//! | [`wire`] | frames put on a wire, or taken from it, by hand |
//! | [`cluster`] | Corosync, Pacemaker and a fence device on the nodes; their power |
//! | [`wait`], [`progress`], [`error`] | waiting with a deadline, telling, failing |
//!
//! A cluster knows the lab's machines, machines know namespaces; never the other way.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod client;
pub mod cluster;
pub mod container;
pub mod error;
pub mod exec;
pub mod frame;
pub mod host;
pub mod namespace;
pub mod node;
pub mod openvswitch;
pub mod progress;
pub mod router;
pub mod serve;
pub mod storm;
pub mod syns;
pub mod topology;
pub mod traffic;
pub mod transport;
pub mod wait;
pub mod wire;
pub mod witness;

pub use client::Client;
pub use cluster::{Cluster, ClusterOptions, Daemon, FailedAction, Instances};
pub use error::{Context, Error, Result};
pub use exec::{Exec, Running};
pub use host::{Host, Mac};
pub use namespace::{built, lab_binary};
pub use node::{Node, NodeOptions};
pub use openvswitch::OpenVSwitch;
pub use progress::Progress;
pub use router::Behind;
pub use serve::Serve;
pub use syns::{SynReport, Syns};
pub use topology::Lab;
pub use traffic::{Failure, Flow, FlowResult, HoldOptions, Pace, ProbeKind, Report};
pub use transport::Transport;
pub use wait::wait_until;
pub use wire::{Wire, pin_to_last_cpu, take_precedence};
pub use witness::{DoubleAnswer, Witness, Witnessed};
