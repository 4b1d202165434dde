//! The queue directory and its protocol.

pub mod ids;
pub mod record;
