//! Which groups of ops one kernel runs. The table, for programs of few rows (decode), where starting
//! kernels costs more than what they recompute; programs of many rows run op by op.
//!
//! | group | kernel |
//! |---|---|
//! | norm, linear | `linear_rows.norm` |
//! | norm of several groups, linear | `linear_rows.group_norm` |
//! | add, norm, linear | `linear_rows.add_norm` (the sum is kept where it is read again) |
//! | norm, norm, add, linear | `linear_rows.norms` |
//! | gate, linear | `linear_rows.gate` |
//! | activation, linear | `linear_rows.activation` |
//! | conv, linear | `linear_rows.conv` (the convolution again in the next group) |
//! | any of these, or a linear alone, then add | the same kernel |
//! | linear, linear, add, where the matrices have one format | `linear_pair.plain` |
//! | gate, linear, linear, add, likewise | `linear_pair.gate` |
//! | conv, conv_append | `conv_decode` |
//! | conv, conv_append, norm x 3, linear, selective_scan, gate | `selective_scan.decode` |
//! | ssd_scan, gate, where a norm follows | `ssd_scan.decode` |
//! | norm, norm, gated_delta, norm, gate | `gated_delta.decode` |
//! | norm, rope, kv_append | `rope_normed` |
//! | rope, rope, kv_append | `rope_append` |
//!
//! A group's oracle is the composition of its ops' twins. Nothing is fused in a program that keeps
//! values for reading: a fused group does not make those inside it.

use std::collections::{BTreeMap, BTreeSet};

use super::lower::FEW_ROWS;
use super::weights::Weights;
use crate::backend::ProgramSpec;
use crate::graph::{Graph, NormKind, Op, Rows, ValueId, View};
use crate::state::{Addressing, StateLayout};

/// Most groups of `shared/input_group_norm.wgsl`.
const MOST_GROUPS: usize = 16;

/// What a linear layer's input is made of, by index into the graph's ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Plain,
    Norm { norm: usize },
    GroupNorm { norm: usize },
    AddNorm { add: usize, norm: usize },
    Norms { first: usize, second: usize, add: usize },
    Gate { gate: usize },
    Activation { activation: usize },
    Conv { conv: usize },
}

impl Input {
    fn ops(&self) -> Vec<usize> {
        match *self {
            Self::Plain => vec![],
            Self::Norm { norm } | Self::GroupNorm { norm } => vec![norm],
            Self::AddNorm { add, norm } => vec![add, norm],
            Self::Norms { first, second, add } => vec![first, second, add],
            Self::Gate { gate } => vec![gate],
            Self::Activation { activation } => vec![activation],
            Self::Conv { conv } => vec![conv],
        }
    }
}

/// Two linear layers whose results are added. The second's input is plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinearPair {
    /// `Plain` or a `Gate`.
    pub input: Input,
    pub first: usize,
    pub second: usize,
    pub add: usize,
}

/// The ops of a Mamba-1 decode step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScanDecode {
    pub conv: usize,
    pub append: usize,
    pub dt_norm: usize,
    pub b_norm: usize,
    pub c_norm: usize,
    pub linear: usize,
    pub scan: usize,
    pub gate: usize,
}

/// The gated delta rule with its norms and gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeltaDecode {
    pub q_norm: usize,
    pub k_norm: usize,
    pub rule: usize,
    pub norm: usize,
    pub gate: usize,
}

/// What one or more dispatches run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    Single(usize),
    Linear { linear: usize, input: Input, add: Option<usize> },
    LinearPair(LinearPair),
    ConvDecode { conv: usize, append: usize },
    ScanDecode(ScanDecode),
    SsdDecode { scan: usize, gate: usize },
    DeltaDecode(DeltaDecode),
    RopeNormed { norm: usize, rope: usize, append: usize },
    RopeAppend { query: usize, key: usize, append: usize },
}

impl Kernel {
    /// Its ops, the one that makes its result last.
    pub fn ops(&self) -> Vec<usize> {
        match *self {
            Self::Single(op) => vec![op],
            Self::Linear { linear, input, add: last } => {
                let mut ops = input.ops();
                ops.push(linear);
                ops.extend(last);
                ops
            }
            Self::LinearPair(p) => [p.input.ops(), vec![p.first, p.second, p.add]].concat(),
            Self::ConvDecode { conv, append } => vec![append, conv],
            Self::ScanDecode(s) => vec![s.conv, s.append, s.dt_norm, s.b_norm, s.c_norm, s.linear, s.scan, s.gate],
            Self::SsdDecode { scan, gate } => vec![scan, gate],
            Self::DeltaDecode(d) => vec![d.q_norm, d.k_norm, d.rule, d.norm, d.gate],
            Self::RopeNormed { norm, rope, append } => vec![norm, append, rope],
            Self::RopeAppend { query, key, append } => vec![query, key, append],
        }
    }

