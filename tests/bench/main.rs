//! The benchmark: what a packet costs a node, what an action takes, how soon a bucket is served.
//!
//! `make bench` runs it; docs/benchmarks.md says how it measures, how to read it, and what it
//! cannot show. Everything is compared within one run.
//!
//! | module | what lives there |
//! |---|---|
//! | `cli` | the command line |
//! | `packets` | the cost of one received packet, with many kinds of rules |
//! | `operations` | start, monitor and stop, as Pacemaker calls them |
//! | `rush` | the same of very many instances at once |
//! | `moves` | the same of buckets with many connections |
//! | `crowd` | very many connections |
//! | `sharing` | a real cluster that shares an address |
//! | `cluster` | there: a node dies, instances move |
//! | `planned` | there: how long a bucket is dark that moves, with `clusteripd` and without |
//! | `stats` | medians and spreads |
//! | `report`, `table` | the figures: for machines, for people |
//! | `machine`, `telling` | what it runs on; progress |
#![forbid(unsafe_code)]

mod cli;
mod cluster;
mod crowd;
mod machine;
mod moves;
mod operations;
mod packets;
mod planned;
mod report;
mod rush;
mod sharing;
mod stats;
mod table;
mod telling;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use lab::{Context, Result};

use crate::cli::{Cli, Part};
use crate::machine::Machine;
use crate::report::Report;
use crate::telling::Telling;

fn main() -> ExitCode {
    if let Some(done) = crowd::part() {
        return match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let cli = Cli::parse();
    let telling = Telling::new();
    match run(&cli, &telling) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telling.end();
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli, telling: &Telling) -> Result<()> {
    let machine = Machine::look();
    let mut report = Report {
        schema: 1,
        warnings: machine.warnings(),
        machine,
        packets: None,
        operations: None,
        rush: None,
        cluster: None,
        moves: None,
    };
    // The costs of packets first: what the other parts leave to be done must not disturb them.
    if cli.wants(Part::Packets) {
        let rounds = cli.rounds.unwrap_or(cli.often(100, 15));
        // It is run from wherever a node's programs are.
        let build = cli.nodectl.as_ref().map(std::path::absolute);
        let effort = packets::Effort {
            nodes: cli.nodes,
            vips: cli.vips,
            flows: cli.flows(),
            packets: cli.packets as usize,
            rounds: rounds as usize,
            some: cli.variant.clone(),
            hand_made: cli.rules.clone(),
            build: build.transpose().context("another build's nodectl")?,
        };
        let costs = packets::measure(&effort, telling)?;
        report.warnings.extend(costs.warnings());
        report.packets = Some(costs);
    }
    if cli.wants(Part::Operations) {
        let effort = operations::Effort {
            runs: cli.often(50, 5),
            ipaddr2: cli.ipaddr2.clone(),
            connections: cli.flows(),
        };
        let mut costs = operations::measure(&effort, telling)?;
        moves::measure(&effort, telling, &mut costs)?;
        report.operations = Some(costs);
    }
    if cli.wants(Part::Rush) {
        let effort = rush::Effort {
            instances: cli.instances.unwrap_or(cli.often(1024, 128)).into(),
            at_once: cli.at_once.into(),
            runs: cli.often(5, 2),
            other: cli.agent.clone(),
        };
        report.rush = Some(rush::measure(&effort, telling)?);
    }
    if cli.wants(Part::Cluster) {
        let buckets: &[u16] = cli.often(&[12, 60], &[12]);
        report.cluster = Some(cluster::measure(buckets, cli.often(5, 1), telling)?);
    }
    if cli.wants(Part::Moves) {
        let mut connections = cli.flows();
        connections.insert(0, 0);
        let effort = planned::Effort {
            buckets: cli.often(vec![12, 60], vec![12]),
            repetitions: cli.often(5, 1),
            connections,
        };
        let moves = planned::measure(&effort, telling)?;
        report.warnings.extend(planned::warnings(&moves));
        report.moves = Some(moves);
    }
    telling.end();
    let text = match cli.json {
        true => serde_json::to_string_pretty(&report).context("write the figures")? + "\n",
        false => table::of(&report),
    };
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.context("write the figures")
}
