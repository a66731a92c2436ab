//! Corosync: the daemons' group with its messages (CPG), quorum, and what it is set to. Yields what happens as values and
//! calls nobody; decides nothing. Only programs with the feature `daemon` have it, and Corosync's libraries with it.
//!
//! The libraries are declared here (`ffi`), not taken from the crate rust-corosync: that keeps its raw bindings to itself,
//! and its own functions can ask for no initial view of the ring, hand on no context, and run callbacks under a lock.
//!
//! Not everything returns at once. While Corosync is stopped (SIGSTOP) [`Corosync::join`], [`Settings::read`] and the end
//! of a [`Corosync`] wait until it goes on: they belong on threads of their own. [`Corosync::dispatch`] and
//! [`Corosync::send`] never wait. `dispatch` wants a mebibyte of stack.
//!
//! A process that ends its `Corosync` and joins again in the same ring is to all the same member as before; what it said
//! the first time may still be on its way.
#![allow(unsafe_code)]

mod error;
mod ffi;
mod gatherings;
mod settings;

pub use error::CorosyncError;
pub use gatherings::{Event, Process, Ring};
pub use settings::Settings;

use error::{begun, done};
use gatherings::{Gatherings, Reason, Told};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::os::fd::{BorrowedFd, RawFd};

/// So much is taken from Corosync at a time.
const AT_ONCE: usize = 256;

/// A member of a group, as long as it lives: then the others see it leave.
#[derive(Debug)]
pub struct Corosync {
    // In the order of their ends: the libraries know where the queue is.
    cpg: Cpg,
    quorum: Quorum,
    queue: Queue,
    gatherings: Gatherings,
    me: Process,
    longest: usize,
}

// SAFETY: nothing in the libraries belongs to a thread (their handles are looked up under a lock), and the queue is only
// touched by whoever has this value: by `dispatch`, in whose calls alone callbacks run.
unsafe impl Send for Corosync {}

impl Corosync {
    /// Joins a group. Waits for Corosync's answers: as long as it is stopped, that is for ever.
    ///
    /// # Errors
    /// No Corosync, no permission; [`CorosyncError::TryAgain`] while a ring forms, or where this process has only just
    /// left the same group.
    pub fn join(group: &str) -> Result<Corosync, CorosyncError> {
        let group = name(group)?;
        let queue = Queue::new();
        let cpg = Cpg::begin(&queue)?;
        let quorum = Quorum::begin(&queue)?;
        let node = cpg.node()?;
        let me = Process {
            node,
            pid: std::process::id(),
        };
        let longest = cpg.longest()?;
        quorum.track()?;
        cpg.join(&group)?;
        Ok(Corosync {
            cpg,
            quorum,
            queue,
            gatherings: Gatherings::default(),
            me,
            longest,
        })
    }

    /// This process, as the others see it.
    #[must_use]
    pub fn me(&self) -> Process {
        self.me
    }

    /// Readable when [`Corosync::dispatch`] has something to do.
    ///
    /// # Errors
    /// [`CorosyncError::Lost`].
    pub fn fds(&self) -> Result<[BorrowedFd<'_>; 2], CorosyncError> {
        let (cpg, quorum) = (self.cpg.fd()?, self.quorum.fd()?);
        // SAFETY: both belong to the libraries' connections, which close them at the end of `self` and not before.
        Ok(unsafe { [BorrowedFd::borrow_raw(cpg), BorrowedFd::borrow_raw(quorum)] })
    }

    /// What has happened, in order. Does not wait, and does not give all at once: whoever is woken by a change of
    /// [`Corosync::fds`], not by their state, calls it until nothing comes.
    ///
    /// # Errors
    /// [`CorosyncError::Lost`], and what came before it is lost too.
    pub fn dispatch(&mut self) -> Result<Vec<Event>, CorosyncError> {
        for _ in 0..AT_ONCE {
            if !self.cpg.dispatch()? {
                break;
            }
        }
        // Quorum is told after the ring that it belongs to.
        for _ in 0..AT_ONCE {
            if !self.quorum.dispatch()? {
                break;
            }
        }
        let told = self.queue.take();
        Ok(told
            .into_iter()
            .filter_map(|told| self.gatherings.hear(told))
            .collect())
    }

