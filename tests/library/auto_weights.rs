//! `--weights auto` takes what fits.

use crate::support::{demo, wait};
use selvedge::backend::cpu::CpuBackend;
use selvedge::checkpoint::{LoadProgress, WeightChoice};
use selvedge::runtime::{Engine, EngineError, EngineOptions};

fn load(budget: u64) -> Result<Engine, EngineError> {
    let mut progress = |_: LoadProgress| {};
    let options = EngineOptions { budget: Some(budget), context: Some(64), ..EngineOptions::new(&mut progress) };
    wait(Engine::load(&demo::checkpoint(), Box::new(CpuBackend::new()), options))
}

#[test]
fn auto_takes_the_finest_that_fits() {
    let Err(EngineError::Budget { weights, state, workspace, .. }) = load(1) else { panic!("nothing fits one byte") };
    let others = state + workspace;
    let mut seen = vec![];
    // 4.5 MB as they are, 2.5 in 8 bits, 1.5 in 4.
    for room in [4_600_000, 4_000_000, 2_000_000] {
        let engine = load(others + room).expect("it fits");
        println!("{room} bytes: {:?}, {} bytes of weights", engine.weights(), engine.weight_bytes());
        assert!(engine.weight_bytes() <= room);
        seen.push(engine.weights());
    }
    assert_eq!(seen, [WeightChoice::Auto, WeightChoice::Q8, WeightChoice::Q4]);
    let budget = others + weights - 1;
    let error = load(budget).map(|_| ()).expect_err("a byte too few");
    assert!(matches!(error, EngineError::Budget { budget: said, .. } if said == budget), "{error}");
}
