//! The plain CPU.
