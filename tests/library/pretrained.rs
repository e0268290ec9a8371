//! Checkpoints as `transformers` writes them load without conversion and say what `transformers` says.
//! `cargo xtask test --all` makes them (`tools/goldens/pretrained.py`) and names their folder in
//! SELVEDGE_PRETRAINED.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::support::{Golden, Place, Setting, Worst, compare_scores, generate, load, places, wait};
use selvedge::backend::Outputs;
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::generate::GenerateOptions;
use selvedge::runtime::Purpose;

/// Families that the script makes, and those of them with a head that gives scores.
const FAMILIES: usize = 12;
const JUDGES: usize = 4;
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
    let (families, judges) = (folders(&folder, "words", FAMILIES), folders(&folder, "scores", JUDGES));
    for place in places() {
        for family in &families {
            let (name, checkpoint) = open(family);
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
        for judge in &judges {
            judged(&place, judge);
        }
    }
}

/// The checkpoints that the script put below `kind`.
fn folders(root: &OsStr, kind: &str, count: usize) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new(root).join(kind)).expect("the folder");
    let mut folders: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    folders.sort();
    assert_eq!(folders.len(), count, "{folders:?}");
    folders
}

fn open(folder: &Path) -> (String, Checkpoint) {
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    (name, wait(Checkpoint::open(Folder::open(folder).expect("a folder"))).expect("a checkpoint"))
}

/// A model for sequence classification gives the scores that `transformers` gives.
fn judged(place: &Place, folder: &Path) {
    let (name, checkpoint) = open(folder);
    let mut engine = load(place, &checkpoint, Setting { purpose: Purpose::Score, ..Setting::default() });
    let expected = Golden::read(&folder.join("expected.safetensors"));
    let mut worst = Worst::new(format!("{:8} {name}'s scores", place.name), TOLERANCE * place.slack);
    assert_eq!(compare_scores(&mut worst, place.name, &mut engine, &expected), 3);
    worst.finish();
}
