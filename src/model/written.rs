//! How a VIP's description is written next to its rules in the kernel, and read back. Pure.
//!
//! It is one line of `word value` pairs, the comment of the VIP's chain: the project's only record,
//! which the kernel keeps. Its first half is the identity, which all nodes must share. What is beyond the
//! longest comment that nft reads back is the comment of another chain.

use super::hash::Hasher;
use super::mac::Mac;
use super::untrusted::shown;
use super::vip::{L2Mode, Manager, RULES, Vip, VipError};
use std::str::FromStr;

/// The longest comment that nft reads back from what it has listed (`NFTNL_UDATA_COMMENT_MAXLEN`); the
/// kernel and libnftnl take one of twice that.
pub const LONGEST_COMMENT: usize = 128;

/// The first bytes of a digest, as they stand in a frame.
pub type Digest = [u8; 6];

/// The first word of what is behind the identity.
const LOCAL: &str = "prefix";

impl Vip {
    /// [`Vip::written`] as comments that nft reads back: the first is that of the VIP's chain, the second,
    /// if there is one, goes on where it ends: behind the identity, if that has room in the first.
    pub fn comments(&self) -> (String, Option<String>) {
        let written = self.written();
        if written.len() <= LONGEST_COMMENT {
            return (written, None);
        }
        let words: Vec<&str> = written.split(' ').collect();
        let parts = |pairs: usize| {
            let (first, rest) = words.split_at(2 * pairs);
            (first.join(" "), rest.join(" "))
        };
        let has_room = |pairs: &usize| parts(*pairs).0.len() <= LONGEST_COMMENT;
        let identity = words.chunks(2).position(|pair| pair[0] == LOCAL);
        let longest = || (0..=words.len() / 2).rev().find(has_room);
        let pairs = identity.filter(has_room).or_else(longest);
        let (first, rest) = parts(pairs.unwrap_or_default());
        (first, Some(rest))
    }

    /// Where this description, which is installed, differs from one that is asked for.
    pub fn differences(&self, asked: &Vip) -> String {
        // The mode comes first, for the MAC follows from it, and is said where it need not be written.
        let with_mode = |vip: &Vip| format!("mode {} {}", vip.mode, vip.written_with(None));
        let (here, there) = (with_mode(self), with_mode(asked));
        let pairs = |text: &str| -> Vec<(String, String)> {
            let words: Vec<&str> = text.split(' ').collect();
            let pair = |pair: &[&str]| (pair[0].to_owned(), pair[1].to_owned());
            words.chunks_exact(2).map(pair).collect()
        };
        let (here, there) = (pairs(&here), pairs(&there));
        let value = |pairs: &[(String, String)], word: &str| {
            let found = pairs.iter().find(|(name, _)| name == word);
            found.map_or("not set".to_owned(), |(_, value)| value.clone())
        };
        let mut names: Vec<&String> = here.iter().chain(&there).map(|(name, _)| name).collect();
        names.dedup();
        let mut words: Vec<String> = Vec::new();
        for name in names {
            let (found, wanted) = (value(&here, name), value(&there, name));
            let text = format!("{name} {found}, asked for {wanted}");
            if found != wanted && !words.contains(&text) {
                words.push(text);
            }
        }
        words.join("; ")
    }

    /// What all nodes must share, one line: two nodes whose lines differ could answer the same
    /// packet.
    pub fn identity(&self) -> String {
        self.shared(Some(self.mode))
    }

    /// The same, with the mode if it is to be said.
    fn shared(&self, mode: Option<L2Mode>) -> String {
        let mode = mode.map_or(String::new(), |mode| format!(" mode {mode}"));
        format!(
            "vip {} rules {RULES} mac {}{mode} hash {} layout {} seed {:#010x} buckets {}",
            self.address,
            self.mac,
            self.hasher.mode,
            self.hasher.layout,
            self.hasher.seed,
            self.buckets
        )
    }

    /// The blake3 digest of [`Vip::identity`], 16 hex digits: equal on all nodes, or two of them
    /// hash differently.
    pub fn digest(&self) -> String {
        blake3::hash(self.identity().as_bytes()).to_hex()[..16].to_owned()
    }

    /// The digest's first six bytes, as they stand in a probe (`model::agreement`).
    pub fn probe_digest(&self) -> Digest {
        first_six(&self.identity())
    }

    /// What a probe says of the description and of who manages it (`model::agreement`): nodes of one
    /// description differ here where another resource, or a person, has put the VIP there.
    pub fn manager_digest(&self) -> Digest {
        let managed = format!("{} by {}", self.identity(), self.manager);
        first_six(&managed)
    }

