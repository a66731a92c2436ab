//! Open vSwitch, as its database has it: a bridge that snoops and does not flood what nobody joined.

use super::finding::{Finding, Found};
use super::surroundings::{OvsPort, Surroundings, Wish};
use crate::model::l2_mode::L2Mode;
use crate::model::link::Parent;
use crate::model::untrusted::Untrusted;
use serde_json::{Value, json};

/// What the database is asked (RFC 7047 §4.1.3, §5.2.2).
pub fn question() -> Value {
    let select = |table: &str, columns: &[&str]| json!({"op": "select", "table": table, "where": [], "columns": columns});
    json!({"id": 0, "method": "transact", "params": [
        "Open_vSwitch",
        select("Bridge", &["name", "ports", "mcast_snooping_enable", "other_config"]),
        select("Port", &["_uuid", "name", "interfaces", "other_config"]),
        select("Interface", &["_uuid", "name"]),
    ]})
}

/// The ports of all bridges, from its answer; `None` if it is none.
pub fn ports(answer: &Value) -> Option<Vec<OvsPort>> {
    let rows = |n: usize| answer.get("result")?.get(n)?.get("rows")?.as_array();
    let (bridges, ports, interfaces) = (rows(0)?, rows(1)?, rows(2)?);
    let name = |row: &Value| Some(Untrusted::from(row.get("name")?.as_str()?));
    let of = |all: &'static str, row: &Value| uuids(row.get(all).unwrap_or(&Value::Null));
    let is = |row: &Value, uuid: &String| uuids(&row["_uuid"]).contains(uuid);
    let mut found = Vec::new();
    for bridge in bridges {
        let strict = bridge["mcast_snooping_enable"] == true
            && has(bridge, "mcast-snooping-disable-flood-unregistered");
        for uuid in of("ports", bridge) {
            let Some(port) = ports.iter().find(|port| is(port, &uuid)) else {
                continue;
            };
            let inside = of("interfaces", port);
            let inside = interfaces
                .iter()
                .filter(|row| inside.iter().any(|uuid| is(row, uuid)));
            found.push(OvsPort {
                bridge: name(bridge)?,
                name: name(port)?,
                interfaces: inside.filter_map(name).collect(),
                strict,
                floods: has(port, "mcast-snooping-flood"),
            });
        }
    }
    Some(found)
}

/// One or a set of them (RFC 7047 §5.1).
fn uuids(value: &Value) -> Vec<String> {
    let one = |value: &Value| match value.as_array()?.as_slice() {
        [kind, uuid] if kind == "uuid" => uuid.as_str().map(str::to_owned),
        _ => None,
    };
    match value.as_array().map(Vec::as_slice) {
        Some([kind, all]) if kind == "set" => all
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(one)
            .collect(),
        _ => one(value).into_iter().collect(),
    }
}

/// Is this option `true`?
fn has(row: &Value, option: &str) -> bool {
    let pairs = row["other_config"].get(1).and_then(Value::as_array);
    let mut pairs = pairs.into_iter().flatten();
    pairs.any(|pair| pair[0] == option && pair[1] == "true")
}

/// A strict bridge on the way.
pub(super) fn snooping(here: &Surroundings, wish: &Wish) -> Found {
    if wish.mode() == L2Mode::Stealth {
        return Ok(Vec::new());
    }
    let ports = here.open_vswitch.as_ref().map_err(Clone::clone)?;
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let link = here.nic(wish)?;
    // A veth's other end is the port, or the interface is one of the switch's own.
    let other_end = match link.parent {
        Parent::Here(index) => here.at(index).map(|other| &other.name),
        _ => None,
    };
    let on_the_way = ports.iter().find(|port| {
        let mut inside = port.interfaces.iter();
        inside.any(|name| *name == wish.nic || Some(name) == other_end)
    });
    let Some(port) = on_the_way.filter(|port| port.strict && !port.floods) else {
        return Ok(Vec::new());
    };
    let finding = Finding::fatal(
        format!(
            "the Open vSwitch bridge {} snoops and floods nothing that nobody joined",
            port.bridge
        ),
        format!(
            "what comes for {} is for no group that it knows, so that the port {} gets none of it, whatever entry the MAC \
             has; mode=\"stealth\" does without",
            wish.mac_words(),
            port.name
        ),
    );
    let cure = port
        .name
        .quoted()
        .map(|name| format!("ovs-vsctl set Port {name} other_config:mcast-snooping-flood=true"));
    Ok(vec![finding.mended_by(cure)])
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_host, a_link, a_wish};
    use super::*;
    use crate::model::link::Link;

    /// As ovsdb-server 3.1.0 answers, shortened.
    const ANSWER: &str = r#"{"id":0,"result":[{"rows":[{"mcast_snooping_enable":true,"name":"br0","ports":["set",[["uuid","a2"],["uuid","b8"]]],"other_config":["map",[["mcast-snooping-disable-flood-unregistered","true"]]]},{"mcast_snooping_enable":false,"name":"br1","ports":["uuid","c8"],"other_config":["map",[]]}]},{"rows":[{"name":"p1","interfaces":["uuid","f1"],"_uuid":["uuid","b8"],"other_config":["map",[]]},{"name":"n2","interfaces":["uuid","c2"],"_uuid":["uuid","a2"],"other_config":["map",[["mcast-snooping-flood","true"]]]},{"name":"n3","interfaces":["uuid","c3"],"_uuid":["uuid","c8"],"other_config":["map",[]]}]},{"rows":[{"name":"n3","_uuid":["uuid","c3"]},{"name":"n2","_uuid":["uuid","c2"]},{"name":"n1","_uuid":["uuid","f1"]}]}],"error":null}"#;

    fn told(nic: Link, mode: L2Mode) -> Vec<Finding> {
        let answer = serde_json::from_str(ANSWER).expect("JSON");
        let wish = Wish {
            nic: nic.name.clone(),
            ..a_wish("10.77.0.99", mode)
        };
        let here = Surroundings {
            links: Ok(vec![nic, a_link(9, "n1")]),
            open_vswitch: Ok(ports(&answer).expect("ports")),
            ..a_host()
        };
        snooping(&here, &wish).expect("seen")
    }

    #[test]
    fn a_strict_bridge_is_found_by_its_port_or_its_other_end() {
        let own = told(a_link(2, "n1"), L2Mode::Multicast);
        let cure = own[0].cure.as_deref();
        assert_eq!(
            cure,
            Some("ovs-vsctl set Port p1 other_config:mcast-snooping-flood=true")
        );
        let veth = Link {
            parent: Parent::Here(9),
            ..a_link(2, "eth0")
        };
        assert_eq!(told(veth.clone(), L2Mode::Igmp), own);
        assert_eq!(told(veth, L2Mode::Stealth), []);
        for other in ["n2", "n3", "eth1"] {
            assert_eq!(told(a_link(2, other), L2Mode::Multicast), [], "{other}");
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for text in [
            "{}",
            "null",
            r#"{"result":[],"error":null}"#,
            r#"{"result":[{"rows":[]},{"error":"x"}]}"#,
        ] {
            assert_eq!(
                ports(&serde_json::from_str(text).expect("JSON")),
                None,
                "{text}"
            );
        }
    }
}
