//! Regions: blocks of ops that a family names while it appends them, so that a backend with a kernel for the whole
//! block need not find it again. The ops stay in the graph and say what is computed; a backend without such a kernel, or
//! a program that the kernel does not fit, runs them one by one.

mod gated_delta;
mod mamba1;
mod mamba2;

pub use gated_delta::{GatedDeltaMixer, GatedDeltaOps, GatedDeltaSpec};
pub use mamba1::{Mamba1Mixer, Mamba1Ops, Mamba1Spec};
pub use mamba2::{Mamba2Mixer, Mamba2Ops, Mamba2Spec};

use super::ops::{Conv, ConvAppend};
use super::{Graph, GraphBuilder, Node, OpId, StateId, Uses, ValueId, Variant, View};

/// A block of ops with a name, and the part that each of them plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Region {
    /// See [`Mamba1Mixer`].
    Mamba1Mixer(Mamba1Mixer),
    /// See [`Mamba2Mixer`].
    Mamba2Mixer(Mamba2Mixer),
    /// See [`GatedDeltaMixer`].
    GatedDeltaMixer(GatedDeltaMixer),
}

impl Region {
    /// Name of the kind of block.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mamba1Mixer(_) => "Mamba-1 mixer",
            Self::Mamba2Mixer(_) => "Mamba-2 mixer",
            Self::GatedDeltaMixer(_) => "gated delta mixer",
        }
    }

    /// The op that makes the block's result.
    pub fn result(&self) -> OpId {
        match self {
            Self::Mamba1Mixer(mixer) => mixer.gate,
            Self::Mamba2Mixer(mixer) => mixer.gate,
            Self::GatedDeltaMixer(mixer) => mixer.gate,
        }
    }

    /// Checks that the ops exist, are of the kinds that they should be, and are wired as the block is.
    pub(super) fn check(&self, uses: &Uses<'_>) -> Result<(), String> {
        match self {
            Self::Mamba1Mixer(mixer) => mixer.ops(uses).map(|_| ()),
            Self::Mamba2Mixer(mixer) => mixer.ops(uses).map(|_| ()),
            Self::GatedDeltaMixer(mixer) => mixer.ops(uses).map(|_| ()),
        }
    }
}

impl<'a> Uses<'a> {
    /// The op of a part of a region.
    fn part<T: Variant>(&self, what: &str, id: OpId) -> Result<Node<'a, T>, String> {
        let found = || self.graph().ops.get(id.0 as usize).map_or("nothing", |op| op.name());
        self.node(id.0 as usize).ok_or_else(|| format!("its {what} should be {}, op {} is {}", T::NAME, id.0, found()))
    }

    /// A convolution and the op that renews its memory.
    fn conv_parts(&self, conv: OpId, append: OpId) -> Result<(Node<'a, Conv>, Node<'a, ConvAppend>), String> {
        let (conv, append): (Node<'_, Conv>, Node<'_, ConvAppend>) =
            (self.part("convolution", conv)?, self.part("renewal of the convolution's memory", append)?);
        wired("the convolution's memory", append.x == conv.x && append.state == conv.state)?;
        self.own_memory(conv.state, &[conv.index, append.index])?;
        Ok((conv, append))
    }

    /// Refuses a memory of a region that other ops touch too.
    fn own_memory(&self, state: StateId, owners: &[usize]) -> Result<(), String> {
        match self.holders(state).iter().find(|&index| !owners.contains(index)) {
            None => Ok(()),
            Some(&index) => {
                let (name, op) = (&self.graph().state(state).name, &self.graph().ops[index]);
                Err(format!("its memory `{name}` is touched by op {index} ({}) outside of it", op.name()))
            }
        }
    }

    /// Refuses a value inside a region that ops outside of it read, or that is not read as often as it should be.
    fn inner(&self, value: ValueId, readers: &[usize]) -> Result<(), String> {
        let mut wanted = readers.to_vec();
        wanted.sort_unstable();
        let found = self.readers(value);
        if found == wanted {
            return Ok(());
        }
        Err(format!("`{}` is read by the ops {found:?}, should be by {wanted:?}", self.graph().value(value).name))
    }
}

/// Refuses a part of a region that does not read what it should.
fn wired(what: &str, fits: bool) -> Result<(), String> {
    if fits { Ok(()) } else { Err(format!("{what} does not read what the block has for it")) }
}

/// Whether a view is all of a value.
fn is_all_of(graph: &Graph, view: View, value: ValueId) -> bool {
    view == graph.whole(value)
}

impl GraphBuilder {
    /// The op that is appended next.
    fn next_op(&self) -> OpId {
        OpId(self.graph.ops.len() as u32)
    }

    fn region(&mut self, region: Region) {
        self.graph.regions.push(region);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Function, Part, StateKind, WeightId};

    const WIDTH: usize = 8;
    const D_STATE: usize = 4;

    fn numbers(g: &mut GraphBuilder, shape: &[usize]) -> WeightId {
        g.vector(Part::all("numbers", shape))
    }

    fn projection(g: &mut GraphBuilder, rows: usize, columns: usize) -> WeightId {
        g.matrix("projection", vec![Part::all("projection", &[rows, columns])])
    }

    fn recurrent(g: &mut GraphBuilder, shape: &[usize]) -> StateId {
        g.state("state", 0, StateKind::Recurrent { shape: shape.to_vec(), channels_last: false })
    }

