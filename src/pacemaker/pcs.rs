//! A configuration in the words of pcs: lines for a shell. They change a copy, which is loaded as a whole: pcs
//! would start what there is already while the rest is still missing. Pure.

use super::configuration::{Part, Primitive, Times, Value, pairs, said};
use super::remarks::remarks;
use super::wish::Wish;

/// How a line goes on in the next one.
const ON: &str = " \\\n    ";
/// How the script begins and ends.
const COPY: &str = r#"set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
pcs cluster cib "$folder/old.xml"
cp "$folder/old.xml" "$folder/new.xml"
change() { pcs -f "$folder/new.xml" "$@"; }
"#;
const PUSH: &str = r#"
# All of it at once.
pcs cluster cib-push "$folder/new.xml" diff-against="$folder/old.xml"
"#;

/// The configuration, for a shell.
pub fn words(wish: &Wish) -> String {
    let remarks = remarks(wish, "sh FILE  (on one node, as root)");
    remarks + COPY + &said(wish, worded) + PUSH
}

fn worded(part: &Part) -> String {
    match part {
        Part::Primitive(primitive) => primitive_worded(primitive),
        Part::Group { id, members } => {
            format!("change resource group add {id} {}", members.join(" "))
        }
        Part::Clone { id, of, meta } => {
            let on = if meta.len() > 1 { ON } else { " " };
            format!(
                "change resource clone {of} {id}{on}meta {}",
                pairs(meta, String::clone)
            )
        }
        Part::Property(name, value) => format!("change property set {name}={value}"),
        Part::Order { first, then } => format!("change constraint order {first} then {then}"),
        Part::Location {
            id: _,
            of,
            never_where,
        } => location_worded(of, never_where),
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
    let mut lines = vec![format!("change resource create {id} {agent}")];
    if !parameters.is_empty() {
        let value = |value: &Value| match value {
            Value::Wished(value) => format!("'{value}'"),
            Value::Own(word) => word.clone(),
        };
        lines.push(pairs(parameters, value));
    }
    let Times {
        start_s,
        stop_s,
        monitor_s,
        every_s,
    } = times;
    lines.push(format!(
        "op start timeout={start_s}s op stop timeout={stop_s}s \
         op monitor interval={every_s}s timeout={monitor_s}s"
    ));
    if !meta.is_empty() {
        lines.push(format!("meta {}", pairs(meta, String::clone)));
    }
    lines.join(ON)
}

fn location_worded(of: &str, never_where: &str) -> String {
    let rule = format!("change constraint location {of} rule score=-INFINITY");
    format!(
        "where=\"{never_where}\"\n\
         # Until 0.11 pcs wants the words of a rule one by one, later all in one.\n\
         case $(pcs --version) in\n    \
         0.9.* | 0.10.* | 0.11.*) {rule} $where ;;\n    \
         *) {rule} \"$where\" ;;\n\
         esac"
    )
}

#[cfg(test)]
mod tests {
    use super::super::wish::tests::a_wish;
    use super::*;

    #[test]
    fn a_shell_minds_no_name_and_a_namespace_is_told_to_both_agents() {
        let text = words(&Wish {
            nic: "a;b$(c)".parse().expect("the kernel takes it"),
            netns: Some("web-1".parse().expect("a name")),
            service: Some("systemd:nginx".parse().expect("an agent")),
            ..a_wish()
        });
        let quoted = "nic='a;b$(c)' network_namespace='web-1'";
        assert!(text.contains(quoted), "{text}");
        let told = text.matches("network_namespace='web-1'").count();
        assert_eq!(told, 2, "{text}");
    }

    #[test]
    fn nothing_but_the_copy_is_changed_before_all_of_it_is_there() {
        let service = Some("systemd:nginx".parse().expect("an agent"));
        let text = words(&Wish {
            service,
            ..a_wish()
        });
        let begins = text.find(COPY).expect("a copy") + COPY.len();
        let (_, changes) = text.split_at(begins);
        let changes = changes.strip_suffix(PUSH).expect("loaded at last");
        assert!(changes.matches("\nchange ").count() > 8, "{text}");
        assert!(!changes.contains("\npcs "), "{text}");
    }
}
