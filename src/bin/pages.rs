//! Writes manual pages and completions: nodectl's and the daemon's from their command lines, the agents' from their
//! meta-data. For packaging; it is no part of the product.

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::roff::{Roff, bold, italic, roman};
use clap_mangen::{Man, roff::Inline};
use clusterip::agent::{gate, metadata};
use clusterip::daemon::Options;
use clusterip::nodectl::cli::Cli;
use roxmltree::{Document, Node};
use std::error::Error;
use std::fs::{create_dir_all, write};
use std::path::Path;
use std::process::ExitCode;

const MANUAL: &str = "ClusterIP";
const SOURCE: &str = concat!("clusterip ", env!("CARGO_PKG_VERSION"));
/// What a page of a program points to; that of nodectl itself to all but the first.
const OTHERS: [(&str, &str); 3] = [
    ("nodectl", "8"),
    ("ocf_rust_ClusterIP", "7"),
    ("ocf_rust_ClusterIPDrain", "7"),
];

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let (Some(folder), None) = (words.next(), words.next()) else {
        eprintln!("usage: pages FOLDER");
        return ExitCode::from(64);
    };
    match pages(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pages: {error}");
            ExitCode::FAILURE
        }
    }
}

fn pages(folder: &Path) -> Result<(), Box<dyn Error>> {
    let (man7, man8) = (folder.join("man7"), folder.join("man8"));
    let completions = folder.join("completions");
    for folder in [&man7, &man8, &completions] {
        create_dir_all(folder)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "nodectl", &completions)?;
    }
    // 'help' has no page of its own.
    let mut nodectl = Cli::command().disable_help_subcommand(true);
    nodectl.build();
    let verbs = nodectl.get_subcommands();
    for command in verbs.cloned().chain([nodectl.clone()]) {
        let name = command.get_display_name().unwrap_or("nodectl").to_owned();
        let is_program = command.get_display_name().is_none();
        let others = &OTHERS[usize::from(is_program)..];
        write(
            man8.join(format!("{name}.8")),
            of_program(&name, command, others)?,
        )?;
    }
    let page = of_program("clusteripd", Options::command(), &OTHERS)?;
    write(man8.join("clusteripd.8"), page)?;
    for (name, xml) in [
        ("ClusterIP", metadata::xml()),
        ("ClusterIPDrain", gate::xml()),
    ] {
        let page = of_agent(name, &xml)?;
        write(man7.join(format!("ocf_rust_{name}.7")), page)?;
    }
    Ok(())
}

fn of_program(
    name: &str,
    command: Command,
    others: &[(&str, &str)],
) -> Result<Vec<u8>, Box<dyn Error>> {
    let man = Man::new(command)
        .title(name.to_uppercase())
        .section("8")
        .source(SOURCE)
        .manual(MANUAL);
    let mut page = Vec::new();
    man.render(&mut page)?;
    let mut more = Roff::new();
    see_also(&mut more, others);
    more.to_writer(&mut page)?;
    Ok(page)
}

fn see_also(page: &mut Roff, others: &[(&str, &str)]) {
    page.control("SH", ["SEE ALSO"]);
    let mut words = Vec::new();
    for (n, (name, section)) in others.iter().enumerate() {
        let next = if n + 1 < others.len() { ", " } else { "" };
        words.extend([bold(*name), roman(format!("({section}){next}"))]);
    }
    page.text(words);
}

fn text_of(node: Node<'_, '_>, name: &str) -> String {
    let child = node.children().find(|child| child.has_tag_name(name));
    let text = child.and_then(|child| child.text()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn each<'a>(document: &'a Document<'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    let nodes = document.descendants();
    nodes.filter(move |node| node.has_tag_name(name))
}

/// A page in the manner of the pages of resource-agents.
fn of_agent(name: &str, xml: &str) -> Result<String, Box<dyn Error>> {
    let options = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let document = Document::parse_with_options(xml, options)?;
    let root = document.root_element();
    let agent = format!("ocf:rust:{name}");
    let mut page = Roff::new();
    let title = format!("ocf_rust_{name}").to_uppercase();
    page.control("TH", [title.as_str(), "7", "", SOURCE, MANUAL]);
    page.control("SH", ["NAME"]);
    let short = text_of(root, "shortdesc");
    page.text([roman(format!("{agent} - {short}"))]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(text_of(root, "longdesc"))]);
    page.control("SH", ["PARAMETERS"]);
    for parameter in each(&document, "parameter") {
        let content = parameter
            .children()
            .find(|child| child.has_tag_name("content"));
        let default = content.and_then(|content| content.attribute("default"));
        let required = parameter.attribute("required") == Some("1");
        page.control("TP", []);
        page.text(term(
            parameter.attribute("name").unwrap_or_default(),
            required,
            default,
        ));
        page.text([roman(text_of(parameter, "longdesc"))]);
    }
    page.control("SH", ["ACTIONS"]);
    for action in each(&document, "action") {
        let of = |name| action.attribute(name);
        let mut words = format!("timeout {}", of("timeout").unwrap_or("none"));
        if let Some(interval) = of("interval") {
            words += &format!(", interval {interval}");
        }
        page.control("TP", []);
        page.text([bold(of("name").unwrap_or_default())]);
        page.text([roman(words)]);
    }
    see_also(&mut page, &[("nodectl", "8"), ("crm", "8"), ("pcs", "8")]);
    Ok(page.to_roff())
}

/// A parameter's name, and what is to be known of it at once.
fn term(name: &str, required: bool, default: Option<&str>) -> Vec<Inline> {
    let more = match (required, default) {
        (true, _) => " (required)".to_owned(),
        (false, Some(default)) => format!(" (default {default})"),
        (false, None) => String::new(),
    };
    vec![bold(name), italic(more)]
}
