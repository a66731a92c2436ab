//! nodectl: look at and move buckets by hand, and print what belongs around them. One file a verb.
//!
//! Exit codes (`sysexits.h`): 0 done, also when there was nothing to do; 64 usage; 65 bad data (an
//! unknown VIP, another description); 69 the kernel lacks something, or clusteripd, which was asked, does not answer; 71
//! the kernel refused; 75 not yet (`wait-drained`); 77 not permitted. `check` has found warnings with 1, and what will not work with 2.

mod arp;
mod buckets;
mod calling;
mod change;
mod check;
pub mod cli;
mod cluster;
mod configuration;
mod context;
mod daemons;
mod describe;
mod drain;
mod explain;
mod failure;
mod json;
mod mac;
mod migrate;
mod outcome;
mod owner;
mod ruleset;
mod screen;
mod status;
mod told;
mod values;
mod watch;

use crate::sys::netns::enter;
use cli::{Cli, Verb};
use context::Context;
pub use failure::{DATA, Failure, LATER, NOT_PERMITTED, REFUSED, UNAVAILABLE, USAGE};
pub use json::SCHEMA;
pub use told::Told;

/// Does what the command line says and returns what is to be printed. The calling thread stays in the
/// network namespace that was asked for.
pub fn run(cli: &Cli) -> Result<Told, Failure> {
    let (json, netns) = (cli.json, cli.netns.as_deref());
    let home = match &cli.verb {
        // The namespace is on other machines, perhaps, or there is nothing to look at.
        Verb::Crm(_) | Verb::Pcs(_) | Verb::Migrate(_) => None,
        Verb::Mac(args) if args.compat.0.is_none() => None,
        Verb::Arp(args) if args.list || args.mac.is_some() => None,
        // The daemon is asked, wherever it is.
        Verb::Watch | Verb::Metrics => None,
        Verb::Status(args) if args.cluster => None,
        Verb::Buckets(args) if args.cluster => None,
        _ => netns.map(enter).transpose()?,
    };
    let context = Context { json, netns, home };
    let told = told(cli, &context)?;
    Ok(Told {
        text: screen::Screen::of_stdout().clean(&told.text),
        ..told
    })
}

fn told(cli: &Cli, context: &Context<'_>) -> Result<Told, Failure> {
    let json = context.json;
    let told = match &cli.verb {
        Verb::Up(args) => change::up(args)?.tell(json),
        Verb::Down(args) => change::down(args)?.tell(json),
        Verb::Take(args) => change::take(args)?.tell(json),
        Verb::Release(args) => change::release(args, context)?.tell(json),
        Verb::Drain(args) => drain::drain(args, context)?.tell(json),
        Verb::Undrain(args) => drain::undrain(args)?.tell(json),
        Verb::WaitDrained(args) => drain::wait_drained(args)?.tell(json),
        Verb::Status(args) if args.cluster => daemons::status(context),
        Verb::Status(args) => status::status(args, context),
        Verb::Buckets(args) if args.cluster => daemons::buckets(args.vip, context),
        Verb::Buckets(args) => buckets::buckets(args, context),
        Verb::Watch => watch::watch(context),
        Verb::Metrics => daemons::metrics(context),
        Verb::Owner(args) => owner::owner(args, context),
        Verb::Explain(args) => explain::explain(args, context),
        Verb::Ruleset(args) => ruleset::ruleset(args, context),
        Verb::Crm(args) => configuration::crm(args, context),
        Verb::Pcs(args) => configuration::pcs(args, context),
        Verb::Arp(args) => arp::arp(args, context),
        Verb::Mac(args) => mac::mac(args, context),
        Verb::Migrate(args) => migrate::migrate(args, context),
        Verb::Check(args) => return check::check(args, context),
    };
    told.map(Told::from)
}
