//! What the daemon is asked for. Pure.

use super::line::{LONGEST_REQUEST, LineError, read, write};
use crate::model::bucket::BucketCount;
use crate::model::untrusted::Untrusted;
use crate::model::vip::LONGEST_DRAIN_S;
use std::net::IpAddr;

/// The longest description of a VIP, in bytes: it is said as a digest.
const LONGEST_DESCRIPTION: usize = 128;
/// The longest name of a node: no host has a longer one (`HOST_NAME_MAX` is 64, a whole domain name has 255).
const LONGEST_NAME: usize = 255;
/// The longest that a bucket drains, in milliseconds.
const LONGEST_MS: u64 = LONGEST_DRAIN_S as u64 * 1000;

/// What the daemon is asked for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Request {
    /// Pacemaker starts a bucket here; everything but the bucket itself is installed.
    Start {
        /// The VIP.
        vip: IpAddr,
        /// The digest of its description.
        description: String,
        /// The bucket.
        bucket: u16,
        /// When the agent was called, in milliseconds of the kernel's `CLOCK_BOOTTIME`.
        called_ms: u64,
        /// How long another node may drain the bucket, in milliseconds; 0: nobody does.
        adopt_ms: u64,
    },
    /// Pacemaker stops a bucket here.
    Stop {
        /// The VIP.
        vip: IpAddr,
        /// The bucket.
        bucket: u16,
        /// The node where it starts then, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Untrusted>,
        /// How long its connections may stay here, in milliseconds; 0 cuts them.
        drain_ms: u64,
    },
    /// What the daemon knows of the cluster.
    View,
    /// The same, and then what happens, as it happens.
    Watch,
    /// What was counted, for Prometheus.
    Metrics,
    /// Something that a newer minor version asks for.
    #[serde(other)]
    Unknown,
}

impl Request {
    /// As it goes out.
    ///
    /// # Errors
    /// It is too long; nothing that is asked for is.
    pub fn line(&self) -> Result<String, LineError> {
        write(self, LONGEST_REQUEST)
    }

    /// What came in.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn read(line: &[u8]) -> Result<Request, LineError> {
        let request: Request = read(line, LONGEST_REQUEST)?;
        request.plausible().map(|()| request)
    }

    /// Is something to be done, and not only told?
    pub fn is_order(&self) -> bool {
        matches!(self, Request::Start { .. } | Request::Stop { .. })
    }

    /// Could an agent ask for this?
    fn plausible(&self) -> Result<(), LineError> {
        let (bucket, ms) = match self {
            Request::Start {
                bucket, adopt_ms, ..
            } => (*bucket, *adopt_ms),
            Request::Stop {
                bucket, drain_ms, ..
            } => (*bucket, *drain_ms),
            _ => return Ok(()),
        };
        let wrong = |what: &str| Err(LineError::Garbled(what.to_owned()));
        if bucket >= BucketCount::MAX {
            return wrong("a bucket that no VIP has");
        }
        if ms > LONGEST_MS {
            return wrong("connections that stay for more than a day");
        }
        match self {
            Request::Start { description, .. } if !is_digest(description) => {
                wrong("a description that is no digest")
            }
            Request::Stop { to: Some(to), .. } if to.raw().len() > LONGEST_NAME => {
                wrong("a name that is too long for a node")
            }
            _ => Ok(()),
        }
    }
}

