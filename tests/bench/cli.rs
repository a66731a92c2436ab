//! The command line, in one place. Its doc comments are the help that people read.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measure what a packet costs a node, what an action of the agent takes, and how soon a bucket
/// that moves is served again, side by side with what there is else.
///
/// Everything happens in network namespaces of its own, which end with the program. Progress goes
/// to stderr, the table to stdout.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 100)]
pub struct Cli {
    /// Measure this part alone; may be repeated
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "skip")]
    pub only: Vec<Part>,
    /// Leave this part out; may be repeated
    #[arg(long, value_enum, value_name = "PART")]
    pub skip: Vec<Part>,
    /// Fewer repetitions: a look in a minute or two, not figures to be quoted
    #[arg(long)]
    pub quick: bool,
    /// Print JSON, schema 1
    #[arg(long)]
    pub json: bool,
    /// The newest IPaddr2, a file, to be measured as a clone's instance
    #[arg(long, value_name = "FILE")]
    pub ipaddr2: Option<PathBuf>,
    /// Rush: another build of the agent, a file, to be measured beside this one
    #[arg(long, value_name = "FILE")]
    pub agent: Option<PathBuf>,
    /// Rush: instances of the clone [default: 1024, or 128 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub instances: Option<u16>,
    /// Rush: actions at the same time
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub at_once: u16,
    /// Packets: only the floor and variants with this in their names; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub variant: Vec<String>,
    /// Packets: measure these rules too, a file for nft (the VIP is 10.77.0.99 on eth0); may be
    /// repeated
    #[arg(long, value_name = "FILE")]
    pub rules: Vec<PathBuf>,
    /// Packets: another build of nodectl, a file, whose rules are measured beside this one's
    #[arg(long, value_name = "FILE")]
    pub nodectl: Option<PathBuf>,
    /// Packets: nodes that each packet is flooded to
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub nodes: u8,
    /// Packets: VIPs on the interface where there are many
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=100))]
    pub vips: u16,
    /// Connections that stay while buckets drain or move; may be repeated [default: 10000, or
    /// 1000 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub flows: Vec<u32>,
    /// Packets: how many are timed at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=16384))]
    pub packets: u32,
    /// Packets: how often each variant is measured [default: 100, or 15 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: Option<u32>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What a received packet costs a node
    Packets,
    /// What start, monitor and stop take
    Operations,
    /// What start and stop take when very many instances come and go at once
    Rush,
    /// From Pacemaker's decision to the last bucket served
    Cluster,
    /// How long a bucket is dark in a planned move, with clusteripd and without
    Moves,
}

impl Cli {
    /// Whether a part is to be measured.
    pub fn wants(&self, part: Part) -> bool {
        (self.only.is_empty() || self.only.contains(&part)) && !self.skip.contains(&part)
    }

    /// How many connections stay where some do.
    pub fn flows(&self) -> Vec<u32> {
        match self.flows.as_slice() {
            [] => self.often(vec![10_000], vec![1_000]),
            given => given.to_vec(),
        }
    }

    /// Of two numbers of repetitions the one that is wanted.
    pub fn often<N>(&self, thorough: N, quick: N) -> N {
        match self.quick {
            true => quick,
            false => thorough,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn parts_are_chosen_or_left_out() {
        Cli::command().debug_assert();
        let parse = |words: &[&str]| Cli::try_parse_from([&["bench"], words].concat());
        let wanted = |words: &[&str]| {
            let cli = parse(words).expect("a good command line");
            let parts = [
                Part::Packets,
                Part::Operations,
                Part::Rush,
                Part::Cluster,
                Part::Moves,
            ];
            parts.map(|part| cli.wants(part))
        };
        assert_eq!(wanted(&[]), [true; 5]);
        assert_eq!(
            wanted(&["--skip", "cluster"]),
            [true, true, true, false, true]
        );
        assert_eq!(
            wanted(&["--only", "packets"]),
            [true, false, false, false, false]
        );
        assert!(parse(&["--only", "packets", "--skip", "cluster"]).is_err());
        assert!(parse(&["--nodes", "0"]).is_err());
    }
}
