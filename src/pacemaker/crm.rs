//! A configuration in the words of crm shell. Pure.

use super::configuration::{Part, Primitive, Times, Value, pairs, said};
use super::remarks::remarks;
use super::wish::Wish;

/// How a line goes on in the next one.
const ON: &str = " \\\n  ";

/// The configuration, for `crm configure load`.
pub fn words(wish: &Wish) -> String {
    let loaded_by = "crm configure load update FILE  (or - for standard input)";
    remarks(wish, loaded_by) + &said(wish, worded)
}

fn worded(part: &Part) -> String {
    match part {
        Part::Primitive(primitive) => primitive_worded(primitive),
        Part::Group { id, members } => format!("group {id} {}", members.join(" ")),
        Part::Clone { id, of, meta } => {
            format!(
                "clone {id} {of}{ON}meta {}",
                pairs(meta, |value| quoted(value))
            )
        }
        Part::Property(name, value) => format!("property {name}={}", quoted(value)),
        Part::Order { first, then } => {
            format!("order {first}-before-{then} Mandatory: {first} {then}")
        }
        Part::Location {
            id,
            of,
            never_where,
        } => format!("location {id} {of} rule -inf: {never_where}"),
    }
}

fn primitive_worded(primitive: &Primitive) -> String {
    let Primitive {
        id,
        agent,
        parameters,
        times,
        meta,
    } = primitive;
    let mut lines = vec![format!("primitive {id} {agent}")];
    if !parameters.is_empty() {
        let value = |(Value::Wished(value) | Value::Own(value)): &Value| quoted(value);
        lines.push(format!("params {}", pairs(parameters, value)));
    }
    let Times {
        start_s,
        stop_s,
        monitor_s,
        every_s,
    } = times;
    lines.push(format!(
        "op start timeout=\"{start_s}s\" op stop timeout=\"{stop_s}s\""
    ));
    lines.push(format!(
        "op monitor interval=\"{every_s}s\" timeout=\"{monitor_s}s\""
    ));
    if !meta.is_empty() {
        lines.push(format!("meta {}", pairs(meta, |value| quoted(value))));
    }
    lines.join(ON)
}

fn quoted(value: &str) -> String {
    format!("\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::super::wish::tests::a_wish;
    use super::*;

    #[test]
    fn values_are_quoted_and_a_namespace_is_told_to_both_agents() {
        let text = words(&Wish {
            nic: "a;b$(c)".parse().expect("the kernel takes it"),
            netns: Some("web-1".parse().expect("a name")),
            service: Some("systemd:nginx".parse().expect("an agent")),
            ..a_wish()
        });
        let quoted = "nic=\"a;b$(c)\" network_namespace=\"web-1\"";
        assert!(text.contains(quoted), "{text}");
        let told = text.matches("network_namespace=\"web-1\"").count();
        assert_eq!(told, 2, "{text}");
    }

    #[test]
    fn every_pair_has_an_order_of_its_own_name() {
        let service = Some("cloneWeb".parse().expect("a clone"));
        let text = words(&Wish {
            service,
            ..a_wish()
        });
        let (gate, address) = ("clone-gate-10-0-0-99", "clone-ip-10-0-0-99");
        for (first, then) in [("cloneWeb", gate), (gate, address)] {
            let line = format!("\norder {first}-before-{then} Mandatory: {first} {then}\n");
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn crm_shell_takes_all_comments() {
        for (ip, drain_s) in [("10.0.0.99", 3600), ("2001:db8::99", 300), ("::99", 0)] {
            let ip = ip.parse().expect("an address");
            for service in [None, Some("systemd:nginx"), Some("clone--web-")] {
                let service = service.map(|service| service.parse().expect("a service"));
                let text = words(&Wish {
                    ip,
                    drain_s,
                    service,
                    nic: "eth--0".parse().expect("a name"),
                    netns: Some("web--1-".parse().expect("a name")),
                    ..a_wish()
                });
                let wrong = |line: &&str| {
                    let comment = line.strip_prefix('#');
                    comment.is_some_and(|text| text.contains("--") || text.ends_with('-'))
                };
                assert_eq!(text.lines().find(wrong), None, "{text}");
            }
        }
    }
}
