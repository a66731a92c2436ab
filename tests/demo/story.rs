//! The story: a cluster, the classic configuration, the shares, a death and a return.
//! How buckets move is in `loss`; here is everything else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lab::{Client, Cluster, ClusterOptions, Lab, Result, Serve, built};

use crate::crowd::Crowd;
use crate::ending;
use crate::loss::Loss;
use crate::map::Map;
use crate::screen::{Screen, Tone, WIDTH, thousands, wrap};

/// The shared addresses.
pub const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, 99)),
    IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x99)),
];
/// The port that every node serves, over TCP and UDP.
pub const PORT: u16 = 7000;
/// The node that is killed.
pub const VICTIM: &str = "n2";

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Connections of a crowd, over IPv4 and over IPv6.
const CROWD: [usize; 2] = [3000, 600];

const CLASSIC_AGENT: &str = "ocf:heartbeat:IPaddr2";
const AGENT: &str = "ocf:rust:ClusterIP";

/// All that the steps share.
pub struct Stage<'a> {
    pub screen: &'a Screen,
    pub cluster: Cluster,
    pub client: Client,
    pub faults: Vec<String>,
    crowds: Vec<Crowd>,
    rounds: u16,
}

/// Tells everything; gives what was wrong, sentence by sentence.
pub fn tell(screen: &Screen) -> Result<Vec<String>> {
    screen.title("ClusterIP: one address, answered by all nodes of a Pacemaker cluster");
    screen.text(
        "The nodes are namespaces of this machine, Corosync, Pacemaker and the packets are real. \
         Ctrl-C ends it at any time and leaves nothing behind.",
    );

    screen.heading("1  Three nodes and a client on a switch");
    let lab = Lab::new("demo")?;
    let telling = screen.clone();
    lab.progress().redirect(move |_, line| {
        telling.event(telling.elapsed(), line);
    });
    let mut stage = set_up(screen, &lab)?;
    // From here on the steps have their own clocks.
    lab.progress().redirect(|_, _| {});

    screen.heading("2  The classic configuration, one word changed");
    stage.configure()?;

    screen.heading("3  Who answers whom");
    let before = stage.maps()?;
    screen.text(
        "The hash of a packet's source address and port names its bucket. All nodes get every \
         packet; the one that owns the bucket answers, the others drop it.",
    );
    stage.show_maps(&before);
    stage.show_status()?;
    stage.crowds(&before, "at the beginning")?;

    screen.heading("4  A node loses its power");
    let death = Loss::kill(&mut stage, &before)?;
    let without = stage.maps()?;
    stage.show_maps(&without);
    stage.crowds(&without, &format!("without {VICTIM}"))?;

    screen.heading("5  It comes back");
    let back = Loss::bring_back(&mut stage, &without)?;
    let after = stage.maps()?;
    stage.show_maps(&after);
    stage.crowds(&after, &format!("with {VICTIM} again"))?;
    stage.no_failed_actions()?;

    screen.heading("6  Cleaning up, and what was seen");
    let Stage {
        cluster,
        crowds,
        mut faults,
        ..
    } = stage;
    let busy = screen.busy("switching all off");
    drop(cluster);
    drop(lab);
    let left = ending::nothing_left();
    drop(busy);
    summary(screen, &crowds, &death, &back, left.is_ok());
    faults.extend(left.err().map(|error| error.to_string()));
    Ok(faults)
}

fn set_up<'a>(screen: &'a Screen, lab: &Lab) -> Result<Stage<'a>> {
    screen.text(
        "Each node boots Corosync (token 1000 ms), Pacemaker and a server that says its node's \
         name. Fencing is on: a lost node is switched off before anything of its is taken over.",
    );
    let busy = screen.busy("booting");
    let client = lab.client("c1")?;
    let options = ClusterOptions {
        token_ms: 1000,
        fencing: true,
        agent: Some(built("ocf-clusterip")?),
        nodectl: Some(built("nodectl")?),
        serve: vec![Serve::Tcp(PORT), Serve::Udp(PORT)],
        ..ClusterOptions::default()
    };
    let cluster = Cluster::start(lab, &NODES, options)?;
    drop(busy);
    screen.command("crm_mon -1", "the cluster as Pacemaker sees it");
    Ok(Stage {
        screen,
        cluster,
        client,
        faults: Vec::new(),
        crowds: Vec::new(),
        rounds: 0,
    })
}

/// The classic configuration of a shared address, as articles have had it since 2009.
fn classic(agent: &str, suffix: &str, ip: &str, netmask: u8) -> String {
    format!(
        "primitive resIP{suffix} {agent} \\\n  \
           operations $id=\"resIP{suffix}-operations\" \\\n  \
           op monitor interval=\"10s\" timeout=\"20s\" start-delay=\"0\" \\\n  \
           params ip=\"{ip}\" nic=\"eth0\" cidr_netmask=\"{netmask}\" \\\n    \
             clusterip_hash=\"sourceip-sourceport\" \\\n  \
           meta resource-stickiness=\"0\"\n\
         clone cloneIP{suffix} resIP{suffix} \\\n  \
           meta clone-max=\"12\" globally-unique=\"true\" clone-node-max=\"12\"\n"
    )
}

