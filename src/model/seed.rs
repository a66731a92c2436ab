//! The initial value of the hash: how people write it, and what it is if they do not. Pure.

use std::net::IpAddr;

/// The seed of a VIP for which none was given: known to whoever knows the address.
pub fn derived_seed(ip: IpAddr) -> u32 {
    let digest = blake3::hash(format!("clusterip seed of {ip}").as_bytes());
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A seed as people write it: decimal, or hex after 0x.
pub fn parse_seed(text: &str) -> Option<u32> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if digits(hex) => u32::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None if digits(text) => text.parse().ok(),
        None => None,
    }
}

/// The same without the seeds in it, for logs and reasons: these go elsewhere, and the seed hides the buckets from
/// strangers.
pub fn without_seeds(text: &str) -> String {
    const SEED: &str = "seed";
    let mut parts = text.split(SEED);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, behind| {
        let value = behind.trim_start_matches([':', ' ']);
        let between = &behind[..behind.len() - value.len()];
        let rest = value.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        match between.is_empty() || rest.len() == value.len() {
            true => text + SEED + behind,
            false => text + SEED + between + "…" + rest,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_seed_is_told() {
        for (text, told) in [
            (
                "jhash mod 4 seed 0x1234abcd vmap",
                "jhash mod 4 seed … vmap",
            ),
            (
                "modulus: 4, seed: 305441741 }, seed: 7",
                "modulus: 4, seed: … }, seed: …",
            ),
            ("seed 9", "seed …"),
            ("a seedling and a seed", "a seedling and a seed"),
            ("", ""),
        ] {
            assert_eq!(without_seeds(text), told);
        }
    }

    #[test]
    fn seeds_are_decimal_or_hex() {
        assert_eq!(parse_seed("0"), Some(0));
        assert_eq!(parse_seed("4294967295"), Some(u32::MAX));
        assert_eq!(parse_seed("0x516175ce"), Some(0x5161_75ce));
        for wrong in [
            "",
            "0x",
            "-1",
            "+1",
            "4294967296",
            "0x100000000",
            "beef",
            "0x+1",
            "1 ",
        ] {
            assert_eq!(parse_seed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_derived_seed_never_changes() {
        // Another one on another node, or after an upgrade, would mean two hashes at once.
        let seed = derived_seed([10, 77, 0, 99].into());
        assert_eq!(seed, 0x5da5_17c1);
    }
}
