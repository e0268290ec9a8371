//! A compiled graph: a constant list of launches over buffers that are made once.

use std::collections::BTreeMap;
use std::rc::Rc;

use selvedge_cuda::{Buffer, Device, Launch, Upload};

use super::memory::Memory;
use crate::backend::checks::{check_step, misuse};
use crate::backend::{ProgramSpec, Result, StepTable, TOKEN_OF_SLOT};
use crate::graph::{Rows, ValueId};

/// Where a value that can be read or written between steps lies.
#[derive(Clone, Copy)]
pub(super) struct ValuePlace {
    /// Index of its buffer.
    pub buffer: usize,
    /// Numbers from row to row.
    pub pitch: usize,
    /// Columns.
    pub width: usize,
    /// Which rows.
    pub rows: Rows,
    /// Written from outside.
    pub input: bool,
}

/// A graph compiled for one row bucket.
pub(super) struct Program {
    pub spec: ProgramSpec,
    pub launches: Vec<Launch>,
    /// The step table.
    pub table: Buffer,
    pub upload: Upload,
    /// Activations.
    pub buffers: Vec<Buffer>,
    /// Tables of angles that the launches read.
    #[expect(dead_code, reason = "launches hold addresses; this holds what lies there")]
    pub rotaries: Vec<Rc<Buffer>>,
    /// `u32 [outputs]`, where the graph samples.
    pub results: Option<Buffer>,
    pub places: BTreeMap<ValueId, ValuePlace>,
    /// Rows of the smallest table that tokens are looked up in; `None` where there is no lookup.
    pub ids: Option<usize>,
}

impl Program {
    /// All launches, in order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// The tokens of the last step.
    pub fn results(&self) -> Option<&Buffer> {
        self.results.as_ref()
    }

    /// Bytes of its own buffers.
    pub fn bytes(&self) -> usize {
        self.buffers.iter().chain(&self.results).map(Buffer::len).sum::<usize>() + self.table.len()
    }

    /// Objects made for it.
    pub fn objects(&self) -> u64 {
        // The step table, and the two halves of its upload.
        (self.buffers.len() + usize::from(self.results.is_some()) + 3) as u64
    }

    /// Checks a step: that it fits this program and the slots, that its parts agree with each other, and that
    /// its tokens exist. The kernels trust all of it.
    pub fn check(&self, table: &StepTable, memory: &Memory) -> Result<()> {
        check_step(table, &self.spec, |slot, end| memory.check_rows(slot, end))?;
        let Some(ids) = self.ids else { return Ok(()) };
        for &[token, slot, ..] in &table.rows {
            if token == TOKEN_OF_SLOT && !memory.has_token(slot) {
                return misuse(format!("no token was sampled in slot {slot}"));
            }
            if token != TOKEN_OF_SLOT && token as usize >= ids {
                return misuse(format!("token {token} in a table of {ids}"));
            }
        }
        Ok(())
    }

    /// Queues a checked step; gives the bytes written for it.
    pub fn run(&mut self, device: &Device, table: &StepTable) -> Result<u64> {
        let words = table.words(self.spec.rows, self.spec.outputs);
        self.upload.send(device, &words, &mut self.table)?;
        for launch in &self.launches {
            // SAFETY: the launches were made by `lower` from buffers that this program, the weights and the
            // memory hold; replacing either of the latter ends the program's life. The table was checked.
            unsafe { device.run(launch) }?;
        }
        Ok(size_of_val(words.as_slice()) as u64)
    }

    fn place(&self, value: ValueId, rows: usize) -> Result<ValuePlace> {
        let Some(&place) = self.places.get(&value) else {
            return misuse(format!("value {} is not kept by the program", value.0));
        };
        let room = match place.rows {
            Rows::All => self.spec.rows,
            Rows::Outputs => self.spec.outputs,
        };
        if rows > room { misuse(format!("{rows} rows of value {}, which has {room}", value.0)) } else { Ok(place) }
    }

    /// The first `rows` rows of a kept value.
    pub fn read(&self, device: &Device, value: ValueId, rows: usize) -> Result<Vec<f32>> {
        let place = self.place(value, rows)?;
        let mut padded = vec![0.0f32; rows * place.pitch];
        device.read(&self.buffers[place.buffer], 0, bytemuck::cast_slice_mut(&mut padded))?;
        Ok(padded.chunks_exact(place.pitch).flat_map(|row| &row[..place.width]).copied().collect())
    }

    /// Fills the first rows of an input.
    pub fn write(&mut self, device: &Device, value: ValueId, data: &[f32]) -> Result<()> {
        let place = self.place(value, 0)?;
        if !place.input || !data.len().is_multiple_of(place.width) {
            return misuse(format!("{} numbers for value {} of rows of {}", data.len(), value.0, place.width));
        }
        let rows = data.len() / place.width;
        self.place(value, rows)?;
        let mut padded = vec![0.0f32; rows * place.pitch];
        for (to, from) in padded.chunks_exact_mut(place.pitch).zip(data.chunks_exact(place.width)) {
            to[..place.width].copy_from_slice(from);
        }
        Ok(device.write(&mut self.buffers[place.buffer], 0, bytemuck::cast_slice(&padded))?)
    }
}
