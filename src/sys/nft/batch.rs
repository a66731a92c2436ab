//! Joining our messages into libnftnl's batches. With `expr` the only `unsafe` of this module.

#![allow(unsafe_code)]

use nftnl::{MsgType, NlMsg};
use std::ffi::c_void;

/// A message that is already encoded, but for its sequence number.
pub(super) struct Encoded(pub(super) Vec<u8>);

// SAFETY: `write` never writes more than `nft_nlmsg_maxsize()` bytes, which is what the trait asks.
unsafe impl NlMsg for Encoded {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, _: MsgType) {
        let mut message = self.0.clone();
        message.truncate(nftnl::nft_nlmsg_maxsize() as usize);
        if let Some(field) = message.get_mut(8..12) {
            field.copy_from_slice(&seq.to_ne_bytes());
        }
        // SAFETY: the caller promises room for the largest message, and `message` is not longer;
        // the two do not overlap, for `message` was just allocated.
        unsafe { std::ptr::copy_nonoverlapping(message.as_ptr(), buf.cast::<u8>(), message.len()) };
    }
}
