// Inputs 4 * word .. of `down` for a pair: the function of `hidden`, times its second half where it has two; 0
// past the end.
fn inner(pair: u32, word: u32) -> vec4<f32> {
    var value = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        let column = 4u * word + i;
        if column < params.columns {
            let at = pair * params.hidden_pitch + column;
            value[i] = apply(params.function, hidden[at]);
            if params.gated == 1u { value[i] *= hidden[at + params.columns]; }
        }
    }
    return value;
}
