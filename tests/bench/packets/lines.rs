//! All that is measured, line by line. Pure data.

use std::path::Path;

use clusterip::model::hash::{HashMode, Layout};
use clusterip::model::vip::L2Mode;

use super::frames::Fragment;
use super::variants::{Ours, Packet, Rules, Segment, Variant};

/// All that is measured, the floor first; where there are many VIPs, there are so many, and where
/// connections stay, so many. What another build of the product is compared by is measured with its rules too.
pub fn all(many_vips: u16, connections: &[u32], build: Option<&Path>) -> Vec<Variant> {
    use HashMode::{SourceIp, SourceIpSourcePort, SourceIpSourcePortDestPort};
    use Packet::{Foreign, ForeignEveryVip, OtherArp, OtherIp4, OtherIp6, Owned};
    let mut all = Vec::new();
    let mut add = |rules: Rules, packets: &[Packet]| {
        for packet in packets {
            let rules = rules.clone();
            let packet = *packet;
            all.push(Variant { rules, packet });
        }
    };
    let both = [Foreign(Fragment::None), Owned(Fragment::None)];
    let fragments = [
        Foreign(Fragment::First),
        Owned(Fragment::First),
        Foreign(Fragment::Later),
        Owned(Fragment::Later),
    ];
    let one = |mode| Ours {
        mode,
        layout: Layout::ClusterIp,
        l2: L2Mode::Multicast,
        ip6: false,
        buckets: 16,
        owned: 1,
        vips: 1,
        draining: None,
        build: None,
    };
    let of = |mode, ip6, buckets, owned, vips| {
        Rules::Ours(Ours {
            ip6,
            buckets,
            owned,
            vips,
            ..one(mode)
        })
    };

    add(Rules::Floor, &[Foreign(Fragment::None), OtherIp4]);
    add(Rules::FloorAgain, &[Foreign(Fragment::None)]);
    add(Rules::Nothing, &[OtherIp4, OtherIp6, OtherArp]);
    for mode in [SourceIp, SourceIpSourcePort] {
        add(of(mode, false, 16, 1, 1), &both);
        // With one bucket a node owns all or nothing.
        add(of(mode, false, 1, 0, 1), &both[..1]);
        add(of(mode, false, 1, 1, 1), &both[1..]);
        for (buckets, owned) in [(12, 1), (64, 4), (1024, 64)] {
            add(of(mode, false, buckets, owned, 1), &both);
        }
        add(
            of(mode, false, 16, 1, many_vips),
            &[both[0], ForeignEveryVip, both[1]],
        );
        add(of(mode, true, 16, 1, 1), &both);
    }
    add(of(SourceIpSourcePortDestPort, false, 16, 1, 1), &both);
    add(of(SourceIpSourcePort, false, 16, 1, 1), &fragments);
    add(of(SourceIpSourcePort, true, 16, 1, 1), &fragments);
    add(
        of(SourceIpSourcePort, false, 16, 1, 1),
        &[OtherIp4, OtherArp],
    );
    add(of(SourceIpSourcePort, true, 16, 1, 1), &[OtherIp6]);
    let segment = Packet::Segment;
    add(
        of(SourceIpSourcePort, false, 16, 1, 1),
        &[segment(Segment::Foreign)],
    );
    for flows in connections {
        let draining = Rules::Ours(Ours {
            draining: Some(*flows),
            ..one(SourceIpSourcePort)
        });
        add(draining.clone(), &both);
        add(
            draining,
            &[Segment::Foreign, Segment::Stays, Segment::Leaves].map(segment),
        );
    }
    let network = Rules::Ours(Ours {
        layout: Layout::Network,
        ..one(SourceIp)
    });
    add(network, &both);
    for mode in [SourceIp, SourceIpSourcePort] {
        let stealth = |ip6| {
            Rules::Ours(Ours {
                l2: L2Mode::Stealth,
                ip6,
                ..one(mode)
            })
        };
        add(stealth(false), &both);
        add(stealth(false), &[OtherIp4, OtherArp]);
        add(stealth(true), &both);
    }
    for owned in [1, 8] {
        add(Rules::IpAddr2 { owned }, &both);
    }
    add(Rules::IpAddr2 { owned: 1 }, &[OtherIp4]);
    add(Rules::XtCluster, &both);
    add(Rules::XtCluster, &[OtherIp4]);
    // What the same rules do stands together.
    let order: Vec<Rules> = all.iter().map(|variant| variant.rules.clone()).collect();
    all.sort_by_key(|variant| order.iter().position(|rules| *rules == variant.rules));
    match build {
        None => all,
        Some(build) => beside(all, build),
    }
}