    /// Says something to all members, this one too. It is said if this returns `Ok`, unless the connection is lost soon.
    ///
    /// # Errors
    /// [`CorosyncError::TryAgain`] where Corosync takes nothing just now: nothing was said.
    pub fn send(&self, bytes: &[u8]) -> Result<(), CorosyncError> {
        if bytes.len() > self.longest {
            return Err(CorosyncError::TooLong {
                length: bytes.len(),
                longest: self.longest,
            });
        }
        self.cpg.send(bytes)
    }
}

fn name(group: &str) -> Result<ffi::CpgName, CorosyncError> {
    let no_name = || CorosyncError::NoName(group.into());
    let mut value = [0; ffi::CPG_MAX_NAME_LENGTH];
    let place = value.get_mut(..group.len()).ok_or_else(no_name)?;
    place.copy_from_slice(group.as_bytes());
    match u32::try_from(group.len()) {
        Ok(length @ 1..) => Ok(ffi::CpgName { length, value }),
        _ => Err(no_name()),
    }
}

/// Where callbacks put what they are told. It stays in its place, which the libraries know.
#[derive(Debug)]
struct Queue(*mut Vec<Told>);

impl Queue {
    fn new() -> Self {
        Queue(Box::into_raw(Box::default()))
    }

    fn take(&mut self) -> Vec<Told> {
        // SAFETY: it is there as long as `self`, and nobody else touches it now: no callback runs (see `put`).
        std::mem::take(unsafe { &mut *self.0 })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it came from a box, and the connections that know it have ended (the order of `Corosync`'s fields, and
        // of the variables in `join`).
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Appends to the queue that is a connection's context.
///
/// # Safety
/// `context` is a [`Queue`]'s, and this is called by a callback: those run within `dispatch` alone, which has the only
/// `Corosync` that the queue belongs to, and has no other reference to it meanwhile.
unsafe fn put(context: *mut c_void, told: Told) {
    let queue = context.cast::<Vec<Told>>();
    // SAFETY: as above.
    if let Some(queue) = unsafe { queue.as_mut() } {
        queue.push(told);
    }
}

/// What a callback gets as a pointer and a number.
///
/// # Safety
/// As many are there while the callback runs; or none, and the pointer may be anything.
unsafe fn slice<'a, T>(first: *const T, count: usize) -> &'a [T] {
    if count == 0 || first.is_null() {
        return &[];
    }
    // SAFETY: as above; the library fills arrays of its own for each call.
    unsafe { std::slice::from_raw_parts(first, count) }
}

/// A connection to CPG.
#[derive(Debug)]
struct Cpg(ffi::Handle);

impl Cpg {
    fn begin(queue: &Queue) -> Result<Self, CorosyncError> {
        let mut data = ffi::CpgModelV1Data {
            model: ffi::CPG_MODEL_V1,
            deliver,
            confchg,
            totem_confchg,
            flags: ffi::CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF,
        };
        let mut handle = 0;
        // SAFETY: the library copies the data; the context is the queue, which outlives the connection.
        let code = unsafe {
            ffi::cpg_model_initialize(
                &raw mut handle,
                ffi::CPG_MODEL_V1,
                &raw mut data,
                queue.0.cast(),
            )
        };
        begun("cpg_model_initialize", code)?;
        Ok(Cpg(handle))
    }

    fn node(&self) -> Result<u32, CorosyncError> {
        let mut node = 0;
        // SAFETY: it writes one number.
        let code = unsafe { ffi::cpg_local_get(self.0, &raw mut node) };
        done("cpg_local_get", code).map(|()| node)
    }

    fn longest(&self) -> Result<usize, CorosyncError> {
        let mut longest = 0;
        // SAFETY: it writes one number.
        let code = unsafe { ffi::cpg_max_atomic_msgsize_get(self.0, &raw mut longest) };
        done("cpg_max_atomic_msgsize_get", code)?;
        Ok(usize::try_from(longest).unwrap_or(usize::MAX))
    }

    fn fd(&self) -> Result<RawFd, CorosyncError> {
        fd("cpg_fd_get", self.0, ffi::cpg_fd_get)
    }

    fn join(&self, group: &ffi::CpgName) -> Result<(), CorosyncError> {
        // SAFETY: it reads the name.
        done("cpg_join", unsafe { ffi::cpg_join(self.0, group) })
    }

    /// Can it take a message without waiting? For each one libqb writes a byte into its socket, and where Corosync does
    /// not read (it is stopped) and that is full, tries for ever.
    fn takes(&self) -> Result<bool, CorosyncError> {
        let fd = self.fd()?;
        // SAFETY: it belongs to this connection, which is not closed before the end of `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let mut place = [PollFd::new(fd, PollFlags::POLLOUT)];
        // Where that fails, by a signal, it is tried again later. A lost connection is not full.
        Ok(poll(&mut place, PollTimeout::ZERO).is_ok_and(|ready| ready > 0))
    }

    fn send(&self, bytes: &[u8]) -> Result<(), CorosyncError> {
        if !self.takes()? {
            return Err(CorosyncError::TryAgain("cpg_mcast_joined"));
        }
        let part = libc::iovec {
            iov_base: bytes.as_ptr().cast_mut().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: it reads the one part, and the bytes that this names, before it returns.
        let code =
            unsafe { ffi::cpg_mcast_joined(self.0, ffi::CPG_TYPE_AGREED, &raw const part, 1) };
        done("cpg_mcast_joined", code)
    }

    /// Has one thing told, if there is any.
    fn dispatch(&mut self) -> Result<bool, CorosyncError> {
        // SAFETY: the callbacks are called before it returns, and nobody has a reference to the queue.
        let code = unsafe { ffi::cpg_dispatch(self.0, ffi::CS_DISPATCH_ONE_NONBLOCKING) };
        dispatched("cpg_dispatch", code)
    }
}

impl Drop for Cpg {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and closed here only. What Corosync answers changes nothing.
        unsafe { ffi::cpg_finalize(self.0) };
    }
}

/// A connection to the quorum service.
#[derive(Debug)]
struct Quorum(ffi::Handle);

impl Quorum {
    fn begin(queue: &Queue) -> Result<Self, CorosyncError> {
        let mut data = ffi::QuorumModelV1Data {
            model: ffi::QUORUM_MODEL_V1,
            quorum,
            nodelist: std::ptr::null(),
        };
        let (mut handle, mut kind) = (0, 0);
        // SAFETY: the library copies the data, and calls no function that is null; the context is the queue, which
        // outlives the connection.
        let code = unsafe {
            ffi::quorum_model_initialize(
                &raw mut handle,
                ffi::QUORUM_MODEL_V1,
                &raw mut data,
                &raw mut kind,
                queue.0.cast(),
            )
        };
        begun("quorum_model_initialize", code)?;
        Ok(Quorum(handle))
    }

    fn track(&self) -> Result<(), CorosyncError> {
        // SAFETY: numbers only.
        let code = unsafe { ffi::quorum_trackstart(self.0, ffi::CS_TRACK_CHANGES) };
        done("quorum_trackstart", code)
    }

    fn fd(&self) -> Result<RawFd, CorosyncError> {
        fd("quorum_fd_get", self.0, ffi::quorum_fd_get)
    }

    /// Has one thing told, if there is any.
    fn dispatch(&mut self) -> Result<bool, CorosyncError> {
        // SAFETY: as for `Cpg`.
        let code = unsafe { ffi::quorum_dispatch(self.0, ffi::CS_DISPATCH_ONE_NONBLOCKING) };
        dispatched("quorum_dispatch", code)
    }
}

impl Drop for Quorum {
    fn drop(&mut self) {
        // SAFETY: as for `Cpg`.
        unsafe { ffi::quorum_finalize(self.0) };
    }
}

fn fd(
    call: &'static str,
    handle: ffi::Handle,
    get: unsafe extern "C" fn(ffi::Handle, *mut c_int) -> ffi::Code,
) -> Result<RawFd, CorosyncError> {
    let mut fd = -1;
    // SAFETY: both functions that are given write one number.
    done(call, unsafe { get(handle, &raw mut fd) }).map(|()| fd)
}

/// Was there anything?
fn dispatched(call: &'static str, code: ffi::Code) -> Result<bool, CorosyncError> {
    match code {
        ffi::CS_ERR_TRY_AGAIN => Ok(false),
        code => done(call, code).map(|()| true),
    }
}

/// Appends to the queue of a connection to CPG.
///
/// # Safety
/// This is called by a callback of that connection.
unsafe fn put_for(handle: ffi::Handle, told: Told) {
    let mut context = std::ptr::null_mut();
    // SAFETY: it writes one pointer, the one that `Cpg::begin` gave.
    if unsafe { ffi::cpg_context_get(handle, &raw mut context) } == ffi::CS_OK {
        // SAFETY: it is a queue's, and a callback asks.
        unsafe { put(context, told) };
    }
}

// Nothing in these can panic; if it did, the process would end there, and nothing would unwind into the library.

extern "C" fn deliver(
    handle: ffi::Handle,
    _group: *const ffi::CpgName,
    node: u32,
    pid: u32,
    bytes: *mut c_void,
    length: usize,
) {
    // SAFETY: the library says so (cpg.h), and nobody writes there while this runs.
    let bytes = unsafe { slice(bytes.cast_const().cast::<u8>(), length) }.to_vec();
    // SAFETY: a callback.
    unsafe { put_for(handle, Told::Message(Process { node, pid }, bytes)) };
}

extern "C" fn confchg(
    handle: ffi::Handle,
    _group: *const ffi::CpgName,
    members: *const ffi::CpgAddress,
    members_count: usize,
    left: *const ffi::CpgAddress,
    left_count: usize,
    joined: *const ffi::CpgAddress,
    joined_count: usize,
) {
    let process = |it: &ffi::CpgAddress| Process {
        node: it.nodeid,
        pid: it.pid,
    };
    let why = |it: &ffi::CpgAddress| (process(it), Reason::of(it.reason));
    // SAFETY: the library says so (cpg.h).
    let (members, left, joined) = unsafe {
        (
            slice(members, members_count),
            slice(left, left_count),
            slice(joined, joined_count),
        )
    };
    let told = Told::Processes {
        members: members.iter().map(process).collect(),
        left: left.iter().map(why).collect(),
        joined: joined.iter().map(why).collect(),
    };
    // SAFETY: a callback.
    unsafe { put_for(handle, told) };
}

extern "C" fn totem_confchg(handle: ffi::Handle, id: ffi::RingId, count: u32, nodes: *const u32) {
    // SAFETY: the library says so (cpg.h). A count that is no usize is none.
    let nodes = unsafe { slice(nodes, usize::try_from(count).unwrap_or(0)) };
    let nodes: BTreeSet<u32> = nodes.iter().copied().collect();
    // SAFETY: a callback.
    unsafe { put_for(handle, Told::Ring(ring(id), nodes)) };
}

extern "C" fn quorum(
    handle: ffi::Handle,
    quorate: u32,
    id: ffi::RingId,
    _count: u32,
    _nodes: *const u32,
) {
    let mut context = std::ptr::null();
    // SAFETY: it writes one pointer, the one that `Quorum::begin` gave.
    if unsafe { ffi::quorum_context_get(handle, &raw mut context) } == ffi::CS_OK {
        // SAFETY: it is a queue's, and a callback asks.
        unsafe { put(context.cast_mut(), Told::Quorate(ring(id), quorate != 0)) };
    }
}

fn ring(id: ffi::RingId) -> Ring {
    Ring {
        node: id.nodeid,
        number: id.seq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_a_name_of_1_to_128_bytes() {
        let longest = "g".repeat(128);
        for group in ["g", "clusterip", longest.as_str()] {
            let name = name(group).expect(group);
            let length = usize::try_from(name.length).expect("short");
            assert_eq!(&name.value[..length], group.as_bytes());
        }
        for group in ["", &"g".repeat(129)] {
            let error = name(group).err();
            assert_eq!(error, Some(CorosyncError::NoName(group.into())));
        }
    }
}
