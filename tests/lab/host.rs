//! What nodes and clients have in common: a name, addresses, a MAC, a namespace to run things in.
//! How the namespace is cabled to the switch is `topology`'s; traffic is `traffic`'s.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Output;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::exec::{Exec, Place, Running};
use crate::{Context, Error, Result};

/// A link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().context(format!("{text:?} is no MAC"))?;
            *byte = u8::from_str_radix(part, 16).context(format!("{text:?} is no MAC"))?;
        }
        match parts.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(Error::new(format!("{text:?} is no MAC"))),
        }
    }
}

/// A machine of the lab; [`crate::Node`] and [`crate::Client`] are both one.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    mac: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    /// Empty while the machine is switched off.
    place: Mutex<Option<Place>>,
    servers: Mutex<Vec<Running>>,
}

impl Host {
    pub(crate) fn new(name: &str, mac: Mac, v4: Ipv4Addr, v6: Ipv6Addr) -> Self {
        let inner = Inner {
            name: name.into(),
            mac,
            v4,
            v6,
            place: Mutex::default(),
            servers: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Its name, `n1` or `c1`.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The MAC of its eth0.
    pub fn mac(&self) -> Mac {
        self.inner.mac
    }

    /// Its own IPv4 address.
    pub fn v4(&self) -> Ipv4Addr {
        self.inner.v4
    }

    /// Its own IPv6 address.
    pub fn v6(&self) -> Ipv6Addr {
        self.inner.v6
    }

    /// Its own address of the same family as `other`.
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => self.v4().into(),
            IpAddr::V6(_) => self.v6().into(),
        }
    }

    /// Process id of the network namespace's holder, for `nsenter -t PID -n`.
    pub fn holder(&self) -> Result<u32> {
        Ok(self.place()?.net().pid())
    }

    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.seat().is_some()
    }

    /// Prepares a command; see [`Exec`] for its environment, stdin and deadline.
    pub fn exec<S: AsRef<str>>(&self, argv: &[S]) -> Exec {
        Exec::new(self.place(), argv)
    }

    /// Runs a command; gives its stdout, or an error with its status and stderr.
    pub fn run<S: AsRef<str>>(&self, argv: &[S]) -> Result<String> {
        self.exec(argv).run().context(self.name())
    }

    /// Runs a command; gives its raw output whatever its status.
    pub fn output<S: AsRef<str>>(&self, argv: &[S]) -> Result<Output> {
        self.exec(argv).output().context(self.name())
    }

    /// Starts a command in the background; it ends with the returned handle.
    pub fn spawn<S: AsRef<str>>(&self, argv: &[S]) -> Result<Running> {
        self.exec(argv).spawn().context(self.name())
    }

    /// Runs `work` on a thread that has entered this machine's network namespace.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.place()?.net().within(work).context(self.name())
    }

    /// Sets a network sysctl, for instance `net.ipv4.tcp_tw_reuse`.
    pub fn sysctl(&self, key: &str, value: impl fmt::Display) -> Result<()> {
        let value = value.to_string();
        self.within(|| write_sysctl(key, &value))?
            .context(self.name())
    }

    pub(crate) fn place(&self) -> Result<Place> {
        self.seat()
            .clone()
            .context(format!("{} is switched off", self.name()))
    }

    pub(crate) fn set_place(&self, place: Option<Place>) {
        *self.seat() = place;
    }

    pub(crate) fn keep(&self, server: Running) {
        self.servers().push(server);
    }

    pub(crate) fn drop_servers(&self) {
        let servers = std::mem::take(&mut *self.servers());
        drop(servers);
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Running>> {
        self.inner
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn seat(&self) -> MutexGuard<'_, Option<Place>> {
        self.inner
            .place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a sysctl of the calling thread's own network namespace.
pub(crate) fn write_sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    std::fs::write(&path, value).context(format!("set {key}={value}"))
}
