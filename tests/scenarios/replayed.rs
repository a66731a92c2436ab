//! Interleavings of moves, as the model has them (`clusterip::trials::cluster`), replayed by real kernels
//! with real packets: whoever answers a client in the model answers it here. Time does not pass, and
//! nobody asks Pacemaker; the deadlines and the questions have scenarios of their own.

use crate::draining_support::expect_no_double_answers_but_resets;
use crate::product::*;
use clusterip::model::hash::Hasher;
use clusterip::trials::cluster::{BUCKETS, Cluster, Event, FLOWS, Flow, NODES, Told, bucket};
use lab::{Client, Context, Error, Lab, Node, Result, Witness, wait_until};
use nix::sys::socket::{setsockopt, sockopt};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use socket2::{Domain, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

const SEED: u32 = 0x0bad_cafe;
const SEED_TEXT: &str = "0x0badcafe";
/// How long connections may stay: longer than a replay takes.
const DRAIN_S: &str = "120";
/// A busy machine is no silent node; a SYN may have to be sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever is not to be answered is not waited for.
const IMPATIENCE: Duration = Duration::from_millis(200);

/// What a client does not send when it vanishes: the resets of sockets with this mark.
const VANISHING: u32 = 1;
const SILENCE: &str = "table inet vanish {
  chain out {
    type filter hook output priority 0
    meta mark 1 tcp flags & rst == rst drop
  }
}
";

fn any_event() -> impl Strategy<Value = Event> {
    let (bucket, node, flow) = (0..BUCKETS, 0..NODES, 0..FLOWS);
    let told = prop_oneof![3 => Just(Told::Truth), 1 => Just(Told::Nothing)];
    let start = (bucket.clone(), node.clone(), told.clone());
    prop_oneof![
        6 => (bucket.clone(), node.clone(), told)
            .prop_map(|(bucket, to, told)| Event::Move { bucket, to, told }),
        1 => bucket.clone().prop_map(|bucket| Event::Stop { bucket }),
        2 => bucket.prop_map(|bucket| Event::KilledStop { bucket }),
        4 => start.prop_map(|(bucket, on, told)| Event::Start { bucket, on, told }),
        8 => flow.clone().prop_map(Event::Connect),
        1 => flow.prop_map(Event::End),
        1 => node.clone().prop_map(Event::Die),
        1 => node.prop_map(Event::Sweep),
    ]
}

/// Real nodes and clients beside those of the model.
struct Replay {
    model: Cluster,
    vip: IpAddr,
    /// Where each client of the model is.
    clients: Vec<SocketAddr>,
    lines: BTreeMap<Flow, BufReader<TcpStream>>,
    nodes: Vec<Node>,
    witness: Witness,
    client: Client,
    lab: Lab,
}

impl Replay {
    fn begin(vip: &str) -> Result<Self> {
        let lab = Lab::new("replayed")?;
        lab.progress().redirect(|_, _| {});
        let client = lab.client("c1")?;
        client.exec(&["nft", "-f", "-"]).stdin(SILENCE).run()?;
        let nodes = (1..=NODES).map(|n| lab.node(&format!("n{n}")));
        let vip = ip(vip);
        let hasher: Hasher = hasher(Default::default(), Default::default(), SEED);
        let sources = client.sources_for(vip, 60).into_iter();
        let mut places: Vec<SocketAddr> = sources.zip(20_000..).map(SocketAddr::from).collect();
        let clients = (0..FLOWS).map(|flow| {
            let fits = |place: &SocketAddr| {
                hasher.bucket(&flow_from(place.ip(), place.port()), BUCKETS) == bucket(flow)
            };
            let at = places.iter().position(fits).context("a client's place")?;
            Ok(places.swap_remove(at))
        });
        let clients = clients.collect::<Result<_>>()?;
        let replay = Replay {
            model: Cluster::default(),
            vip,
            clients,
            lines: BTreeMap::new(),
            nodes: nodes.collect::<Result<_>>()?,
            witness: client.witness(&[vip])?,
            client,
            lab,
        };
        replay.nodes.iter().try_for_each(|node| replay.boot(node))?;
        Ok(replay)
    }

