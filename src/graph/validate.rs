//! The checks every graph passes before a backend sees it.

use super::{Graph, Op, StateKind, View};

/// A graph that contradicts itself: a fault of an architecture, or of the config it was built from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("op {index} ({op}, makes `{value}`): {what}")]
pub struct GraphError {
    /// Index of the op.
    pub index: usize,
    /// Its name.
    pub op: &'static str,
    /// The value it makes, or the one it reads first.
    pub value: String,
    /// What is wrong.
    pub what: String,
}

impl Graph {
    /// Checks shapes, orders and references of every op.
    pub fn validate(&self) -> Result<(), GraphError> {
        let mut made: Vec<bool> = vec![false; self.values.len()];
        for &input in &self.inputs {
            made[input.0 as usize] = true;
        }
        for (index, op) in self.ops.iter().enumerate() {
            let fail = |what: String| {
                let value = op.writes().or_else(|| op.reads().first().map(|v| v.value));
                let value = value.map_or_else(String::new, |v| self.value(v).name.clone());
                Err(GraphError { index, op: op.name(), value, what })
            };
            for view in op.reads() {
                let value = self.value(view.value);
                if !made[view.value.0 as usize] {
                    return fail(format!("reads `{}` before it is made", value.name));
                }
                if view.width != usize::MAX && (view.width == 0 || view.offset + view.width > value.width) {
                    let (from, to) = (view.offset, view.offset + view.width);
                    return fail(format!("reads columns {from}..{to} of `{}`, which has {}", value.name, value.width));
                }
            }
            if let Err(what) = self.check(op) {
                return fail(what);
            }
            if let Some(out) = op.writes() {
                if self.value(out).width == 0 {
                    return fail("makes a value without columns".into());
                }
                if std::mem::replace(&mut made[out.0 as usize], true) {
                    return fail("makes a value a second time".into());
                }
            }
        }
        Ok(())
    }

