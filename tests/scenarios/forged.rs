//! Forged answers to the question whether others share the VIP: what is no answer keeps nobody from
//! coming up, nor does what contradicts itself or comes in floods; what answers as a node does, does.

use crate::answers::*;
use crate::product::*;
use lab::{Client, Context, Error, Lab, Node, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// nodectl's answer to a description that others on the link do not share.
const DATA: i32 = 65;

/// What begins the warning of what is not believed.
const NOT_BELIEVED: &str = "not believed";

/// Others may have the processors, so that a forged answer comes too late once in a while.
const ATTEMPTS: u32 = 10;

/// Ends who forges, also where an assertion fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does something while `forge` is done again and again.
fn while_forged<T>(
    mut forge: impl FnMut() -> Result<()> + Send,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let forger = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                forge()?;
            }
            Ok::<_, Error>(())
        });
        let ends = Ends(&done);
        let worked = work();
        drop(ends);
        forger.join().expect("no panic")?;
        worked
    })
}

/// Does something while frames go out of a client, all of them in turn, `pause` between two.
fn while_sent<T>(
    client: &Client,
    frames: &[Vec<u8>],
    pause: Duration,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let wire = client.wire("eth0")?;
    let mut frames = frames.iter().cycle();
    let send = || {
        wire.send(frames.next().context("no frames")?)?;
        std::thread::sleep(pause);
        Ok(())
    };
    while_forged(send, work)
}

/// Does something while somebody at the client's place answers each of n1's questions with these.
fn while_answered<T>(
    lab: &Lab,
    client: &Client,
    frames: &[Vec<u8>],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let (wire, tap) = (client.wire("eth0")?, lab.switch_tap("c1")?);
    let mut buffer = [0; 2048];
    let answer = || {
        let heard = tap.receive(&mut buffer, Duration::from_millis(20))?;
        if heard.is_some_and(|length| is_question(&buffer[..length])) {
            for frame in frames {
                wire.send(frame)?;
            }
        }
        Ok(())
    };
    while_forged(answer, work)
}

/// Answers of many who name a cluster MAC each.
fn of_many(vip: &str) -> Vec<Vec<u8>> {
    let sources = (0..=255).map(|n| [2, 0x66, 0, 0, 1, n]);
    sources.map(|mac| forged(vip, mac, mac[5])).collect()
}

/// A probe of n1's.
fn is_question(frame: &[u8]) -> bool {
    let at = |from: usize, to: usize| frame.get(from..to).unwrap_or_default();
    let arp = at(12, 14) == [8, 6] && at(20, 22) == [0, 1] && at(28, 32) == [0; 4];
    let solicits = at(12, 14) == [0x86, 0xdd] && at(54, 55) == [135] && at(22, 38) == [0; 16];
    at(6, 12) == N1 && (arp || solicits)
}

/// What a start says while it is disturbed; it must come up, and goes again.
fn comes_up(node: &Node, vip: &str) -> Result<String> {
    let agent = Agent::new(vip, 12);
    let answer = agent.call(node, "start", 0)?.expect(0);
    agent.call(node, "stop", 0)?.expect(0);
    Ok(answer.stderr)
}

/// It comes up every time, and at least once there is the warning: somebody was in time.
fn comes_up_with_a_warning(node: &Node, vip: &str) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let said = comes_up(node, vip)?;
        let warned = |line: &str| line.starts_with("WARNING") && line.contains(NOT_BELIEVED);
        if said.lines().any(warned) {
            return Ok(());
        }
    }
    Err(Error::new(format!("nobody was warned on {vip}")))
}

/// It does not come up; somebody who only just answers too late may have to try again.
fn is_barred(node: &Node, vip: &str) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let agent = Agent::new(vip, 12).meta("timeout", "1500");
        let answer = agent.call(node, "start", 0)?;
        match answer.code {
            0 => agent.call(node, "stop", 0)?.expect(0),
            _ => {
                // Whoever answers whatever is asked by ARP does not know these rules.
                let reason = answer.reason();
                let barred = ["stop the clone first", "as a predecessor did"];
                assert!(
                    barred.iter().any(|words| reason.contains(words)),
                    "{reason}"
                );
                return Ok(());
            }
        };
    }
    Err(Error::new(format!("{vip} came up")))
}

