//! The uniforms of every shader, as the shader declares them. A test holds each to what naga reads out
//! of the WGSL, field by field.

/// Declares `#[repr(C)]` parameter structs together with the list of their fields.
macro_rules! params {
    ($($(#[$doc:meta])* $name:ident for $($shader:literal),+ { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
            pub(super) struct $name { $(pub $field: $type),* }
        )*

        /// Name of the struct, prefix of the shaders it belongs to, fields with offsets.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &[&str], &[(&str, usize)])] = &[
            $((stringify!($name), &[$($shader),+], &[$((stringify!($field), std::mem::offset_of!($name, $field))),*])),*
        ];
    };
}

/// "Not there", for offsets into `vectors`.
pub(super) const NONE: u32 = u32::MAX;

params! {
    /// `shaders/embed/embed.wgsl`
    Embed for "embed" { chunks: u32, columns: u32, pitch: u32, first: u32, rows: u32, scale: f32 }
    /// `shaders/norm/norm.wgsl`
    Norm for "norm" {
        kind: u32, groups: u32, width: u32, x_pitch: u32, x_offset: u32, out_pitch: u32,
        weight_at: u32, weight_len: u32, bias_at: u32, outputs: u32, eps: f32,
    }
    /// `shaders/linear/rows.wgsl` with any of `shaders/shared/input_*.wgsl`
    LinearRows for "linear_rows" {
        chunks: u32, columns: u32, rows: u32, out_pitch: u32, out_offset: u32, bias_at: u32,
        x_pitch: u32, x_offset: u32, second_pitch: u32, second_offset: u32, norm_at: u32, second_norm_at: u32,
        taps: u32, kernel_at: u32, kernel_bias_at: u32, function: u32, sum_pitch: u32,
        addend_pitch: u32, addend_offset: u32, groups: u32, eps: f32, scale: f32, addend_scale: f32,
    }
    /// `shaders/linear/pair.wgsl` with `shaders/shared/input_plain.wgsl` or `input_gate.wgsl`
    LinearPair for "linear_pair" {
        chunks: u32, columns: u32, y_chunks: u32, y_columns: u32, rows: u32, quad: u32, second_quad: u32,
        out_pitch: u32, out_offset: u32, x_pitch: u32, x_offset: u32, second_pitch: u32, second_offset: u32,
        y_pitch: u32, function: u32, scale: f32,
    }
    /// `shaders/linear/tile.wgsl`
    LinearTile for "linear_tile" {
        chunks: u32, columns: u32, rows: u32, x_pitch: u32, out_pitch: u32, out_offset: u32, bias_at: u32,
        capacity: u32, outputs: u32,
    }
    /// `shaders/gate/gate.wgsl`
    Gate for "gate" {
        width: u32, gate_pitch: u32, gate_offset: u32, x_pitch: u32, x_offset: u32, out_pitch: u32,
        function: u32, outputs: u32,
    }
    /// `shaders/activation/activation.wgsl`
    Activation for "activation" {
        width: u32, x_pitch: u32, x_offset: u32, out_pitch: u32, function: u32, outputs: u32, scale: f32,
    }
    /// `shaders/add/add.wgsl`
    Add for "add" {
        width: u32, a_pitch: u32, a_offset: u32, b_pitch: u32, b_offset: u32, out_pitch: u32,
        outputs: u32, scale: f32,
    }
    /// `shaders/conv/conv.wgsl`, `shaders/conv/decode.wgsl`
    Conv for "conv", "conv_decode" {
        channels: u32, taps: u32, x_pitch: u32, x_offset: u32, out_pitch: u32, kernel_at: u32, bias_at: u32,
        function: u32,
    }
    /// `shaders/conv_append/conv_append.wgsl`
    ConvAppend for "conv_append" { channels: u32, before: u32, x_pitch: u32, x_offset: u32 }
    /// `shaders/rope/rope.wgsl`
    Rope for "rope" { width: u32, head: u32, pairs: u32, x_pitch: u32, x_offset: u32, out_pitch: u32 }
    /// `shaders/attention/attention.wgsl`
    Attention for "attention" {
        heads: u32, kv_heads: u32, key_width: u32, value_width: u32,
        q_pitch: u32, q_offset: u32, k_pitch: u32, k_offset: u32, v_pitch: u32, v_offset: u32, out_pitch: u32,
        pinned: u32, ring: u32, window: u32, decode_window: u32, pages_per_slot: u32, scale: f32,
    }
    /// `shaders/kv_append/kv_append.wgsl`
    KvAppend for "kv_append" {
        key_pairs: u32, value_pairs: u32, k_pitch: u32, k_offset: u32, v_pitch: u32, v_offset: u32,
        pinned: u32, ring: u32, pages_per_slot: u32,
    }
    /// `shaders/rope/append.wgsl`
    RopeAppend for "rope_append" {
        query_pairs: u32, key_pairs: u32, value_pairs: u32, head: u32, pairs: u32, pitch: u32,
        query_offset: u32, key_offset: u32, value_offset: u32, query_pitch: u32, key_pitch: u32,
        pinned: u32, ring: u32, pages_per_slot: u32,
    }
    /// `shaders/rope/normed.wgsl`
    RopeNormed for "rope_normed" {
        heads: u32, key_heads: u32, value_pairs: u32, head: u32, pairs: u32, pitch: u32, offset: u32,
        value_offset: u32, out_pitch: u32, norm_at: u32, norm_pitch: u32, pinned: u32, ring: u32,
        pages_per_slot: u32, eps: f32,
    }
    /// `shaders/selective_scan/decode.wgsl`
    ScanDecode for "selective_scan.decode" {
        channels: u32, rank: u32, chunks: u32, x_pitch: u32, x_offset: u32, z_offset: u32,
        selection_pitch: u32, dt_offset: u32, b_offset: u32, c_offset: u32, out_pitch: u32,
        dt_norm_at: u32, b_norm_at: u32, c_norm_at: u32, dt_bias_at: u32, a_at: u32, d_at: u32,
        taps: u32, kernel_at: u32, kernel_bias_at: u32, function: u32, gate_function: u32,
        dt_eps: f32, b_eps: f32, c_eps: f32,
    }
    /// `shaders/selective_scan`
    SelectiveScan for "selective_scan.step", "selective_scan.chunk_state", "selective_scan.carry", "selective_scan.chunk_output" {
        channels: u32, x_pitch: u32, x_offset: u32, dt_pitch: u32, dt_offset: u32, b_pitch: u32, b_offset: u32,
        c_pitch: u32, c_offset: u32, out_pitch: u32, a_at: u32, d_at: u32,
        chunks_at: u32, chunk_states: u32, decays_at: u32,
    }
    /// `shaders/ssd_scan`
    SsdScan for "ssd_scan.step", "ssd_scan.chunk_state.scalar", "ssd_scan.chunk_state.vector", "ssd_scan.carry",
        "ssd_scan.chunk_output.scalar", "ssd_scan.chunk_output.vector" {
        heads: u32, groups: u32, columns: u32, states: u32, x_pitch: u32, x_offset: u32, dt_pitch: u32, dt_offset: u32,
        b_pitch: u32, b_offset: u32, c_pitch: u32, c_offset: u32, out_pitch: u32, a_at: u32, d_at: u32,
        dt_bias_at: u32, chunks_at: u32, chunk_states: u32, decays_at: u32, dt_low: f32, dt_high: f32,
    }
    /// `shaders/ssd_scan/decode.wgsl`
    SsdDecode for "ssd_scan.decode" {
        heads: u32, groups: u32, columns: u32, states: u32, x_pitch: u32, x_offset: u32, b_offset: u32, c_offset: u32,
        projected_pitch: u32, dt_offset: u32, z_offset: u32, out_pitch: u32, a_at: u32, d_at: u32, dt_bias_at: u32,
        function: u32, dt_low: f32, dt_high: f32,
    }
    /// `shaders/gated_delta/params.wgsl`
    GatedDelta for "gated_delta.gates", "gated_delta.step", "gated_delta.inverse", "gated_delta.carry", "gated_delta.output" {
        heads: u32, key_heads: u32, keys: u32, values: u32, q_pitch: u32, q_offset: u32, k_pitch: u32, k_offset: u32,
        v_pitch: u32, v_offset: u32, beta_pitch: u32, beta_offset: u32, dt_pitch: u32, dt_offset: u32, out_pitch: u32,
        a_at: u32, dt_bias_at: u32, chunks_at: u32, inverses_at: u32, gates_at: u32, scale: f32,
    }
    /// `shaders/gated_delta/decode.wgsl`
    DeltaDecode for "gated_delta.decode" {
        heads: u32, key_heads: u32, keys: u32, values: u32, x_pitch: u32, q_offset: u32, k_offset: u32, v_offset: u32,
        projected_pitch: u32, beta_offset: u32, dt_offset: u32, z_offset: u32, out_pitch: u32, a_at: u32,
        dt_bias_at: u32, norm_at: u32, norm_pitch: u32, function: u32, scale: f32, key_eps: f32, eps: f32,
    }
    /// `shaders/moe_route/moe_route.wgsl`
    MoeRoute for "moe_route" {
        experts: u32, groups: u32, top_groups: u32, top: u32, logits_pitch: u32, logits_offset: u32, out_pitch: u32,
        bias_at: u32, sigmoid: u32, normed: u32, outputs: u32, scale: f32,
    }
    /// `shaders/moe_apply/params.wgsl`
    MoeApply for "moe_apply" {
        experts: u32, top: u32, width: u32, chunks: u32, columns: u32, first: u32, rows: u32, x_pitch: u32,
        routes_pitch: u32, hidden_pitch: u32, sums_pitch: u32, out_pitch: u32, function: u32, gated: u32, added: u32,
        outputs: u32, pairs_at: u32,
    }
    /// `shaders/gather/gather.wgsl`
    Gather for "gather" { width: u32, x_pitch: u32, x_offset: u32, out_pitch: u32 }
    /// `shaders/quantise/quantise.wgsl`
    Quantise for "quantise" {
        columns: u32, groups: u32, record: u32, scales_at: u32, first: u32, rows: u32, skipped: u32, searched: u32,
        scale: f32,
    }
    /// `shaders/sample/freeze.wgsl`
    Freeze for "sample.freeze" { spans_at: u32 }
    /// `shaders/sample/sample.wgsl`
    Sample for "sample" { vocabulary: u32, pitch: u32 }
}

#[cfg(test)]
mod tests {
    use super::super::shaders;

    #[test]
    fn every_uniform_is_laid_out_as_its_shader_reads_it() {
        for shader in shaders::all() {
            let belongs = |prefix: &&str| shader.name == *prefix || shader.name.starts_with(&format!("{prefix}."));
            let found = super::ALL.iter().find(|(_, prefixes, _)| prefixes.iter().any(belongs));
            let (name, _, fields) = found.unwrap_or_else(|| panic!("no parameters for `{}`", shader.name));
            let fields: Vec<(&str, u32)> = fields.iter().map(|&(f, at)| (f, at as u32)).collect();
            assert_eq!(fields, shader.params, "`{name}` against `{}`", shader.name);
        }
    }
}
