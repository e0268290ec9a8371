//! The compiled kernels that the crate carries.

/// The PTX of one op's kernels.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// The op.
    pub op: &'static str,
    /// For each of [`ARCHITECTURES`](crate::compile::ARCHITECTURES).
    pub ptx: [&'static str; 2],
}

macro_rules! carry {
    ($($op:literal)*) => {
        /// One image an op.
        pub const fn images() -> &'static [Image] {
            &[$(Image {
                op: $op,
                ptx: [
                    include_str!(concat!("../ptx/compute_80/", $op, ".ptx")),
                    include_str!(concat!("../ptx/compute_90/", $op, ".ptx")),
                ],
            }),*]
        }
    };
}

carry! {
    "activation" "add" "attention" "conv" "conv_append" "embed" "gate" "gated_delta" "gather" "kv_append" "linear"
    "moe_apply" "moe_route" "norm" "rope" "sample" "selective_scan" "ssd_scan"
}
