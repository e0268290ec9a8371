//! Checkpoints as `transformers` writes them load without conversion and say what `transformers` says.
//! `cargo xtask test --all` makes them (`tools/goldens/pretrained.py`) and names their folder in
//! SELVEDGE_PRETRAINED.

mod support;

use std::path::Path;

use selvedge::backend::Outputs;
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::engine::{GenerateOptions, Generation};
use support::{Setting, load, places, wait};

/// Families that the script makes.
const FAMILIES: usize = 11;
/// Largest difference of a logit on the CPU, relative to the largest logit.
const TOLERANCE: f32 = 3e-4;
/// Where the best two logits are closer, either may be chosen.
const GAP: f32 = 1e-2;

fn tensor(bytes: &[u8], name: &str) -> Vec<u8> {
    let file = safetensors::SafeTensors::deserialize(bytes).expect("safetensors");
    file.tensor(name).unwrap_or_else(|_| panic!("no `{name}`")).data().to_vec()
}

fn floats(bytes: &[u8], name: &str) -> Vec<f32> {
    let bytes = tensor(bytes, name);
    bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn ids(bytes: &[u8], name: &str) -> Vec<u32> {
    let bytes = tensor(bytes, name);
    bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect()
}

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
            let expected = std::fs::read(family.join("expected.safetensors")).expect("the expected numbers");
            let (prompt, wanted) = (ids(&expected, "input_ids"), floats(&expected, "logits"));
            let slot = engine.open().expect("a slot");
            let step = engine.feed(slot, &prompt, Outputs::All).expect("a step");
            let logits = wait(engine.logits(&step)).expect("logits");
            engine.close(slot).expect("an open slot");
            assert_eq!(logits.len(), wanted.len(), "{name}");
            let largest = wanted.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
            let off = logits.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs() / largest));
            println!("{:8} {name:20} {off:.1e} of {:.0e}", place.name, TOLERANCE * place.slack);
            assert!(off <= TOLERANCE * place.slack, "{name} on {}: off by {off:e}", place.name);

            let (tokens, gaps) = (ids(&expected, "tokens"), floats(&expected, "gaps"));
            let certain = gaps.iter().take_while(|&&gap| gap > GAP).count();
            let slot = engine.open().expect("a slot");
            let options = GenerateOptions { max_tokens: certain, ..GenerateOptions::default() };
            let mut generation = wait(Generation::start(&mut engine, slot, &prompt, &options)).expect("a prompt");
            let mut said = vec![];
            while let Some(token) = wait(generation.next(&mut engine)).expect("a token") {
                said.push(token);
            }
            assert_eq!(said, tokens[..said.len()], "{name} on {}", place.name);
        }
    }
}
