//! GGUF files that llama.cpp's own converter wrote, against the numbers of transformers and of llama.cpp.
//! `tests/goldens/README.md` tells what lies where.

use std::collections::BTreeMap;

use crate::support::{Golden, Setting, Worst, folder, load, places, read, tolerance, wait};
use selvedge::checkpoint::{Checkpoint, Folder};

/// Every architecture's folder in `tests/goldens/gguf`, and the golden that it was converted from.
pub fn architectures() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder("gguf")).expect("the folder of GGUF goldens");
    let models = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.join("model.gguf").is_file());
    models
        .map(|path| {
            let meta = std::fs::read(path.join("meta.json")).expect("meta.json");
            let meta: serde_json::Value = serde_json::from_slice(&meta).expect("JSON");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, meta["source"].as_str().expect("a source").to_owned())
        })
        .collect()
}

#[test]
fn every_architecture_gives_its_sources_logits() {
    let architectures = architectures();
    assert!(architectures.len() >= 12, "{architectures:?}");
    for place in places() {
        for (name, source) in &architectures {
            let golden = Golden::open(source);
            let file = folder("gguf").join(name).join("model.gguf");
            let checkpoint = wait(Checkpoint::open(Folder::open(&file).expect("a folder"))).expect(name);
            let mut engine = load(&place, &checkpoint, Setting::default());
            let ids = golden.ids("input_ids");
            let mut worst = Worst::new(format!("{name}.gguf on {}", place.name), tolerance(source) * place.slack);
            let slot = engine.open().expect("a slot");
            let (prompt, decoded) = ids.split_at(ids.len() - 2);
            let mut logits = read(&mut engine, slot, prompt, 64);
            logits.extend(read(&mut engine, slot, decoded, 1));
            worst.compare(name, &logits, &golden.get("logits").data);
            worst.finish();
        }
    }
}