    fn mamba1() -> GraphBuilder {
        let (mut g, rank) = (GraphBuilder::new(), 2);
        let input = g.input("input", 2 * WIDTH);
        let [x, z] = g.split(input, [WIDTH, WIDTH]);
        let spec = Mamba1Spec {
            conv: numbers(&mut g, &[WIDTH, 1, 3]),
            conv_bias: None,
            conv_state: g.state("conv", 0, StateKind::Conv { channels: WIDTH, d_conv: 3 }),
            x_proj: projection(&mut g, rank + 2 * D_STATE, WIDTH),
            norms: [rank, D_STATE, D_STATE].map(|width| (numbers(&mut g, &[width]), 1e-6)),
            dt_proj: projection(&mut g, WIDTH, rank),
            dt_bias: numbers(&mut g, &[WIDTH]),
            a: numbers(&mut g, &[WIDTH, D_STATE]),
            d: numbers(&mut g, &[WIDTH]),
            state: recurrent(&mut g, &[WIDTH, D_STATE]),
        };
        g.mamba1_mixer("layers.0", x, z, &spec);
        g
    }

    fn mamba2() -> GraphBuilder {
        let (mut g, heads, groups) = (GraphBuilder::new(), 4, 2);
        let channels = WIDTH + 2 * groups * D_STATE;
        let input = g.input("input", WIDTH + channels + heads);
        let [z, xbc, dt] = g.split(input, [WIDTH, channels, heads]);
        let spec = Mamba2Spec {
            conv: numbers(&mut g, &[channels, 1, 3]),
            conv_bias: None,
            conv_state: g.state("conv", 0, StateKind::Conv { channels, d_conv: 3 }),
            a: numbers(&mut g, &[heads]),
            d: numbers(&mut g, &[heads]),
            dt_bias: numbers(&mut g, &[heads]),
            limit: (0.0, f32::INFINITY),
            heads,
            groups,
            state: recurrent(&mut g, &[heads, WIDTH / heads, D_STATE]),
        };
        g.mamba2_mixer("layers.0", z, xbc, dt, &spec);
        g
    }

    fn gated_delta() -> GraphBuilder {
        let (mut g, heads, key_heads) = (GraphBuilder::new(), 4, 2);
        let channels = 2 * key_heads * D_STATE + WIDTH;
        let input = g.input("input", channels + WIDTH + 2 * heads);
        let [qkv, z, beta, dt] = g.split(input, [channels, WIDTH, heads, heads]);
        let spec = GatedDeltaSpec {
            conv: numbers(&mut g, &[channels, 1, 3]),
            conv_state: g.state("conv", 0, StateKind::Conv { channels, d_conv: 3 }),
            key_eps: 1e-6,
            a: numbers(&mut g, &[heads]),
            dt_bias: numbers(&mut g, &[heads]),
            scale: 0.5,
            heads,
            key_heads,
            state: recurrent(&mut g, &[heads, D_STATE, WIDTH / heads]),
            norm: numbers(&mut g, &[WIDTH / heads]),
            eps: 1e-5,
        };
        g.gated_delta_mixer("layers.0", [qkv, z, beta, dt], &spec);
        g
    }

    #[test]
    fn regions_are_as_their_builders_leave_them() {
        for (g, ops) in [(mamba1(), 9), (mamba2(), 4), (gated_delta(), 7)] {
            let graph = g.finish().expect("a valid graph");
            assert_eq!((graph.ops.len(), graph.regions.len()), (ops, 1));
            let result = graph.regions[0].result().0 as usize;
            assert_eq!((result + 1, graph.ops[result].name()), (ops, "gate"));
        }
    }

    #[test]
    fn a_value_inside_a_region_is_not_read_outside() {
        for (g, name) in
            [(mamba1(), "Mamba-1 mixer"), (mamba2(), "Mamba-2 mixer"), (gated_delta(), "gated delta mixer")]
        {
            // Every value but the result; a region's kernel does not make them.
            let made: Vec<_> = g.graph.ops.iter().filter_map(|op| op.writes()).collect();
            for &value in &made[..made.len() - 1] {
                let mut g = g.clone();
                g.activation("outside", g.whole(value), Function::Silu, 1.0);
                let error = g.finish().expect_err("somebody else reads it").to_string();
                assert!(error.contains(name) && error.contains("is read by the ops"), "value {}: {error}", value.0);
            }
        }
    }

    #[test]
    fn the_memories_of_a_region_are_its_own() {
        for mut g in [mamba1(), mamba2(), gated_delta()] {
            let again = g.graph.ops.iter().find(|op| op.name() == "conv_append").cloned().expect("a convolution");
            g.push(again);
            let error = g.finish().expect_err("somebody else touches it").to_string();
            assert!(error.contains("its memory `conv` is touched by op"), "{error}");
        }
    }

    #[test]
    fn parts_of_a_region_are_what_they_are_called() {
        let mut g = mamba1();
        let Region::Mamba1Mixer(mixer) = &mut g.graph.regions[0] else { panic!("a Mamba-1 mixer") };
        std::mem::swap(&mut mixer.b_norm, &mut mixer.c_norm);
        let error = g.finish().expect_err("B and C are exchanged").to_string();
        assert!(error.contains("Mamba-1 mixer") && error.contains("the scan"), "{error}");

        let mut g = mamba2();
        let Region::Mamba2Mixer(mixer) = &mut g.graph.regions[0] else { panic!("a Mamba-2 mixer") };
        mixer.scan = mixer.conv;
        let error = g.finish().expect_err("a convolution is no scan").to_string();
        assert!(error.contains("its scan should be ssd_scan, op 0 is conv"), "{error}");

        let mut g = gated_delta();
        let Region::GatedDeltaMixer(mixer) = &mut g.graph.regions[0] else { panic!("a gated delta mixer") };
        mixer.rule = OpId(99);
        let error = g.finish().expect_err("there is no such op").to_string();
        assert!(error.contains("op 99 is nothing"), "{error}");
    }
}
