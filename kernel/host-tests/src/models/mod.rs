//! Models of what CPUs do at the same time, checked by loom in every order, and with every value that a load may see.
//!
//! The protocols' files are the kernel's own, included twice: with loom's atomics, and with a fence that does nothing. The models pass
//! with the one and fail with the other, so they would notice.

mod epochs;
mod flags;
mod rcu;
mod sound;
mod unfenced;