    /// Lets it happen, in the model and here.
    fn happen(&mut self, event: &Event) -> Result<()> {
        let before: Vec<Option<usize>> = (0..BUCKETS).map(|b| self.model.owner(b)).collect();
        let owner = |bucket: u16| before[usize::from(bucket)];
        self.model.happen(event).map_err(Error::new)?;
        match *event {
            Event::Move { bucket, to, told } => {
                self.release(owner(bucket), bucket)?;
                self.take(to, bucket, told)?;
            }
            Event::Stop { bucket } => self.release(owner(bucket), bucket)?,
            Event::KilledStop { bucket } => {
                self.kill_release(owner(bucket), bucket)?;
                self.ask_all()?;
                self.release(owner(bucket), bucket)?;
            }
            Event::Start { bucket, on, told } => {
                if owner(bucket).is_none() {
                    self.take(on, bucket, told)?;
                }
            }
            Event::Connect(flow) => self.connect(flow)?,
            Event::End(flow) => drop(self.lines.remove(&flow)),
            Event::Die(n) => self.die(n)?,
            // The nodes' own sweepers come when they come.
            Event::Sweep(_) => {}
            Event::Send(_) | Event::Probe(_) | Event::Pass(_) | Event::Monitor(_) => {}
            // The service here never ends first; `odd_connections` has one that does.
            Event::EndedByService(_) | Event::Forget(_) => {}
        }
        self.ask_all()
    }

    fn nodectl(&self, n: usize, words: &[&str]) -> Result<()> {
        let vip = self.vip.to_string();
        let words: Vec<&str> = words
            .iter()
            .map(|word| if *word == "VIP" { &vip } else { *word })
            .collect();
        nodectl(&self.nodes[n], &words).map(drop)
    }

    fn release(&self, owner: Option<usize>, bucket: u16) -> Result<()> {
        let Some(owner) = owner else {
            return Ok(());
        };
        self.nodectl(owner, &["release", "VIP", &bucket.to_string()])
    }

    /// The same, killed on its way; where, differs from bucket to bucket and node to node.
    fn kill_release(&self, owner: Option<usize>, bucket: u16) -> Result<()> {
        let Some(owner) = owner else {
            return Ok(());
        };
        let when = 60 + 25 * usize::from(bucket) + 60 * owner;
        let inject = format!("inject=all:signal=KILL:when={when}");
        let program = lab::built("nodectl")?.display().to_string();
        let (vip, bucket) = (self.vip.to_string(), bucket.to_string());
        let mut words = vec!["strace", "-qq", "-o", "/dev/null", "-e", &inject];
        words.extend([program.as_str(), "release", &vip, &bucket]);
        self.nodes[owner].output(&words).map(drop)
    }

    fn take(&self, to: usize, bucket: u16, told: Told) -> Result<()> {
        let drained = self.model.drained(bucket, to).is_some();
        let adopt = match told {
            Told::Truth if !drained => "0",
            Told::Truth | Told::Nothing => DRAIN_S,
        };
        let bucket = bucket.to_string();
        self.nodectl(to, &["take", "VIP", &bucket, "--adopt", adopt, "--force"])
    }

