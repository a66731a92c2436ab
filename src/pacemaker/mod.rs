//! What Pacemaker knows: the operations that nodes have done. Read, never written.
//!
//! | module | what lives there |
//! |---|---|
//! | `query` | the one program that the agent starts: `cibadmin`, and its deadline |
//! | `history` | what the answer means: who drains a bucket. Pure |

pub mod history;
pub mod query;
