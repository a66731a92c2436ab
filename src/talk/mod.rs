//! What the agent and nodectl say to `clusteripd` on its socket, and what it answers: JSON, one object a line. Pure.
//!
//! | module | what lives there |
//! |---|---|
//! | [`line`](mod@line) | how all of it is written: versions, lengths, what is no line |
//! | [`request`] | what the daemon is asked for |
//! | [`reply`] | what it answers |
//! | [`view`] | what it knows of the cluster |
//! | [`event`] | what happens there, as it happens |
//!
//! One connection has one request. The answer is one line, but for `watch`: a view, and an event for each line that
//! follows. Whoever has asked for something to be done and ends the connection before the answer wants it no more.
//! `docs/socket.md` has all of this for whoever writes a program of his own.
//!
//! What may not live here: sockets, clocks, files, what the state machine makes of it.

pub mod event;
pub mod line;
pub mod reply;
pub mod request;
pub mod view;

/// Where the daemon listens. As long as the file is there a daemon is to be.
pub const SOCKET: &str = "/run/clusteripd/socket";
