//! The gated delta rule. See [`ops::GatedDelta`].
//!
//! The fast path gives each thread a value head of a span and walks the rows. It passes over the state twice
//! a row: once to read it through the key, once to change it and to read it through the query.

use super::math::softplus;
use super::memory::SlotStates;
use super::parallel;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::simd::{self, Kernel, Lanes, vectorised};
use super::spans::{SpanRows, Task, tasks};
use crate::backend::Result;
use crate::graph::Function;
use crate::graph::ops;

/// A scan over the rows of every span.
pub(super) struct GatedDelta<'a> {
    /// `[count, key_heads * key width]`, normed.
    pub q: Input<'a>,
    /// `[count, key_heads * key width]`, normed.
    pub k: Input<'a>,
    /// `[count, heads * value width]`
    pub v: Input<'a>,
    /// `[count, heads]`, before the sigmoid.
    pub beta: Input<'a>,
    /// `[count, heads]`, before bias and softplus.
    pub dt: Input<'a>,
    /// `[heads]`, negative.
    pub a: &'a [f32],
    /// `[heads]`
    pub dt_bias: &'a [f32],
    /// Factor on the queries.
    pub scale: f32,
    /// Value heads.
    pub heads: usize,
    /// Query and key heads.
    pub key_heads: usize,
}

/// What one head reads in one row.
struct Row<'a> {
    /// Factor on the state.
    decay: f32,
    /// How much of the error is corrected.
    beta: f32,
    /// `[key width]`
    q: &'a [f32],
    /// `[key width]`
    k: &'a [f32],
    /// `[value width]`
    v: &'a [f32],
}

impl<'a> GatedDelta<'a> {
    fn key_width(&self) -> usize {
        self.k.width / self.key_heads
    }

    fn value_width(&self) -> usize {
        self.v.width / self.heads
    }

    fn row(&self, row: usize, head: usize) -> Row<'a> {
        let (key, value) = (self.key_width(), self.value_width());
        let from = head / (self.heads / self.key_heads) * key;
        Row {
            decay: (self.a[head] * softplus(self.dt.row(row)[head] + self.dt_bias[head])).exp(),
            beta: Function::Sigmoid.apply(self.beta.row(row)[head]),
            q: &self.q.row(row)[from..][..key],
            k: &self.k.row(row)[from..][..key],
            v: &self.v.row(row)[head * value..][..value],
        }
    }

    /// The formula.
    pub fn reference(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
        let (key, value) = (self.key_width(), self.value_width());
        for span in spans {
            let state = states.of_mut(span.slot);
            for row in span.row..span.row + span.count {
                for h in 0..self.heads {
                    let Row { decay, beta, q, k, v } = self.row(row, h);
                    let state = &mut state[h * key * value..][..key * value];
                    for s in state.iter_mut() {
                        *s *= decay;
                    }
                    for j in 0..value {
                        let read: f64 = (0..key).map(|i| f64::from(state[i * value + j]) * f64::from(k[i])).sum();
                        let error = beta * (v[j] - read as f32);
                        for i in 0..key {
                            state[i * value + j] += k[i] * error;
                        }
                        let read: f64 = (0..key).map(|i| f64::from(state[i * value + j]) * f64::from(q[i])).sum();
                        out.row(row)[h * value + j] = self.scale * read as f32;
                    }
                }
            }
        }
    }

    /// The same in f32, in lanes and on all threads.
    pub fn fast(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
        let (key, value) = (self.key_width(), self.value_width());
        let cost = 4 * key * value * out.count / spans.len().max(1);
        parallel::for_each(tasks(spans, states, key * value, out, value), cost, |task| {
            vectorised(Head { rule: self, task });
        });
    }
}

/// One value head of one span.
struct Head<'a> {
    rule: &'a GatedDelta<'a>,
    /// State `[key width, value width]`, out `[rows][value width]`.
    task: Task<'a>,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Self { rule, task: Task { span, block: head, state, out } } = self;
        let mut error = vec![0.0; rule.value_width()];
        for (row, out) in (span.row..).zip(out) {
            let Row { decay, beta, q, k, v } = rule.row(row, head);
            error.fill(0.0);
            simd::add_weighted::<V>(&mut error, k, state);
            for (error, v) in error.iter_mut().zip(v) {
                *error = beta * (v - decay * *error);
            }
            for (state, &k) in state.chunks_exact_mut(error.len()).zip(k) {
                simd::decay_and_add::<V>(state, decay, k, &error);
            }
            out.fill(0.0);
            simd::add_weighted::<V>(out, q, state);
            out.iter_mut().for_each(|out| *out *= rule.scale);
        }
    }
}

impl Run for ops::GatedDelta {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let [q, k, v, beta, dt] = [self.q, self.k, self.v, self.beta, self.dt].map(|view| step.input(view));
        let (a, dt_bias) = (step.weights.vector(self.a)?, step.weights.vector(self.dt_bias)?);
        let &Self { scale, heads, key_heads, .. } = self;
        let delta = GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads };
        let states = step.memory.slots_mut(self.state)?;
        if step.fast {
            delta.fast(step.spans, states, out);
        } else {
            delta.reference(step.spans, states, out);
        }
        Ok(())
    }
}
