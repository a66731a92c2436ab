//! `nodectl check`: what on this node will bite a VIP, why, and what mends it. What can bite stands in `preflight`.

use super::calling::{self, Ear};
use super::cli::Check;
use super::cluster::clocks_apart;
use super::context::{Context, look};
use super::failure::{DATA, Failure, USAGE};
use super::json::{SCHEMA, json};
use super::screen::Screen;
use super::told::Told;
use crate::host::observe::{Kernel, ObserveError};
use crate::host::place::{PlaceError, find_link, place};
use crate::host::surroundings::{all, ask_the_link, refusals};
use crate::model::untrusted::Untrusted;
use crate::model::vip::{NicName, Vip, VipError, check_address};
use crate::preflight::{
    Checked, Finding, Outcome, Severity, Side, Surroundings, Wish, is_port, judged, worst,
};
use crate::reading::installed::{Installed, find, installed};
use serde::Serialize;
use std::net::IpAddr;

/// What was found of all that was asked about.
#[derive(Serialize)]
struct Answer {
    schema: u32,
    /// The worst of it; what could not be looked at is no finding.
    outcome: Outcome,
    /// How many checks could not look.
    unknown: usize,
    checked: Vec<Of>,
}

/// What was found of one VIP, or of one interface.
#[derive(Serialize)]
struct Of {
    vip: Option<String>,
    nic: Untrusted,
    /// Is it the switch's side, with a node behind it?
    port: bool,
    mode: &'static str,
    outcome: Outcome,
    checks: Vec<Checked>,
    /// Only of a listener.
    heard: Option<Ear>,
}

/// `nodectl check`.
pub(super) fn check(args: &Check, context: &Context<'_>) -> Result<Told, Failure> {
    let (mut kernel, observed) = look()?;
    let known = installed(&observed.rules);
    let wishes: Vec<Wish> = match (args.vip, args.nic.as_ref().or(args.port.as_ref())) {
        (None, None) if known.is_empty() => {
            let why = "no VIP is installed here: name the one that is to come, or the interface with --nic";
            return Err(Failure::new(USAGE, why));
        }
        (None, None) => known
            .iter()
            .map(|found| of_installed(&found.vip, args))
            .collect(),
        (Some(vip), _) => {
            let found = find(&observed.rules, vip.address);
            vec![of_vip(&mut kernel, args, vip.address, vip.prefix, found)?]
        }
        (None, Some(nic)) => {
            let nic = named(&mut kernel, nic)?;
            vec![wish(args, nic, None)]
        }
    };
    if let (true, [wish]) = (args.send, wishes.as_slice()) {
        let vips: Vec<IpAddr> = known.iter().map(|found| found.vip.address).collect();
        return calling::send(&mut kernel, args, wish, &vips, context);
    }
    if let (true, [wish]) = (args.listen, wishes.as_slice()) {
        let of = listen(&mut kernel, args, wish)?;
        return answer(vec![of], context);
    }
    let prefix = args.vip.and_then(|vip| vip.prefix);
    let checked = wishes
        .iter()
        .map(|wish| {
            let mut vips = known.iter().map(|found| &found.vip);
            let vip = vips.find(|vip| Wish::of(vip) == *wish);
            let here = Surroundings {
                refused: refusals(&mut kernel, wish, prefix),
                ..all(&mut kernel, wish)
            };
            if wish.side == Side::Port && !is_port(&here, wish) {
                return Err(no_port(&wish.nic));
            }
            let here = match args.local || args.port.is_some() {
                true => here,
                false => {
                    let here = Surroundings {
                        clocks: clocks_apart(context.home.as_ref()),
                        ..here
                    };
                    ask_the_link(&mut kernel, wish, vip, here)
                }
            };
            let checks = judged(&here, wish);
            Ok(Of {
                vip: wish.vip.map(|vip| vip.to_string()),
                nic: wish.nic.clone(),
                port: wish.side == Side::Port,
                mode: wish.mode.name(),
                outcome: Outcome::of(worst(&checks)),
                checks,
                heard: None,
            })
        })
        .collect::<Result<Vec<Of>, Failure>>()?;
    answer(checked, context)
}