    /// Where it runs: at the place of the op that needs all the others, or that the others wait for.
    fn place(&self) -> usize {
        match *self {
            Self::Single(op) => op,
            Self::Linear { linear, add, .. } => add.unwrap_or(linear),
            Self::LinearPair(p) => p.add,
            Self::ConvDecode { conv, .. } => conv,
            Self::ScanDecode(s) => s.gate,
            Self::SsdDecode { gate, .. } => gate,
            Self::DeltaDecode(d) => d.gate,
            Self::RopeNormed { rope, .. } => rope,
            Self::RopeAppend { query, key, .. } => query.max(key),
        }
    }
}

/// Who makes and who reads each value.
struct Links<'a> {
    graph: &'a Graph,
    maker: BTreeMap<ValueId, usize>,
    readers: BTreeMap<ValueId, Vec<usize>>,
}

impl<'a> Links<'a> {
    fn new(graph: &'a Graph) -> Self {
        let mut links = Self { graph, maker: BTreeMap::new(), readers: BTreeMap::new() };
        for (index, op) in graph.ops.iter().enumerate() {
            for view in op.reads() {
                links.readers.entry(view.value).or_default().push(index);
            }
            if let Some(out) = op.writes() {
                links.maker.insert(out, index);
            }
        }
        links
    }

    fn made_by(&self, value: ValueId) -> Option<(usize, &'a Op)> {
        self.maker.get(&value).map(|&i| (i, &self.graph.ops[i]))
    }

    fn read_by(&self, value: ValueId) -> &[usize] {
        self.readers.get(&value).map_or(&[], Vec::as_slice)
    }

    fn only_reader(&self, value: ValueId, reader: usize) -> bool {
        self.read_by(value) == [reader]
    }

    fn read_by_norm(&self, value: ValueId) -> bool {
        self.read_by(value).iter().any(|&r| self.is_plain_norm(&self.graph.ops[r]))
    }

    /// Whether an op is a plain RMS norm over all columns; its weight is as wide as its input.
    fn is_plain_norm(&self, op: &Op) -> bool {
        matches!(op, Op::Norm { kind: NormKind::Rms, groups: 1, weight: Some(_), bias: None, .. })
    }
}

/// Groups the ops of a graph, in an order in which they can run.
pub(super) fn fuse(graph: &Graph, spec: &ProgramSpec, layout: &StateLayout, weights: &Weights) -> Vec<Kernel> {
    let all = || (0..graph.ops.len()).map(Kernel::Single).collect();
    if spec.rows > FEW_ROWS || !spec.keep.is_empty() || !graph.inputs.is_empty() {
        return all();
    }
    let links = Links::new(graph);
    let mut taken = BTreeSet::new();
    let mut kernels = Vec::new();
    let take = |taken: &mut BTreeSet<usize>, kernel: Kernel, kernels: &mut Vec<Kernel>| {
        taken.extend(kernel.ops());
        kernels.push(kernel);
    };
    let mut convolutions = BTreeSet::new();
    for (index, op) in graph.ops.iter().enumerate() {
        if let Some(scan) = scan_decode(&links, index, op) {
            convolutions.insert(scan.conv);
            take(&mut taken, Kernel::ScanDecode(scan), &mut kernels);
        }
        if let Some(kernel) = ssd_decode(&links, op) {
            take(&mut taken, kernel, &mut kernels);
        }
        if let Some(delta) = delta_decode(&links, index, op) {
            take(&mut taken, Kernel::DeltaDecode(delta), &mut kernels);
        }
    }
    // Either linear would otherwise take the addition for itself.
    for (index, op) in graph.ops.iter().enumerate() {
        if let Some(pair) = linear_pair(&links, index, op, &convolutions, &taken, weights) {
            take(&mut taken, Kernel::LinearPair(pair), &mut kernels);
        }
    }
    for (index, op) in graph.ops.iter().enumerate() {
        if taken.contains(&index) {
            continue;
        }
        if let Some(input) = linear_input(&links, index, op, &convolutions, &taken) {
            let inputs = Kernel::Linear { linear: index, input, add: None }.ops();
            // An addition that is part of another linear's input stays there.
            let add = linear_add(&links, index, op).filter(|_| inputs.iter().all(|i| !taken.contains(i)));
            if input != Input::Plain || add.is_some() {
                take(&mut taken, Kernel::Linear { linear: index, input, add }, &mut kernels);
            }
        }
        let others = rope_append(&links, index, op, spec, layout)
            .or_else(|| rope_normed(&links, index, op, spec, layout))
            .or_else(|| conv_decode(&links, index, op));
        if let Some(kernel) = others {
            take(&mut taken, kernel, &mut kernels);
        }
    }
    kernels.extend((0..graph.ops.len()).filter(|i| !taken.contains(i)).map(Kernel::Single));
    kernels.sort_by_key(Kernel::place);
    kernels
}

