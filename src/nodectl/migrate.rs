//! `nodectl migrate`: from a configuration with addresses that IPaddr2 shares to one with ours. It reads and prints,
//! and changes nothing.

use super::cli::{Migrate, Part};
use super::configuration::random;
use super::context::Context;
use super::failure::{DATA, Failure};
use super::json::{SCHEMA, json};
use super::screen::Screen;
use crate::model::predecessor::{Compat, Predecessor};
use crate::model::untrusted::{Untrusted, shown};
use crate::pacemaker::migration::judged::{Chosen, Judgement, Left, Shared, judge};
use crate::pacemaker::migration::procedure::{Invocation, Step, remarks, steps};
use crate::pacemaker::migration::renewed::Lost;
use crate::pacemaker::migration::sentences::{changes, look, no_such_clone, without_that_seed};
use crate::pacemaker::migration::{read, takeover, words};
use crate::pacemaker::query::{Query, QueryError, ask_at};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use tracing::warn;

/// No configuration is that long; this only keeps a fault from filling the memory.
const LONGEST: u64 = 64 << 20;

/// The answer, for programs.
#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    migrated: Vec<Migrated<'a>>,
    left: Vec<Stays<'a>>,
}

#[derive(Serialize)]
struct Migrated<'a> {
    clone: &'a Untrusted,
    buckets: u16,
    addresses: Vec<OneAddress<'a>>,
    changes: Vec<String>,
    lost: Vec<Gone<'a>>,
    look: Vec<String>,
    /// Can it be taken over node by node?
    rolling: bool,
    /// Why not.
    not_rolling: &'a [String],
    remarks: Vec<String>,
    /// Who reads the configuration.
    reader: &'static str,
    configuration: String,
    /// The script by which a node takes over.
    takeover: Option<String>,
    steps: Vec<OneStep>,
}

#[derive(Serialize)]
struct OneAddress<'a> {
    resource: &'a Untrusted,
    vip: String,
    /// Which IPaddr2 has it.
    predecessor: Option<&'static str>,
    compat: Option<&'static str>,
}

#[derive(Serialize)]
struct Gone<'a> {
    resource: &'a Untrusted,
    parameter: &'a Untrusted,
    value: &'a Untrusted,
    why: &'a str,
}

#[derive(Serialize)]
struct OneStep {
    r#where: &'static str,
    does: String,
    commands: Vec<String>,
    check: String,
    expect: String,
}

#[derive(Serialize)]
struct Stays<'a> {
    resource: &'a Untrusted,
    clone: Option<&'a Untrusted>,
    obstacles: Vec<Reason<'a>>,
}

#[derive(Serialize)]
struct Reason<'a> {
    why: &'a str,
    instead: &'a str,
}

/// `nodectl migrate`.
pub(super) fn migrate(args: &Migrate, context: &Context<'_>) -> Result<String, Failure> {
    let text = told(args.file.as_deref(), context)?;
    let all = read(&text).map_err(|error| Failure::new(DATA, error))?;
    let seed = match args.seed {
        Some(seed) => seed,
        None => random()?,
    };
    let chosen = Chosen {
        compat: args.compat,
        seed,
    };
    let judgement = judge(&all, chosen, args.clone.as_deref());
    if let (Some(clone), true) = (&args.clone, judgement == Judgement::default()) {
        return Err(Failure::new(DATA, no_such_clone(&all, clone)));
    }
    let invoked = Invocation {
        shell: args.shell,
        compat: args.compat.map(Compat::name),
        seed,
        says_seed: args.seed.is_some(),
    };
    if let Some(part) = args.print {
        return one_part(&judgement, part, invoked);
    }
    match context.json {
        true => json(&answer(&judgement, invoked)),
        false => Ok(in_words(&judgement, invoked)),
    }
}

/// The configuration, from wherever it is.
fn told(file: Option<&Path>, context: &Context<'_>) -> Result<String, Failure> {
    let Some(path) = file else {
        let asked = ask_at(context.home.as_ref(), Query::Configuration);
        return asked.map_err(|error| Failure::new(DATA, no_cluster(&error)));
    };
    let read = |source: &mut dyn Read| {
        let mut text = String::new();
        source.take(LONGEST).read_to_string(&mut text).map(|_| text)
    };
    let text = match path == Path::new("-") {
        true => read(&mut io::stdin()),
        false => File::open(path).and_then(|mut file| read(&mut file)),
    };
    text.map_err(|error| {
        let path = path.to_string_lossy();
        Failure::new(DATA, format!("cannot read '{}': {error}", shown(&path)))
    })
}

fn no_cluster(error: &QueryError) -> String {
    format!(
        "no cluster answers here ({error}); name a file that has its CIB, as 'cibadmin --query' prints it on a node, or - for \
         standard input"
    )
}

/// What is worth a look, and what was asked for in vain.
fn look_at(shared: &Shared, invoked: Invocation<'_>) -> Vec<String> {
    let mut all = look(shared);
    if invoked.says_seed {
        all.extend(without_that_seed(shared));
    }
    all
}

/// Only the configuration, or only the script.
fn one_part(judgement: &Judgement, part: Part, invoked: Invocation<'_>) -> Result<String, Failure> {
    let shared = &judgement.shared;
    // What is printed goes into a file.
    for sentence in shared
        .iter()
        .filter(|_| invoked.says_seed)
        .flat_map(without_that_seed)
    {
        warn!("{sentence}");
    }
    let text: String = match part {
        Part::Configuration => shared
            .iter()
            .map(|it| words::words(it, invoked.shell))
            .collect(),
        Part::Takeover => {
            let rolling = shared.iter().filter(|shared| shared.is_rolling());
            rolling.map(takeover::script).collect()
        }
    };
    match text.is_empty() {
        true => Err(Failure::new(
            DATA,
            "nothing here is migrated so; 'nodectl migrate' without --print says why",
        )),
        false => Ok(text),
    }
}

