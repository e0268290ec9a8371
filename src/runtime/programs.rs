//! Programs of an engine: the graph compiled for a few numbers of rows, each when it is first needed.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{Backend, ProgramId, ProgramSpec, Result, StepTable};
use crate::graph::{Graph, ValueId};

/// Numbers of rows that programs are compiled for. Longer steps take the next power of two.
const BUCKETS: [usize; 7] = [1, 2, 4, 8, 16, 64, 256];

fn bucket(rows: usize) -> usize {
    BUCKETS.into_iter().find(|&bucket| rows <= bucket).unwrap_or_else(|| rows.next_power_of_two())
}

/// The programs compiled so far.
#[derive(Debug)]
pub(super) struct Programs {
    compiled: BTreeMap<ProgramSpec, ProgramId>,
    keep: BTreeSet<ValueId>,
}

impl Programs {
    /// None yet. Values in `keep` can be read after a step.
    pub(super) fn new(keep: BTreeSet<ValueId>) -> Self {
        Self { compiled: BTreeMap::new(), keep }
    }

    /// The program for a step, after which a value of `also` can be read too.
    pub(super) fn get(
        &mut self,
        backend: &mut dyn Backend,
        graph: &Graph,
        table: &StepTable,
        also: Option<ValueId>,
    ) -> Result<ProgramId> {
        let rows = bucket(table.rows.len());
        let outputs = bucket(table.outputs.len()).min(rows);
        let keep = self.keep.iter().copied().chain(also).collect();
        let spec = ProgramSpec { rows, outputs, keep };
        if let Some(&program) = self.compiled.get(&spec) {
            return Ok(program);
        }
        let program = backend.compile(graph, &spec)?;
        self.compiled.insert(spec, program);
        Ok(program)
    }

    /// Whether a program's steps leave a value to be read.
    pub(super) fn keeps(&self, program: ProgramId, value: ValueId) -> bool {
        self.compiled.iter().any(|(spec, &id)| id == program && spec.keep.contains(&value))
    }
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn a_step_runs_in_the_smallest_program_that_holds_it() {
        assert_eq!([0, 1, 3, 17, 64, 65, 257, 1000].map(bucket), [1, 1, 4, 64, 64, 256, 512, 1024]);
    }
}
