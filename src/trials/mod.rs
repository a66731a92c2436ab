//! Models that judge the product, and the trials that it stands: property tests over whole worlds. No product file
//! knows them; the lab replays the interleavings of [`cluster`] on real kernels.

pub mod cluster;
mod node;

#[cfg(test)]
mod daemons;
#[cfg(test)]
mod given_kernel;
#[cfg(test)]
mod handovers;
#[cfg(test)]
mod in_the_way;
#[cfg(test)]
mod interruptions;
#[cfg(test)]
mod kernel_addresses;
#[cfg(test)]
pub(crate) mod kernel_changes;
#[cfg(test)]
mod kernel_rules;
#[cfg(test)]
mod mirrored;
#[cfg(test)]
mod moving;
#[cfg(test)]
mod orphans;
#[cfg(test)]
mod pinned;
#[cfg(test)]
pub(crate) mod saved;
#[cfg(test)]
mod second_lock;
#[cfg(test)]
mod side_by_side;
#[cfg(test)]
mod tampered;
#[cfg(test)]
mod upgraded;
#[cfg(test)]
mod world;
