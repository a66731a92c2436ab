//! The new resources in the words of crm shell, and as XML for cibadmin where there is pcs, which cannot change a
//! resource's agent. Names stay, so that every rule about them does. Pure.

use super::found::{Operation, Pairs};
use super::judged::{Renewed, Shared};
use crate::model::untrusted::{Untrusted, shown};
use std::fmt::Write;
use std::str::FromStr;

/// How a line of crm shell's goes on in the next one.
const ON: &str = " \\\n  ";

/// For whom it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// crm shell.
    Crm,
    /// pcs, with cibadmin for what it cannot do.
    Pcs,
}

impl Shell {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Shell::Crm => "crm",
            Shell::Pcs => "pcs",
        }
    }

    /// Who reads the configuration.
    pub fn reader(self) -> &'static str {
        match self {
            Shell::Crm => "crm",
            Shell::Pcs => "sh",
        }
    }
}

impl FromStr for Shell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = [Shell::Crm, Shell::Pcs].into_iter();
        let mut found = found.filter(|shell| shell.name() == text);
        found
            .next()
            .ok_or_else(|| format!("'{}' is neither crm nor pcs", shown(text)))
    }
}

/// The new configuration of a clone's addresses.
pub fn words(shared: &Shared, shell: Shell) -> String {
    let each = shared.addresses.iter().map(|renewed| match shell {
        Shell::Crm => crm(renewed),
        Shell::Pcs => format!(
            "cibadmin --replace --scope resources --xml-pipe <<'END'\n{}END\n",
            xml(renewed)
        ),
    });
    each.collect()
}

fn crm(renewed: &Renewed) -> String {
    let Renewed {
        found, parameters, ..
    } = renewed;
    let mut lines = vec![format!("primitive {} ocf:rust:ClusterIP", found.id)];
    if let Some(description) = &found.description {
        lines.push(format!("description=\"{}\"", description.raw()));
    }
    lines.push(format!("params {}", quoted(parameters)));
    for Operation {
        attributes,
        parameters,
    } in &found.operations
    {
        let mut rest = attributes.clone();
        rest.retain(|(name, _)| name.raw() != "name");
        let name = super::found::value(attributes, "name").unwrap_or_default();
        let rest = [quoted(&rest), quoted(parameters)].join(" ");
        lines.push(format!("op {name} {}", rest.trim()));
    }
    for (section, pairs) in [("meta", &found.meta), ("utilization", &found.utilization)] {
        if !pairs.is_empty() {
            lines.push(format!("{section} {}", quoted(pairs)));
        }
    }
    lines.join(ON) + "\n"
}

/// `name="value"`, one after the other. What could not stand so is an obstacle.
fn quoted(pairs: &Pairs) -> String {
    let pairs = pairs
        .iter()
        .map(|(name, value)| format!("{}=\"{}\"", name.raw(), value.raw()));
    pairs.collect::<Vec<_>>().join(" ")
}

fn xml(renewed: &Renewed) -> String {
    let Renewed {
        found, parameters, ..
    } = renewed;
    let id = escaped(&found.id);
    let mut text =
        format!("<primitive id=\"{id}\" class=\"ocf\" provider=\"rust\" type=\"ClusterIP\"");
    if let Some(description) = &found.description {
        text += &format!(" description=\"{}\"", escaped(description));
    }
    text += ">\n";
    set(&mut text, "  ", "instance_attributes", &id, parameters);
    if !found.operations.is_empty() {
        text += "  <operations>\n";
        for (n, operation) in found.operations.iter().enumerate() {
            operation_in_xml(&mut text, &format!("{id}-op-{n}"), operation);
        }
        text += "  </operations>\n";
    }
    set(&mut text, "  ", "meta_attributes", &id, &found.meta);
    set(&mut text, "  ", "utilization", &id, &found.utilization);
    text + "</primitive>\n"
}

fn operation_in_xml(text: &mut String, id: &str, operation: &Operation) {
    let attributes = operation.attributes.iter();
    let attributes =
        attributes.map(|(name, value)| format!(" {}=\"{}\"", name.raw(), escaped(value)));
    let attributes: String = attributes.collect();
    match operation.parameters.is_empty() {
        true => *text += &format!("    <op id=\"{id}\"{attributes}/>\n"),
        false => {
            *text += &format!("    <op id=\"{id}\"{attributes}>\n");
            set(
                text,
                "      ",
                "instance_attributes",
                id,
                &operation.parameters,
            );
            *text += "    </op>\n";
        }
    }
}

/// A set of pairs, if there is any.
fn set(text: &mut String, indent: &str, tag: &str, of: &str, pairs: &Pairs) {
    if pairs.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{indent}<{tag} id=\"{of}-{tag}\">");
    for (name, value) in pairs {
        let (name, value) = (escaped(name), escaped(value));
        let _ = writeln!(
            text,
            "{indent}  <nvpair id=\"{of}-{tag}-{name}\" name=\"{name}\" value=\"{value}\"/>"
        );
    }
    let _ = writeln!(text, "{indent}</{tag}>");
}

fn escaped(text: &Untrusted) -> String {
    let text = text.raw().replace('&', "&amp;");
    text.replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