/// Nobody is behind it.
fn no_port(nic: &Untrusted) -> Failure {
    let why = format!(
        "{nic} is no port of a bridge and no macvtap; name the port behind which the guest is ('bridge link')"
    );
    Failure::new(DATA, why)
}

impl Of {
    /// Has a listener heard no frame? Then nothing is known, and nothing is well.
    fn is_deaf(&self) -> bool {
        self.heard.as_ref().is_some_and(Ear::has_heard_no_frame)
    }
}

/// For people or for programs, with the exit code.
fn answer(checked: Vec<Of>, context: &Context<'_>) -> Result<Told, Failure> {
    let worst = checked.iter().map(|of| of.outcome).max();
    let code = match worst {
        _ if checked.iter().any(Of::is_deaf) => 2,
        None | Some(Outcome::Fine | Outcome::Unknown) => 0,
        Some(Outcome::Warning) => 1,
        Some(Outcome::Fatal) => 2,
    };
    let text = match context.json {
        true => json(&Answer {
            schema: SCHEMA,
            outcome: worst.unwrap_or(Outcome::Fine),
            unknown: checked.iter().map(|of| unlooked(&of.checks)).sum(),
            checked,
        })?,
        false => {
            let screen = Screen::of_stdout();
            let told = checked.iter().map(|of| in_words(of, screen));
            told.collect::<Vec<_>>().join("\n")
        }
    };
    Ok(Told { text, code })
}

/// Listens, and judges what was heard.
fn listen(kernel: &mut Kernel, args: &Check, wish: &Wish) -> Result<Of, Failure> {
    let (ear, checks) = calling::listen(kernel, args, wish)?;
    let outcome = match Outcome::of(worst(&checks)) {
        Outcome::Fine if ear.has_heard_no_frame() => Outcome::Unknown,
        outcome => outcome,
    };
    Ok(Of {
        vip: wish.vip.map(|vip| vip.to_string()),
        nic: wish.nic.clone(),
        port: false,
        mode: wish.mode.name(),
        outcome,
        checks,
        heard: Some(ear),
    })
}

/// How many checks could not look.
fn unlooked(checks: &[Checked]) -> usize {
    let unknown = checks.iter().filter(|checked| checked.unknown.is_some());
    unknown.count()
}

/// The interface of a name, as it is called here.
fn named(kernel: &mut Kernel, nic: &NicName) -> Result<Untrusted, Failure> {
    let link = find_link(&mut kernel.route, nic).map_err(ObserveError::from)?;
    let link = link.ok_or_else(|| PlaceError::NoInterface(nic.clone()));
    Ok(link.map_err(|error| Failure::new(DATA, error))?.name.into())
}

/// What is known of a VIP that need not be here.
fn wish(args: &Check, nic: Untrusted, vip: Option<IpAddr>) -> Wish {
    Wish {
        nic,
        side: match args.port {
            Some(_) => Side::Port,
            None => Side::Node,
        },
        vip,
        mode: args.mode.unwrap_or_default(),
        mac: None,
        lock: true,
        seed: None,
        its_seed: None,
        digest: None,
        compat: None,
        by_hand: true,
    }
}

/// A VIP that is here, where and as it is, unless another mode is asked about.
fn of_installed(vip: &Vip, args: &Check) -> Wish {
    let as_it_is = Wish::of(vip);
    match args.mode.filter(|mode| *mode != vip.mode) {
        None => as_it_is,
        Some(mode) => Wish {
            mode,
            mac: None,
            digest: None,
            ..as_it_is
        },
    }
}