fn linear_input(
    links: &Links,
    index: usize,
    op: &Op,
    convolutions: &BTreeSet<usize>,
    taken: &BTreeSet<usize>,
) -> Option<Input> {
    let &Op::Linear { x, .. } = op else { return None };
    if links.graph.value(x).rows != Rows::All {
        return None;
    }
    let Some((maker, made)) = links.made_by(x) else { return Some(Input::Plain) };
    if convolutions.contains(&maker) {
        return Some(Input::Conv { conv: maker });
    }
    if taken.contains(&maker) || !links.only_reader(x, index) {
        return Some(Input::Plain);
    }
    Some(made_input(links, index, maker, made).unwrap_or(Input::Plain))
}

/// What the op that makes a linear's input, and has no other reader, may be fused as.
fn made_input(links: &Links, index: usize, maker: usize, made: &Op) -> Option<Input> {
    match made {
        Op::Gate { .. } => Some(Input::Gate { gate: maker }),
        Op::Activation { .. } => Some(Input::Activation { activation: maker }),
        &Op::Add { a, b, .. } => {
            let norm = |view: View| {
                let (norm, op) = links.made_by(view.value)?;
                (links.is_plain_norm(op) && links.only_reader(view.value, maker)).then_some((norm, op))
            };
            let ((first, one), (second, two)) = (norm(a)?, norm(b)?);
            let eps = |op: &Op| if let Op::Norm { eps, .. } = op { *eps } else { 0.0 };
            (first != second && eps(one) == eps(two)).then_some(Input::Norms { first, second, add: maker })
        }
        &Op::Norm { x, kind: NormKind::Rms, groups, weight: Some(weight), bias: None, .. } if groups > 1 => {
            let each = links.graph.weight(weight).len() == x.width;
            (each && groups <= MOST_GROUPS).then_some(Input::GroupNorm { norm: maker })
        }
        &Op::Norm { x: base, .. } if links.is_plain_norm(made) => {
            let whole = base == links.graph.whole(base.value);
            match links.made_by(base.value) {
                // Whoever else reads the sum must come later: it is made here.
                Some((add, Op::Add { .. }))
                    if whole && links.read_by(base.value).iter().all(|&r| r == maker || r > index) =>
                {
                    Some(Input::AddNorm { add, norm: maker })
                }
                _ => Some(Input::Norm { norm: maker }),
            }
        }
        _ => None,
    }
}

/// The addition that reads a linear's result right after it, if nobody else does, and if it is not the
/// residual that the next norm takes in.
fn linear_add(links: &Links, index: usize, op: &Op) -> Option<usize> {
    let &Op::Linear { out, bias: None, .. } = op else { return None };
    let &[add] = links.read_by(out) else { return None };
    let &Op::Add { a, b, out: sum, .. } = &links.graph.ops[add] else { return None };
    let ready = links.made_by(a.value).is_none_or(|(maker, _)| maker < index);
    (b == links.graph.whole(out) && ready && !links.read_by_norm(sum)).then_some(add)
}

