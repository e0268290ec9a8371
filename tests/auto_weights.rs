//! `--weights auto` takes what fits.

mod support;

use selvedge::backend::cpu::CpuBackend;
use selvedge::checkpoint::{LoadProgress, WeightChoice};
use selvedge::engine::{Engine, EngineError, EngineOptions};
use support::{demo, wait};

fn load(budget: u64) -> Result<Engine, EngineError> {
    let mut progress = |_: LoadProgress| {};
    let options = EngineOptions { budget: Some(budget), context: Some(64), ..EngineOptions::new(&mut progress) };
    wait(Engine::load(&demo::checkpoint(), Box::new(CpuBackend::new()), options))
}

#[test]
fn auto_takes_the_finest_that_fits() {
    // 4.5 MB as they are, 2.5 in 8 bits, 1.5 in 4; work and state take 3.6.
    let mut seen = vec![];
    for budget in [9_000_000, 7_000_000, 5_400_000] {
        let engine = load(budget).expect("it fits");
        println!("{budget} bytes: {:?}, {} bytes of weights", engine.weights(), engine.weight_bytes());
        seen.push(engine.weights());
    }
    assert_eq!(seen, [WeightChoice::Auto, WeightChoice::Q8, WeightChoice::Q4]);
    let error = load(4_000_000).map(|_| ()).expect_err("too little for any");
    assert!(matches!(error, EngineError::Budget { budget: 4_000_000, .. }), "{error}");
}
