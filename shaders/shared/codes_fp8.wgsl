// Codes of fp8: FP8 E4M3 (sign, 4 bits of exponent of bias 7, 3 of mantissa), divided by 4096 as the format has it, so that
// a code of the exponent e stands for 2^(e - 19). The bits of a magnitude are at those of an f32 whose exponent is 108 more. A code
// without an exponent then has one that is not its own, 2^-19, and half its mantissa: twice that less 2^-18 is the number. No step is a subnormal f32,
// which devices may flush.
fn unpack_codes(codes: u32) -> vec4<f32> {
    let bytes = (vec4(codes) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
    let whole = bitcast<vec4<f32>>(((bytes & vec4(127u)) + vec4(108u << 3u)) << vec4(20u));
    let magnitude = select(whole, 2.0 * whole - vec4(0.000003814697265625), (bytes & vec4(120u)) == vec4(0u));
    return select(magnitude, -magnitude, bytes >= vec4(128u));
}
