// A chunk of the input of a linear layer, made column by column; 0 past the end.
fn load_x(row: u32, chunk: u32) -> Eight {
    var value = Eight(vec4(0.0), vec4(0.0));
    for (var i = 0u; i < 4u; i++) {
        let column = 8u * chunk + i;
        if column < params.columns { value.low[i] = input_at(row, column); }
        if column + 4u < params.columns { value.high[i] = input_at(row, column + 4u); }
    }
    return value;
}
