// Codes of fp8: FP8 E4M3 (sign, 4 bits of exponent of bias 7, 3 of mantissa), divided by 256 as the format has it, so that
// 2^(exponent - 15). The bits of a magnitude are at those of an f32 whose exponent is 112 more. A code without an exponent then
// has one that is not its own, 2^-15, and half its mantissa: twice that less 2^-14 is the number. No step is a subnormal f32,
// which devices may flush.
fn unpack_codes(codes: u32) -> vec4<f32> {
    let bytes = (vec4(codes) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
    let whole = bitcast<vec4<f32>>(((bytes & vec4(127u)) + vec4(112u << 3u)) << vec4(20u));
    let magnitude = select(whole, 2.0 * whole - vec4(0.00006103515625), (bytes & vec4(120u)) == vec4(0u));
    return select(magnitude, -magnitude, bytes >= vec4(128u));
}