/// Behind what is the product's own, mode after mode of the hash, the same by another build: one that may know of no
/// other L2 mode.
fn beside(all: Vec<Variant>, build: &Path) -> Vec<Variant> {
    let same = |a: &Variant, b: &Variant| a.rules == b.rules;
    let mut both = Vec::new();
    for group in all.chunk_by(same) {
        both.extend(group.iter().cloned());
        let others = group.iter().filter(|variant| is_plain(variant));
        let others = others.filter_map(|variant| variant.counterpart(Some(build)));
        both.extend(others);
    }
    both
}

/// Are the rules the product's as most have them: 16 buckets of one VIP, by multicast, while nothing moves?
fn is_plain(variant: &Variant) -> bool {
    let Rules::Ours(ours) = &variant.rules else {
        return false;
    };
    let counts = (ours.buckets, ours.vips, ours.draining);
    ours.l2 == L2Mode::Multicast && ours.layout == Layout::ClusterIp && counts == (16, 1, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::IpAddr;

    #[test]
    fn every_variant_has_a_name_of_its_own() {
        let all = all(64, &[10, 20], Some(Path::new("/before/nodectl")));
        let names: BTreeSet<_> = all.iter().map(Variant::words).collect();
        assert_eq!(names.len(), all.len());
        let measures = all.iter().filter(|variant| variant.is_the_measure());
        assert_eq!(measures.count(), 1);
        assert_eq!(all[0].rules, Rules::Floor);
    }

    #[test]
    fn sixty_four_vips_are_different_addresses_beside_the_machines() {
        for variant in all(64, &[], None) {
            let vips = variant.rules.vips();
            let different: BTreeSet<_> = vips.iter().collect();
            assert_eq!(different.len(), vips.len());
            for vip in vips {
                let IpAddr::V4(vip) = vip else { continue };
                assert!((20..=200).contains(&vip.octets()[3]), "{vip}");
            }
        }
    }
    #[test]
    fn every_mode_is_measured_beside_the_usual_one_and_that_beside_another_build() {
        let build = Path::new("/before/nodectl");
        let all = all(64, &[10], Some(build));
        let compared = |l2| {
            let is_of = |variant: &&Variant| match &variant.rules {
                Rules::Ours(ours) => ours.l2 == l2 && ours.build.is_none(),
                _ => false,
            };
            let of_mode = all.iter().filter(is_of);
            let pairs = of_mode.filter_map(|variant| {
                let counterpart = variant.counterpart(Some(build))?;
                assert_eq!(counterpart.packet, variant.packet);
                all.contains(&counterpart).then_some(variant.packet)
            });
            pairs.collect::<Vec<_>>()
        };
        let (foreign, owned) = (
            Packet::Foreign(Fragment::None),
            Packet::Owned(Fragment::None),
        );
        for l2 in [L2Mode::Multicast, L2Mode::Stealth] {
            for packet in [foreign, owned] {
                let many = compared(l2).into_iter().filter(|one| *one == packet);
                // By source, and with its port, for both families.
                assert!(many.count() >= 4, "{l2} {packet:?}");
            }
        }
    }
}
