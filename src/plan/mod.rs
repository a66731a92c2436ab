//! From what is asked and what is found to what is to be done, in order. Pure: everything here is
//! data in, data out, and tested without a kernel.

pub mod addressing;
pub mod adopting;
pub mod before;
mod connection_words;
pub mod dataplane;
pub mod diff;
pub mod explain;
pub mod features;
mod fragment_words;
pub mod going;
pub mod guard;
pub mod health;
mod ingress;
pub mod installed;
pub mod leaving;
pub mod names;
mod older;
pub mod removal;
mod sentence;
pub mod stale;
pub mod steps;
mod tagged;

#[cfg(test)]
mod interruptions;
#[cfg(test)]
mod kernel_addresses;
#[cfg(test)]
mod kernel_rules;
#[cfg(test)]
mod mirrored;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod side_by_side;
