//! Transports besides TCP and UDP: their ports choose the bucket too, and for IPsec the SPI does.

use crate::kernel_support::*;
use crate::product::*;
use crate::sharing::{NODES, vips};
use clusterip::model::hash::{Flow, HashMode, Layout};
use lab::frame::What;
use lab::{Lab, Node, Pace, Result, Serve, Transport};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

const BUCKETS: u16 = 12;
const SEED: u32 = 0x0bad_cafe;

/// Three nodes that share both VIPs and serve this besides TCP and UDP.
fn sharing(lab: &Lab, further: &[Serve], mode: HashMode) -> Result<Vec<Node>> {
    let up = ["--seed", "0x0badcafe", "--hash", mode.name()];
    let nodes = sharing_nodes(lab, &NODES, BUCKETS, &up)?;
    for node in nodes.iter().filter(|_| !further.is_empty()) {
        node.serve(further)?;
    }
    Ok(nodes)
}

fn foretold(mode: HashMode, source: IpAddr, source_port: u16, destination_port: u16) -> String {
    let flow = Flow {
        source,
        source_port,
        destination_port,
    };
    owner_of(
        &NODES,
        BUCKETS,
        &hasher(mode, Layout::default(), SEED),
        &flow,
    )
}

/// Whether sockets of this transport can be made, for both families.
fn kernel_speaks(transport: Transport, modules: &[&str]) -> Result<bool> {
    kernel_has(transport.name(), modules, |node| {
        node.within(|| {
            for domain in [socket2::Domain::IPV4, socket2::Domain::IPV6] {
                transport.socket(domain)?;
            }
            std::io::Result::Ok(())
        })?
        .map_err(|error| lab::Error::new(error.to_string()))
    })
}

/// In every mode with ports, every flow is answered by its owner and by no other, and nodectl knows.
fn shares(transport: Transport) -> Result<()> {
    for mode in [
        HashMode::SourceIpSourcePort,
        HashMode::SourceIpSourcePortDestPort,
    ] {
        let lab = Lab::new(transport.name())?;
        let client = lab.client("c1")?;
        let nodes = sharing(&lab, &[Serve::Other(transport, PORT)], mode)?;
        for vip in vips() {
            let sources = client.sources_for(vip, 90);
            let flows: Vec<_> = sources.into_iter().zip(20_000..).collect();
            let witness = client.witness(&[vip])?;
            let target = SocketAddr::new(vip, PORT);
            let report = client.ask_by(transport, target, flows, Pace::default())?;
            report.expect_all_answered()?;
            for (flow, node) in report.answered() {
                let owner = foretold(mode, flow.src, flow.sport, PORT);
                assert_eq!(node, owner, "{transport} {flow:?}");
            }
            assert_eq!(report.by_node().len(), NODES.len());
            let (flow, owner) = report.answered().pop_first().expect("90 flows");
            for node in &nodes {
                let phase = phase_of(node, vip, SocketAddr::new(flow.src, flow.sport))?;
                assert_eq!(phase == "owned", node.name() == owner, "{phase}");
            }
            witness.finish()?.expect_no_double_answers()?;
        }
    }
    Ok(())
}

