//! `out = a + scale * b`. See [`Op::Add`](crate::graph::Op::Add).

use super::rows::{Input, Output};

/// A scaled sum.
pub(super) struct Add<'a> {
    /// Taken as it is.
    pub a: Input<'a>,
    /// As wide as `a`; scaled.
    pub b: Input<'a>,
    /// Factor on `b`.
    pub scale: f32,
}

impl Add<'_> {
    /// The formula, row by row; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        out.fill(fast, |r, out| {
            for ((out, &a), &b) in out.iter_mut().zip(self.a.row(r)).zip(self.b.row(r)) {
                *out = a + self.scale * b;
            }
        });
    }
}