    fn connect(&mut self, flow: Flow) -> Result<()> {
        if let Some(old) = self.lines.remove(&flow) {
            vanish(old)?;
        }
        let expected = self.model.connections.get(&flow).map(|found| found.node);
        let (from, to) = (
            self.clients[usize::from(flow)],
            SocketAddr::new(self.vip, PORT),
        );
        let patience = match expected {
            Some(_) => PATIENCE,
            None => IMPATIENCE,
        };
        let open = || -> std::io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), patience)?;
            Ok(socket.into())
        };
        // A program that is just being started holds copies of all sockets, and so the port of an old one.
        let opened = wait_until("a port", PATIENCE, || {
            let opened = self.client.within(open)?;
            match opened {
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                    Err(Error::new(error.to_string()))
                }
                opened => Ok(opened),
            }
        });
        match (opened?, expected) {
            (Ok(stream), Some(_)) => {
                stream.set_nodelay(true).context("TCP_NODELAY")?;
                let waits = stream.set_read_timeout(Some(PATIENCE));
                waits.context("a time-out")?;
                // When it ends it is to leave nothing behind that keeps its port.
                let reset = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                reset.context("SO_LINGER")?;
                self.lines.insert(flow, BufReader::new(stream));
                Ok(())
            }
            (Err(_), None) => Ok(()),
            (Ok(_), None) => Err(Error::new(format!(
                "client {flow} was answered by somebody"
            ))),
            (Err(error), Some(n)) => {
                Err(Error::new(format!("client {flow} to n{}: {error}", n + 1)))
            }
        }
    }

    /// Each client with a connection is answered by the node that has it in the model.
    fn ask_all(&mut self) -> Result<()> {
        for (flow, connection) in &self.model.connections {
            let line = self.lines.get_mut(flow).context("a connection")?;
            let expected = self.nodes[connection.node].name();
            let mut answer = String::new();
            let asked = line.get_mut().write_all(b"well?\n");
            let heard = asked.and_then(|()| line.read_line(&mut answer));
            heard.context(format!("client {flow} of {expected}"))?;
            // A client that vanishes later leaves nothing unacknowledged, or its node would say it again.
            let acknowledged = SockRef::from(line.get_ref()).set_tcp_quickack(true);
            acknowledged.context("TCP_QUICKACK")?;
            if answer != format!("{expected} well?\n") {
                let text = format!("client {flow} of {expected} heard {answer:?}");
                return Err(Error::new(text));
            }
        }
        Ok(())
    }

    /// The node loses its power, and comes back with nothing.
    fn die(&mut self, n: usize) -> Result<()> {
        let node = &self.nodes[n];
        self.lab.cable(node.name(), false)?;
        let ours = format!("sport = :{PORT}");
        node.run(&["ss", "-K", "-Htn", &ours])?;
        node.stop_serving();
        self.nodectl(n, &["down", "VIP"])?;
        self.lab.cable(node.name(), true)?;
        let alive = |flow: &Flow| self.model.connections.contains_key(flow);
        let (kept, lost): (BTreeMap<_, _>, _) = std::mem::take(&mut self.lines)
            .into_iter()
            .partition(|(flow, _)| alive(flow));
        self.lines = kept;
        lost.into_values().try_for_each(vanish)?;
        self.boot(&self.nodes[n])
    }

    /// The VIP without buckets, and the service.
    fn boot(&self, node: &Node) -> Result<()> {
        node.serve(&SERVICES)?;
        let vip = self.vip.to_string();
        let mut words = vec!["up", &vip, "--nic", "eth0", "--buckets", "3", "--force"];
        words.extend(["--seed", SEED_TEXT, "--drain-timeout", DRAIN_S]);
        nodectl(node, &words).map(drop)
    }
}

/// A client's end of which nobody hears.
fn vanish(line: BufReader<TcpStream>) -> Result<()> {
    setsockopt(line.get_ref(), sockopt::Mark, &VANISHING).context("SO_MARK")
}

fn replay(vip: &str, events: &[Event]) -> Result<()> {
    let mut replay = Replay::begin(vip)?;
    for (n, event) in events.iter().enumerate() {
        let happened = replay.happen(event);
        happened.context(format!("{vip}, event {n} of {events:?}"))?;
    }
    let Replay { witness, lines, .. } = replay;
    drop(lines);
    expect_no_double_answers_but_resets(witness.finish()?)
}

#[test]
fn kernels_do_what_the_model_of_moves_foretells() -> Result<()> {
    let cases = std::env::var("REPLAYS").ok();
    let cases = cases.and_then(|cases| cases.parse().ok()).unwrap_or(4);
    for vip in [V4, V6] {
        let mut runner = TestRunner::new(Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Config::default()
        });
        let events = prop::collection::vec(any_event(), 30);
        let outcome = runner.run(&events, |events| {
            replay(vip, &events).map_err(|error| TestCaseError::fail(error.to_string()))
        });
        match outcome {
            Ok(()) => {}
            // The reason has the events.
            Err(TestError::Fail(reason, _)) => panic!("{reason}"),
            Err(other) => panic!("{other}"),
        }
    }
    Ok(())
}
