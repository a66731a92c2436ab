//! What older versions wrote is no drift, and a start of today's changes it in place.

use crate::model::change::Change;
use crate::model::host::{NicState, Observed};
use crate::model::mac::Mac;
use crate::model::vip::tests::any_vip;
use crate::model::vip::{L2Mode, Vip};
use crate::plan::diff;
use crate::reading::health::drift;
use crate::reading::installed::installed;
use crate::reading::older::tests::{moving, of_0_1_0, of_before, of_lately};
use crate::reading::wanted::with_vip;
use crate::rules::dataplane;
use proptest::prelude::*;

/// As older versions could describe it: they had one mode.
fn of_old(vip: Vip) -> Vip {
    let mode = L2Mode::Multicast;
    let mac = match mode.check(vip.address, vip.mac) {
        Ok(()) => vip.mac,
        Err(_) => mode.mac(vip.address),
    };
    Vip { mode, mac, ..vip }
}

proptest! {
    #[test]
    fn what_older_versions_wrote_is_known_and_changed_in_place(
        vips in prop::collection::btree_map(any::<u8>(), any_vip(), 1..4), version in 0..3,
    ) {
        let mut vips: Vec<_> = vips.into_values().map(of_old).map(moving).collect();
        vips.dedup_by_key(|(vip, _)| vip.address);
        let rules = match version {
            0 => of_0_1_0(&vips),
            1 => of_before(&vips),
            _ => of_lately(&vips),
        };
        // What has come since is ARP's alone.
        let is_changed = version < 2 || vips.iter().any(|(vip, _)| vip.address.is_ipv4());
        let mut observed = Observed { rules, ..Observed::default() };
        let state = NicState { mac: Some(Mac([2, 0, 0, 0, 0, 1])), ..NicState::default() };
        observed.nics.insert("eth0".to_owned(), state);
        let known: Vec<Vip> = installed(&observed.rules).into_iter().map(|known| known.vip).collect();
        prop_assert_eq!(known.len(), vips.len());
        prop_assert_eq!(observed.rules != dataplane::ruleset(&vips), is_changed);
        for (vip, phases) in &vips {
            prop_assert!(known.contains(vip));
            let of_rules = |piece: &str| {
                ["table", "chain", "map", "element"].iter().any(|kind| piece.starts_with(kind))
            };
            let drift = drift(&observed, vip, false);
            let drift: Vec<_> = drift.into_iter().filter(|drift| of_rules(&drift.piece)).collect();
            prop_assert_eq!(drift, vec![]);
            for change in diff::changes(&observed.rules, &with_vip(&observed, vip, phases)) {
                let keeps = matches!(
                    change,
                    Change::FlushChain(..) | Change::AddRule(..) | Change::AddSet(..)
                        | Change::AddElements(..) | Change::AddChain(..)
                );
                prop_assert!(keeps, "{change:?}");
            }
        }
    }
}
