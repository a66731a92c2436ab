//! Who else configures the interface: systemd-networkd and NetworkManager take away what they did not put there.

use super::finding::{Finding, Found};
use super::surroundings::{InCharge, Surroundings, Wish};
use crate::model::untrusted::{Untrusted, quoted};

/// Is anybody in charge who takes a VIP away?
pub(super) fn takes_away(here: &Surroundings, wish: &Wish) -> Found {
    let nic = &wish.nic;
    let until = "until the monitor has failed and the instances are started again";
    Ok(match here.in_charge.as_ref().map_err(Clone::clone)? {
        None | Some(InCharge::Networkd { keeps: true, .. }) => Vec::new(),
        Some(InCharge::Networkd { file, .. }) => {
            let what = format!(
                "systemd-networkd configures {nic} by {file}, without KeepConfiguration=yes"
            );
            let why = format!(
                "'networkctl reconfigure', a reload after that file was changed, and with some versions a restart take the \
                 VIP away, and this node is dark {until} (netplan: 'critical: true')"
            );
            vec![Finding::warning(what, why).mended_by(keep(file))]
        }
        Some(InCharge::NetworkManager) => {
            let what = format!("NetworkManager configures {nic}");
            let why = format!(
                "'nmcli device reapply', 'nmcli connection up' and a cable that is out for some seconds take the VIP away, \
                 and this node is dark {until}: there is no setting that keeps it, so let something else configure this \
                 interface (unmanaged-devices=interface-name:{nic} under [keyfile] in /etc/NetworkManager/conf.d)"
            );
            vec![Finding::warning(what, why)]
        }
    })
}

/// The command that adds the setting to what a file of networkd says.
fn keep(file: &Untrusted) -> Option<String> {
    let name = file.raw().rsplit('/').next()?;
    let folder = quoted(&format!("/etc/systemd/network/{name}.d"))?;
    Some(format!(
        "mkdir -p {folder} && printf '[Network]\\nKeepConfiguration=yes\\n' > {folder}/clusterip.conf && networkctl reload"
    ))
}

/// Which files networkd configures a link by, from what it says of that link in `/run/systemd/netif/links`; none if it
/// leaves it alone.
pub fn networkd_files(state: &str) -> Vec<String> {
    let value = |name: &str| {
        let mut lines = state.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.map(|value| value.trim_matches('"'))
    };
    let is_in_charge = value("ADMIN_STATE").is_some_and(|state| state != "unmanaged");
    let Some(file) = value("NETWORK_FILE").filter(|_| is_in_charge) else {
        return Vec::new();
    };
    let further = value("NETWORK_FILE_DROPINS").unwrap_or_default();
    let further = further
        .split_whitespace()
        .map(|word| word.trim_matches('"'));
    [file]
        .into_iter()
        .chain(further)
        .map(str::to_owned)
        .collect()
}

/// What `KeepConfiguration=` is after these files, one after the other: the last one counts.
pub fn keeps<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let mut keeps = false;
    for text in texts {
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            }
            if let (Some((key, value)), "Network") = (line.split_once('='), section) {
                if key.trim() == "KeepConfiguration" {
                    let is = |word: &str| word.eq_ignore_ascii_case(value.trim());
                    keeps = ["yes", "true", "on", "1", "y", "t"]
                        .iter()
                        .any(|word| is(word));
                }
            }
        }
    }
    keeps
}

/// Is NetworkManager in charge of a device, by what it says of it in `/run/NetworkManager/devices`?
pub fn is_network_managers(state: &str) -> bool {
    let says = |what: &str| state.lines().any(|line| line.trim().starts_with(what));
    says("connection-uuid=") && !says("managed=false")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{a_host, a_wish};
    use super::*;
    use crate::model::l2_mode::L2Mode;

    #[test]
    fn networkd_is_in_charge_of_what_it_has_a_file_for() {
        let state = "# This is private data. Do not parse.\nADMIN_STATE=configured\nNETWORK_FILE=/run/systemd/network/a.network\n\
                     NETWORK_FILE_DROPINS=\"/etc/a.conf /etc/b.conf\"\n";
        let files = [
            "/run/systemd/network/a.network",
            "/etc/a.conf",
            "/etc/b.conf",
        ];
        assert_eq!(networkd_files(state), files);
        for other in [
            "",
            "ADMIN_STATE=unmanaged\nNETWORK_FILE=/a\n",
            "ADMIN_STATE=configured\n",
        ] {
            assert_eq!(networkd_files(other), [""; 0], "{other}");
        }
    }

    #[test]
    fn the_last_setting_counts() {
        let keep = "[Match]\nName=eth0\n[Network]\nKeepConfiguration = yes\n";
        for (texts, is) in [
            (&[][..], false),
            (&[keep], true),
            (&[keep, "[Network]\nKeepConfiguration=static\n"], false),
            (&["[Network]\nKeepConfiguration=no\n", keep], true),
            (&["[DHCPv4]\nKeepConfiguration=yes\n"], false),
            (&["[Network]\n#KeepConfiguration=yes\n"], false),
        ] {
            assert_eq!(keeps(texts.iter().copied()), is, "{texts:?}");
        }
    }

    #[test]
    fn who_takes_a_vip_away_is_told() {
        let found = |manager| {
            let here = Surroundings {
                in_charge: Ok(manager),
                ..a_host()
            };
            takes_away(&here, &a_wish("10.77.0.99", L2Mode::Stealth)).expect("seen")
        };
        let networkd = |keeps| {
            let file = "/run/systemd/network/10-eth0.network".into();
            Some(InCharge::Networkd { file, keeps })
        };
        assert_eq!((found(None), found(networkd(true))), (vec![], vec![]));
        let told = found(networkd(false));
        let cure = told[0].cure.as_deref().expect("a cure");
        assert!(
            cure.starts_with("mkdir -p /etc/systemd/network/10-eth0.network.d && "),
            "{cure}"
        );
        assert_eq!(found(Some(InCharge::NetworkManager)).len(), 1);
    }

    #[test]
    fn network_manager_is_in_charge_of_what_has_a_connection() {
        assert!(is_network_managers(
            "[device]\nmanaged=true\nconnection-uuid=1-2\n"
        ));
        assert!(!is_network_managers(
            "[device]\nmanaged=false\nconnection-uuid=1-2\n"
        ));
        assert!(!is_network_managers("[device]\nmanaged=unset\n"));
    }
}
