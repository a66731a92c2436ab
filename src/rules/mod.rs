//! What should be: what the kernel is told for a VIP, in words that read like sentences. Pure; it knows the model alone.
//!
//! | module | which rules are there for |
//! |---|---|
//! | [`dataplane`] | the whole of it: all tables, and the dispatch on VIPs |
//! | `ingress` | what comes in: by bucket, ICMP errors |
//! | `fragments` | what comes in fragments |
//! | `tagged` | what comes in with the tag of a VLAN |
//! | `neighbours` | ARP, neighbour discovery, and the probes that need no answer |
//! | [`stealth`] | what comes to a MAC that is no interface's own |
//! | [`handover`] | buckets that daemons hand over |
//! | [`leaving`] | buckets that close or drain |
//! | [`adopting`] | buckets that are adopted, orphans, what is left of connections |
//! | [`guard`] | what nft has loaded from a file |
//! | [`addressing`] | not a rule: how the address stands, the way to its network, who needs a membership |
//! | [`features`] | what all that needs of a kernel |
//! | [`names`] | what chains, sets and keys are called |
//! | `sentence`, `connection_words`, `fragment_words`, `neighbour_words` | the vocabulary |

pub mod addressing;
pub mod adopting;
mod connection_words;
pub mod dataplane;
pub mod features;
mod fragment_words;
mod fragments;
pub mod guard;
pub mod handover;
mod ingress;
pub mod leaving;
pub mod names;
mod neighbour_words;
mod neighbours;
pub(crate) mod sentence;
pub mod stealth;
mod tagged;
