//! Buckets: how many there are, sets of them, and the phase that each is in on this node. Pure.

use super::untrusted::Untrusted;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The number of buckets of a VIP, 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketCount(u16);

impl BucketCount {
    /// The most buckets that a VIP can have.
    pub const MAX: u16 = 1024;

    /// A count between 1 and [`BucketCount::MAX`].
    pub fn new(count: u64) -> Result<Self, BucketError> {
        match u16::try_from(count) {
            Ok(count @ 1..=Self::MAX) => Ok(BucketCount(count)),
            _ => Err(BucketError::Count(count.to_string().into())),
        }
    }

    /// As a number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Every bucket there is.
    pub fn all(self) -> impl Iterator<Item = u16> {
        0..self.0
    }
}

impl FromStr for BucketCount {
    type Err = BucketError;

    fn from_str(text: &str) -> Result<Self, BucketError> {
        let count = text.parse().map_err(|_| BucketError::Count(text.into()))?;
        BucketCount::new(count)
    }
}

impl fmt::Display for BucketCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A set of buckets, written as `0,3-5`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct BucketSet(BTreeSet<u16>);

impl BucketSet {
    /// The set with this one bucket in it.
    pub fn one(bucket: u16) -> Self {
        BucketSet(BTreeSet::from([bucket]))
    }

    /// The buckets in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }

    /// Is there no bucket in the set?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many buckets are in the set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is this bucket in the set?
    pub fn contains(&self, bucket: u16) -> bool {
        self.0.contains(&bucket)
    }

    /// The buckets of both sets.
    pub fn union(&self, other: &BucketSet) -> BucketSet {
        BucketSet(self.0.union(&other.0).copied().collect())
    }

    /// The buckets of this set that are not in the other.
    pub fn without(&self, other: &BucketSet) -> BucketSet {
        BucketSet(self.0.difference(&other.0).copied().collect())
    }

    /// The buckets of this set that are in the other too.
    pub fn shared_with(&self, other: &BucketSet) -> BucketSet {
        BucketSet(self.0.intersection(&other.0).copied().collect())
    }

    /// Checks that every bucket exists where there are `count` of them.
    pub fn within(&self, count: BucketCount) -> Result<(), BucketError> {
        match self.iter().find(|bucket| *bucket >= count.get()) {
            Some(bucket) => Err(BucketError::Range { bucket, count }),
            None => Ok(()),
        }
    }
}

impl FromIterator<u16> for BucketSet {
    fn from_iter<I: IntoIterator<Item = u16>>(buckets: I) -> Self {
        BucketSet(buckets.into_iter().collect())
    }
}

impl FromStr for BucketSet {
    type Err = BucketError;

    fn from_str(text: &str) -> Result<Self, BucketError> {
        let wrong = || BucketError::Set(text.into());
        let number = |part: &str| match part.parse::<u16>() {
            Ok(n) if n < BucketCount::MAX && part.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
            _ => Err(wrong()),
        };
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first.trim())?, number(last.trim())?);
            if first > last {
                return Err(wrong());
            }
            set.extend(first..=last);
        }
        Ok(BucketSet(set))
    }
}

impl fmt::Display for BucketSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for bucket in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == bucket => *last = bucket,
                _ => runs.push((bucket, bucket)),
            }
        }
        let words: Vec<String> = runs
            .into_iter()
            .map(|(first, last)| match first == last {
                true => first.to_string(),
                false => format!("{first}-{last}"),
            })
            .collect();
        f.pad(&match words.is_empty() {
            true => "none".to_owned(),
            false => words.join(","),
        })
    }
}

/// A number of buckets, a bucket or a set of them that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// Not a count of 1 to 1024.
    #[error("'{0}' is no number of buckets; use 1 to {max}", max = BucketCount::MAX)]
    Count(Untrusted),
    /// Not a set of buckets.
    #[error(
        "'{0}' is no set of buckets; write numbers from 0 to {max} such as 0,3-5",
        max = BucketCount::MAX - 1
    )]
    Set(Untrusted),
    /// A bucket beyond the last.
    #[error("there is no bucket {bucket} among {count}; they are numbered from 0 to {last}", last = count.get() - 1)]
    Range {
        /// The bucket that was asked for.
        bucket: u16,
        /// How many there are.
        count: BucketCount,
    },
}

/// Sets of buckets in messages of programs are written as people write them: `0,3-5`. For `serde(with)`; an empty set is
/// left out.
pub mod as_text {
    use super::BucketSet;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the set.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn serialize<S: Serializer>(set: &BucketSet, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(set)
    }

    /// Reads a set.
    ///
    /// # Errors
    /// What is written is no set.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BucketSet, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_are_1_to_1024() {
        for right in ["1", "12", "1024"] {
            assert_eq!(
                right.parse::<BucketCount>().expect(right).to_string(),
                right
            );
        }
        for wrong in [
            "0",
            "1025",
            "5000",
            "-1",
            "",
            "x",
            "12.0",
            "99999999999999999999",
        ] {
            let error = wrong.parse::<BucketCount>().expect_err(wrong);
            assert!(error.to_string().contains("use 1 to 1024"), "{error}");
        }
    }

    #[test]
    fn sets_are_read_as_people_write_them() {
        let set: BucketSet = "7, 0,3-5".parse().expect("a set");
        assert_eq!(set.to_string(), "0,3-5,7");
        for wrong in ["", ",", "3-", "-3", "5-3", "1024", "+1", "0-9999", "a"] {
            assert!(wrong.parse::<BucketSet>().is_err(), "{wrong}");
        }
        let four = BucketCount::new(4).expect("count");
        let error = set.within(four).expect_err("out of range").to_string();
        assert!(error.contains("from 0 to 3"), "{error}");
    }

    proptest! {
        #[test]
        fn sets_survive_being_written(buckets in prop::collection::btree_set(0u16..1024, 1..50)) {
            let set = BucketSet(buckets);
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }
    }
}
