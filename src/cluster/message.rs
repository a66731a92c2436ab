//! What daemons tell each other, and how it is written: JSON, one object a message. Pure.
//!
//! Every message names its version, its gathering, its sender and its place among the sender's messages. What is of
//! another gathering, out of order or not to be understood is dropped and counted by whoever hears it; fields that are
//! not known are passed over, so that a newer minor version may say more.

use super::gathering::{GatheringId, NodeId};
use crate::model::bucket::{BucketSet, as_text};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Daemons of different majors do not hand over to each other: their agents do without.
pub const MAJOR: u16 = 1;
/// What is said besides by a newer minor may be passed over.
pub const MINOR: u16 = 0;
/// The longest message, in bytes. Corosync takes a mebibyte; the longest that is said is a node's 1,024 buckets with an
/// epoch each.
pub const LONGEST: usize = 128 * 1024;
/// Epochs and places of messages are lower: what says another one would have the last word for ever.
const MOST: u64 = 1 << 48;
/// The longest description of a VIP, in bytes: it is said as a digest.
const LONGEST_DESCRIPTION: usize = 128;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Message {
    /// The major version.
    pub major: u16,
    /// The minor version.
    pub minor: u16,
    /// The gathering in which it was sent.
    pub gathering: GatheringId,
    /// Who sent it.
    pub from: NodeId,
    /// Its place among all that the sender has said; from 1 on.
    pub number: u64,
    /// What is said.
    #[serde(flatten)]
    pub said: Said,
}

/// A bucket's epoch: how often, as far as anybody knows, the bucket has changed hands. Of two holders the one with the
/// higher epoch is right.
pub type Epoch = u64;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum Said {
    /// What the sender's kernel holds of one VIP: all of it, in place of whatever was known.
    Holds(Holds),
    /// The sender has said of all its VIPs what it holds.
    Whole,
    /// These buckets of the sender's go to somebody else: who claims them gets them. Until then the sender answers, for
    /// five seconds at most: then its kernel ends it.
    Offers {
        /// The VIP.
        vip: IpAddr,
        /// The buckets.
        #[serde(with = "as_text")]
        buckets: BucketSet,
    },
    /// Pacemaker starts these buckets at the sender.
    Claims {
        /// The VIP.
        vip: IpAddr,
        /// The digest of the VIP's description.
        description: String,
        /// The buckets.
        #[serde(with = "as_text")]
        buckets: BucketSet,
        /// Their epoch from now on.
        epoch: Epoch,
    },
    /// The sender does not answer these buckets any more, but for the connections that it has in them.
    Releases {
        /// The VIP.
        vip: IpAddr,
        /// The buckets.
        #[serde(with = "as_text")]
        buckets: BucketSet,
        /// May connections stay at the sender?
        drains: bool,
    },
    /// The sender has taken these buckets: the holder had time to let them go, and the kernel has ended them.
    Took {
        /// The VIP.
        vip: IpAddr,
        /// The digest of the VIP's description.
        description: String,
        /// The buckets.
        #[serde(with = "as_text")]
        buckets: BucketSet,
        /// Their epoch from now on.
        epoch: Epoch,
    },
    /// The last connection of these buckets at the sender has ended.
    Drained {
        /// The VIP.
        vip: IpAddr,
        /// The buckets.
        #[serde(with = "as_text")]
        buckets: BucketSet,
    },
    /// Something that a newer minor version says.
    #[serde(other)]
    Unknown,
}

/// What a node holds of a VIP.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Holds {
    /// The VIP.
    pub vip: IpAddr,
    /// The digest of its description.
    pub description: String,
    /// What it answers.
    pub held: Vec<Part>,
    /// Where it has nothing but connections left.
    #[serde(default, with = "as_text", skip_serializing_if = "BucketSet::is_empty")]
    pub drains: BucketSet,
    /// What it has claimed without knowing yet what comes of that: of these nothing is said here.
    #[serde(default, with = "as_text", skip_serializing_if = "BucketSet::is_empty")]
    pub open: BucketSet,
    /// Who has claimed something of this, so that the sender has looked again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub confirms: BTreeSet<NodeId>,
}

/// Buckets that are held alike.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// The buckets.
    #[serde(with = "as_text")]
    pub buckets: BucketSet,
    /// Their epoch.
    pub epoch: Epoch,
    /// In how many milliseconds the kernel ends it, if they are offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_ms: Option<u64>,
}

