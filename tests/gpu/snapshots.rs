//! Snapshots between the CPU and a GPU, in both directions.

use crate::support::snapshots::{go_on_elsewhere, write_on_elsewhere};
use crate::support::{cpu, families, webgpu_or_skipped};

#[test]
fn a_snapshot_goes_on_across_backends() {
    let Some(gpu) = webgpu_or_skipped() else { return };
    // One of each kind of memory; the kernels of the others are the same.
    let kinds = ["falcon_h1_rms", "lfm2_bias", "nemotron_h_bias", "qwen3_5_gva", "hymba/caseA"];
    for case in families().filter(|case| kinds.contains(case)).chain(["hymba/caseA"]) {
        go_on_elsewhere(&cpu(), &gpu, case, false);
        go_on_elsewhere(&gpu, &cpu(), case, false);
    }
    if !gpu.slow {
        go_on_elsewhere(&gpu, &gpu, "hymba/caseA", true);
    }
}

#[test]
fn a_text_is_written_on_by_the_gpu() {
    let Some(gpu) = webgpu_or_skipped() else { return };
    write_on_elsewhere(&gpu, &gpu, "hymba/caseA");
    if !gpu.slow {
        write_on_elsewhere(&gpu, &gpu, "qwen3_5_gva");
    }
}