impl Stage<'_> {
    fn configure(&mut self) -> Result<()> {
        let screen = self.screen;
        screen.text(
            "As in the articles of 2009; the address and 12 buckets for 12 instances are this \
             lab's. The agent's name is the one word that changes:",
        );
        screen.gap();
        let v4 = classic(AGENT, "", "10.77.0.99", 24);
        for line in v4.lines() {
            if line.contains(AGENT) {
                let old = line.replace(AGENT, CLASSIC_AGENT);
                screen.line(screen.paint(Tone::Bad, format!("- {old}")));
                screen.line(screen.paint(Tone::Good, format!("+ {line}")));
            } else {
                screen.line(format!("  {line}"));
            }
        }
        screen.gap();
        screen.text("and the same as resIP6, with ip=\"fd77::99\" cidr_netmask=\"64\", for IPv6.");
        screen.command("crm configure show", "the configuration");

        let began = screen.elapsed();
        let busy = screen.busy("loading it, and waiting until Pacemaker is idle");
        let all = v4 + &classic(AGENT, "6", "fd77::99", 64);
        self.cluster.load(NODES[0], &all)?;
        self.cluster.wait_idle()?;
        drop(busy);
        let took = screen.elapsed() - began;
        screen.event(
            screen.elapsed(),
            &format!(
                "24 instances run, {:.1} s after crm was given it",
                took.as_secs_f64()
            ),
        );
        self.no_failed_actions()
    }

    /// The bucket maps of both VIPs; what is wrong with them is noted.
    pub fn maps(&mut self) -> Result<[Map; 2]> {
        let [v4, v6] = VIPS.map(|vip| Map::read(&self.cluster, vip));
        let maps = [v4?, v6?];
        self.faults.extend(maps.iter().flat_map(Map::faults));
        Ok(maps)
    }

    fn show_maps(&self, maps: &[Map; 2]) {
        let screen = self.screen;
        let [v4, v6] = maps;
        screen.gap();
        screen.command("nodectl status --json", "on each node: the buckets it owns");
        screen.gap();
        for line in v4.picture(screen) {
            screen.line(line);
        }
        screen.line(v6.strip(screen));
    }

    fn show_status(&self) -> Result<()> {
        let screen = self.screen;
        screen.gap();
        screen.command("nodectl status", "the same for people, here on n1");
        let text = self.cluster.node(NODES[0])?.run(&["nodectl", "status"])?;
        for line in text.lines() {
            screen.line(screen.paint(Tone::Dim, format!("| {line}")));
        }
        Ok(())
    }

    /// Sends new crowds to both VIPs and shows how they spread.
    fn crowds(&mut self, maps: &[Map; 2], when: &str) -> Result<()> {
        let screen = self.screen;
        for ((vip, map), total) in VIPS.into_iter().zip(maps).zip(CROWD) {
            screen.gap();
            let target = SocketAddr::new(vip, PORT);
            screen.text(&format!(
                "{} new TCP connections to {target} from {} addresses:",
                thousands(total),
                thousands(total / 3)
            ));
            let crowd = Crowd::send(screen, &self.client, target, map, total, self.rounds)?;
            self.faults.extend(crowd.faults(when));
            self.crowds.push(crowd);
        }
        self.rounds += 1;
        Ok(())
    }

    fn no_failed_actions(&mut self) -> Result<()> {
        for failed in self.cluster.failures()? {
            self.faults.push(format!(
                "Pacemaker tells of a failed action: {} on {}: exit code {}, {}",
                failed.operation, failed.node, failed.code, failed.reason
            ));
        }
        Ok(())
    }
}

/// The machine's load, if it is one at which Pacemaker holds itself back (`load-threshold`).
fn heavy_load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    let processors = std::thread::available_parallelism().ok()?.get();
    (load > 0.8 * processors as f64).then_some(load)
}

fn summary(screen: &Screen, crowds: &[Crowd], death: &Loss, back: &Loss, clean: bool) {
    let sum = |of: fn(&Crowd) -> usize| crowds.iter().map(of).sum::<usize>();
    let answered = format!(
        "{} TCP connections over IPv4 and IPv6: {} failed, {} answered twice, {} by the wrong node",
        thousands(sum(|crowd| crowd.total)),
        sum(|crowd| crowd.failed),
        sum(|crowd| crowd.doubles),
        sum(|crowd| crowd.strays)
    );
    let left = if clean {
        "nothing: no process, no namespace, no rule"
    } else {
        "something, see below"
    };
    for (what, words) in [
        ("shared", answered),
        ("killed", death.sentence()),
        ("came back", back.sentence()),
        ("left behind", left.into()),
    ] {
        for (n, line) in wrap(&words, WIDTH - 16).iter().enumerate() {
            let what = if n == 0 { what } else { "" };
            screen.line(format!("{what:<13} {line}"));
        }
    }
    if let Some(load) = heavy_load() {
        screen.gap();
        screen.text(&format!(
            "This machine is busy, its load is {load:.1}. Pacemaker holds itself back then and \
             takes one action at a time: what moves is dark for longer than on an idle machine."
        ));
    }
}