/// A VIP that was named.
fn of_vip(
    kernel: &mut Kernel,
    args: &Check,
    address: IpAddr,
    prefix: Option<u8>,
    found: Option<Installed>,
) -> Result<Wish, Failure> {
    check_address(address).map_err(|error: VipError| Failure::new(DATA, error))?;
    let found = found.map(|found| of_installed(&found.vip, args));
    if let Some(nic) = args.nic.as_ref().or(args.port.as_ref()) {
        let nic = named(kernel, nic)?;
        let of_nic = wish(args, nic, Some(address));
        // The same elsewhere is another one.
        return Ok(match found {
            Some(found) if args.port.is_none() && found.nic == of_nic.nic => found,
            _ => of_nic,
        });
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let place = place(&mut kernel.route, address, None, prefix, None);
    let place = place.map_err(|error| match error {
        PlaceError::Route(error) => ObserveError::from(error).into(),
        error => Failure::new(DATA, error),
    })?;
    Ok(wish(args, place.nic.as_str().into(), Some(address)))
}

/// What was found, for people.
fn in_words(of: &Of, screen: Screen) -> String {
    let about = match (&of.vip, of.port) {
        (Some(vip), false) => format!("{} on {}", screen.name(vip), of.nic),
        (None, false) => screen.name(&of.nic.to_string()),
        (Some(vip), true) => format!("{} behind the port {}", screen.name(vip), of.nic),
        (None, true) => format!("behind the port {}", screen.name(&of.nic.to_string())),
    };
    let verdict = match of.outcome {
        Outcome::Fatal => screen.bad("it will not work"),
        Outcome::Warning => screen.warn("with warnings"),
        Outcome::Fine => screen.good("nothing was found"),
        Outcome::Unknown => screen.warn("no frame was heard"),
    };
    let verdict = match unlooked(&of.checks) {
        0 => verdict,
        1 => format!("{verdict}; 1 check could not look"),
        n => format!("{verdict}; {n} checks could not look"),
    };
    let mut text = format!("{about}, mode {}: {verdict}\n", of.mode);
    if let Some(ear) = &of.heard {
        text += &ear.in_words(screen);
    }
    for severity in [Severity::Fatal, Severity::Warning] {
        for checked in &of.checks {
            let findings = checked.findings.iter();
            for finding in findings.filter(|finding| finding.severity == severity) {
                text += &told(checked.check, finding, screen);
            }
        }
    }
    for checked in &of.checks {
        for note in &checked.notes {
            text += &screen.about("note", &format!("{}: {note}", checked.check));
        }
    }
    // One reason may keep several checks from looking.
    let mut unknown: Vec<(&str, Vec<&str>)> = Vec::new();
    for checked in &of.checks {
        if let Some(why) = checked.unknown.as_deref() {
            match unknown.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(checked.check),
                None => unknown.push((why, vec![checked.check])),
            }
        }
    }
    for (n, (why, names)) in unknown.iter().enumerate() {
        let name = if n == 0 { "unknown" } else { "" };
        text += &screen.about(name, &format!("{}: {why}", names.join(", ")));
    }
    let fine = of.checks.iter();
    let fine = fine.filter(|checked| checked.outcome == Outcome::Fine);
    let fine: Vec<&str> = fine.map(|checked| checked.check).collect();
    if !fine.is_empty() {
        text += &screen.about("fine", &fine.join(", "));
    }
    text
}

/// A finding: what, below it why, and below that the command.
fn told(check: &str, finding: &Finding, screen: Screen) -> String {
    let what = format!("{check}: {}", finding.what);
    let mut text = match finding.severity {
        Severity::Fatal => screen.shout("FATAL", &what),
        Severity::Warning => screen.warned("warning", &what),
        Severity::Note => screen.about("note", &what),
    };
    text += &screen.about("", &finding.why);
    if let Some(cure) = &finding.cure {
        text += &screen.to_copy(cure);
    }
    text
}