/// The linear layers whose results an addition adds, if nobody else reads them, and if the sum is not the
/// residual that the next norm takes in.
fn linear_pair(
    links: &Links,
    add: usize,
    op: &Op,
    convolutions: &BTreeSet<usize>,
    taken: &BTreeSet<usize>,
    weights: &Weights,
) -> Option<LinearPair> {
    let &Op::Add { a, b, out: sum, .. } = op else { return None };
    let linear = |view: View| {
        let (index, op) = links.made_by(view.value)?;
        let &Op::Linear { weight, bias: None, .. } = op else { return None };
        let alone = links.only_reader(view.value, add) && view == links.graph.whole(view.value);
        // A pair has no variant for an activation, which then stays a kernel: there are as many either way.
        let input = match linear_input(links, index, op, convolutions, taken)? {
            Input::Activation { .. } => Input::Plain,
            input => input,
        };
        alone.then_some((index, input, weights.matrix(weight).ok()?.format))
    };
    let ((first, input, format), (second, Input::Plain, second_format)) = (linear(a)?, linear(b)?) else { return None };
    let made = matches!(input, Input::Plain | Input::Gate { .. });
    (made && format == second_format && !links.read_by_norm(sum)).then_some(LinearPair { input, first, second, add })
}

fn conv_decode(links: &Links, index: usize, op: &Op) -> Option<Kernel> {
    let &Op::Conv { state, .. } = op else { return None };
    let crate::graph::StateKind::Conv { taps, .. } = links.graph.state(state).kind else { return None };
    let append = |op: &Op| matches!(op, Op::ConvAppend { state: s, .. } if *s == state);
    let append = links.graph.ops.iter().position(append)?;
    (taps <= 8).then_some(Kernel::ConvDecode { conv: index, append })
}

/// The scan of Mamba-2 and its gate, where a norm reads them; a gate that a linear layer reads is that layer's input.
fn ssd_decode(links: &Links, op: &Op) -> Option<Kernel> {
    let &Op::SsdScan { x, dt, b, c, out, .. } = op else { return None };
    let &[gate] = links.read_by(out) else { return None };
    let &Op::Gate { gate: z, x: gated, out: result, .. } = &links.graph.ops[gate] else { return None };
    let &[reader] = links.read_by(result) else { return None };
    let (scan, _) = links.made_by(out)?;
    let fits = gated == links.graph.whole(out) && z.value == dt.value && x.value == b.value && x.value == c.value;
    (fits && matches!(links.graph.ops[reader], Op::Norm { .. })).then_some(Kernel::SsdDecode { scan, gate })
}

fn scan_decode(links: &Links, index: usize, op: &Op) -> Option<ScanDecode> {
    let &Op::SelectiveScan { x, dt, b, c, out, .. } = op else { return None };
    let (conv, Op::Conv { x: input, state, .. }) = links.made_by(x.value)? else { return None };
    let reads_conv = |&r: &usize| r == index || matches!(links.graph.ops[r], Op::Linear { x: v, .. } if v == x.value);
    if !links.read_by(x.value).iter().all(reads_conv) {
        return None;
    }
    let append = |op: &Op| matches!(op, Op::ConvAppend { state: s, .. } if s == state);
    let append = links.graph.ops.iter().position(append)?;
    let (linear, &Op::Linear { x: normed, bias: Some(_), .. }) = links.made_by(dt.value)? else { return None };
    let norm = |value: ValueId, reader: usize| {
        let (norm, op) = links.made_by(value)?;
        let &Op::Norm { x: base, .. } = op else { return None };
        (links.is_plain_norm(op) && links.only_reader(value, reader)).then_some((norm, base.value))
    };
    let ((dt_norm, from), (b_norm, from_b), (c_norm, from_c)) =
        (norm(normed, linear)?, norm(b.value, index)?, norm(c.value, index)?);
    let &[gate] = links.read_by(out) else { return None };
    let &Op::Gate { gate: z, x: gated, .. } = &links.graph.ops[gate] else { return None };
    let fits = gated.value == out
        && z.value == input.value
        && from == from_b
        && from == from_c
        && links.only_reader(dt.value, index);
    let rank = links.graph.value(normed).width;
    let taps = links.graph.state(*state);
    let taps = if let crate::graph::StateKind::Conv { taps, .. } = taps.kind { taps } else { return None };
    let small = rank <= 256 && b.width <= 16 && taps <= 8;
    (fits && small).then_some(ScanDecode { conv, append, dt_norm, b_norm, c_norm, linear, scan: index, gate })
}