#[test]
fn what_comes_from_beyond_a_router_is_no_answer() -> Result<()> {
    let lab = Lab::new("beyond")?;
    let node = lab.node("n1")?;
    let behind = lab.client_behind_router("c1", 1500)?;
    let advertised = Advertisement {
        mac: behind.client.mac().0,
        to_mac: behind.router.mac().0,
        from: six("fd78::bad"),
        to: six("fd77::1"),
        hops: 64,
        checksum: Some(0),
        ..Advertisement::default()
    };
    // The router must know where n1 is, and so what it forwards arrives.
    behind
        .router
        .run(&["ping", "-6", "-c", "1", "-w", "5", "fd77::1"])?;
    let tap = lab.switch_tap("n1")?;
    let frames = [advertised.frame()];
    // As fast as may be: these never take the room of others.
    while_sent(&behind.client, &frames, Duration::ZERO, || {
        let mut buffer = [0; 2048];
        lab.wait_until("what is forwarded", Duration::from_secs(5), || {
            let heard = tap.receive(&mut buffer, Duration::from_millis(20));
            heard.is_ok_and(|length| length.is_some() && buffer[21] == 63 && buffer[54] == 136)
        })?;
        for _ in 0..3 {
            let said = comes_up(&node, V6)?;
            assert!(!said.contains("WARNING"), "{said}");
        }
        Ok(())
    })
}

#[test]
fn what_is_no_answer_keeps_no_vip_from_coming_up() -> Result<()> {
    let lab = Lab::new("no-answer")?;
    let (node, client) = (lab.node("n1")?, lab.client("c1")?);
    for vip in [V4, V6] {
        // A start for each.
        let (mut all, mut taken_for_answers) = (Vec::new(), Vec::new());
        for (what, frame) in no_answers(vip) {
            let frames = [frame];
            let agent = Agent::new(vip, 12).meta("timeout", "1500");
            let start = || agent.call(&node, "start", 0);
            let answer = while_answered(&lab, &client, &frames, start)?;
            if answer.code != 0 || answer.stderr.contains("WARNING") {
                taken_for_answers.push(what);
            }
            agent.call(&node, "stop", 0)?.expect(0);
            all.extend(frames);
        }
        assert_eq!(taken_for_answers, [""; 0], "{vip}");
        // All of them as fast as may be: that some were not read may be told.
        let said = while_sent(&client, &all, Duration::ZERO, || comes_up(&node, vip))?;
        assert!(!said.contains(NOT_BELIEVED), "{vip}: {said}");
        // What they are like is one.
        let frames = [forged(vip, FORGER, 0x99)];
        while_answered(&lab, &client, &frames, || is_barred(&node, vip))?;
    }
    Ok(())
}

#[test]
fn who_contradicts_himself_or_others_bars_nobody() -> Result<()> {
    let lab = Lab::new("contradict")?;
    let (node, client) = (lab.node("n1")?, lab.client("c1")?);
    let second = [2, 0x66, 0, 0, 0, 2];
    for vip in [V4, V6] {
        for frames in [
            // One who names two cluster MACs; two who name one each.
            [forged(vip, FORGER, 1), forged(vip, FORGER, 2)],
            [forged(vip, FORGER, 1), forged(vip, second, 2)],
        ] {
            while_answered(&lab, &client, &frames, || {
                comes_up_with_a_warning(&node, vip)
            })?;
            // A hundred in a second, whoever asks.
            let pause = Duration::from_millis(10);
            while_sent(&client, &frames, pause, || {
                comes_up_with_a_warning(&node, vip)
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_flood_of_answers_bars_nobody() -> Result<()> {
    let lab = Lab::new("flood")?;
    let (node, client) = (lab.node("n1")?, lab.client("c1")?);
    for vip in [V4, V6] {
        for frames in [vec![forged(vip, FORGER, 0x99)], of_many(vip)] {
            while_sent(&client, &frames, Duration::ZERO, || {
                comes_up_with_a_warning(&node, vip)
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_node_with_another_description_is_heard_among_forgers() -> Result<()> {
    let lab = Lab::new("among")?;
    let (n1, n2) = (lab.node("n1")?, lab.node("n2")?);
    let client = lab.client("c1")?;
    for vip in [V4, V6] {
        nodectl(&n2, &["up", vip, "--buckets", "6", "--own", "0"])?;
        let pause = Duration::from_millis(1);
        while_sent(&client, &of_many(vip), pause, || {
            for _ in 0..3 {
                let args = ["up", vip, "--buckets", "12", "--own", "1"];
                let (code, said) = nodectl_fails(&n1, &args)?;
                assert_eq!(code, DATA, "{said}");
                assert!(said.contains("stop the clone first"), "{said}");
                assert!(said.contains(&lab.mac_of("n2")?.to_string()), "{said}");
            }
            Ok(())
        })?;
        nodectl(&n2, &["down", vip])?;
    }
    Ok(())
}
