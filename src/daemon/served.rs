//! Trials of the socket, by real ones in a folder.

use super::conversation::{Asked, Heard, Patience};
use super::counts::Counts;
use super::server::{Limits, Server};
use super::socket::Socket;
use super::watchers::Watchers;
use crate::host::daemon::{DaemonError, Watch, ask_at, metrics_at, view_at, watch_at};
use crate::sys::folder::Folder;
use crate::talk::line::LONGEST_REQUEST;
use crate::talk::reply::tests::{a_view, an_event};
use crate::talk::reply::{Answer, Refusal, Reply};
use crate::talk::request::Request;
use crate::talk::request::tests::a_start;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Longer than any of this takes.
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn limits() -> Limits {
    Limits {
        chief: nix::unistd::geteuid().as_raw(),
        all: 8,
        others: 1,
        long: 1,
        patience: Patience {
            idle: PATIENCE,
            slow: PATIENCE,
        },
    }
}

/// Limits for somebody who is not root.
fn for_others() -> Limits {
    Limits {
        chief: limits().chief + 1,
        ..limits()
    }
}

/// A server, whose main loop tells what can be told and leaves orders to the test.
struct Served {
    folder: Folder,
    watchers: Watchers,
    counts: Arc<Counts>,
    orders: std::sync::mpsc::Receiver<Heard>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

const METRICS: &str = "clusterip_up 1\n";

impl Served {
    fn with(test: &str, limits: Limits) -> Self {
        let folder = Folder::of(&format!("served-{test}"));
        let socket = Socket::open_at(&folder.path().join("socket"), None).expect("a socket");
        let (stop, stopped) = oneshot::channel();
        let (orders_to, orders) = std::sync::mpsc::channel();
        let (made, begun) = std::sync::mpsc::channel();
        let run = async move {
            let (asks, asked) = mpsc::channel(4);
            let server = Server::within(&socket, asks, limits).expect("a server");
            made.send((server.watchers(), server.counts()))
                .expect("the test");
            tokio::select! {
                () = server.serve() => {}
                () = main_loop(asked, orders_to) => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(run);
        });
        let (watchers, counts) = begun.recv().expect("it runs");
        Served {
            folder,
            watchers,
            counts,
            orders,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn asked(&self) -> Asked {
        match self.orders.recv_timeout(PATIENCE).expect("an order") {
            Heard::Asked(asked) => asked,
            Heard::Gone(ticket) => panic!("{ticket} is gone"),
        }
    }

    /// What is said to somebody who says this and waits for the end.
    fn hears(&self, said: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(self.path()).expect("connected");
        // Whoever is refused early cannot say all of it.
        let _ = stream.write_all(said);
        let mut heard = Vec::new();
        // It may end with what was not read.
        let _ = stream.read_to_end(&mut heard);
        heard
    }

    fn refuses(&self, said: &[u8]) -> Refusal {
        let heard = self.hears(said);
        match Reply::read(&heard).expect("a line") {
            Reply::Error { error, .. } => error,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking());
        }
    }
}

async fn main_loop(mut asked: mpsc::Receiver<Heard>, orders: std::sync::mpsc::Sender<Heard>) {
    while let Some(heard) = asked.recv().await {
        match heard {
            Heard::Asked(Asked { request, reply, .. }) if !request.is_order() => {
                let told = match request {
                    Request::Metrics => Reply::Metrics {
                        text: METRICS.to_owned(),
                    },
                    _ => Reply::View(a_view()),
                };
                let _ = reply.send(told);
            }
            order => orders.send(order).expect("the test"),
        }
    }
}

fn until(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "it is never so");
        std::thread::yield_now();
    }
}

fn ask(path: &Path) -> JoinHandle<Result<Answer, DaemonError>> {
    let path = path.to_owned();
    std::thread::spawn(move || ask_at(&path, &a_start(), PATIENCE))
}

