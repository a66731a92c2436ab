//! One who has connected: what is asked, the answer, and when nobody waits any longer. It ends in any case: with the answer,
//! with a time-out, or because the other side hangs up or reads too slowly.

use super::counts::Counts;
use super::watchers::Watchers;
use crate::cluster::bucket::Ticket;
use crate::talk::line::{LONGEST_REQUEST, LineError};
use crate::talk::reply::{Refusal, Reply};
use crate::talk::request::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// What the main loop hears of those who have connected.
#[derive(Debug)]
pub enum Heard {
    /// Somebody asks.
    Asked(Asked),
    /// Who has asked for a bucket to be started or stopped waits for no answer any more.
    Gone(Ticket),
}

/// A request that is to be answered.
#[derive(Debug)]
pub struct Asked {
    /// Its number; none comes twice.
    pub ticket: Ticket,
    /// What is asked for. It is nothing that the asker may not ask for, and nothing unknown.
    pub request: Request,
    /// Where the answer goes: a view for `view` and `watch`, the text for `metrics`, an answer for the others. Dropped
    /// without one, the asker is told that the daemon ends.
    pub reply: oneshot::Sender<Reply>,
}

/// How long somebody may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// To ask.
    pub(super) idle: Duration,
    /// To read.
    pub(super) slow: Duration,
}

/// What all conversations have in common.
#[derive(Debug)]
pub(super) struct Conversations {
    pub(super) asks: mpsc::Sender<Heard>,
    pub(super) watchers: Watchers,
    pub(super) counts: Arc<Counts>,
    pub(super) patience: Patience,
    /// Answers that may be long are written a few at a time, to others than root.
    pub(super) long: Semaphore,
    pub(super) tickets: AtomicU64,
}

/// One side of a conversation.
type Reader = BufReader<OwnedReadHalf>;

impl Conversations {
    /// One of them, from the beginning to the end. May the other side ask for anything, or only look?
    pub(super) async fn hold(&self, stream: UnixStream, anything: bool) {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        match self.request(&mut read, anything).await {
            Ok(Some(Request::Watch)) => self.watch(anything, &mut read, &mut write).await,
            Ok(Some(request)) if request.is_order() => {
                self.order(request, &mut read, &mut write).await;
            }
            Ok(Some(request)) => {
                self.tell(request, anything, &mut write).await;
            }
            Ok(None) => {}
            Err(refused) => {
                self.say(&refused, &mut write).await;
            }
        }
    }

    /// What is asked for, if anything is; or why it is refused.
    async fn request(&self, read: &mut Reader, anything: bool) -> Result<Option<Request>, Reply> {
        let mut line = Vec::new();
        // One more than a line and its end: that is too long.
        let mut some = read.take(LONGEST_REQUEST as u64 + 2);
        let whole = some.read_until(b'\n', &mut line);
        match timeout(self.patience.idle, whole).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Ok(None),
            Err(_) => {
                self.counts.idle.add();
                let said = "nothing was asked for in time; connect again to ask";
                return Err(Reply::refuse(Refusal::Idle, said));
            }
        }
        let request = Request::read(&line).map_err(|error| self.not_understood(&error))?;
        if request == Request::Unknown {
            self.counts.version.add();
            let said =
                "this clusteripd does not know what it is asked for: a newer one may; update it";
            return Err(Reply::refuse(Refusal::Version, said));
        }
        if request.is_order() && !anything {
            self.counts.denied.add();
            let said = "only root may have buckets started and stopped, as the agent does";
            return Err(Reply::refuse(Refusal::Denied, said));
        }
        Ok(Some(request))
    }

    fn not_understood(&self, error: &LineError) -> Reply {
        let refusal = match error {
            LineError::OtherMajor(_) => {
                self.counts.version.add();
                Refusal::Version
            }
            LineError::Long(_) | LineError::Garbled(_) => {
                self.counts.garbled.add();
                Refusal::Garbled
            }
        };
        Reply::refuse(refusal, error)
    }

    /// Asks the main loop.
    async fn ask(&self, request: Request) -> (Ticket, oneshot::Receiver<Reply>) {
        let (reply, answer) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let asked = Asked {
            ticket,
            request,
            reply,
        };
        // Where there is no main loop any more the answer's other end is gone too, which is told.
        let _ = self.asks.send(Heard::Asked(asked)).await;
        (ticket, answer)
    }

    /// Something is to be done.
    async fn order(&self, request: Request, read: &mut Reader, write: &mut OwnedWriteHalf) {
        let (ticket, answer) = self.ask(request).await;
        tokio::select! {
            biased;
            answer = answer => {
                self.say(&answer.unwrap_or_else(|_| ends()), write).await;
            }
            () = hung_up(read) => {
                self.counts.gone.add();
                let _ = self.asks.send(Heard::Gone(ticket)).await;
            }
        }
    }

    /// Something is to be told.
    async fn tell(&self, request: Request, anything: bool, write: &mut OwnedWriteHalf) -> bool {
        // Who reads slowly keeps others waiting, but not the agent.
        let _few = match anything {
            true => None,
            false => self.long.acquire().await.ok(),
        };
        let (_, answer) = self.ask(request).await;
        self.say(&answer.await.unwrap_or_else(|_| ends()), write)
            .await
    }

    async fn watch(&self, anything: bool, read: &mut Reader, write: &mut OwnedWriteHalf) {
        // Before the view is made: what happens meanwhile is told behind it.
        let mut events = self.watchers.listen();
        if !self.tell(Request::Watch, anything, write).await {
            return;
        }
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                () = hung_up(read) => return,
            };
            match event {
                Ok(line) => {
                    if !self.write(line.as_bytes(), write).await {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => return self.counts.slow.add(),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Says it; was it heard?
    async fn say(&self, reply: &Reply, write: &mut OwnedWriteHalf) -> bool {
        let line = reply.line().or_else(|error| {
            let said = format!("the answer cannot be told: {error}");
            Reply::refuse(Refusal::Ends, said).line()
        });
        match line {
            Ok(line) => self.write(line.as_bytes(), write).await,
            Err(_) => false,
        }
    }

    async fn write(&self, line: &[u8], write: &mut OwnedWriteHalf) -> bool {
        match timeout(self.patience.slow, write.write_all(line)).await {
            Ok(written) => written.is_ok(),
            Err(_) => {
                self.counts.slow.add();
                false
            }
        }
    }
}

fn ends() -> Reply {
    Reply::refuse(Refusal::Ends, "clusteripd ends")
}

/// The other side has ended the connection. What it says before that is passed over.
async fn hung_up(read: &mut Reader) {
    loop {
        let length = match read.fill_buf().await {
            Ok(said) if !said.is_empty() => said.len(),
            _ => return,
        };
        read.consume(length);
    }
}
