//! What Pacemaker is asked and told: configuration, placement, failures, standby, waiting.
//! Questions are asked with the cluster's own tools on any node that lives.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roxmltree::{Document, Node as Element};

use super::{Cluster, PATIENCE, Power};
use crate::{Context, Error, Result};

/// Where the instances of a clone run: by number, each on no, one or (wrongly) several nodes.
pub type Instances = BTreeMap<u32, Vec<String>>;

/// How Pacemaker sees a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It is a member.
    Online,
    /// It is away, and that is certain: fenced, or shut down.
    Away,
    /// It comes, or is lost and not fenced yet.
    Between,
}

/// An action that failed, as `crm_mon` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAction {
    /// Which action of which resource.
    pub operation: String,
    /// Where.
    pub node: String,
    /// What it ended with: the agent's exit code. (The word for it is another in Pacemaker 3.)
    pub code: String,
    /// The agent's reason.
    pub reason: String,
}

impl Cluster {
    /// Runs `crm …` on a node; gives its stdout.
    pub fn crm(&self, name: &str, words: &[&str]) -> Result<String> {
        let argv = [&["crm", "-F"], words].concat();
        self.node(name)?.run(&argv)
    }

    /// Merges lines of `crm configure` syntax into the configuration.
    pub fn load(&self, name: &str, configuration: &str) -> Result<()> {
        let argv = ["crm", "-F", "configure", "load", "update", "-"];
        let output = self.node(name)?.exec(&argv).stdin(configuration).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // crmsh has been seen to print errors and still to end with status 0.
        if !output.status.success() || said.contains("ERROR") {
            return Err(Error::new(format!(
                "crm configure load on {name}: {}",
                said.trim_end()
            )));
        }
        Ok(())
    }

    /// Puts a node on standby. (`crm node standby` has no effect inside namespaces.)
    pub fn standby(&self, name: &str) -> Result<()> {
        self.node(name)?
            .run(&["crm_standby", "-N", name, "-v", "on"])?;
        Ok(())
    }

    /// Ends a node's standby.
    pub fn online(&self, name: &str) -> Result<()> {
        self.node(name)?.run(&["crm_standby", "-N", name, "-D"])?;
        Ok(())
    }

    /// Waits until Pacemaker has nothing to do any more.
    ///
    /// What it has not noticed yet (a node just killed) it does not know to be work: wait for that
    /// first.
    pub fn wait_idle(&self) -> Result<()> {
        let idle = crate::wait_until("an idle cluster", PATIENCE, || self.is_idle());
        self.with_logs(idle)
    }

    /// Waits until these nodes are online and there is a DC; without Pacemaker, until they are in one ring with all
    /// others that live.
    pub fn wait_for_members(&self, names: &[&str]) -> Result<()> {
        if !self.inner.options.pacemaker {
            return self.wait_for_ring(names);
        }
        let what = format!("{} to be online", names.join(", "));
        let online = crate::wait_until(&what, PATIENCE, || {
            let text = self.status_xml()?;
            let status = parse(&text)?;
            find(&status, "current_dc")
                .find(|dc| dc.attribute("present") == Some("true"))
                .context("no DC")?;
            let memberships = memberships(&status)?;
            let missing = |name: &&&str| memberships.get(**name) != Some(&Membership::Online);
            match names.iter().find(missing) {
                None => Ok(()),
                Some(missing) => Err(Error::new(format!("{missing} is not online"))),
            }
        });
        self.with_logs(online)
    }