#[test]
fn what_is_asked_is_answered_whoever_asked_first() {
    let served = Served::with("served", limits());
    assert_eq!(view_at(&served.path(), PATIENCE).expect("told"), a_view());
    assert_eq!(metrics_at(&served.path(), PATIENCE).expect("told"), METRICS);
    let first = ask(&served.path());
    let asked = served.asked();
    let second = ask(&served.path());
    let later = served.asked();
    assert_eq!(asked.request, a_start());
    assert!(later.ticket > asked.ticket);
    let answers = [(later, Answer::Owned), (asked, Answer::Kept)];
    for (asked, answer) in answers {
        asked
            .reply
            .send(Reply::Answer { answer })
            .expect("it waits");
    }
    let ended = |thread: JoinHandle<_>| thread.join().expect("an end");
    assert_eq!(ended(first).expect("answered"), Answer::Kept);
    assert_eq!(ended(second).expect("answered"), Answer::Owned);
    assert_eq!(served.counts.connections.get(), 4);
    assert_eq!(served.counts.gone.get(), 0);
}

#[test]
fn who_hangs_up_before_the_answer_wants_it_no_more() {
    let served = Served::with("gone", limits());
    let mut stream = UnixStream::connect(served.path()).expect("connected");
    let line = a_start().line().expect("short") + "what comes behind is passed over\n";
    stream.write_all(line.as_bytes()).expect("written");
    let asked = served.asked();
    drop(stream);
    let heard = served
        .orders
        .recv_timeout(PATIENCE)
        .expect("that he is gone");
    assert!(matches!(heard, Heard::Gone(ticket) if ticket == asked.ticket));
    assert_eq!(served.counts.gone.get(), 1);
}

