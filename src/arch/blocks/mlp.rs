//! Feed-forward blocks.

use super::Names;
use crate::graph::{Function, GraphBuilder, Part, ValueId};

/// `down(silu(gate x) * up x)`; `gate_up` holds the gate's rows, then up's.
pub(crate) fn swiglu(
    g: &mut GraphBuilder,
    names: &Names,
    normed: ValueId,
    width: usize,
    gate_up: Vec<Part>,
    down: Part,
) -> ValueId {
    let gate_up = g.matrix(names.value("gate_up"), gate_up);
    let both = g.linear(names.value("gate_up"), normed, gate_up, None);
    let [gate, up] = g.split(both, [width, width]);
    let gated = g.gate(names.value("gated"), gate, up, Function::Silu);
    let down = g.matrix(names.value("down"), vec![down]);
    g.linear(names.value("ffn"), gated, down, None)
}

/// The same of three tensors `PREFIX.NAME.weight`: gate `[width, hidden]`, up `[width, hidden]`, down `[hidden, width]`.
pub(crate) fn plain_swiglu(
    g: &mut GraphBuilder,
    names: &Names,
    normed: ValueId,
    prefix: &str,
    [gate, up, down]: [&str; 3],
    [width, hidden]: [usize; 2],
) -> ValueId {
    let matrix = |name: &str, rows, columns| names.matrix(&format!("{prefix}{name}.weight"), rows, columns);
    let gate_up = vec![matrix(gate, width, hidden), matrix(up, width, hidden)];
    swiglu(g, names, normed, width, gate_up, matrix(down, hidden, width))
}

/// Usual names of the three.
pub(crate) const GATE_UP_DOWN: [&str; 3] = ["gate_proj", "up_proj", "down_proj"];

/// `down(relu(up x)^2)`, with biases or without.
pub(crate) fn squared_relu(
    g: &mut GraphBuilder,
    names: &Names,
    normed: ValueId,
    [up, down]: [Part; 2],
    biases: Option<[Part; 2]>,
) -> ValueId {
    let [up_bias, down_bias] = match biases {
        Some(biases) => biases.map(|part| Some(g.vector(part))),
        None => [None, None],
    };
    let up = g.matrix(names.value("up"), vec![up]);
    let raised = g.linear(names.value("up"), normed, up, up_bias);
    let squared = g.activation(names.value("squared"), g.whole(raised), Function::SquaredRelu, 1.0);
    let down = g.matrix(names.value("down"), vec![down]);
    g.linear(names.value("ffn"), squared, down, down_bias)
}
