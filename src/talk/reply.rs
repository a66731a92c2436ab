//! What the daemon answers. Pure.

use super::event::Event;
use super::line::{LONGEST_REPLY, LineError, read, write};
use super::view::View;
use crate::model::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum Reply {
    /// What has come of a bucket that was started or stopped.
    Answer {
        /// What.
        answer: Answer,
    },
    /// What the daemon knows of the cluster.
    View(View),
    /// Something has happened there.
    Event(Event),
    /// What was counted, in Prometheus' text format.
    Metrics {
        /// The text.
        text: String,
    },
    /// What was asked for is not done.
    Error {
        /// Why.
        error: Refusal,
        /// The same for people.
        sentence: Untrusted,
    },
    /// Something that a newer minor version says.
    #[serde(other)]
    Unknown,
}

/// What an agent is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The bucket is owned here.
    Owned,
    /// The bucket is as good as gone: whoever claims it gets it.
    Left,
    /// The daemon does nothing here: the agent is to do it.
    Alone,
    /// Another node has the bucket and has not been told to stop it.
    Kept,
    /// Another node has the VIP under another description.
    Unlike,
    /// The kernel was told and did not do it.
    Failed,
}

/// Why the daemon does not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// The request was too long or not to be understood.
    Garbled,
    /// The request was of another version, or for something that this one does not do.
    Version,
    /// Only root may ask for that.
    Denied,
    /// Too many ask at once.
    Busy,
    /// No request came in time.
    Idle,
    /// The daemon ends, or cannot answer.
    Ends,
    /// Something that a newer minor version says.
    #[serde(other)]
    Other,
}

impl Reply {
    /// As it goes out.
    ///
    /// # Errors
    /// It is too long.
    pub fn line(&self) -> Result<String, LineError> {
        write(self, LONGEST_REPLY)
    }

