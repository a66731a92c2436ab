//! The thin shell around the plan: lock, look, do, look again.

pub mod agreement;
pub mod announce;
pub mod apply;
pub mod calling;
pub mod cautions;
pub mod daemon;
pub mod features;
pub mod lock;
pub mod observe;
pub mod oracle;
pub mod place;
pub mod reach;
pub mod second_lock;
pub mod surroundings;
pub mod sweeper;
pub mod together;
pub mod turns;
