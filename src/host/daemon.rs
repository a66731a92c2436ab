//! Asking `clusteripd` on its socket, with an end in any case: the daemon is an addition, and whoever asks it must be able to
//! do without.
//!
//! What is asked and answered is `talk`'s. What is done where nobody answers is the caller's.

use crate::model::untrusted::Untrusted;
use crate::talk::SOCKET;
use crate::talk::event::Event;
use crate::talk::line::{LONGEST_REPLY, LineError};
use crate::talk::reply::{Answer, Refusal, Reply};
use crate::talk::request::Request;
use crate::talk::view::View;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So much is read at once.
const CHUNK: usize = 16 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// No daemon is to be here.
    #[error("clusteripd is not used on this node: there is no {0}")]
    NotThere(PathBuf),
    /// One is to be, and is not.
    #[error(
        "clusteripd does not run, though it should: nobody listens at {0}. 'systemctl status clusteripd' says why"
    )]
    Refused(PathBuf),
    /// It does not answer.
    #[error("clusteripd has not answered for {} ms", .0.as_millis())]
    NoAnswer(Duration),
    /// It ended, or was ended, before it answered.
    #[error("clusteripd has ended before it answered")]
    Ended,
    /// It says what is not understood.
    #[error("what clusteripd says is not understood: {0}")]
    Garbled(#[from] LineError),
    /// This user may not ask that.
    #[error("clusteripd does not answer this user: {0}")]
    Denied(Untrusted),
    /// It does not do what it was asked for.
    #[error("clusteripd refuses: {sentence}")]
    Declined {
        /// Why.
        error: Refusal,
        /// The same for people.
        sentence: Untrusted,
    },
    /// This node lacks something.
    #[error("clusteripd cannot be asked: {0}")]
    Unable(#[source] io::Error),
}

/// What has come of a bucket that Pacemaker starts or stops here.
///
/// # Errors
/// Why there is no answer after that time at most.
pub fn ask(request: &Request, patience: Duration) -> Result<Answer, DaemonError> {
    ask_at(Path::new(SOCKET), request, patience)
}

/// What the daemon knows of the cluster.
///
/// # Errors
/// Why there is no answer after that time at most.
pub fn view(patience: Duration) -> Result<View, DaemonError> {
    view_at(Path::new(SOCKET), patience)
}

/// What it has counted, for Prometheus.
///
/// # Errors
/// Why there is no answer after that time at most.
pub fn metrics(patience: Duration) -> Result<String, DaemonError> {
    metrics_at(Path::new(SOCKET), patience)
}

/// What happens in the cluster from now on; first what the daemon knows of it.
///
/// # Errors
/// Why there is no answer after that time at most.
pub fn watch(patience: Duration) -> Result<(View, Watch), DaemonError> {
    watch_at(Path::new(SOCKET), patience)
}

/// The same of a daemon that listens there.
///
/// # Errors
/// As above.
pub fn ask_at(path: &Path, request: &Request, patience: Duration) -> Result<Answer, DaemonError> {
    match reply_at(path, request, patience)? {
        Reply::Answer { answer } => Ok(answer),
        _ => Err(another()),
    }
}

/// The same of a daemon that listens there.
///
/// # Errors
/// As above.
pub fn view_at(path: &Path, patience: Duration) -> Result<View, DaemonError> {
    match reply_at(path, &Request::View, patience)? {
        Reply::View(view) => Ok(view),
        _ => Err(another()),
    }
}

/// The same of a daemon that listens there.
///
/// # Errors
/// As above.
pub fn metrics_at(path: &Path, patience: Duration) -> Result<String, DaemonError> {
    match reply_at(path, &Request::Metrics, patience)? {
        Reply::Metrics { text } => Ok(text),
        _ => Err(another()),
    }
}

/// The same of a daemon that listens there.
///
/// # Errors
/// As above.
pub fn watch_at(path: &Path, patience: Duration) -> Result<(View, Watch), DaemonError> {
    let end = End::after(patience);
    let mut wire = Wire::connect(path, end)?;
    wire.send(&Request::Watch, end)?;
    match wire.reply(Some(end))? {
        Some(Reply::View(view)) => Ok((view, Watch(wire))),
        Some(_) => Err(another()),
        None => Err(DaemonError::Ended),
    }
}

fn reply_at(path: &Path, request: &Request, patience: Duration) -> Result<Reply, DaemonError> {
    let end = End::after(patience);
    let mut wire = Wire::connect(path, end)?;
    wire.send(request, end)?;
    wire.reply(Some(end))?.ok_or(DaemonError::Ended)
}

fn another() -> DaemonError {
    let what = "it answers something else than it was asked for";
    LineError::Garbled(what.to_owned()).into()
}

/// What happens in the cluster, one event after the other.
#[derive(Debug)]
pub struct Watch(Wire);

impl Iterator for Watch {
    type Item = Result<Event, DaemonError>;

    /// Waits for the next event, for as long as it takes. None comes once the daemon has ended, or this reader was too slow
    /// for it.
    fn next(&mut self) -> Option<Self::Item> {
        match self.0.reply(None).transpose()? {
            Ok(Reply::Event(event)) => Some(Ok(event)),
            Ok(_) => Some(Err(another())),
            Err(error) => Some(Err(error)),
        }
    }
}

/// When nobody waits any longer.
#[derive(Debug, Clone, Copy)]
struct End {
    begin: Instant,
    patience: Duration,
}

impl End {
    fn after(patience: Duration) -> Self {
        let begin = Instant::now();
        End { begin, patience }
    }

    /// How much of it is left.
    fn left(self) -> Result<Duration, DaemonError> {
        let left = self.patience.checked_sub(self.begin.elapsed());
        let left = left.filter(|left| !left.is_zero());
        left.ok_or(DaemonError::NoAnswer(self.patience))
    }
}

/// A connection to the daemon.
#[derive(Debug)]
struct Wire {
    stream: UnixStream,
    /// What was read and is no whole line yet.
    read: Vec<u8>,
}

impl Wire {
    fn connect(path: &Path, end: End) -> Result<Wire, DaemonError> {
        let unable = |errno: Errno| DaemonError::Unable(errno.into());
        let fd = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        let fd = fd.map_err(unable)?;
        let address = UnixAddr::new(path).map_err(unable)?;
        loop {
            // For so long the kernel waits for a place in the daemon's queue (net/unix/af_unix.c: unix_stream_connect()).
            let left = i64::try_from(end.left()?.as_micros()).unwrap_or(i64::MAX);
            let left = TimeVal::microseconds(left.max(1));
            setsockopt(&fd, SendTimeout, &left).map_err(unable)?;
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(DaemonError::NoAnswer(end.patience)),
                Err(Errno::ENOENT | Errno::ENOTDIR) => {
                    return Err(DaemonError::NotThere(path.to_owned()));
                }
                Err(Errno::ECONNREFUSED) => return Err(DaemonError::Refused(path.to_owned())),
                Err(Errno::EACCES | Errno::EPERM) => {
                    let way_out = format!("be root, or in the group of {}", path.display());
                    return Err(DaemonError::Denied(way_out.into()));
                }
                Err(errno) => return Err(unable(errno)),
            }
        }
        let stream = UnixStream::from(fd);
        stream.set_nonblocking(true).map_err(DaemonError::Unable)?;
        let read = Vec::new();
        Ok(Wire { stream, read })
    }

    fn send(&mut self, request: &Request, end: End) -> Result<(), DaemonError> {
        let line = request.line()?;
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            match (&self.stream).write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT, Some(end))?,
                    ErrorKind::Interrupted => {}
                    // It may have said why it does not listen.
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => break,
                    _ => return Err(DaemonError::Unable(error)),
                },
            }
        }
        Ok(())
    }

    /// The next line, or none if the daemon has closed the connection.
    fn reply(&mut self, end: Option<End>) -> Result<Option<Reply>, DaemonError> {
        let Some(line) = self.line(end)? else {
            return Ok(None);
        };
        match Reply::read(&line)? {
            Reply::Error {
                error: Refusal::Denied,
                sentence,
            } => Err(DaemonError::Denied(sentence)),
            Reply::Error { error, sentence } => Err(DaemonError::Declined { error, sentence }),
            reply => Ok(Some(reply)),
        }
    }

    fn line(&mut self, end: Option<End>) -> Result<Option<Vec<u8>>, DaemonError> {
        let mut searched = 0;
        let mut chunk = [0; CHUNK];
        loop {
            let rest = self.read.get(searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let behind = self.read.split_off(searched + at + 1);
                return Ok(Some(std::mem::replace(&mut self.read, behind)));
            }
            searched = self.read.len();
            if searched > LONGEST_REPLY {
                return Err(LineError::Long(LONGEST_REPLY).into());
            }
            self.wait(PollFlags::POLLIN, end)?;
            match (&self.stream).read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(length) => self.read.extend(chunk.iter().take(length)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                    // It was killed with something unread.
                    ErrorKind::ConnectionReset => return Ok(None),
                    _ => return Err(DaemonError::Unable(error)),
                },
            }
        }
    }

    /// Waits until something can be read or written.
    fn wait(&self, what: PollFlags, end: Option<End>) -> Result<(), DaemonError> {
        loop {
            let timeout = match end {
                // A time of nothing would ask again and again.
                Some(end) => PollTimeout::try_from(end.left()?.as_millis().saturating_add(1)),
                None => Ok(PollTimeout::NONE),
            };
            let mut waits = [PollFd::new(self.stream.as_fd(), what)];
            match poll(&mut waits, timeout.unwrap_or(PollTimeout::MAX)) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(DaemonError::Unable(errno.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::folder::Folder;
    use crate::talk::reply::tests::{a_view, an_event};
    use crate::talk::request::tests::a_start;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(30);

    fn path(folder: &Folder) -> PathBuf {
        folder.path().join("socket")
    }

    /// What is asked of a daemon that says this to whoever has asked for something, and what comes of it.
    fn told<T>(test: &str, says: &[u8], asks: impl FnOnce(&Path) -> T) -> T {
        let folder = Folder::of(&format!("daemon-{test}"));
        let path = path(&folder);
        let listener = UnixListener::bind(&path).expect("bound");
        thread::scope(|scope| {
            scope.spawn(|| {
                let (stream, _) = listener.accept().expect("somebody");
                let mut line = String::new();
                let mut reader = BufReader::new(&stream);
                reader.read_line(&mut line).expect("a line");
                Request::read(line.as_bytes()).expect("a request");
                (&stream).write_all(says).expect("written");
            });
            asks(&path)
        })
    }

    fn said(replies: &[Reply]) -> Vec<u8> {
        let lines = replies.iter().map(|reply| reply.line().expect("short"));
        lines.collect::<String>().into_bytes()
    }

    #[test]
    fn an_answer_comes_back() {
        let answer = Answer::Kept;
        let says = said(&[Reply::Answer { answer }]);
        let got = told("answered", &says, |path| ask_at(path, &a_start(), PATIENCE));
        assert_eq!(got.expect("an answer"), Answer::Kept);
        let text = "a 1\n".repeat(100_000);
        let says = said(&[Reply::Metrics { text: text.clone() }]);
        let got = told("counted", &says, |path| metrics_at(path, PATIENCE));
        assert!(got.expect("a long answer") == text);
    }

    #[test]
    fn a_watch_has_a_view_and_then_events_until_the_daemon_ends() {
        let event = Reply::Event(an_event());
        let says = said(&[Reply::View(a_view()), event.clone(), event]);
        told("watched", &says, |path| {
            let (view, watch) = watch_at(path, PATIENCE).expect("a view");
            assert_eq!(view, a_view());
            let events: Vec<Event> = watch.map(|event| event.expect("an event")).collect();
            assert_eq!(events, [an_event(), an_event()]);
        });
    }

    #[test]
    fn where_no_daemon_is_to_be_and_where_none_listens_are_two_things() {
        let folder = Folder::of("daemon-nobody");
        let ask = || view_at(&path(&folder), PATIENCE).expect_err("nobody");
        assert!(matches!(ask(), DaemonError::NotThere(_)));
        drop(UnixListener::bind(path(&folder)).expect("bound"));
        assert!(matches!(ask(), DaemonError::Refused(_)));
        std::fs::remove_file(path(&folder)).expect("removed");
        std::fs::write(path(&folder), "").expect("a file");
        assert!(matches!(ask(), DaemonError::Refused(_)));
        let beneath = path(&folder).join("socket");
        let error = view_at(&beneath, PATIENCE).expect_err("no folder");
        assert!(matches!(error, DaemonError::NotThere(_)));
    }

    #[test]
    fn nobody_waits_longer_than_he_says() {
        let folder = Folder::of("daemon-waits");
        let listener = UnixListener::bind(path(&folder)).expect("bound");
        // It takes no connection: the kernel does, as long as there is room.
        let error = view_at(&path(&folder), SHORT).expect_err("silence");
        assert!(matches!(error, DaemonError::NoAnswer(SHORT)), "{error}");
        // Then there is no room.
        let mut waiting = Vec::new();
        let full = loop {
            match Wire::connect(&path(&folder), End::after(SHORT)) {
                Ok(wire) => waiting.push(wire),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, DaemonError::NoAnswer(SHORT)), "{full}");
        // What comes and is no line is no answer.
        drop((listener, waiting));
        std::fs::remove_file(path(&folder)).expect("removed");
        let (says, waits) = UnixStream::pair().expect("a pair");
        (&says).write_all(b"{\"major\":1").expect("written");
        waits.set_nonblocking(true).expect("set");
        let mut wire = Wire {
            stream: waits,
            read: Vec::new(),
        };
        let half = wire
            .reply(Some(End::after(SHORT)))
            .expect_err("half a line");
        assert!(matches!(half, DaemonError::NoAnswer(SHORT)), "{half}");
        drop(says);
        assert_eq!(wire.reply(None).expect("an end"), None);
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let ask = |says: &[u8]| {
            let got = told("garbled", says, |path| ask_at(path, &a_start(), PATIENCE));
            got.expect_err("no answer")
        };
        assert!(matches!(ask(b""), DaemonError::Ended));
        assert!(matches!(ask(b"{\"major\":1"), DaemonError::Ended));
        let garbled = |says: &[u8]| matches!(ask(says), DaemonError::Garbled(_));
        assert!(garbled(b"\xff\n"));
        assert!(garbled(b"{\"major\":2}\n"));
        assert!(garbled(&said(&[Reply::View(a_view())])));
        assert!(garbled(
            b"{\"major\":1,\"say\":\"answer\",\"answer\":\"perhaps\"}\n"
        ));
        let denied = ask(&said(&[Reply::refuse(Refusal::Denied, "be root")]));
        assert!(matches!(denied, DaemonError::Denied(_)), "{denied}");
        let busy = ask(&said(&[Reply::refuse(Refusal::Busy, "too many")]));
        assert_eq!(busy.to_string(), "clusteripd refuses: too many");
    }

    #[test]
    fn an_answer_without_an_end_has_one() {
        let (says, waits) = UnixStream::pair().expect("a pair");
        waits.set_nonblocking(true).expect("set");
        let mut wire = Wire {
            stream: waits,
            read: Vec::new(),
        };
        thread::scope(|scope| {
            scope.spawn(|| while (&says).write_all(&[b'x'; CHUNK]).is_ok() {});
            let error = wire
                .reply(Some(End::after(PATIENCE)))
                .expect_err("too long");
            let long = LineError::Long(LONGEST_REPLY);
            assert!(matches!(error, DaemonError::Garbled(found) if found == long));
            drop(wire);
        });
    }
}