    /// What came in.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn read(line: &[u8]) -> Result<Reply, LineError> {
        read(line, LONGEST_REPLY)
    }

    /// A refusal, and the same for people.
    pub fn refuse(error: Refusal, sentence: impl ToString) -> Reply {
        let sentence = sentence.to_string().into();
        Reply::Error { error, sentence }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::event::{Of, What};
    use super::super::view::{Alarm, Holding, Member, Node, OfVip};
    use super::*;
    use crate::model::bucket::BucketSet;
    use crate::model::untrusted::tests::{NASTY, forbidden_in};
    use proptest::prelude::*;
    use std::net::IpAddr;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 99));

    fn set(text: &str) -> BucketSet {
        text.parse().unwrap_or_default()
    }

    fn node(id: u32) -> Node {
        let name = (id < 9).then(|| format!("n{id}").into());
        Node { id, name }
    }

    fn members() -> Vec<Member> {
        let member = |id| Member {
            node: node(id),
            version: (id == 1).then(|| "0.1.0".into()),
            heard: id == 1,
        };
        vec![member(1), member(9)]
    }

    fn holding(id: u32, owned: &str, draining: &str) -> Holding {
        Holding {
            node: node(id),
            description: "9f2c".into(),
            owned: set(owned),
            offered: set(draining),
            adopting: BucketSet::default(),
            draining: set(draining),
        }
    }

    pub(crate) fn a_view() -> View {
        View {
            here: node(1),
            version: "0.1.0".into(),
            quorate: Some(true),
            members: members(),
            vips: vec![OfVip {
                vip: VIP,
                buckets: Some(12),
                nodes: vec![holding(1, "0-5", ""), holding(9, "6-10", "1,3")],
                alarms: vec![Alarm::Nowhere { buckets: set("11") }],
            }],
        }
    }

    pub(crate) fn an_event() -> Event {
        let (vip, buckets, node) = (VIP, set("3-5"), node(2));
        Event {
            at_ms: 1_764_439_200_123,
            what: What::Takes(Of { vip, buckets, node }),
        }
    }

    /// One of each.
    pub(crate) fn all() -> Vec<Reply> {
        let of = |id| Of {
            vip: VIP,
            buckets: set("7"),
            node: node(id),
        };
        let alarms = [
            Alarm::Twice {
                buckets: set("1,3"),
                nodes: vec![node(1), node(9)],
            },
            Alarm::Nowhere { buckets: set("1") },
            Alarm::Unlike {
                node: node(2),
                description: "77".into(),
            },
        ];
        let alarms = alarms.into_iter().flat_map(|alarm| {
            let vip = VIP;
            let again = alarm.clone();
            [What::Alarm { vip, alarm }, What::Over { vip, alarm: again }]
        });
        let (vip, what) = (VIP, "table netdev clusterip".into());
        let whats = [
            What::Members {
                quorate: None,
                members: members(),
            },
            What::Members {
                quorate: Some(false),
                members: Vec::new(),
            },
            What::Alone,
            What::Offers(of(1)),
            What::Claims(of(2)),
            What::Releases(of(9)),
            What::Takes(of(2)),
            What::Drained(of(1)),
            What::Mended {
                vip,
                what,
                by: Some("nft".into()),
            },
            What::Unmended {
                vip,
                what: "address".into(),
                by: None,
            },
        ];
        let events = whats.into_iter().chain(alarms);
        let events = events.map(|what| Reply::Event(Event { at_ms: 7, what }));
        let answers = [
            Answer::Owned,
            Answer::Left,
            Answer::Alone,
            Answer::Kept,
            Answer::Unlike,
            Answer::Failed,
        ];
        let text = "# TYPE a counter\na{vip=\"10.0.0.99\"} 1\n".to_owned();
        let others = [
            Reply::View(a_view()),
            Reply::Metrics { text },
            Reply::refuse(Refusal::Denied, "only root may"),
        ];
        let answers = answers.map(|answer| Reply::Answer { answer });
        others.into_iter().chain(answers).chain(events).collect()
    }

    #[test]
    fn whatever_is_answered_is_one_line_that_is_understood() {
        for reply in all() {
            let line = reply.line().expect("short");
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(Reply::read(line.as_bytes()), Ok(reply), "{line}");
        }
    }

    #[test]
    fn a_view_is_written_so() {
        let line = Reply::View(a_view()).line().expect("short");
        assert_eq!(
            line,
            r#"{"major":1,"minor":0,"say":"view","here":{"id":1,"name":"n1"},"version":"0.1.0","#
                .to_owned()
                + r#""quorate":true,"members":[{"id":1,"name":"n1","version":"0.1.0","heard":true},"#
                + r#"{"id":9,"heard":false}],"vips":[{"vip":"10.0.0.99","buckets":12,"#
                + r#""nodes":[{"id":1,"name":"n1","description":"9f2c","owned":"0-5"},"#
                + r#"{"id":9,"description":"9f2c","owned":"6-10","offered":"1,3","draining":"1,3"}],"#
                + r#""alarms":[{"kind":"nowhere","buckets":"11"}]}]}"#
                + "\n"
        );
    }

    #[test]
    fn an_event_is_written_so_and_told_in_a_sentence() {
        let event = an_event();
        assert_eq!(
            event.what.to_string(),
            "10.0.0.99: n2 has taken buckets 3-5"
        );
        let line = Reply::Event(event).line().expect("short");
        assert_eq!(
            line,
            r#"{"major":1,"minor":0,"say":"event","at_ms":1764439200123,"event":"takes","vip":"10.0.0.99","#
                .to_owned()
                + r#""buckets":"3-5","node":{"id":2,"name":"n2"}}"#
                + "\n"
        );
    }

    #[test]
    fn every_event_has_a_sentence_of_its_own() {
        let sentences: Vec<String> = all()
            .into_iter()
            .filter_map(|reply| match reply {
                Reply::Event(event) => Some(event.what.to_string()),
                _ => None,
            })
            .collect();
        let different: std::collections::BTreeSet<&String> = sentences.iter().collect();
        assert_eq!(different.len(), sentences.len(), "{sentences:?}");
        let has = |words: &str| sentences.iter().any(|sentence| sentence == words);
        assert!(has(
            "10.0.0.99: table netdev clusterip was taken away by nft, and is there again"
        ));
        assert!(has("10.0.0.99: buckets 1,3: n1 and node 9 answer"));
        assert!(has("daemons hear each other on n1, node 9"));
    }

    #[test]
    fn names_of_others_obey_no_terminal() {
        let mut event = an_event();
        if let What::Takes(of) = &mut event.what {
            of.node.name = Some(NASTY.into());
        }
        let told = event.what.to_string();
        assert_eq!(forbidden_in(&told), None, "{told:?}");
    }

    #[test]
    fn a_newer_minor_may_say_more() {
        let read = |text: &str| Reply::read(text.as_bytes()).expect(text);
        let unknown = read(r#"{"major":1,"minor":4,"say":"sings","song":[1]}"#);
        assert_eq!(unknown, Reply::Unknown);
        let event =
            read(r#"{"major":1,"minor":4,"say":"event","at_ms":7,"event":"rains","vip":"::1"}"#);
        let what = What::Unknown;
        assert_eq!(event, Reply::Event(Event { at_ms: 7, what }));
        let error = read(r#"{"major":1,"minor":4,"say":"error","error":"mood","sentence":"no"}"#);
        assert_eq!(error, Reply::refuse(Refusal::Other, "no"));
        let alarm = read(
            r#"{"major":1,"minor":4,"say":"event","at_ms":7,"event":"alarm","vip":"::1","alarm":{"kind":"x","y":1}}"#,
        );
        let what = What::Alarm {
            vip: "::1".parse().expect("an address"),
            alarm: Alarm::Unknown,
        };
        assert_eq!(alarm, Reply::Event(Event { at_ms: 7, what }));
    }

    proptest! {
        #[test]
        fn nothing_that_a_daemon_says_ends_the_agent(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Reply::read(&bytes);
        }

        #[test]
        fn nor_does_a_damaged_answer(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = which.get(&all()).line().expect("short").into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Reply::read(&bytes);
        }
    }
}
