//! Opening a device runs its self-test.
use selvedge::backend::webgpu::{WebGpuBackend, WebGpuOptions};
use selvedge::backend::Backend;

#[test]
fn the_self_test_passes() {
    for default_limits in [false, true] {
        for subgroups in [true, false] {
            let options = WebGpuOptions { default_limits, subgroups, ..Default::default() };
            let t = std::time::Instant::now();
            let backend = pollster::block_on(WebGpuBackend::new(&options)).expect("a device that computes rightly");
            println!("{:?} {:?}", backend.info(), t.elapsed());
        }
    }
}
