//! The table for people. Colour only on a terminal, and not where `NO_COLOR` declines it.

use std::fmt::Write;
use std::io::IsTerminal;

use crate::report::{
    Compared, Felt, Missing, MoveCost, Operations, PacketCosts, PlannedMove, Report, RushCost,
};
use crate::stats::Summary;

/// All of a report.
pub fn of(report: &Report) -> String {
    let style = Style::of_stdout();
    let mut text = String::new();
    let machine = &report.machine;
    line(
        &mut text,
        format!(
            "{}, Linux {}, {} x {}, load {:.2}",
            machine.date, machine.kernel, machine.cpus, machine.cpu, machine.load
        ),
    );
    for warning in &report.warnings {
        line(&mut text, style.paint("33", &format!("Mind: {warning}")));
    }
    if let Some(packets) = &report.packets {
        of_packets(&mut text, style, packets);
    }
    if let Some(operations) = &report.operations {
        of_operations(&mut text, style, operations);
    }
    if let Some(rush) = &report.rush {
        of_rush(&mut text, style, rush);
    }
    if let Some(cluster) = &report.cluster {
        of_cluster(&mut text, style, cluster);
    }
    if let Some(moves) = &report.moves {
        of_moves(&mut text, style, moves);
    }
    text
}

fn of_packets(text: &mut String, style: Style, costs: &PacketCosts) {
    let title = format!(
        "\nPackets: ns a node, flooded to {} nodes, median of {} rounds of {} packets",
        costs.nodes, costs.rounds, costs.packets_a_slice
    );
    line(text, style.paint("1", &title));
    let Summary {
        median,
        lower_quartile,
        upper_quartile,
        ..
    } = costs.noise;
    line(
        text,
        format!(
            "noise: the same floor on other nodes differs by {median:+.1} ns \
             (half of the rounds: {lower_quartile:+.1} to {upper_quartile:+.1})"
        ),
    );
    let head = format!(
        "{:>7} {:>7} {:>6} {:>15} {:>7} {:>7}  packet",
        "ns", "above", "±", "half of them", "/floor", "/ours"
    );
    line(text, style.paint("2", &head));
    let mut rules = "";
    for variant in &costs.variants {
        if variant.rules != rules {
            rules = &variant.rules;
            line(text, style.paint("1", rules));
        }
        let above = variant.above_floor;
        let ours = variant
            .to_ours
            .map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let half = format!("{:.0}..{:.0}", above.lower_quartile, above.upper_quartile);
        line(
            text,
            format!(
                "{:>7.1} {:>+7.1} {:>6.1} {half:>15} {:>7.2} {ours:>7}  {}",
                variant.ns.median,
                above.median,
                above.uncertainty,
                variant.to_floor,
                variant.packet
            ),
        );
    }
    line(
        text,
        "above: the median of the differences to the floor of the same round, ±: known to so much \
         (95 %); /ours: above, in units of a foreign packet of ClusterIP IPv4 sourceip, 16 buckets",
    );
    of_missing(text, &costs.missing);
    of_compared(text, style, &costs.compared);
}

fn of_compared(text: &mut String, style: Style, compared: &[Compared]) {
    if compared.is_empty() {
        return;
    }
    let title = "\nPackets, compared: ns above the floor, beside other rules in the same rounds";
    line(text, style.paint("1", title));
    let head = format!(
        "{:>7} {:>6} {:>15} {:>7}  packet",
        "more", "±", "half of them", "/beside"
    );
    line(text, style.paint("2", &head));
    let mut rules = ("", "");
    for one in compared {
        if rules != (one.rules.as_str(), one.beside.as_str()) {
            rules = (&one.rules, &one.beside);
            line(
                text,
                style.paint("1", &format!("{}, beside {}", rules.0, rules.1)),
            );
        }
        let more = one.more;
        let half = format!("{:+.0}..{:+.0}", more.lower_quartile, more.upper_quartile);
        line(
            text,
            format!(
                "{:>+7.1} {:>6.1} {half:>15} {:>7.2}  {}",
                more.median, more.uncertainty, one.to_beside, one.packet
            ),
        );
    }
}

fn of_operations(text: &mut String, style: Style, costs: &Operations) {
    let title = "\nOperations: ms, with the start of the process, medians";
    line(text, style.paint("1", title));
    let empty = costs.empty_process_ms;
    line(
        text,
        format!("a process that does nothing: {:.1} ms", empty.median),
    );
    let head = format!(
        "{:>7} {:>15} {:>5} {:>7}  action",
        "ms", "half of them", "runs", "/ours"
    );
    line(text, style.paint("2", &head));
    let mut agent = "";
    for operation in &costs.operations {
        if operation.agent != agent {
            agent = &operation.agent;
            line(text, style.paint("1", agent));
        }
        let ms = operation.ms;
        let ours = operation
            .to_ours
            .map_or("-".into(), |ratio| format!("{ratio:.1}"));
        let half = format!("{:.1}..{:.1}", ms.lower_quartile, ms.upper_quartile);
        line(
            text,
            format!(
                "{:>7.1} {half:>15} {:>5} {ours:>7}  {}",
                ms.median, ms.count, operation.action
            ),
        );
    }
    of_missing(text, &costs.missing);
}

