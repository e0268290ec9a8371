//! The emulator shows the faults that it exists to show, and the driver behind which it stands behaves.

#[path = "../emulator/child.rs"]
mod child;

use std::process::Output;

use child::{ORDERS, child, on_emulator};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, LaunchConfig, PushKernelArg};
use selvedge_cuda::{CudaError, Device, Readback, Upload};

/// PTX is not read by the emulator, beyond the names and sizes that it declares.
fn declaring(entry: &str) -> String {
    format!(
        ".version 8.4\n.target sm_80\n.visible .entry {entry}(\n\t.param .align 8 .b8 {entry}_param_0[16]\n)\n{{\nret;\n}}\n"
    )
}

/// Runs a kernel of `emulator/faults` on 64 threads and numbers.
fn run(entry: &str) -> Vec<f32> {
    let context = CudaContext::new(0).expect("the emulator");
    let module = context.load_module(declaring(entry).into()).expect("a module");
    let kernel = module.load_function(entry).expect("a kernel");
    let stream = context.new_stream().expect("a stream");
    let out: CudaSlice<f32> = stream.alloc_zeros(64).expect("memory");
    let length = 64u64;
    let mut parameters = [0u64; 2];
    parameters[0] = address(&out, &stream);
    parameters[1] = length;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the kernels of that folder take an address and a length; what is wrong with them is the emulator's
    // to find.
    unsafe { stream.launch_builder(&kernel).arg(&parameters).launch(config) }.expect("a launch");
    stream.clone_dtoh(&out).expect("the numbers")
}

fn address(slice: &CudaSlice<f32>, stream: &CudaStream) -> u64 {
    cudarc::driver::DevicePtr::device_ptr(slice, stream).0
}

/// What the emulator says in every order in which `entry` is run; the child prints the numbers' verdict.
fn outcomes(test: &str, entry: &str, right: impl Fn(usize) -> f32) -> Vec<Output> {
    let body = || {
        let numbers = run(entry);
        let wrong = numbers.iter().enumerate().filter(|&(i, &x)| x != right(i)).count();
        println!("{wrong} wrong");
    };
    ORDERS.iter().map(|order| child(test, order, body)).collect()
}

fn says(output: &Output, words: &str) -> bool {
    String::from_utf8_lossy(&output.stdout).contains(words) || String::from_utf8_lossy(&output.stderr).contains(words)
}

#[test]
fn a_missing_barrier_gives_wrong_numbers() {
    let all = outcomes("a_missing_barrier_gives_wrong_numbers", "missing_barrier", |i| 63.0 - i as f32);
    assert!(all.iter().all(|output| says(output, "32 wrong")), "{all:?}");
}

#[test]
fn with_the_barrier_every_order_is_right() {
    let all = outcomes("with_the_barrier_every_order_is_right", "with_barrier", |i| 63.0 - i as f32);
    assert!(all.iter().all(|output| says(output, "0 wrong")), "{all:?}");
}

#[test]
fn shared_memory_nobody_wrote_is_not_a_number() {
    let all = outcomes("shared_memory_nobody_wrote_is_not_a_number", "unwritten_shared", |_| 1.0);
    assert!(all.iter().all(|output| says(output, "32 wrong")), "{all:?}");
}

/// The emulator must stop in every order, with these words.
fn stops(test: &str, entry: &str, words: &str) {
    let all = outcomes(test, entry, |_| 0.0);
    for output in &all {
        assert!(!output.status.success() && says(output, words) && says(output, entry), "{output:?}");
    }
}

#[test]
fn a_divergent_collective_is_named() {
    let words = "a collective waits for lanes that have returned";
    stops("a_divergent_collective_is_named", "divergent_collective", words);
}

#[test]
fn different_barriers_are_named() {
    stops("different_barriers_are_named", "different_barriers", "threads wait in different barriers");
}

#[test]
fn a_deadlock_is_named() {
    stops("a_deadlock_is_named", "deadlock", "deadlock");
}

#[test]
fn an_access_past_the_end_is_named() {
    stops("an_access_past_the_end_is_named", "past_the_end", "0 bytes past an allocation of 256");
}

#[test]
fn a_misaligned_access_is_named() {
    stops("a_misaligned_access_is_named", "misaligned", "misaligned access");
}

#[test]
fn an_index_past_a_shared_array_is_named() {
    stops("an_index_past_a_shared_array_is_named", "past_the_array", "index past the end of an array");
}

#[test]
fn memory_runs_out_with_an_error() {
    on_emulator("memory_runs_out_with_an_error", "forward", || {
        let device = Device::open(0).expect("the emulator");
        let error = device.allocate(1 << 40).expect_err("a terabyte");
        assert!(matches!(error, CudaError::OutOfMemory { bytes: 0x100_0000_0000 }), "{error}");
        // The device is still of use.
        device.allocate(1 << 10).expect("a kilobyte");
        assert!(matches!(Device::open(1).err(), Some(CudaError::NoDevice { ordinal: 1, count: 1 })));
    });
}

#[test]
fn words_go_there_and_back_in_order() {
    on_emulator("words_go_there_and_back_in_order", "forward", || {
        let device = Device::open(0).expect("the emulator");
        let mut buffer = device.allocate(64).expect("memory");
        let mut upload = Upload::new(&device, 16).expect("pinned memory");
        let mut copies: Vec<_> = (0..5).map(|_| Readback::new(&device, 16).expect("pinned memory")).collect();
        // Nothing is waited for until all is queued; the two upload sets are reused meanwhile.
        for (i, copy) in copies.iter_mut().enumerate() {
            upload.send(&device, &[i as u32; 16], &mut buffer).expect("an upload");
            copy.start(&device, &buffer, 1 + i).expect("a readback");
        }
        for (i, copy) in copies.iter_mut().enumerate() {
            assert_eq!(copy.wait().expect("words"), vec![i as u32; 1 + i]);
        }
        let error = upload.send(&device, &[0; 17], &mut buffer).expect_err("one word too many");
        assert!(matches!(error, CudaError::OutOfBounds { end: 68, length: 64, .. }), "{error}");
        let mut bytes = [0; 4];
        device.write(&mut buffer, 60, &[1, 2, 3, 4]).expect("a write");
        device.copy_within(&mut buffer, 60..64, 8).expect("a copy");
        device.read(&buffer, 8, &mut bytes).expect("a read");
        assert_eq!(bytes, [1, 2, 3, 4]);
        assert!(device.write(&mut buffer, 61, &bytes).is_err() && device.read(&buffer, 61, &mut bytes).is_err());
    });
}

#[test]
fn without_a_driver_there_is_an_error_and_no_panic() {
    // This process has no emulator. Where there is a real driver, there is nothing to see.
    match Device::open(0) {
        Err(error @ CudaError::NoDriver { .. }) => assert!(error.to_string().contains("libcuda"), "{error}"),
        Err(error) => println!("a driver without a device: {error}"),
        Ok(device) => println!("a real device: {}", device.name()),
    }
}
