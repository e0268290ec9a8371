// A gate for `span` columns, with pitch and offset in single numbers.
@group(0) @binding(2) var<storage, read> gate: array<f32>;               // [rows, gate_pitch]

fn gate_of(gates_at: u32, column: u32) -> Number { return Number(gate[gates_at + column / params.span]); }