#[test]
fn who_gets_no_answer_is_told_that_the_daemon_ends() {
    let served = Served::with("ends", limits());
    let waits = ask(&served.path());
    drop(served.asked().reply);
    let error = waits.join().expect("an end").expect_err("no answer");
    let DaemonError::Declined { error, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(error, Refusal::Ends);
    // Where all of it ends the connection does.
    let waits = ask(&served.path());
    let _asked = served.asked();
    drop(served);
    let error = waits.join().expect("an end").expect_err("no answer");
    assert!(matches!(error, DaemonError::Ended), "{error}");
}

#[test]
fn others_than_root_may_look_and_nothing_else() {
    let served = Served::with("others", for_others());
    view_at(&served.path(), PATIENCE).expect("a view");
    until(|| metrics_at(&served.path(), PATIENCE).is_ok());
    let denied = || ask_at(&served.path(), &a_start(), PATIENCE);
    // The last connection may still take its place.
    until(|| matches!(denied(), Err(DaemonError::Denied(_))));
    assert!(served.orders.try_recv().is_err());
    assert_eq!(served.counts.denied.get(), 1);
}

#[test]
fn others_than_root_leave_places_to_root() {
    let served = Served::with("places", for_others());
    let (_, watch) = watch_at(&served.path(), PATIENCE).expect("the only place");
    assert_eq!(served.refuses(b""), Refusal::Busy);
    assert_eq!(served.counts.crowded.get(), 1);
    drop(watch);
    until(|| view_at(&served.path(), PATIENCE).is_ok());
}

#[test]
fn too_many_are_turned_away_and_let_in_when_there_is_room() {
    let served = Served::with("crowded", limits());
    let begin = || watch_at(&served.path(), PATIENCE);
    let watches: Vec<Watch> = (0..limits().all)
        .map(|_| begin().expect("there is room").1)
        .collect();
    let error = begin().expect_err("there is none");
    assert!(error.to_string().contains("ask again later"), "{error}");
    drop(watches);
    until(|| begin().is_ok());
}

#[test]
fn who_asks_for_nothing_is_told_so_in_the_end() {
    let mut limits = limits();
    limits.patience.idle = SHORT;
    let served = Served::with("idle", limits);
    assert_eq!(served.refuses(b""), Refusal::Idle);
    assert_eq!(served.refuses(b"{\"major\":1,"), Refusal::Idle);
    assert_eq!(served.counts.idle.get(), 2);
}

#[test]
fn all_who_watch_hear_what_happens() {
    let served = Served::with("watched", limits());
    let begin = || watch_at(&served.path(), PATIENCE).expect("a view");
    let both = [begin(), begin()];
    served.watchers.tell(an_event());
    for (view, mut watch) in both {
        assert_eq!(view, a_view());
        let event = watch.next().expect("an event").expect("understood");
        assert_eq!(event, an_event());
    }
}

#[test]
fn who_reads_too_slowly_is_cut_off_and_nobody_else() {
    let mut limits = limits();
    limits.patience.slow = SHORT;
    let served = Served::with("slow", limits);
    let (_, mut slow) = watch_at(&served.path(), PATIENCE).expect("a view");
    let (_, mut watch) = watch_at(&served.path(), PATIENCE).expect("a view");
    let mut told = 0;
    until_cut_off(&served, &mut watch, &mut told);
    assert_eq!(served.counts.slow.get(), 1);
    // What he was told before stays whole; the last line may not be.
    let heard = slow.by_ref().take_while(Result::is_ok).count();
    assert!(heard < told, "{heard} of {told}");
    assert!(view_at(&served.path(), PATIENCE).is_ok());
}

/// Tells events, each of which one of two hears.
fn until_cut_off(served: &Served, watch: &mut Watch, told: &mut usize) {
    let begin = Instant::now();
    while served.counts.slow.get() == 0 {
        assert!(begin.elapsed() < PATIENCE, "{told} events");
        served.watchers.tell(an_event());
        *told += 1;
        let event = watch.next().expect("an event").expect("understood");
        assert_eq!(event, an_event());
    }
}

#[test]
fn what_is_not_understood_is_told_and_counted() {
    let served = Served::with("garbled", limits());
    let lines: [(&[u8], Refusal); 5] = [
        (b"\n", Refusal::Garbled),
        (b"{\"major\":1,\"ask\":\"stop\"}\n", Refusal::Garbled),
        (b"\xff\xfe\n", Refusal::Garbled),
        (b"{\"major\":2}\n", Refusal::Version),
        (b"{\"major\":1,\"ask\":\"sing\"}\n", Refusal::Version),
    ];
    for (line, refusal) in lines {
        assert_eq!(served.refuses(line), refusal, "{line:?}");
    }
    let long = vec![b' '; LONGEST_REQUEST + 2];
    assert_eq!(served.refuses(&long), Refusal::Garbled);
    let counts = &served.counts;
    assert_eq!((counts.garbled.get(), counts.version.get()), (4, 2));
    // The longest that is taken.
    let mut longest = b"{\"major\":1,\"ask\":\"view\"}".to_vec();
    longest.resize(LONGEST_REQUEST, b' ');
    longest.push(b'\n');
    let heard = served.hears(&longest);
    assert_eq!(Reply::read(&heard), Ok(Reply::View(a_view())));
}

#[test]
fn who_says_no_more_may_still_hear_what_is_told() {
    let served = Served::with("half", limits());
    let mut stream = UnixStream::connect(served.path()).expect("connected");
    stream
        .write_all(b"{\"major\":1,\"ask\":\"view\"}")
        .expect("written");
    stream.shutdown(Shutdown::Write).expect("shut");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("read");
    assert_eq!(Reply::read(&heard), Ok(Reply::View(a_view())));
}

#[test]
fn nothing_that_is_said_ends_the_daemon() {
    let served = Served::with("garbage", limits());
    let mut said = proptest::test_runner::TestRunner::default();
    let words = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        "\\{\"major\":1,\"ask\":\"(start|stop|view)\",.{0,40}\\}\n".prop_map(String::into_bytes),
    ];
    let ran = said.run(&words, |said| {
        let mut stream = UnixStream::connect(served.path()).expect("connected");
        let _ = stream.write_all(&said);
        let _ = stream.shutdown(Shutdown::Write);
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        // Whatever comes is a line.
        prop_assert!(heard.is_empty() || Reply::read(&heard).is_ok(), "{heard:?}");
        Ok(())
    });
    ran.expect("it goes on");
    assert_eq!(view_at(&served.path(), PATIENCE).expect("told"), a_view());
}
