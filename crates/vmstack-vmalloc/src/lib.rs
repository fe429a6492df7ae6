//! A vmalloc for any kernel.
#![cfg_attr(not(test), no_std)]

mod error;
mod info;
mod pager;
mod request;
mod tag;

pub use error::{AreaError, FreeError, InitError};
pub use info::{AreaInfo, Found};
pub use pager::Pager;
pub use request::{Kind, Request};
pub use tag::Tag;
