//! Options that several commands share.

pub(crate) mod cache;
pub(crate) mod device;
pub(crate) mod grammar;
pub(crate) mod model;
pub(crate) mod prompt;
pub(crate) mod sampling;
pub(crate) mod speculate;
