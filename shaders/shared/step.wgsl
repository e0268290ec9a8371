// The step table: what this step does, written by the host before every step.
// Layout in 16-byte words; `capacity` is the number of rows the program was compiled for.
//   table[0]                        rows, spans, outputs, capacity
//   table[1 + row]                  token, slot, position, span
//   table[1 + capacity + span]      slot, first row, first position, rows
//   then the outputs' rows, four to a word; then the chunks (see shared/chunks.wgsl)
@group(0) @binding(1) var<storage, read> table: array<vec4<u32>>;

fn row_count() -> u32 { return table[0][COUNT_ROWS]; }
fn span_count() -> u32 { return table[0][COUNT_SPANS]; }
fn output_count() -> u32 { return table[0][COUNT_OUTPUTS]; }

// token, slot, position, span
fn row_at(row: u32) -> vec4<u32> { return table[TABLE_HEADER / 4u + row]; }

// slot, first row, first position, rows
fn span_at(span: u32) -> vec4<u32> { return table[TABLE_HEADER / 4u + table[0][COUNT_CAPACITY] + span]; }

// The row whose logits output `output` gives.
fn output_row(output: u32) -> u32 {
    return table[TABLE_HEADER / 4u + 2u * table[0][COUNT_CAPACITY] + output / 4u][output % 4u];
}

// Rows in use of a value that has a row for every token (`outputs` = 0) or for every output (1).
fn rows_in_use(outputs: u32) -> u32 { return select(row_count(), output_count(), outputs == 1u); }

// Index over a grid that was wrapped into two dimensions because one holds 65535 workgroups at most.
fn wrapped(workgroup: vec3<u32>, workgroups: vec3<u32>) -> u32 {
    return workgroup.y * workgroups.x + workgroup.x;
}