fn of_rush(text: &mut String, style: Style, costs: &[RushCost]) {
    let Some(first) = costs.first() else { return };
    let title = format!(
        "\nRush: seconds for {} instances, {} at once, medians of {} runs",
        first.instances, first.at_once, first.total_s.count
    );
    line(text, style.paint("1", &title));
    let head = format!(
        "{:<7} {:>8} {:>10} {:>8} {:>10} {:>7}  whose",
        "action", "all", "ours/its", "longest", "ours/its", "failed"
    );
    line(text, style.paint("2", &head));
    for cost in costs {
        line(
            text,
            format!(
                "{:<7} {:>8.2} {:>10.2} {:>8.2} {:>10.3} {:>7}  {}",
                cost.action,
                cost.total_s.median,
                cost.ours_to_its_total,
                cost.longest_s.median,
                cost.ours_to_its_longest,
                cost.failed,
                cost.agent
            ),
        );
    }
}

fn of_cluster(text: &mut String, style: Style, costs: &[MoveCost]) {
    let title = "\nCluster: seconds until the last bucket is served, median (least..most)";
    line(text, style.paint("1", title));
    let head = format!(
        "{:<16} {:>7} {:>6} {:>5} {:>20} {:>20} {:>20}",
        "event", "buckets", "moved", "times", "from the event", "from the decision", "longest dark"
    );
    line(text, style.paint("2", &head));
    for cost in costs {
        let seconds = |figure: Summary| {
            let [least, most] = figure.range;
            format!("{:.2} ({least:.2}..{most:.2})", figure.median)
        };
        line(
            text,
            format!(
                "{:<16} {:>7} {:>6.0} {:>5} {:>20} {:>20} {:>20}",
                cost.event,
                cost.buckets,
                cost.moved,
                cost.event_to_served_s.count,
                seconds(cost.event_to_served_s),
                seconds(cost.decision_to_served_s),
                seconds(cost.longest_dark_s)
            ),
        );
    }
}

fn of_moves(text: &mut String, style: Style, moves: &[PlannedMove]) {
    let title = "\nMoves: ms in which a bucket that moves is dark, as SYNs see it";
    line(text, style.paint("1", title));
    let head = format!(
        "{:<17} {:>6} {:>9} {:>9} {:>9} {:>7} {:>9} {:>6} {:>7} {:>6} {:>6}",
        "", "moved", "median", "p95", "worst", "ratio", "SYNs", "twice", "resets", "lost", "pause"
    );
    line(text, style.paint("2", &head));
    for one in moves {
        let what = format!(
            "{}, {} buckets, {} connections",
            one.event, one.buckets, one.connections
        );
        line(text, style.paint("1", &what));
        let ratio = one.alone_to_clusteripd;
        let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.0}"));
        for (name, felt, ratio) in [
            ("with clusteripd", &one.clusteripd, "1"),
            ("the agent alone", &one.agent_alone, &ratio),
        ] {
            let Felt {
                moved,
                dark_ms,
                dark_p95_ms,
                syns,
                answered_twice,
                resets,
                connections_lost,
                longest_pause_ms,
                ..
            } = felt;
            let (median, worst) = (dark_ms.median, dark_ms.range[1]);
            line(
                text,
                format!(
                    "{name:<17} {moved:>6} {median:>9.1} {dark_p95_ms:>9.1} {worst:>9.1} {ratio:>7} \
                     {syns:>9} {answered_twice:>6} {resets:>7} {connections_lost:>6} {longest_pause_ms:>6.1}"
                ),
            );
        }
    }
}

fn of_missing(text: &mut String, missing: &[Missing]) {
    for Missing { what, why } in missing {
        line(text, format!("not measured: {what}: {why}"));
    }
}

fn line(text: &mut String, line: impl AsRef<str>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", line.as_ref());
}

#[derive(Clone, Copy)]
struct Style {
    on: bool,
}

impl Style {
    fn of_stdout() -> Self {
        let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            on: std::io::stdout().is_terminal() && !declined,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        // A line break belongs before the colour.
        let words = text.trim_start_matches('\n');
        let breaks = &text[..text.len() - words.len()];
        match self.on {
            true => format!("{breaks}\x1b[{code}m{words}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}
