//! Mixtures of experts: a router, and of every row's chosen experts a weighted sum.

use super::Names;
use crate::arch::{ArchError, Config, TensorShapes};
use crate::graph::{ExpertChoice, Function, GraphBuilder, Part, Routing, ValueId, View};

/// Most experts of all layers together.
const MOST: usize = 1 << 17;

/// How many experts a config has in each of `layers` layers, and how many a row chooses; without either field, as in
/// `defaults`.
pub(crate) fn expert_counts(
    config: &Config,
    all: &str,
    chosen: &str,
    defaults: [usize; 2],
    layers: usize,
) -> Result<[usize; 2], ArchError> {
    let experts = config.size_within_or(all, MOST, defaults[0])?;
    config.product(all, &[experts, layers.max(1)], MOST)?;
    Ok([experts, config.size_within_or(chosen, experts, defaults[1].min(experts))?])
}

/// The weights of gated experts, `[up, down]` of [`Experts`], under `module`: one tensor of all experts for each
/// (`gate_up_proj`, `down_proj`), as transformers 5 holds them, or three tensors an expert with these names. The
/// checkpoint's tensors tell which; without any it is the former if `packed`.
pub(crate) fn gated_experts(
    names: &Names,
    tensors: Option<&TensorShapes>,
    module: &str,
    [gate, up, down]: [&str; 3],
    packed: bool,
    [experts, width, hidden]: [usize; 3],
) -> [Vec<Part>; 2] {
    let all = |what: &str| format!("{module}{what}");
    let one = |expert: usize, what: &str| format!("{module}{expert}.{what}.weight");
    let holds = |name: String| tensors.is_some_and(|tensors| tensors.contains_key(&names.tensor(&name)));
    if holds(all("gate_up_proj")) || (packed && !holds(one(0, gate))) {
        let part = |what: &str, rows, columns| vec![Part::all(names.tensor(&all(what)), &[experts, rows, columns])];
        return [part("gate_up_proj", 2 * width, hidden), part("down_proj", hidden, width)];
    }
    let of = |expert| [gate, up].map(|what| names.matrix(&one(expert, what), width, hidden));
    let back = |expert| names.matrix(&one(expert, down), hidden, width);
    [(0..experts).flat_map(of).collect(), (0..experts).map(back).collect()]
}

/// Appends the router: of `rows`, the first one an expert gives the experts' logits.
pub(crate) fn router(g: &mut GraphBuilder, names: &Names, normed: ValueId, rows: Vec<Part>) -> ValueId {
    let router = g.high_precision(names.value("router"), rows);
    g.linear(names.value("router"), normed, router, None)
}

/// A mixture of experts of one layer.
pub(crate) struct Experts {
    pub experts: usize,
    /// The number of experts chosen, and among which.
    pub choice: ExpertChoice,
    pub routing: Routing,
    /// Added to what is compared.
    pub bias: Option<Part>,
    /// One expert's rows after the other's; if `gated`, what goes through the function comes first.
    pub up: Vec<Part>,
    /// The same, back.
    pub down: Vec<Part>,
    pub function: Function,
    pub gated: bool,
}

impl Experts {
    /// Appends it, behind the [`router`] that gave `logits`. The experts read `x`.
    pub fn build(self, g: &mut GraphBuilder, names: &Names, logits: View, x: ValueId) -> ValueId {
        let bias = self.bias.map(|part| g.vector(part));
        let routes = g.moe_route(names.value("routes"), logits, bias, self.routing, self.choice);
        let up = g.matrix(names.value("experts_up"), self.up);
        let down = g.matrix(names.value("experts_down"), self.down);
        g.moe_apply(names.value("experts"), x, routes, [up, down], self.experts, self.function, self.gated)
    }
}