fn delta_decode(links: &Links, index: usize, op: &Op) -> Option<DeltaDecode> {
    let &Op::GatedDelta { q, k, v, beta, dt, heads, key_heads, out, .. } = op else { return None };
    let key_norm = |value: ValueId| {
        let (norm, op) = links.made_by(value)?;
        let &Op::Norm { x, kind: NormKind::L2, groups, eps, weight: None, bias: None, .. } = op else { return None };
        (groups == key_heads && links.only_reader(value, index)).then_some((norm, x.value, eps))
    };
    let ((q_norm, q_from, eps), (k_norm, k_from, k_eps)) = (key_norm(q.value)?, key_norm(k.value)?);
    let &[norm] = links.read_by(out) else { return None };
    let &Op::Norm { x, kind: NormKind::Rms, groups, weight: Some(_), bias: None, out: normed, .. } =
        &links.graph.ops[norm]
    else {
        return None;
    };
    let &[gate] = links.read_by(normed) else { return None };
    let &Op::Gate { gate: z, x: gated, .. } = &links.graph.ops[gate] else { return None };
    // What is read comes from two buffers, and whole results go on.
    let together = [k_from, v.value] == [q_from; 2] && eps == k_eps && [dt.value, z.value] == [beta.value; 2];
    let whole = q.offset == 0 && k.offset == 0 && x == links.graph.whole(out) && gated == links.graph.whole(normed);
    let fits = together && whole && groups == heads && z.value != normed;
    fits.then_some(DeltaDecode { q_norm, k_norm, rule: index, norm, gate })
}

/// Queries and keys that are one value, each head of it normed and rotated.
fn rope_normed(links: &Links, index: usize, op: &Op, spec: &ProgramSpec, layout: &StateLayout) -> Option<Kernel> {
    let &Op::Attention { q, k, v, state, .. } = op else { return None };
    let (rope, &Op::Rope { x: from, heads, .. }) = links.made_by(q.value)? else { return None };
    let (norm, &Op::Norm { x, kind: NormKind::Rms, groups, weight: Some(_), bias: None, .. }) =
        links.made_by(from.value)?
    else {
        return None;
    };
    let append = kv_append(links, index, op, spec, layout)?;
    let whole = from == links.graph.whole(from.value) && links.only_reader(from.value, rope);
    let joined = k.value == q.value && q.offset == 0 && k.offset == q.width && q.width + k.width == x.width;
    let alike = groups == heads && v.value == x.value && (x.width / heads).is_multiple_of(2);
    let alone = links.read_by(q.value).iter().all(|&reader| reader == index || reader == append);
    (whole && joined && alike && alone && links.graph.kv(state)?.heads * (x.width / heads) == k.width)
        .then_some(Kernel::RopeNormed { norm, rope, append })
}

/// The op that keeps what an attention reads, if it may run before: what it overwrites must be out of every
/// reader's sight.
fn kv_append(links: &Links, index: usize, op: &Op, spec: &ProgramSpec, layout: &StateLayout) -> Option<usize> {
    let &Op::Attention { k, v, state, .. } = op else { return None };
    // Only the first reader's group makes the keys; later layers read them.
    if links.read_by(k.value).iter().any(|&r| r < index) {
        return None;
    }
    let append = |op: &Op| matches!(op, Op::KvAppend { state: s, k: kk, v: vv } if *s == state && *kk == k && *vv == v);
    let append = links.graph.ops.iter().position(append)?;
    let kv = links.graph.kv(state)?;
    let room = match (layout.kv(kv).addressing, kv.window) {
        (Addressing::Ring { rows }, Some(window)) => {
            rows >= window + spec.rows || rows >= layout.context.saturating_sub(kv.pinned)
        }
        _ => true,
    };
    room.then_some(append)
}

fn rope_append(links: &Links, index: usize, op: &Op, spec: &ProgramSpec, layout: &StateLayout) -> Option<Kernel> {
    let &Op::Attention { q, k, v, .. } = op else { return None };
    let (query, &Op::Rope { x: q_from, heads, rotary, .. }) = links.made_by(q.value)? else { return None };
    let (key, &Op::Rope { x: k_from, heads: k_heads, rotary: k_rotary, .. }) = links.made_by(k.value)? else {
        return None;
    };
    let append = kv_append(links, index, op, spec, layout).filter(|_| links.only_reader(q.value, index))?;
    let one_value = q_from.value == k_from.value && v.value == q_from.value;
    let head = q_from.width / heads;
    let alike = rotary == k_rotary && head == k_from.width / k_heads && head.is_multiple_of(2);
    (one_value && alike).then_some(Kernel::RopeAppend { query, key, append })
}