    /// Waits until Corosync on every node that lives has these in its ring.
    fn wait_for_ring(&self, names: &[&str]) -> Result<()> {
        let what = format!("{} to be in the ring", names.join(", "));
        let numbers: Vec<usize> = names
            .iter()
            .map(|name| Ok(self.inner.member(name)?.number))
            .collect::<Result<_>>()?;
        let joined = crate::wait_until(&what, PATIENCE, || {
            for name in self.living() {
                let members = self
                    .node(&name)?
                    .exec(&["corosync-cmapctl", "runtime.members."])
                    .deadline(Duration::from_secs(5))
                    .run()
                    .context(&name)?;
                let is_joined = |number: &&usize| {
                    let line = format!("runtime.members.{number}.status (str) = joined");
                    members.lines().any(|it| it == line)
                };
                if let Some(missing) = numbers.iter().find(|number| !is_joined(number)) {
                    return Err(Error::new(format!("{name} misses node {missing}")));
                }
            }
            Ok(())
        });
        self.with_logs(joined)
    }

    /// How Pacemaker sees each node that it knows.
    pub fn memberships(&self) -> Result<BTreeMap<String, Membership>> {
        let text = self.status_xml()?;
        memberships(&parse(&text)?)
    }

    /// Where each instance of the globally unique clone of `resource` (the primitive) is started.
    pub fn placement(&self, resource: &str) -> Result<Instances> {
        let text = self.status_xml()?;
        let status = parse(&text)?;
        let mut instances = Instances::new();
        for element in find(&status, "resource") {
            let id = element.attribute("id").unwrap_or_default();
            let number = id.rsplit_once(':').filter(|(name, _)| *name == resource);
            let Some(number) = number.and_then(|(_, number)| number.parse().ok()) else {
                continue;
            };
            let nodes = instances.entry(number).or_default();
            if element.attribute("role") == Some("Started") {
                let on = element
                    .children()
                    .filter(|child| child.has_tag_name("node"));
                nodes.extend(on.filter_map(|node| node.attribute("name").map(String::from)));
            }
        }
        Ok(instances)
    }

