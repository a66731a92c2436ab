//! A wire to put frames on, and to take frames from, one interface at a time.
//!
//! For what no socket of the kernel would send: fragments, unknown protocols. What is in a
//! frame is not known here; whoever only wants to know who answered asks a [`crate::Witness`].

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{
    ControlMessageOwned, LinkAddr, MsgFlags, bind, recvmsg, sendto, setsockopt, sockopt,
};
use nix::unistd::{Pid, gettid};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::{Context, Error, Result};

/// ETH_P_ALL: frames of all protocols.
const EVERY_PROTOCOL: u16 = 0x0003;
/// ETH_P_IP.
const IPV4: u16 = 0x0800;

/// A packet socket of one interface.
pub struct Wire {
    socket: Socket,
    interface: LinkAddr,
    patience: Mutex<Option<Duration>>,
}

/// Keeps the calling thread on the last CPU that it may use; that CPU's number. What one CPU sends
/// arrives in the order in which it was sent, and is received on that CPU.
pub fn pin_to_last_cpu() -> Result<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).context("ask for the CPUs")?;
    let mut cpus = (0..CpuSet::count()).rev();
    let cpu = cpus.find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let cpu = cpu.context("no CPU")?;
    let mut one = CpuSet::new();
    one.set(cpu).context("choose a CPU")?;
    sched_setaffinity(this, &one).context("stay on a CPU")?;
    Ok(cpu)
}

/// Asks for the calling thread to run before all that are no real-time threads. Without the right to it the thread is
/// only more often disturbed, which whoever measures has to see by himself.
pub fn take_precedence() {
    let thread = gettid().to_string();
    let _ = Command::new("chrt")
        .args(["--fifo", "--pid", "1", &thread])
        .output();
}

impl Host {
    /// The wire behind an interface of this machine, to put frames on it.
    pub fn wire(&self, interface: &str) -> Result<Wire> {
        self.within(|| Wire::to_send(interface))?
    }
}

impl Wire {
    /// For frames to be sent by an interface of the calling thread's namespace.
    pub(crate) fn to_send(interface: &str) -> Result<Self> {
        Self::open(interface, None)
    }

    /// Receives what comes in on an interface, and what others send by it; nothing is missed from
    /// here on.
    pub(crate) fn to_receive(interface: &str) -> Result<Self> {
        Self::hear(interface, EVERY_PROTOCOL)
    }

    /// The same of IPv4 alone, and of what comes in alone: of one protocol the kernel shows nothing that goes out.
    pub(crate) fn to_receive_ipv4(interface: &str) -> Result<Self> {
        Self::hear(interface, IPV4)
    }

    fn hear(interface: &str, protocol: u16) -> Result<Self> {
        let protocol = Protocol::from(i32::from(protocol.to_be()));
        let wire = Self::open(interface, Some(protocol))?;
        // Forcing needs real root; inside a user namespace the system's maximum must do.
        if setsockopt(&wire.socket, sockopt::RcvBufForce, &(64 << 20)).is_err() {
            wire.socket
                .set_recv_buffer_size(64 << 20)
                .context("enlarge a buffer")?;
        }
        setsockopt(&wire.socket, sockopt::RxqOvfl, &1).context("have lost frames counted")?;
        Ok(wire)
    }

    fn open(interface: &str, protocol: Option<Protocol>) -> Result<Self> {
        let doing = || format!("open the wire behind {interface}");
        let mut all = getifaddrs().context(doing())?;
        let address = all
            .find_map(|found| match found.address {
                Some(address) if found.interface_name == interface => {
                    address.as_link_addr().copied()
                }
                _ => None,
            })
            .context(format!("there is no interface {interface}"))?;
        let socket = Socket::new(Domain::PACKET, Type::RAW, protocol).context(doing())?;
        // With the protocol 0 the kernel goes on with the one that the socket was opened with.
        bind(socket.as_raw_fd(), &address).context(doing())?;
        Ok(Self {
            socket,
            interface: address,
            patience: Mutex::new(None),
        })
    }

    /// Puts a frame on the wire, from its destination MAC on.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let (socket, to) = (self.socket.as_raw_fd(), &self.interface);
        sendto(socket, frame, to, MsgFlags::empty())
            .map(drop)
            .context(format!("put {} bytes on the wire", frame.len()))
    }

    /// The next frame's length, or `None` if none comes within `patience`. That frames were lost
    /// before it is an error.
    pub fn receive(&self, buffer: &mut [u8], patience: Duration) -> Result<Option<usize>> {
        let mut known = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        if known.replace(patience) != Some(patience) {
            self.socket
                .set_read_timeout(Some(patience))
                .context("set a wire's patience")?;
        }
        drop(known);
        let mut control = [0; 128];
        let mut parts = [IoSliceMut::new(buffer)];
        let received = recvmsg::<()>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        );
        let message = match received {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => return Ok(None),
            Err(errno) => return Err(errno).context("take a frame from the wire"),
        };
        let lost = message.cmsgs().context("count lost frames")?;
        for control in lost {
            if let ControlMessageOwned::RxqOvfl(lost @ 1..) = control {
                return Err(Error::new(format!("{lost} frames were lost: send less")));
            }
        }
        Ok(Some(message.bytes))
    }
}
