//! An ordeal: hours of random deeds on three nodes under traffic, while whatever can go wrong beside them does.
//!
//! Errors of the kernel's at any call of the agent, agents killed in the middle and asked again, agents that stand still
//! with the lock in hand, killed sweepers, clocks that are changed, and other people's programs that change
//! nf_tables. A witness is on the wire all the while. `make ordeal` runs it; it is no part of the tests.
//!
//! | module | what lives there |
//! |---|---|
//! | `errand` | the agent as Pacemaker finds it: the real one behind it, in trouble now and then |
//! | `deeds` | what is done to the cluster in a round |
//! | `trouble` | what happens on the nodes meanwhile |
//! | `rig` | the cluster, and when it is at rest |
//! | `traffic` | what clients do in a round, and what they felt |
//! | `traces` | what is on a node that must not be there afterwards |
//! | `tally` | the sum of all rounds, as a table or as JSON |
#![forbid(unsafe_code)]

mod deeds;
mod errand;
mod rig;
mod tally;
mod traces;
mod traffic;
mod trouble;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use lab::{Context, Error, Result};

use crate::deeds::Deed;
use crate::rig::{NODES, Rig};
use crate::tally::{Round, Tally};
use crate::traces::Traces;
use crate::traffic::Traffic;
use crate::trouble::Trouble;

/// Random deeds on a cluster of three nodes under traffic, while all kinds of trouble happen beside them.
///
/// Everything happens in namespaces of its own, which end with the program. Progress goes to
/// stderr, the table to stdout; the exit status is 1 if anything was wrong.
#[derive(Debug, Parser)]
#[command(name = "ordeal", max_term_width = 100)]
struct Cli {
    /// How long rounds are begun
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    minutes: u32,
    /// Which deeds, in which order: the same number, the same rounds [default: any]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Only this deed; may be repeated
    #[arg(long, value_enum, value_name = "DEED")]
    only: Vec<Deed>,
    /// Nothing but the deeds: no trouble beside them
    #[arg(long)]
    calm: bool,
    /// End with the first round in which anything was wrong
    #[arg(long)]
    stop_at_first: bool,
    /// Where the logs of rounds go in which anything was wrong
    #[arg(long, value_name = "FOLDER", default_value = "target/ordeal")]
    logs: PathBuf,
    /// Print JSON, schema 1
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if let Some(code) = errand::as_agent() {
        return code;
    }
    let cli = Cli::parse();
    match run(&cli) {
        Ok(tally) => {
            match cli.json {
                true => println!("{}", tally.json()),
                false => print!("{}", tally.table()),
            }
            ExitCode::from(u8::from(!tally.is_clean()))
        }
        Err(error) => {
            eprintln!("ordeal: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<Tally> {
    let seed = cli.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let mut chance = fastrand::Rng::with_seed(seed);
    let rig = Rig::start()?;
    rig.say(format!("seed {seed}"));
    let before = Traces::of_all(&rig)?;
    rig.share()?;
    rig.errands()?;

    let mut tally = Tally::new(seed);
    let ends = Instant::now() + Duration::from_secs(60 * u64::from(cli.minutes));
    while Instant::now() < ends {
        let deed = Deed::any(&mut chance, &cli.only);
        let number = tally.rounds.len() + 1;
        let round = one(&rig, deed, &mut chance, cli.calm)
            .context(format!("round {number}, {}", deed.name()));
        if let Ok(round) = &round {
            rig.say(format!("round {number}: {}", round.line()));
        }
        if round
            .as_ref()
            .map_or(true, |round| !round.faults.is_empty())
        {
            let folder = cli.logs.join(format!("round-{number}"));
            rig.keep_logs(&folder)?;
            rig.say(format!("its logs are in {}", folder.display()));
        }
        let round = round?;
        let ends_here = cli.stop_at_first && !round.faults.is_empty();
        tally.rounds.push(round);
        if ends_here {
            break;
        }
    }
    rig.say("the clones are stopped");
    rig.stop()?;
    tally.left = before.beyond(&rig)?;
    Ok(tally)
}

/// One round: everything is at rest before and after it.
fn one(rig: &Rig, deed: Deed, chance: &mut fastrand::Rng, calm: bool) -> Result<Round> {
    let begun = Instant::now();
    let traffic = Traffic::begin(rig)?;
    let trouble = match calm {
        true => None,
        false => Some(Trouble::begin(rig, chance)?),
    };
    let mut faults = Vec::new();
    let done = deed.perform(rig, chance);
    let rested = done.and_then(|()| {
        rig.bring_back()?;
        rig.wait_at_rest(&NODES)?;
        traffic.go_on(deed.is_planned())
    });
    if let Some(trouble) = trouble {
        trouble.end(rig)?;
    }
    let felt = traffic.end(deed.is_planned())?;
    let errands = rig.errands()?;
    if let Err(error) = rested {
        faults.push(error.to_string());
        // The next round needs a cluster at rest.
        rig.bring_back()
            .and_then(|()| rig.wait_at_rest(&NODES))
            .map_err(|again| Error::new(format!("{error}; and without any trouble: {again}")))?;
    }
    faults.extend(felt.faults(deed.is_planned()));
    faults.extend(
        errands
            .iter()
            .filter_map(|errand| errand.fault(deed.is_planned())),
    );
    rig.forget_failures()?;
    let lost = rig.lost_nodes().into_iter().filter(|_| deed.is_planned());
    faults.extend(lost.map(|name| format!("{name} was fenced")));
    Ok(Round {
        deed: deed.name(),
        planned: deed.is_planned(),
        seconds: begun.elapsed().as_secs_f64(),
        felt,
        errands,
        faults,
    })
}
