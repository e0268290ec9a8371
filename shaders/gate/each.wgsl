// A gate for each column.
@group(0) @binding(2) var<storage, read> gate: array<Number>;            // [rows, gate_pitch]

fn gate_of(gates_at: u32, column: u32) -> Number { return gate[gates_at + column]; }
