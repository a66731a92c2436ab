//! What of libcpg, libquorum and libcmap is used, as their headers declare it (`corosync/cpg.h`, `quorum.h`, `cmap.h` of
//! 3.1). Declarations only.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `cs_error_t`.
pub(super) type Code = c_uint;

pub(super) const CS_OK: Code = 1;
pub(super) const CS_ERR_LIBRARY: Code = 2;
pub(super) const CS_ERR_TRY_AGAIN: Code = 6;
pub(super) const CS_ERR_BAD_HANDLE: Code = 9;
pub(super) const CS_ERR_ACCESS: Code = 11;
pub(super) const CS_ERR_NOT_EXIST: Code = 12;
pub(super) const CS_ERR_NO_SECTIONS: Code = 27;
pub(super) const CS_ERR_SECURITY: Code = 100;

/// `cs_dispatch_flags_t`.
pub(super) const CS_DISPATCH_ONE_NONBLOCKING: c_uint = 4;
pub(super) const CS_TRACK_CHANGES: c_uint = 2;

/// `cpg_handle_t`, `quorum_handle_t`, `cmap_handle_t` and `cmap_iter_handle_t`.
pub(super) type Handle = u64;

pub(super) const CPG_MODEL_V1: c_uint = 1;
pub(super) const CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF: c_uint = 1;
pub(super) const CPG_TYPE_AGREED: c_uint = 2;
pub(super) const CPG_MAX_NAME_LENGTH: usize = 128;
pub(super) const QUORUM_MODEL_V1: c_uint = 1;
pub(super) const CMAP_KEYNAME_MAXLEN: usize = 255;
pub(super) const CMAP_VALUETYPE_STRING: c_uint = 11;

/// `struct cpg_name`.
#[repr(C)]
pub(super) struct CpgName {
    pub(super) length: u32,
    pub(super) value: [u8; CPG_MAX_NAME_LENGTH],
}

/// `struct cpg_address`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CpgAddress {
    pub(super) nodeid: u32,
    pub(super) pid: u32,
    pub(super) reason: u32,
}

/// `struct cpg_ring_id` and `struct quorum_ring_id`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct RingId {
    pub(super) nodeid: u32,
    pub(super) seq: u64,
}

/// `cpg_model_v1_data_t`.
#[repr(C)]
pub(super) struct CpgModelV1Data {
    pub(super) model: c_uint,
    pub(super) deliver: extern "C" fn(Handle, *const CpgName, u32, u32, *mut c_void, usize),
    pub(super) confchg: extern "C" fn(
        Handle,
        *const CpgName,
        *const CpgAddress,
        usize,
        *const CpgAddress,
        usize,
        *const CpgAddress,
        usize,
    ),
    pub(super) totem_confchg: extern "C" fn(Handle, RingId, u32, *const u32),
    pub(super) flags: c_uint,
}

/// `quorum_model_v1_data_t`.
#[repr(C)]
pub(super) struct QuorumModelV1Data {
    pub(super) model: c_uint,
    pub(super) quorum: extern "C" fn(Handle, u32, RingId, u32, *const u32),
    /// `quorum_v1_nodelist_notification_fn_t`, which is not used.
    pub(super) nodelist: *const c_void,
}

#[link(name = "cpg")]
unsafe extern "C" {
    pub(super) fn cpg_model_initialize(
        handle: *mut Handle,
        model: c_uint,
        data: *mut CpgModelV1Data,
        context: *mut c_void,
    ) -> Code;
    pub(super) fn cpg_finalize(handle: Handle) -> Code;
    pub(super) fn cpg_fd_get(handle: Handle, fd: *mut c_int) -> Code;
    pub(super) fn cpg_max_atomic_msgsize_get(handle: Handle, size: *mut u32) -> Code;
    pub(super) fn cpg_context_get(handle: Handle, context: *mut *mut c_void) -> Code;
    pub(super) fn cpg_local_get(handle: Handle, nodeid: *mut c_uint) -> Code;
    pub(super) fn cpg_dispatch(handle: Handle, how: c_uint) -> Code;
    pub(super) fn cpg_join(handle: Handle, group: *const CpgName) -> Code;
    pub(super) fn cpg_mcast_joined(
        handle: Handle,
        guarantee: c_uint,
        parts: *const libc::iovec,
        count: c_uint,
    ) -> Code;
}

#[link(name = "quorum")]
unsafe extern "C" {
    pub(super) fn quorum_model_initialize(
        handle: *mut Handle,
        model: c_uint,
        data: *mut QuorumModelV1Data,
        kind: *mut u32,
        context: *mut c_void,
    ) -> Code;
    pub(super) fn quorum_finalize(handle: Handle) -> Code;
    pub(super) fn quorum_fd_get(handle: Handle, fd: *mut c_int) -> Code;
    pub(super) fn quorum_context_get(handle: Handle, context: *mut *const c_void) -> Code;
    pub(super) fn quorum_dispatch(handle: Handle, how: c_uint) -> Code;
    pub(super) fn quorum_trackstart(handle: Handle, flags: c_uint) -> Code;
}

#[link(name = "cmap")]
unsafe extern "C" {
    pub(super) fn cmap_initialize(handle: *mut Handle) -> Code;
    pub(super) fn cmap_finalize(handle: Handle) -> Code;
    pub(super) fn cmap_get(
        handle: Handle,
        key: *const c_char,
        value: *mut c_void,
        length: *mut usize,
        kind: *mut c_uint,
    ) -> Code;
    pub(super) fn cmap_iter_init(handle: Handle, prefix: *const c_char, iter: *mut Handle) -> Code;
    pub(super) fn cmap_iter_next(
        handle: Handle,
        iter: Handle,
        key: *mut c_char,
        length: *mut usize,
        kind: *mut c_uint,
    ) -> Code;
    pub(super) fn cmap_iter_finalize(handle: Handle, iter: Handle) -> Code;
}
