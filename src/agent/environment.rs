//! What Pacemaker hands to an agent: environment variables. Pure; `main` reads the real ones.
//!
//! Meta variables are not always there: the stop of an orphan (`clone-max` was lowered) comes with
//! none of them, and the number of the instance stands in `OCF_RESOURCE_INSTANCE` alone.

use crate::model::untrusted::Untrusted;
use crate::pacemaker::ipaddr2::is_true;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Where an instance starts that is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// On another node.
    Node(String),
    /// On none, or on this one again.
    Nowhere,
}

/// The environment of an action, and when it began.
#[derive(Debug, Clone)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    begun: Instant,
}

impl Environment {
    /// Of these variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Environment {
            variables: variables.into_iter().collect(),
            begun: Instant::now(),
        }
    }

    /// The environment of this process; a variable that is no text is as if it were not set.
    pub fn of_process() -> Self {
        let text = |word: std::ffi::OsString| word.into_string().ok();
        let variables = std::env::vars_os();
        Environment::new(variables.filter_map(|(name, value)| Some((text(name)?, text(value)?))))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A parameter; one that is empty is not set.
    pub fn parameter(&self, name: &str) -> Option<Untrusted> {
        self.get(&format!("OCF_RESKEY_{name}"))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(Untrusted::from)
    }

    /// Is a parameter true? `None` if it is not set.
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.parameter(name).map(|value| is_true(value.raw()))
    }

    /// The instance's name as Pacemaker's history has it, such as `resIP:3`.
    pub fn instance_name(&self) -> &str {
        self.get("OCF_RESOURCE_INSTANCE").unwrap_or_default()
    }

    /// This node's name in the cluster.
    pub fn node(&self) -> Option<&str> {
        self.meta("on_node")
    }

    fn meta(&self, name: &str) -> Option<&str> {
        self.get(&format!("OCF_RESKEY_CRM_meta_{name}"))
    }

    /// The resource's name without the number of the instance.
    pub fn resource(&self) -> &str {
        let whole = self.get("OCF_RESOURCE_INSTANCE").unwrap_or("ClusterIP");
        match whole.rsplit_once(':') {
            Some((name, number)) if number.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => whole,
        }
    }

    /// The number of the instance, if this is one of a clone.
    pub fn instance(&self) -> Option<u32> {
        let from_name = || {
            let whole = self.get("OCF_RESOURCE_INSTANCE")?;
            whole.rsplit_once(':')?.1.parse().ok()
        };
        self.meta("clone")
            .and_then(|number| number.parse().ok())
            .or_else(from_name)
    }

    /// The clone's number of instances; `None` outside of a clone.
    pub fn clone_max(&self) -> Option<&str> {
        self.meta("clone_max")
    }

    /// How many of them one node may run, where that can be read.
    pub fn clone_node_max(&self) -> Option<u16> {
        self.meta("clone_node_max")?.parse().ok()
    }

    /// Is the clone globally unique? `None` outside of a clone.
    pub fn globally_unique(&self) -> Option<bool> {
        self.meta("globally_unique").map(is_true)
    }

    /// Is this monitor a probe? Those have no interval.
    pub fn is_probe(&self) -> bool {
        self.meta("interval").is_none_or(|interval| interval == "0")
    }

    /// How long the action may take.
    pub fn timeout(&self) -> Option<Duration> {
        let milliseconds = self.meta("timeout")?.parse().ok()?;
        Some(Duration::from_millis(milliseconds))
    }

    /// How long it has taken already.
    pub fn passed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The same, but it began so long ago.
    #[cfg(test)]
    pub(super) fn begun_before(self, passed: Duration) -> Self {
        let begun = self
            .begun
            .checked_sub(passed)
            .expect("a time since the boot");
        Environment { begun, ..self }
    }

    /// What is the same for all actions of this name that differ by the instance alone: the resource, its
    /// parameters and those of the clone. `None` where the clone's are not there.
    pub fn key(&self, action: &str) -> Option<[u8; 32]> {
        /// What an instance has of its own, and what goes by the call.
        const OWN: [&str; 5] = ["clone", "timeout", "interval", "name", "on_node_uuid"];
        self.clone_max()?;
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: &str| {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        };
        add(env!("CARGO_PKG_VERSION"));
        add(action);
        add(self.resource());
        for (name, value) in &self.variables {
            let meta = name.strip_prefix("OCF_RESKEY_CRM_meta_");
            let is_own = meta.is_some_and(|meta| OWN.contains(&meta));
            if name.starts_with("OCF_RESKEY_") && !is_own {
                add(name);
                add(value);
            }
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// Where the instance starts in this transition, if Pacemaker says so: it does for clones with `notify`.
    pub fn starts_at(&self) -> Option<Destination> {
        let words = |name: &str| self.meta(name).map(|all| all.split_whitespace());
        self.meta("notify_type")
            .or(self.meta("notify_stop_resource"))?;
        let starts = words("notify_start_resource")?;
        let nodes = words("notify_start_uname")?;
        let mut pairs = starts.zip(nodes);
        let here = self.node();
        Some(
            match pairs.find(|(name, _)| *name == self.instance_name()) {
                Some((_, node)) if Some(node) != here => Destination::Node(node.to_owned()),
                _ => Destination::Nowhere,
            },
        )
    }

    /// Does the cluster log at debug level?
    pub fn wants_debug(&self) -> bool {
        self.get("HA_debug").is_some_and(|level| level != "0")
            || self.get("PCMK_debug").is_some_and(is_true)
    }

    /// `OCF_CHECK_LEVEL`.
    pub fn check_level(&self) -> u32 {
        let level = self.get("OCF_CHECK_LEVEL");
        level.and_then(|level| level.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())))
    }

    #[test]
    fn an_orphan_has_its_number_in_its_name_alone() {
        let orphan = environment(&[("OCF_RESOURCE_INSTANCE", "resIP:21")]);
        assert_eq!((orphan.resource(), orphan.instance()), ("resIP", Some(21)));
        assert_eq!(orphan.clone_max(), None);
        let primitive = environment(&[("OCF_RESOURCE_INSTANCE", "resIP")]);
        assert_eq!(
            (primitive.resource(), primitive.instance()),
            ("resIP", None)
        );
    }

    #[test]
    fn who_differs_by_the_instance_alone_has_the_same_key() {
        let one = [
            ("OCF_RESOURCE_INSTANCE", "resIP:1"),
            ("OCF_RESKEY_CRM_meta_clone", "1"),
            ("OCF_RESKEY_CRM_meta_clone_max", "4"),
            ("OCF_RESKEY_CRM_meta_timeout", "20000"),
            ("OCF_RESKEY_ip", "10.0.0.99"),
        ];
        let with = |n: usize, value| {
            let mut pairs = one;
            pairs[n].1 = value;
            environment(&pairs)
        };
        let key = |env: &Environment| env.key("start").expect("a clone");
        let first = environment(&one);
        for (n, value, is_same) in [
            (0, "resIP:2", true),
            (0, "resX:1", false),
            (1, "2", true),
            (2, "5", false),
            (3, "30000", true),
            (4, "10.0.0.98", false),
        ] {
            assert_eq!(key(&with(n, value)) == key(&first), is_same, "{value}");
        }
        assert_ne!(first.key("stop"), first.key("start"));
        assert_eq!(environment(&one[..2]).key("start"), None);
    }

    #[test]
    fn an_empty_parameter_is_none() {
        let env = environment(&[("OCF_RESKEY_nic", " "), ("OCF_RESKEY_ip", " 10.0.0.1 ")]);
        assert_eq!(env.parameter("nic"), None);
        assert_eq!(env.parameter("ip"), Some("10.0.0.1".into()));
    }
}