    /// The whole description, as it is written next to the rules. Read back by `parse`.
    pub fn written(&self) -> String {
        // What follows from the MAC goes without saying: two comments have room for little more.
        self.written_with((self.mode != implied(self.mac)).then_some(self.mode))
    }

    /// The same, with the mode if it is to be said.
    fn written_with(&self, said: Option<L2Mode>) -> String {
        let mut text = format!(
            "{} {LOCAL} {} nic {}",
            self.shared(said),
            self.prefix,
            self.nic
        );
        if let Some(label) = &self.label {
            text += &format!(" label {label}");
        }
        if self.noprefixroute {
            text += " route none";
        }
        if !self.lock {
            text += " lock none";
        }
        if self.drain_s > 0 {
            text += &format!(" drain {}", self.drain_s);
        }
        match &self.manager {
            Manager::Manual => text,
            Manager::Pacemaker(resource) => text + &format!(" by {resource}"),
        }
    }
}

/// The mode of a description that names none.
fn implied(mac: Mac) -> L2Mode {
    match mac.is_unlearnt() {
        true => L2Mode::Stealth,
        false => L2Mode::Multicast,
    }
}

/// A digest as its beginning stands in 'nodectl status'.
pub fn in_digits(digest: Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first bytes of a text's digest.
fn first_six(text: &str) -> Digest {
    let [a, b, c, d, e, f, ..] = *blake3::hash(text.as_bytes()).as_bytes();
    [a, b, c, d, e, f]
}

impl FromStr for Vip {
    type Err = VipError;

    /// Reads [`Vip::written`] back.
    fn from_str(text: &str) -> Result<Self, VipError> {
        let wrong = |why: String| VipError::Written {
            text: text.into(),
            why,
        };
        let mut pairs = std::collections::BTreeMap::new();
        let mut words = text.split(' ');
        while let Some(word) = words.next() {
            let value = words
                .next()
                .ok_or_else(|| wrong(format!("'{}' has no value", shown(word))))?;
            if pairs.insert(word, value).is_some() {
                return Err(wrong(format!("'{}' stands there twice", shown(word))));
            }
        }
        let mut take = |word: &'static str| pairs.remove(word);
        fn need<T: FromStr>(word: &'static str, value: Option<&str>) -> Result<T, String> {
            value
                .ok_or_else(|| format!("'{word}' is missing"))?
                .parse()
                .map_err(|_| format!("'{word}' has a value that is none"))
        }
        match take("rules").map_or(Ok(0), str::parse) {
            Ok(RULES) => {}
            Ok(other) => {
                let why = format!("it is for revision {other} of the rules, and this is {RULES}");
                return Err(wrong(why));
            }
            Err(_) => return Err(wrong("'rules' is no number".to_owned())),
        }
        let mac = need("mac", take("mac")).map_err(wrong)?;
        let vip = Vip {
            address: need("vip", take("vip")).map_err(wrong)?,
            prefix: need("prefix", take("prefix")).map_err(wrong)?,
            nic: need("nic", take("nic")).map_err(wrong)?,
            mac,
            mode: match take("mode") {
                None => implied(mac),
                mode => need("mode", mode).map_err(wrong)?,
            },
            hasher: Hasher {
                mode: need("hash", take("hash")).map_err(wrong)?,
                layout: need("layout", take("layout")).map_err(wrong)?,
                seed: take("seed")
                    .and_then(|seed| seed.strip_prefix("0x"))
                    .and_then(|seed| u32::from_str_radix(seed, 16).ok())
                    .ok_or_else(|| wrong("'seed' is missing or no number".to_owned()))?,
            },
            buckets: need("buckets", take("buckets")).map_err(wrong)?,
            label: take("label").map(str::to_owned),
            noprefixroute: take("route") == Some("none"),
            lock: take("lock") != Some("none"),
            drain_s: match take("drain") {
                None => 0,
                drain => need("drain", drain).map_err(wrong)?,
            },
            manager: match take("by") {
                None => Manager::Manual,
                Some(resource) if resource.chars().all(|c| Manager::is_plain(&c)) => {
                    Manager::Pacemaker(resource.to_owned())
                }
                Some(_) => return Err(wrong("'by' has a name that is none".to_owned())),
            },
        };
        match pairs.keys().next() {
            Some(word) => Err(wrong(format!("'{}' means nothing here", shown(word)))),
            None => vip.validate().map(|()| vip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::untrusted::tests::forbidden_in;
    use super::super::vip::tests::{a_vip, any_vip};
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    proptest! {
        #[test]
        fn descriptions_survive_being_written(vip in any_vip()) {
            vip.validate().expect("valid");
            let written = vip.written();
            let (first, second) = vip.comments();
            for comment in [&first].into_iter().chain(&second) {
                prop_assert!(comment.len() <= LONGEST_COMMENT, "nft cannot read {comment}");
            }
            let whole = [first].into_iter().chain(second).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(&whole, &written);
            prop_assert_eq!(written.parse::<Vip>(), Ok(vip));
        }

        #[test]
        fn reading_never_panics(text in "\\PC*") {
            let _ = text.parse::<Vip>();
        }
    }

    #[test]
    fn a_mode_that_differs_is_named_before_the_mac_and_never_as_not_set() {
        let multicast = a_vip("10.77.0.99");
        let of = |mode: L2Mode| Vip {
            mode,
            mac: mode.mac(multicast.address),
            ..multicast.clone()
        };
        assert_eq!(
            of(L2Mode::Igmp).differences(&multicast),
            "mode igmp, asked for multicast"
        );
        let stealth = of(L2Mode::Stealth).differences(&multicast);
        let begin = "mode stealth, asked for multicast; mac 02:bf:";
        assert!(stealth.starts_with(begin), "{stealth}");
        let drained = Vip {
            drain_s: 7,
            ..multicast.clone()
        };
        assert_eq!(
            drained.differences(&multicast),
            "drain 7, asked for not set"
        );
        assert_eq!(multicast.differences(&multicast), "");
    }

    #[test]
    fn a_manager_that_nobody_could_print_is_none() {
        let written = a_vip("10.77.0.99").written();
        for name in ["a\u{1b}[31m", "a\nb", "a\u{202e}b", "a'b"] {
            let error = format!("{written} by {name}").parse::<Vip>();
            let error = error.expect_err(name).to_string();
            assert_eq!(forbidden_in(&error), None, "{error:?}");
        }
    }

    #[test]
    fn what_0_1_0_has_written_is_read() {
        let text = "vip 10.77.0.99 rules 1 mac 01:00:5e:7f:00:63 mode multicast hash sourceip-sourceport \
                    layout clusterip seed 0x516175ce buckets 12 prefix 24 nic eth0 drain 300 by resIP";
        let vip: Vip = text.parse().expect("readable");
        let expected = Vip {
            hasher: Hasher {
                seed: 0x5161_75ce,
                ..a_vip("10.77.0.99").hasher
            },
            drain_s: 300,
            manager: Manager::pacemaker("resIP"),
            ..a_vip("10.77.0.99")
        };
        assert_eq!(vip, expected);
    }

    #[test]
    fn the_longest_description_has_room_in_two_comments() {
        let addresses = ["2001:1db8:1000:1000:1000:1000:1000:1000", "210.210.210.210"];
        for (mode, address) in L2Mode::ALL
            .into_iter()
            .flat_map(|mode| addresses.map(|address| (mode, address)))
        {
            let address: IpAddr = address.parse().expect("an address");
            let ip6 = address.is_ipv6();
            let mac = mode.mac(address);
            let rest = match ip6 {
                true => "prefix 128 nic abcdefghijklmno",
                false => "prefix 32 nic abcdefghijklmno",
            };
            let mut vip: Vip = format!(
                "vip {address} rules 1 mac {mac} hash sourceip-sourceport-destport layout clusterip seed \
                 0x516175ce buckets 1024 {rest} route none lock none drain 86400 by 12345678901234567"
            )
            .parse()
            .expect("readable");
            vip.mode = mode.of_family(address);
            let (first, second) = vip.comments();
            assert!(first.len() <= LONGEST_COMMENT, "{first}");
            assert!(
                second.is_some_and(|second| second.len() <= LONGEST_COMMENT),
                "{vip:?}"
            );
        }
    }

    #[test]
    fn nothing_but_the_identity_is_digested() {
        let mut vip = a_vip("10.77.0.99");
        let digest = vip.digest();
        vip.nic = "bond0".parse().expect("a name");
        vip.manager = Manager::pacemaker("web");
        assert_eq!(vip.digest(), digest);
        // Which another digest tells.
        let by_web = vip.manager_digest();
        vip.nic = "eth0".parse().expect("a name");
        assert_eq!(vip.manager_digest(), by_web);
        for manager in [
            Manager::Manual,
            Manager::pacemaker("manual"),
            Manager::pacemaker("Web"),
        ] {
            vip.manager = manager;
            assert_ne!(vip.manager_digest(), by_web);
        }
        vip.hasher.seed = 1;
        assert_ne!(vip.digest(), digest);
    }
}
