//! Time of each kind of scan over 64 to 4096 rows, alone on a GPU, as JSON:
//!
//!     cargo run --example scan > scan.json
//!     python3 tools/bench/scan.py scan.json docs/scan.svg
//!
//! Every length is a step of its own. Lengths take turns, several rounds of them, so that whatever else the machine
//! does meets them all; `ms` has what each round took.

mod alone;

use std::time::Instant;

use alone::{Alone, Kind, plausible};
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::webgpu::{WebGpuBackend, WebGpuOptions};
use serde_json::json;

const LENGTHS: [usize; 7] = [64, 128, 256, 512, 1024, 2048, 4096];
const ROUNDS: usize = 5;
/// Rows that one measurement reads at least, in as many steps as that takes.
const ROWS: usize = 512;

/// Sizes of Falcon-H1-0.5B's Mamba-2 and close to those of a layer of Hymba and of a quarter of a layer of Qwen3.5-0.8B.
const KINDS: [(&str, Kind); 3] = [
    ("Mamba-2 (SSD), 16 heads of 64 x 128", Kind::Mamba2 { heads: 16, columns: 64, groups: 1, states: 128 }),
    ("Mamba-1, 3200 channels of 16", Kind::Mamba1 { channels: 3200, states: 16 }),
    ("gated delta rule, 4 heads of 128 x 128", Kind::GatedDelta { heads: 4, keys: 128, values: 128 }),
];

/// Largest difference to the formula in order, over [`CHECKED`] rows, relative to the largest number.
const TOLERANCE: f32 = 2e-5;
const CHECKED: usize = 200;

/// Largest difference between the scan and its CPU reference.
fn off(alone: &mut Alone, kind: Kind, make: impl Fn(&str, usize) -> Vec<f32> + Copy) -> selvedge::backend::Result<f32> {
    let mut reference = pollster::block_on(Alone::new(Box::new(CpuBackend::reference()), kind, CHECKED, make))?;
    let scan = reference.rehearse(CHECKED, make)?;
    let wanted = pollster::block_on(reference.result(&scan))?;
    let scan = alone.rehearse(CHECKED, make)?;
    let got = pollster::block_on(alone.result(&scan))?;
    let largest = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    Ok(got.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs())) / largest)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut results = vec![];
    for (name, kind) in KINDS {
        let keys = if let Kind::GatedDelta { keys, .. } = kind { keys } else { 1 };
        let make = |name: &str, count: usize| plausible(name, count, keys);
        let options = WebGpuOptions { self_test: false, ..WebGpuOptions::default() };
        let backend = Box::new(pollster::block_on(WebGpuBackend::new(&options))?);
        let longest = LENGTHS[LENGTHS.len() - 1];
        let mut alone = pollster::block_on(Alone::new(backend, kind, longest, make))?;
        let off = off(&mut alone, kind, make)?;
        if off.is_nan() || off > TOLERANCE {
            return Err(format!("{name} is off by {off:e} from the formula").into());
        }
        let mut scans = vec![];
        for rows in LENGTHS {
            let scan = alone.rehearse(rows, make)?;
            pollster::block_on(alone.run(&scan, 1))?;
            scans.push((rows, scan, vec![]));
        }
        for _ in 0..ROUNDS {
            for (rows, scan, ms) in &mut scans {
                let times = ROWS.div_ceil(*rows);
                let begun = Instant::now();
                pollster::block_on(alone.run(scan, times))?;
                ms.push(begun.elapsed().as_secs_f64() * 1e3 / times as f64);
            }
        }
        for (rows, _, ms) in scans {
            results.push(json!({ "scan": name, "device": alone.device(), "rows": rows, "ms": ms }));
        }
    }
    println!("{:#}", json!(results));
    Ok(())
}
