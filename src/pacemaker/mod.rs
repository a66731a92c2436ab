//! What Pacemaker knows: the operations that nodes have done, and what runs where. Read, never written.
//!
//! | module | what lives there |
//! |---|---|
//! | `query` | the programs that are started: `cibadmin` and `crm_mon`; their deadline |
//! | `history` | what the CIB's status means: who drains a bucket. Pure |
//! | `clocks` | whether the clocks of nodes agree. Pure |
//! | `status` | the nodes in the CIB's status, and what they have done. Pure |
//! | `cluster` | which node runs which instances. Pure |
//! | `configured` | the parameters of shared addresses, wherever in the CIB they stand. Pure |
//! | `twins` | resources that are to share one address. Pure |
//! | `pressing` | what a gate that waits must not delay. Pure |
//! | `wish` | what is wished of a configuration for a shared address. Pure |
//! | `configuration` | the resources and rules that follow from it, as data. Pure |
//! | `crm`, `pcs` | the same in the words of either program. Pure |
//! | `ipaddr2` | the predecessors' agent: which of the two it is, and what of it means nothing here. Pure |
//! | `migration` | from its configuration to ours. Pure |
//! | `remarks` | what the reader of a configuration has to look at himself. Pure |

pub mod clocks;
pub mod cluster;
pub mod configuration;
mod configured;
pub mod crm;
pub mod history;
pub mod ipaddr2;
pub mod migration;
pub mod pcs;
pub mod pressing;
pub mod query;
mod remarks;
mod status;
pub mod twins;
pub mod wish;