    /// How many instances each node has.
    pub fn spread(&self, resource: &str) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for name in self.placement(resource)?.into_values().flatten() {
            *counts.entry(name).or_default() += 1;
        }
        Ok(counts)
    }

    /// Actions that have failed and have not been cleaned up.
    pub fn failures(&self) -> Result<Vec<FailedAction>> {
        let text = self.status_xml()?;
        let status = parse(&text)?;
        let failures = find(&status, "failure").map(|failure| {
            let get = |name| failure.attribute(name).unwrap_or_default().to_string();
            FailedAction {
                operation: get("op_key"),
                node: get("node"),
                code: get("exitcode"),
                reason: get("exitreason"),
            }
        });
        Ok(failures.collect())
    }

    /// The node that coordinates the cluster now.
    pub fn dc(&self) -> Result<String> {
        let text = self.status_xml()?;
        let status = parse(&text)?;
        let dc = find(&status, "current_dc")
            .find_map(|dc| dc.attribute("name"))
            .map(String::from);
        dc.context("there is no DC")
    }

    /// `crm_mon -1 --output-as xml` as a node with quorum sees it, or else any that answers.
    pub fn status_xml(&self) -> Result<String> {
        let mut last = Err(Error::new("no node is switched on"));
        for name in self.living() {
            match (self.status_xml_on(&name), &last) {
                (Ok(text), _) if text.contains("with_quorum=\"true\"") => return Ok(text),
                (Err(_), Ok(_)) => {}
                (seen, _) => last = seen,
            }
        }
        last
    }

    /// `crm_mon -1 --output-as xml` as this node sees it.
    pub fn status_xml_on(&self, name: &str) -> Result<String> {
        let asked = self
            .node(name)?
            .exec(&["crm_mon", "-1", "--output-as", "xml"]);
        // A frozen node must not keep the question waiting.
        asked.deadline(Duration::from_secs(5)).run().context(name)
    }

    pub(super) fn configure_fencing(&self) -> Result<()> {
        let names = self.names();
        self.inner.say("configuring the fence device");
        self.load(
            &names[0],
            &format!(
                "primitive fencing stonith:fence_lab \
                 params pcmk_host_list=\"{}\" pcmk_host_check=static-list op monitor interval=0\n\
                 property stonith-enabled=true stonith-action=off stonith-timeout=30s\n",
                names.join(" ")
            ),
        )?;
        crate::wait_until("the fence device's start", PATIENCE, || {
            self.status_xml()
                .map(|text| started(&text, "fencing"))
                .unwrap_or(false)
        })
    }

    /// Nodes that are on, those whose view is in doubt last.
    pub(super) fn living(&self) -> Vec<String> {
        let nodes = self.inner.nodes.iter();
        let mut on: Vec<_> = nodes
            .filter(|(_, member)| matches!(*member.power(), Power::On { .. }))
            .collect();
        on.sort_by_key(|(_, member)| member.doubtful.load(Ordering::Relaxed));
        on.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// Idle is: nothing would be done if Pacemaker thought it over now, and it does nothing.
    fn is_idle(&self) -> Result<()> {
        let dc = self.dc()?;
        let node = self.node(&dc)?;
        let ask = |argv: &[&str]| node.exec(argv).deadline(PATIENCE / 4).run();
        let text = ask(&["crm_simulate", "-L", "-S", "--output-as", "xml"])?;
        let plan = parse(&text)?;
        let pending: Vec<_> = ["actions", "transition"]
            .into_iter()
            .flat_map(|tag| find(&plan, tag))
            .flat_map(|list| list.children().filter(Element::is_element))
            .map(|action| {
                let words = action.attributes().map(|attribute| attribute.value());
                words.collect::<Vec<_>>().join(" ")
            })
            .collect();
        if !pending.is_empty() {
            let some = pending
                .iter()
                .take(4)
                .cloned()
                .collect::<Vec<_>>()
                .join("; ");
            return Err(Error::new(format!(
                "{} actions to be done: {some}",
                pending.len()
            )));
        }
        self.expect_quiet()
    }

    /// Fails unless the DC does nothing at this moment. It may have something to do as soon as anything makes it think
    /// again: where nothing sticks, a placement is not always the one that it would choose from there.
    pub fn expect_quiet(&self) -> Result<()> {
        let dc = self.dc()?;
        let asked = self.node(&dc)?.exec(&["crmadmin", "-q", "-S", &dc]);
        let state = asked.deadline(PATIENCE / 4).run()?;
        if state.contains("S_IDLE") {
            return Ok(());
        }
        Err(Error::new(format!(
            "the DC {dc} is in state {}",
            state.trim()
        )))
    }

    pub(super) fn with_logs<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let logs = self
                .names()
                .into_iter()
                .filter_map(|name| self.logs(&name).ok());
            Error::new(format!("{error}\n{}", logs.collect::<String>()))
        })
    }
}

fn parse(text: &str) -> Result<Document<'_>> {
    Document::parse(text).context("read crm_mon's XML")
}

fn find<'a>(
    document: &'a Document<'_>,
    tag: &'static str,
) -> impl Iterator<Item = Element<'a, 'a>> {
    document
        .descendants()
        .filter(move |element| element.has_tag_name(tag))
}

fn memberships(status: &Document<'_>) -> Result<BTreeMap<String, Membership>> {
    let nodes = find(status, "nodes").next().context("no nodes")?;
    let all = nodes.children().filter(Element::is_element).map(|node| {
        let is = |name, value| node.attribute(name) == Some(value);
        let membership = if is("online", "true") && !is("pending", "true") {
            Membership::Online
        } else if is("online", "false") && is("unclean", "false") {
            Membership::Away
        } else {
            Membership::Between
        };
        let name = node.attribute("name").unwrap_or_default();
        (name.to_owned(), membership)
    });
    Ok(all.collect())
}

fn started(text: &str, resource: &str) -> bool {
    parse(text).is_ok_and(|status| {
        find(&status, "resource").any(|element| {
            element.attribute("id") == Some(resource)
                && element.attribute("role") == Some("Started")
        })
    })
}