/// Why a message is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is too long.
    #[error("a message of {0} bytes is dropped: the longest has {LONGEST}")]
    Long(usize),
    /// It is not to be understood.
    #[error("a message is dropped that is none: {0}")]
    Garbled(String),
    /// Another major version.
    #[error(
        "a message of version {0} is dropped: this daemon speaks version {MAJOR}; until all nodes run the same \
         major version of clusteripd their agents move buckets without it"
    )]
    OtherMajor(u16),
    /// It names somebody else than who sent it.
    #[error("a message is dropped that names {named} as its sender, but {from} sent it")]
    OtherSender {
        /// Who is named.
        named: NodeId,
        /// Who sent it.
        from: NodeId,
    },
}

/// What every version says in the same place.
#[derive(serde::Deserialize)]
struct Head {
    major: u16,
}

impl Message {
    /// As it goes out.
    ///
    /// # Errors
    /// It is too long; nothing that this daemon says is.
    pub fn written(&self) -> Result<Vec<u8>, MessageError> {
        let bytes =
            serde_json::to_vec(self).map_err(|error| MessageError::Garbled(error.to_string()))?;
        match bytes.len() <= LONGEST {
            true => Ok(bytes),
            false => Err(MessageError::Long(bytes.len())),
        }
    }

    /// What came in from a node.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn read(from: NodeId, bytes: &[u8]) -> Result<Message, MessageError> {
        if bytes.len() > LONGEST {
            return Err(MessageError::Long(bytes.len()));
        }
        let garbled = |error: serde_json::Error| MessageError::Garbled(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(garbled)?;
        if head.major != MAJOR {
            return Err(MessageError::OtherMajor(head.major));
        }
        let message: Message = serde_json::from_slice(bytes).map_err(garbled)?;
        if message.from != from {
            let named = message.from;
            return Err(MessageError::OtherSender { named, from });
        }
        if message.number >= MOST {
            return Err(MessageError::Garbled("a place that no message has".into()));
        }
        message.said.plausible().map(|()| message)
    }
}

