//! Who may connect, how many at once, and what the main loop hears of them.

use super::conversation::{Conversations, Heard, Patience};
use super::counts::Counts;
use super::socket::Socket;
use super::watchers::Watchers;
use crate::talk::reply::{Refusal, Reply};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;
use tracing::warn;

/// How long it is waited where a connection could not be let in, for want of descriptors, say.
const AGAIN: Duration = Duration::from_millis(100);

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Who may ask for anything: root.
    pub(super) chief: u32,
    /// How many connections there are at once.
    pub(super) all: usize,
    /// How many of them others than root may have.
    pub(super) others: usize,
    /// How many answers that may be long are written at once.
    pub(super) long: usize,
    /// How long somebody may take.
    pub(super) patience: Patience,
}

impl Limits {
    const USUAL: Limits = Limits {
        chief: 0,
        all: 256,
        others: 64,
        long: 4,
        patience: Patience {
            idle: Duration::from_secs(10),
            slow: Duration::from_secs(10),
        },
    };
}

/// The daemon's side of its socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    conversations: Arc<Conversations>,
    all: Arc<Semaphore>,
    others: Arc<Semaphore>,
    limits: Limits,
}

impl Server {
    /// Serves this socket, within a tokio runtime. Whoever asks is heard at the other end of `asks`; that should have room
    /// for some dozens, for who does not get in there waits.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub fn new(socket: &Socket, asks: mpsc::Sender<Heard>) -> io::Result<Server> {
        Server::within(socket, asks, Limits::USUAL)
    }

    pub(super) fn within(
        socket: &Socket,
        asks: mpsc::Sender<Heard>,
        limits: Limits,
    ) -> io::Result<Server> {
        let conversations = Conversations {
            asks,
            watchers: Watchers::default(),
            counts: Arc::default(),
            patience: limits.patience,
            long: Semaphore::new(limits.long),
            tickets: AtomicU64::new(1),
        };
        Ok(Server {
            listener: UnixListener::from_std(socket.listener.try_clone()?)?,
            conversations: Arc::new(conversations),
            all: Arc::new(Semaphore::new(limits.all)),
            others: Arc::new(Semaphore::new(limits.others)),
            limits,
        })
    }

    /// Those who watch, to tell them what happens.
    pub fn watchers(&self) -> Watchers {
        self.conversations.watchers.clone()
    }

    /// What is counted.
    pub fn counts(&self) -> Arc<Counts> {
        self.conversations.counts.clone()
    }

    /// Lets in who comes; without an end.
    pub async fn serve(self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => self.admit(stream),
                Err(error) => {
                    warn!("nobody can be let in at the moment: {error}");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    fn admit(&self, stream: UnixStream) {
        self.conversations.counts.connections.add();
        // Who it is the kernel says (unix(7): SO_PEERCRED), as it was when he connected.
        let Ok(peer) = stream.peer_cred() else {
            return;
        };
        let anything = peer.uid() == self.limits.chief;
        let Some(seat) = self.seat(anything) else {
            self.conversations.counts.crowded.add();
            let said = "too many ask clusteripd at once; ask again later";
            if let Ok(line) = Reply::refuse(Refusal::Busy, said).line() {
                // It is short, and goes into an empty buffer.
                let _ = stream.try_write(line.as_bytes());
            }
            return;
        };
        let conversations = self.conversations.clone();
        tokio::spawn(async move {
            conversations.hold(stream, anything).await;
            drop(seat);
        });
    }

    /// A place, if there is one: others than root leave some to root.
    fn seat(&self, anything: bool) -> Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)> {
        let of = |seats: &Arc<Semaphore>| seats.clone().try_acquire_owned().ok();
        match anything {
            true => Some((of(&self.all)?, None)),
            false => Some((of(&self.all)?, Some(of(&self.others)?))),
        }
    }
}