fn is_digest(text: &str) -> bool {
    let known = 1..=LONGEST_DESCRIPTION;
    known.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn a_start() -> Request {
        Request::Start {
            vip: [10, 0, 0, 99].into(),
            description: "9f2c".into(),
            bucket: 7,
            called_ms: 81_000,
            adopt_ms: 300_000,
        }
    }

    fn any_request() -> impl Strategy<Value = Request> {
        let vip = || {
            prop_oneof![
                any::<[u8; 4]>().prop_map(IpAddr::from),
                any::<[u8; 16]>().prop_map(IpAddr::from)
            ]
        };
        let ms = 0..=LONGEST_MS;
        let start = (vip(), "[0-9a-f]{16}", 0u16..1024, any::<u64>(), ms.clone());
        let name = prop::option::of(any::<String>().prop_filter("a name", |name| name.len() < 255));
        prop_oneof![
            start.prop_map(|(vip, description, bucket, called_ms, adopt_ms)| {
                Request::Start {
                    vip,
                    description,
                    bucket,
                    called_ms,
                    adopt_ms,
                }
            }),
            (vip(), 0u16..1024, name, ms).prop_map(|(vip, bucket, to, drain_ms)| Request::Stop {
                vip,
                bucket,
                to: to.map(Untrusted::from),
                drain_ms,
            }),
            Just(Request::View),
            Just(Request::Watch),
            Just(Request::Metrics),
        ]
    }

    #[test]
    fn a_request_is_one_that_a_person_can_write() {
        let line = a_start().line().expect("short");
        assert_eq!(
            line,
            r#"{"major":1,"minor":0,"ask":"start","vip":"10.0.0.99","description":"9f2c","bucket":7,"#
                .to_owned()
                + "\"called_ms\":81000,\"adopt_ms\":300000}\n"
        );
        let view = br#"{"ask":"view","major":1}"#;
        assert_eq!(Request::read(view), Ok(Request::View));
    }

    #[test]
    fn a_newer_minor_may_ask_for_more_and_a_newer_major_for_nothing() {
        let newer = br#"{"major":1,"minor":9,"ask":"sing","song":[1]}"#;
        assert_eq!(Request::read(newer), Ok(Request::Unknown));
        let more = br#"{"major":1,"minor":9,"ask":"view","deep":true}"#;
        assert_eq!(Request::read(more), Ok(Request::View));
        let error = Request::read(br#"{"major":2,"whatever":{}}"#).expect_err("another major");
        assert_eq!(error, LineError::OtherMajor(2));
        assert!(error.to_string().contains("one version"), "{error}");
    }

    #[test]
    fn what_no_agent_asks_for_is_refused() {
        let said = |text: &str| {
            let error = Request::read(text.as_bytes()).expect_err(text);
            assert!(matches!(error, LineError::Garbled(_)), "{text}: {error}");
        };
        let others = ["", "{}", "[]", "7", "\u{0}", r#"{"major":1}"#];
        others.into_iter().for_each(said);
        let start = |field: &str, value: &str| {
            let line = a_start().line().expect("short");
            let (before, after) = line.split_once(&format!(r#""{field}":"#)).expect(field);
            let rest = after.find([',', '}']).map(|end| &after[end..]);
            said(&format!(
                r#"{before}"{field}":{value}{}"#,
                rest.unwrap_or_default()
            ));
        };
        start("vip", r#""10.0.0""#);
        start("bucket", "1024");
        start("bucket", "-1");
        start("adopt_ms", "86400001");
        start("description", r#""""#);
        start("description", r#""a\n""#);
        start("description", &format!("\"{}\"", "f".repeat(129)));
        let name = "n".repeat(256);
        said(&format!(
            r#"{{"major":1,"ask":"stop","vip":"10.0.0.99","bucket":1,"to":"{name}","drain_ms":0}}"#
        ));
        let long = Request::read(&vec![b' '; LONGEST_REQUEST + 1]);
        assert_eq!(long, Err(LineError::Long(LONGEST_REQUEST)));
    }

    proptest! {
        #[test]
        fn what_is_asked_is_understood(request in any_request()) {
            let line = request.line().expect("short");
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert_eq!(Request::read(line.as_bytes()), Ok(request));
        }

        #[test]
        fn nothing_that_comes_in_ends_the_daemon(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::read(&bytes);
        }

        #[test]
        fn nor_does_a_damaged_request(request in any_request(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = request.line().expect("short").into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Request::read(&bytes);
        }
    }
}