fn answer<'a>(judgement: &'a Judgement, invoked: Invocation<'_>) -> Answer<'a> {
    let migrated = judgement.shared.iter().map(|shared| Migrated {
        clone: &shared.clone,
        buckets: shared.buckets,
        addresses: shared
            .addresses
            .iter()
            .map(|renewed| OneAddress {
                resource: &renewed.found.id,
                vip: renewed.ip.to_string(),
                predecessor: renewed.before.map(Predecessor::name),
                compat: renewed.compat.map(Predecessor::name),
            })
            .collect(),
        changes: changes(shared),
        lost: shared.lost.iter().map(gone).collect(),
        look: look_at(shared, invoked),
        rolling: shared.is_rolling(),
        not_rolling: &shared.not_rolling,
        remarks: remarks(shared),
        reader: invoked.shell.reader(),
        configuration: words::words(shared, invoked.shell),
        takeover: shared.is_rolling().then(|| takeover::script(shared)),
        steps: steps(shared, invoked).into_iter().map(one_step).collect(),
    });
    let left = judgement.left.iter().map(|left| Stays {
        resource: &left.resource,
        clone: left.clone.as_ref(),
        obstacles: left
            .obstacles
            .iter()
            .map(|it| Reason {
                why: &it.why,
                instead: &it.instead,
            })
            .collect(),
    });
    Answer {
        schema: SCHEMA,
        migrated: migrated.collect(),
        left: left.collect(),
    }
}

fn gone(lost: &Lost) -> Gone<'_> {
    let Lost {
        resource,
        parameter,
        value,
        why,
    } = lost;
    Gone {
        resource,
        parameter,
        value,
        why,
    }
}

fn one_step(step: Step) -> OneStep {
    OneStep {
        r#where: step.on.name(),
        does: step.does,
        commands: step.commands,
        check: step.check,
        expect: step.expect,
    }
}

fn in_words(judgement: &Judgement, invoked: Invocation<'_>) -> String {
    if judgement == &Judgement::default() {
        return "There is no address of IPaddr2's in it; nothing is to be migrated.\n".to_owned();
    }
    let screen = Screen::of_stdout();
    let shared = judgement
        .shared
        .iter()
        .map(|shared| shared_in_words(screen, shared, invoked));
    let left = judgement
        .left
        .iter()
        .map(|left| left_in_words(screen, left));
    shared.chain(left).collect::<Vec<_>>().join("\n")
}

fn shared_in_words(screen: Screen, shared: &Shared, invoked: Invocation<'_>) -> String {
    let each = shared.addresses.iter().map(|renewed| {
        let before = renewed
            .before
            .map_or(String::new(), |it| format!(", by {}", it.called()));
        format!("{} ({}{before})", renewed.ip, renewed.found.id)
    });
    let each: Vec<String> = each.collect();
    let mut text = format!(
        "{}: {}, among {} instances\n",
        shared.clone,
        each.join(", "),
        shared.buckets
    );
    points(screen, &mut text, "What changes", &changes(shared));
    let lost = shared.lost.iter().map(|lost| {
        format!(
            "{}: {}=\"{}\": {}",
            lost.resource, lost.parameter, lost.value, lost.why
        )
    });
    points(
        screen,
        &mut text,
        "What is not kept",
        &lost.collect::<Vec<_>>(),
    );
    points(
        screen,
        &mut text,
        "Worth a look, before the first step or after the last",
        &look_at(shared, invoked),
    );
    text += "\nThe new configuration\n\n";
    text += &words::words(shared, invoked.shell);
    let way = match shared.is_rolling() {
        true => "\nThe way, node by node",
        false => "\nThe way, with the clone stopped",
    };
    text += way;
    text += "\n";
    points(
        screen,
        &mut text,
        "Not node by node, for",
        &shared.not_rolling,
    );
    text += "\n";
    for remark in remarks(shared) {
        text += &screen.fill("  ", &remark);
    }
    for (n, step) in steps(shared, invoked).iter().enumerate() {
        let head = format!("On {}: {}", step.on.name(), step.does);
        text += "\n";
        text += &screen.fill(&format!("{}. ", n + 1), &head);
        for command in &step.commands {
            text += &format!("       {command}\n");
        }
        text += "   Check:\n";
        text += &format!("       {}\n", step.check);
        text += &screen.fill("   ", &format!("It must show {}", step.expect));
    }
    text
}

fn left_in_words(screen: Screen, left: &Left) -> String {
    let within = left
        .clone
        .as_ref()
        .map_or(String::new(), |clone| format!(", in {clone}"));
    let mut text = format!("{}{within}: is not migrated\n", left.resource);
    for obstacle in &left.obstacles {
        text += &screen.fill("  - ", &obstacle.why);
        text += &screen.fill("    ", &format!("What to do: {}", obstacle.instead));
    }
    text
}

/// A heading with its points, if there are any.
fn points(screen: Screen, text: &mut String, heading: &str, points: &[String]) {
    if points.is_empty() {
        return;
    }
    *text += &format!("\n{heading}\n");
    for point in points {
        *text += &screen.fill("  - ", point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn where_no_cluster_is_a_file_is_asked_for() {
        let error = QueryError::Failed {
            program: "cibadmin",
            status: ExitStatus::from_raw(102 << 8),
        };
        let told = no_cluster(&error);
        let begin = "no cluster answers here (cibadmin ended with exit status: 102); name a file";
        assert!(told.starts_with(begin), "{told}");
    }
}