/// What nodectl on this node says of a client's bucket.
fn phase_of(node: &Node, vip: IpAddr, client: SocketAddr) -> Result<String> {
    let (vip, client, port) = (vip.to_string(), client.to_string(), PORT.to_string());
    let words = ["owner", &vip, &client, "--dport", &port, "--json"];
    let told: serde_json::Value = serde_json::from_str(&nodectl(node, &words)?).expect("JSON");
    Ok(told["phase"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn udp_lite_is_shared_by_its_ports() -> Result<()> {
    match kernel_speaks(Transport::UdpLite, &[])? {
        true => shares(Transport::UdpLite),
        false => Ok(()),
    }
}

#[test]
fn sctp_associations_are_shared_by_their_ports() -> Result<()> {
    match kernel_speaks(Transport::Sctp, &["sctp"])? {
        true => shares(Transport::Sctp),
        false => Ok(()),
    }
}

#[test]
fn dccp_connections_are_shared_by_their_ports() -> Result<()> {
    // Debian's kernel does not load these by itself when a socket is asked for.
    match kernel_speaks(Transport::Dccp, &["dccp_ipv4", "dccp_ipv6"])? {
        true => shares(Transport::Dccp),
        false => Ok(()),
    }
}

/// A protocol of IPsec, as `ip xfrm` wants it.
#[derive(Clone, Copy)]
struct Ipsec {
    name: &'static str,
    number: u8,
    modules: &'static [&'static str],
    keys: &'static str,
}

const ESP: Ipsec = Ipsec {
    name: "esp",
    number: 50,
    modules: &["esp4", "esp6"],
    keys: "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128",
};
const AH: Ipsec = Ipsec {
    name: "ah",
    number: 51,
    modules: &["ah4", "ah6"],
    keys: "auth hmac(sha256) 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
};

impl Ipsec {
    /// One association, as a line of `ip`.
    fn state(self, from: IpAddr, to: IpAddr, spi: u32) -> String {
        let Self { name, keys, .. } = self;
        format!(
            "xfrm state add src {from} dst {to} proto {name} spi {spi:#x} mode transport {keys}\n"
        )
    }

    /// What is sent from one to the other by UDP is to be sealed, as a line of `ip`.
    fn policy(self, from: IpAddr, to: IpAddr, direction: &str) -> String {
        let name = self.name;
        format!(
            "xfrm policy add src {from} dst {to} proto udp dir {direction} \
             tmpl src {from} dst {to} proto {name} mode transport\n"
        )
    }

    fn is_there(self) -> Result<bool> {
        kernel_has(&self.name.to_uppercase(), self.modules, |node| {
            let pairs = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];
            let lines = pairs.map(|(from, to)| self.state(ip(from), ip(to), 0x1000));
            ip_lines(node, &lines.concat())
        })
    }
}

/// Security associations in transport mode between sources and the VIPs, the same on all nodes: a
/// packet's bucket follows from its SPI, whose halves stand where ports would.
fn shares_by_spi(ipsec: Ipsec) -> Result<()> {
    let mode = HashMode::SourceIpSourcePort;
    let lab = Lab::new(ipsec.name)?;
    let client = lab.client("c1")?;
    let nodes = sharing(&lab, &[], mode)?;
    for vip in vips() {
        let sources = client.sources_for(vip, 60);
        let spis: BTreeMap<IpAddr, u32> = sources.into_iter().zip((1..).map(spi)).collect();
        let (mut inside, mut outside) = (String::new(), String::new());
        for (source, spi) in &spis {
            let states = ipsec.state(*source, vip, *spi) + &ipsec.state(vip, *source, spi ^ 1);
            inside += &states;
            outside += &states;
            inside += &(ipsec.policy(*source, vip, "in") + &ipsec.policy(vip, *source, "out"));
            outside += &(ipsec.policy(*source, vip, "out") + &ipsec.policy(vip, *source, "in"));
        }
        for node in &nodes {
            ip_lines(node, &inside)?;
        }
        ip_lines(&client, &outside)?;

        let witness = client.witness(&[vip])?;
        let target = SocketAddr::new(vip, PORT);
        let report = client.udp(target, spis.keys().copied(), Pace::default())?;
        report.expect_all_answered()?;
        for (flow, node) in report.answered() {
            let spi = spis[&flow.src];
            let owner = foretold(mode, flow.src, (spi >> 16) as u16, spi as u16);
            assert_eq!(node, owner, "{} {spi:#x} of {}", ipsec.name, flow.src);
        }
        assert_eq!(report.by_node().len(), NODES.len());
        let seen = witness.finish()?;
        seen.expect_no_double_answers()?;
        let sealed = seen.frames.iter().filter(|seen| {
            matches!(seen.frame.what, What::Sealed { protocol, .. } if protocol == ipsec.number)
        });
        assert_eq!(
            (sealed.count(), seen.frames.len()),
            (60, 60),
            "all is sealed"
        );
    }
    Ok(())
}

/// Different numbers whose upper halves differ too; the lowest bit is left for the way back.
fn spi(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1) | 0x0001_0001
}

#[test]
fn esp_is_shared_by_its_spi() -> Result<()> {
    match ESP.is_there()? {
        true => shares_by_spi(ESP),
        false => Ok(()),
    }
}

#[test]
fn ah_is_shared_by_its_spi() -> Result<()> {
    match AH.is_there()? {
        true => shares_by_spi(AH),
        false => Ok(()),
    }
}
