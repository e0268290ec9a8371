//! The checks every graph passes before a backend sees it.

use super::{Graph, Uses};

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
    /// Checks shapes, orders and references of every op, and the wiring of regions.
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
                if !view.is_entire() && (view.width == 0 || view.offset + view.width > value.width) {
                    let (from, to) = (view.offset, view.offset + view.width);
                    return fail(format!("reads columns {from}..{to} of `{}`, which has {}", value.name, value.width));
                }
            }
            if let Err(what) = op.check(self) {
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
        self.check_regions()
    }

    fn check_regions(&self) -> Result<(), GraphError> {
        let uses = Uses::new(self);
        for region in &self.regions {
            if let Err(what) = region.check(&uses) {
                let index = region.result().0 as usize;
                let (op, out) = self.ops.get(index).map_or(("nothing", None), |op| (op.name(), op.writes()));
                let value = out.map_or_else(String::new, |out| self.value(out).name.clone());
                return Err(GraphError { index, op, value, what: format!("{}: {what}", region.name()) });
            }
        }
        Ok(())
    }
}