    fn check(&self, op: &Op) -> Result<(), String> {
        let width = |value| self.value(value).width;
        let equal = |what: &str, got: usize, wanted: usize| {
            if got == wanted { Ok(()) } else { Err(format!("{what} is {got}, must be {wanted}")) }
        };
        let length =
            |what: &str, weight, wanted| equal(&format!("length of {what}"), self.weight(weight).len(), wanted);
        let divides = |what: &str, part: usize, whole: usize| {
            if part > 0 && whole.is_multiple_of(part) {
                Ok(())
            } else {
                Err(format!("{part} {what} do not divide {whole}"))
            }
        };
        let kv = |state| self.kv(state).ok_or_else(|| format!("`{}` is not a KV state", self.state(state).name));
        match *op {
            Op::Embed { table, out, .. } => equal("width of the table", self.weight(table).columns, width(out)),
            Op::Norm { x, groups, weight, bias, out, .. } => {
                divides("groups", groups, x.width)?;
                for weight in weight.into_iter().chain(bias) {
                    let got = self.weight(weight).len();
                    if got != x.width && got != x.width / groups {
                        return Err(format!(
                            "a weight of {got} fits neither {} columns nor one of {groups} groups",
                            x.width
                        ));
                    }
                }
                equal("width of the result", width(out), x.width)
            }
            Op::Linear { x, weight, bias, out } => {
                let recipe = self.weight(weight);
                equal(&format!("columns of `{}`", recipe.name), recipe.columns, width(x))?;
                if width(out) > recipe.rows {
                    return Err(format!("`{}` has {} rows, {} are wanted", recipe.name, recipe.rows, width(out)));
                }
                bias.map_or(Ok(()), |bias| length("the bias", bias, width(out)))
            }
            Op::Gate { gate, x, out, .. } => {
                equal("width of the gate", gate.width, x.width)?;
                equal("width of the result", width(out), x.width)
            }
            Op::Add { a, b, out, .. } => {
                equal("width of b", b.width, a.width)?;
                equal("width of the result", width(out), a.width)
            }
            Op::Activation { x, out, .. } | Op::Gather { x, out } => equal("width of the result", width(out), x.width),
            Op::Conv { x, weight, bias, state, out, .. } => {
                let taps = self.check_conv(x, state)?;
                length("the kernel", weight, x.width * taps)?;
                bias.map_or(Ok(()), |bias| length("the bias", bias, x.width))?;
                equal("width of the result", width(out), x.width)
            }
            Op::ConvAppend { x, state } => self.check_conv(x, state).map(|_| ()),
            Op::Rope { x, heads, rotary, out } => {
                divides("heads", heads, x.width)?;
                let (rotated, head) = (2 * self.rotary(rotary).inverse_frequencies.len(), x.width / heads);
                if rotated == 0 || rotated > head {
                    return Err(format!("{rotated} rotated columns do not fit a head of {head}"));
                }
                equal("width of the result", width(out), x.width)
            }
            Op::Attention { q, k, v, state, heads, window, decode_window, out, .. } => {
                let kv = kv(state)?;
                for window in [window, decode_window] {
                    if kv.window.is_some_and(|kept| window.is_none_or(|seen| seen > kept)) {
                        let (name, kept) = (&self.state(state).name, kv.window);
                        return Err(format!("looks back {window:?} positions, `{name}` remembers {kept:?}"));
                    }
                }
                divides("KV heads", kv.heads, heads)?;
                equal("width of q", q.width, heads * kv.key_width)?;
                equal("width of k", k.width, kv.heads * kv.key_width)?;
                equal("width of v", v.width, kv.heads * kv.value_width)?;
                equal("width of the result", width(out), heads * kv.value_width)
            }
            Op::KvAppend { k, v, state } => {
                let kv = kv(state)?;
                equal("width of k", k.width, kv.heads * kv.key_width)?;
                equal("width of v", v.width, kv.heads * kv.value_width)
            }
            Op::SelectiveScan { x, dt, b, c, a, d, state, out } => {
                let shape = self.recurrent(state)?;
                let &[channels, columns] = shape else { return Err(format!("a state of shape {shape:?}")) };
                equal("channels of the state", channels, x.width)?;
                equal("width of dt", dt.width, x.width)?;
                equal("width of b", b.width, columns)?;
                equal("width of c", c.width, columns)?;
                length("a", a, x.width * columns)?;
                length("d", d, x.width)?;
                equal("width of the result", width(out), x.width)
            }
            Op::SsdScan { x, dt, b, c, a, d, dt_bias, heads, groups, state, out, .. } => {
                let shape = self.recurrent(state)?;
                let &[h, p, n] = shape else { return Err(format!("a state of shape {shape:?}")) };
                equal("heads of the state", h, heads)?;
                divides("groups", groups, heads)?;
                equal("width of x", x.width, heads * p)?;
                equal("width of dt", dt.width, heads)?;
                equal("width of b", b.width, groups * n)?;
                equal("width of c", c.width, groups * n)?;
                for (what, weight) in [("a", a), ("d", d), ("dt_bias", dt_bias)] {
                    length(what, weight, heads)?;
                }
                equal("width of the result", width(out), x.width)
            }
            Op::GatedDelta { q, k, v, beta, dt, a, dt_bias, heads, key_heads, state, out, .. } => {
                let shape = self.recurrent(state)?;
                let &[h, key, value] = shape else { return Err(format!("a state of shape {shape:?}")) };
                equal("heads of the state", h, heads)?;
                divides("key heads", key_heads, heads)?;
                equal("width of q", q.width, key_heads * key)?;
                equal("width of k", k.width, key_heads * key)?;
                equal("width of v", v.width, heads * value)?;
                equal("width of beta", beta.width, heads)?;
                equal("width of dt", dt.width, heads)?;
                length("a", a, heads)?;
                length("dt_bias", dt_bias, heads)?;
                equal("width of the result", width(out), v.width)
            }
            Op::MoeRoute { logits, bias, groups, top_groups, top, out, .. } => {
                divides("groups", groups, logits.width)?;
                if !(1..=groups).contains(&top_groups) {
                    return Err(format!("{top_groups} of {groups} groups cannot be chosen"));
                }
                let among = top_groups * (logits.width / groups);
                if !(1..=among).contains(&top) {
                    return Err(format!("{top} of {among} experts cannot be chosen"));
                }
                bias.map_or(Ok(()), |bias| length("the bias", bias, logits.width))?;
                equal("width of the result", width(out), 2 * top)
            }
            Op::MoeApply { x, routes, up, down, experts, gated, out, .. } => {
                divides("ids and weights", 2, width(routes))?;
                let (up, down) = (self.weight(up), self.weight(down));
                divides("experts", experts, up.rows)?;
                equal(&format!("columns of `{}`", up.name), up.columns, width(x))?;
                let halves = if gated { 2 } else { 1 };
                equal(&format!("rows of an expert of `{}`", up.name), up.rows / experts, halves * down.columns)?;
                equal(&format!("rows of `{}`", down.name), down.rows, experts * width(out))
            }
            Op::Sample { .. } => Ok(()),
        }
    }

    fn recurrent(&self, state: super::StateId) -> Result<&[usize], String> {
        match &self.state(state).kind {
            StateKind::Recurrent { shape, .. } => Ok(shape),
            _ => Err(format!("`{}` is not a recurrent state", self.state(state).name)),
        }
    }

    fn check_conv(&self, x: View, state: super::StateId) -> Result<usize, String> {
        match self.state(state).kind {
            StateKind::Conv { channels, taps } if channels == x.width && taps > 1 => Ok(taps),
            ref kind => Err(format!("a state {kind:?} for {} channels", x.width)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::{GraphBuilder, GraphError, KvSpec, Op, Rows};

    fn attention(kept: Option<usize>, window: Option<usize>, decode_window: Option<usize>) -> Result<(), GraphError> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", 8);
        let state = b.kv(3, KvSpec { heads: 1, key_width: 8, value_width: 8, pinned: 0, window: kept });
        let (q, k, v, out) = (b.whole(x), b.whole(x), b.whole(x), b.value("out", 8, Rows::All));
        b.push(Op::Attention { q, k, v, state, heads: 1, scale: 1.0, window, decode_window, out });
        b.finish().map(|_| ())
    }

    #[test]
    fn attention_looks_back_no_further_than_its_state_remembers() {
        for seen in [(None, None), (Some(5), Some(4))] {
            attention(None, seen.0, seen.1).expect("everything is remembered");
        }
        attention(Some(5), Some(5), Some(4)).expect("as much as is remembered");
        for seen in [(None, Some(5)), (Some(5), None), (Some(6), Some(5)), (Some(5), Some(6))] {
            let error = attention(Some(5), seen.0, seen.1).expect_err("more than is remembered").to_string();
            assert!(error.contains("`layers.3.kv` remembers Some(5)"), "{error}");
        }
    }
}
