//! Checkpoints as `transformers` writes them load without conversion and say what `transformers` says.
//! `cargo xtask test --all` makes them (`tools/goldens/pretrained.py`) and names their folder in
//! SELVEDGE_PRETRAINED.

mod support;

use std::path::Path;

use selvedge::backend::Outputs;
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::engine::GenerateOptions;
use support::{Golden, Setting, generate, load, places, wait};

/// Families that the script makes.
const FAMILIES: usize = 11;
/// Largest difference of a logit on the CPU, relative to the largest logit.
const TOLERANCE: f32 = 3e-4;
/// Where the best two logits are closer, either may be chosen.
const GAP: f32 = 1e-2;

#[test]
fn what_transformers_writes_is_read_as_it_is() {
    let Some(folder) = std::env::var_os("SELVEDGE_PRETRAINED") else {
        println!("not tested: SELVEDGE_PRETRAINED names no folder");
        return;
    };
    let mut families: Vec<_> = std::fs::read_dir(Path::new(&folder))
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    families.sort();
    assert_eq!(families.len(), FAMILIES, "{families:?}");
    for place in places() {
        for family in &families {
            let name = family.file_name().expect("a name").to_string_lossy().into_owned();
            let checkpoint = wait(Checkpoint::open(Folder::open(family).expect("a folder"))).expect("a checkpoint");
            let mut engine = load(&place, &checkpoint, Setting::default());
            let expected = Golden::read(&family.join("expected.safetensors"));
            let (prompt, wanted) = (expected.ids("input_ids"), &expected.get("logits").data);
            let slot = engine.open().expect("a slot");
            let step = engine.feed(slot, &prompt, Outputs::All).expect("a step");
            let logits = wait(engine.logits(&step)).expect("logits");
            engine.close(slot).expect("an open slot");
            assert_eq!(logits.len(), wanted.len(), "{name}");
            let largest = wanted.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
            let off = logits.iter().zip(wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs() / largest));
            println!("{:8} {name:20} {off:.1e} of {:.0e}", place.name, TOLERANCE * place.slack);
            assert!(off <= TOLERANCE * place.slack, "{name} on {}: off by {off:e}", place.name);

            let (tokens, gaps) = (expected.ids("tokens"), &expected.get("gaps").data);
            let certain = gaps.iter().take_while(|&&gap| gap > GAP).count();
            let slot = engine.open().expect("a slot");
            let options = GenerateOptions { max_tokens: certain, ..GenerateOptions::default() };
            let (said, _) = generate(&mut engine, slot, &prompt, &options);
            assert_eq!(said, tokens[..said.len()], "{name} on {}", place.name);
        }
    }
}