impl Said {
    /// Could a daemon say this?
    fn plausible(&self) -> Result<(), MessageError> {
        let epoch = match self {
            Said::Holds(holds) => holds.held.iter().map(|part| part.epoch).max(),
            Said::Claims { epoch, .. } | Said::Took { epoch, .. } => Some(*epoch),
            _ => None,
        };
        if epoch.is_some_and(|epoch| epoch >= MOST) {
            return Err(MessageError::Garbled(
                "an epoch that nothing has reached".into(),
            ));
        }
        let description = match self {
            Said::Holds(holds) => &holds.description,
            Said::Claims { description, .. } | Said::Took { description, .. } => description,
            _ => return Ok(()),
        };
        match description.len() <= LONGEST_DESCRIPTION && description.is_ascii() {
            true => Ok(()),
            false => Err(MessageError::Garbled(
                "a description that is no digest".into(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FROM: NodeId = NodeId(2);

    fn a_message(said: Said) -> Message {
        Message {
            major: MAJOR,
            minor: MINOR,
            gathering: GatheringId(u64::MAX),
            from: FROM,
            number: 1,
            said,
        }
    }

    fn any_buckets() -> impl Strategy<Value = BucketSet> {
        prop::collection::btree_set(0u16..1024, 1..40).prop_map(|set| set.into_iter().collect())
    }

    fn any_said() -> impl Strategy<Value = Said> {
        let vip = || {
            prop_oneof![
                any::<[u8; 4]>().prop_map(IpAddr::from),
                any::<[u8; 16]>().prop_map(IpAddr::from)
            ]
        };
        let part = (any_buckets(), 0..MOST, prop::option::of(any::<u64>())).prop_map(
            |(buckets, epoch, ends_ms)| Part {
                buckets,
                epoch,
                ends_ms,
            },
        );
        prop_oneof![
            Just(Said::Whole),
            (
                vip(),
                "[0-9a-f]{16}",
                prop::collection::vec(part, 0..4),
                prop::option::of(any_buckets()),
                prop::option::of(any::<u32>())
            )
                .prop_map(|(vip, description, held, drains, confirms)| Said::Holds(
                    Holds {
                        vip,
                        description,
                        held,
                        open: drains.clone().unwrap_or_default(),
                        drains: drains.unwrap_or_default(),
                        confirms: confirms.map(NodeId).into_iter().collect(),
                    }
                )),
            (vip(), any_buckets()).prop_map(|(vip, buckets)| Said::Offers { vip, buckets }),
            (vip(), "[0-9a-f]{16}", any_buckets(), 0..MOST).prop_map(
                |(vip, description, buckets, epoch)| Said::Claims {
                    vip,
                    description,
                    buckets,
                    epoch
                }
            ),
            (vip(), any_buckets(), any::<bool>()).prop_map(|(vip, buckets, drains)| {
                Said::Releases {
                    vip,
                    buckets,
                    drains,
                }
            }),
            (vip(), "[0-9a-f]{16}", any_buckets(), 0..MOST).prop_map(
                |(vip, description, buckets, epoch)| Said::Took {
                    vip,
                    description,
                    buckets,
                    epoch
                }
            ),
            (vip(), any_buckets()).prop_map(|(vip, buckets)| Said::Drained { vip, buckets }),
        ]
    }

    #[test]
    fn a_message_is_one_that_a_person_can_read() {
        let message = a_message(Said::Claims {
            vip: [10, 0, 0, 99].into(),
            description: "9f2c".into(),
            buckets: "0,3-5".parse().expect("a set"),
            epoch: 7,
        });
        let text = String::from_utf8(message.written().expect("short")).expect("text");
        assert_eq!(
            text,
            r#"{"major":1,"minor":0,"gathering":18446744073709551615,"from":2,"number":1,"say":"claims","#
                .to_owned()
                + r#""vip":"10.0.0.99","description":"9f2c","buckets":"0,3-5","epoch":7}"#
        );
    }

    #[test]
    fn a_newer_minor_may_say_more_and_a_newer_major_nothing() {
        let newer =
            br#"{"major":1,"minor":9,"gathering":1,"from":2,"number":3,"say":"sings","song":[1]}"#;
        let message = Message::read(FROM, newer).expect("it is passed over");
        assert_eq!(message.said, Said::Unknown);
        let more = br#"{"major":1,"minor":9,"gathering":1,"from":2,"number":3,"say":"whole","mood":"fine"}"#;
        assert_eq!(Message::read(FROM, more).expect("known").said, Said::Whole);
        let other = br#"{"major":2,"whatever":{}}"#;
        let error = Message::read(FROM, other).expect_err("another major");
        assert_eq!(error, MessageError::OtherMajor(2));
        assert!(error.to_string().contains("same major version"), "{error}");
    }

    #[test]
    fn what_is_no_message_is_dropped_with_a_reason() {
        let said = |text: &str| {
            Message::read(FROM, text.as_bytes())
                .expect_err(text)
                .to_string()
        };
        for text in [
            "",
            "{}",
            "[]",
            "7",
            "\u{0}",
            r#"{"major":1}"#,
            r#"{"major":-1}"#,
        ] {
            assert!(said(text).contains("none"), "{text}");
        }
        let with = |fields: &str| {
            said(&format!(
                r#"{{"major":1,"minor":0,"gathering":1,"from":2,"number":1,{fields}}}"#
            ))
        };
        for fields in [
            r#""say":"drained","vip":"10.0.0.99","buckets":"1024""#,
            r#""say":"drained","vip":"10.0.0.99","buckets":"none""#,
            r#""say":"drained","vip":"10.0.0","buckets":"1""#,
            r#""say":"holds","vip":"10.0.0.99","description":"\u00e4","held":[]"#,
        ] {
            assert!(with(fields).contains("none"), "{fields}");
        }
        let another = r#"{"major":1,"minor":0,"gathering":1,"from":3,"number":1,"say":"whole"}"#;
        assert!(said(another).contains("names node 3"), "{}", said(another));
        let long = vec![b' '; LONGEST + 1];
        let error = Message::read(FROM, &long).expect_err("too long");
        assert_eq!(error, MessageError::Long(LONGEST + 1));
    }

    #[test]
    fn the_longest_that_is_said_goes_into_a_message() {
        let part = |bucket| Part {
            buckets: BucketSet::one(bucket),
            epoch: MOST - 1,
            ends_ms: Some(5_000),
        };
        let said = Said::Holds(Holds {
            vip: [0xfd; 16].into(),
            description: "f".repeat(LONGEST_DESCRIPTION),
            held: (0..1024).map(part).collect(),
            drains: (0..1024).collect(),
            open: (0..1024).collect(),
            confirms: BTreeSet::new(),
        });
        assert!(a_message(said).written().is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(said in any_said()) {
            let message = a_message(said);
            let bytes = message.written().expect("short");
            prop_assert_eq!(Message::read(FROM, &bytes), Ok(message));
        }

        #[test]
        fn nothing_that_comes_in_ends_the_daemon(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::read(FROM, &bytes);
        }

        #[test]
        fn nor_does_a_damaged_message(said in any_said(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = a_message(said).written().expect("short");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Message::read(FROM, &bytes);
        }
    }
}
