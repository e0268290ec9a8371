//! Writes a checkpoint of a preset's size with random bf16 weights: something to load that is as large as the
//! published model.
//!
//! `cargo run --release --example random_checkpoint -- hymba-1.5b FOLDER`

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use selvedge::arch::{self, ArchOptions, Config};
use selvedge::graph::{Map, WeightClass};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [preset, folder] = arguments.as_slice() else { return Err("usage: random_checkpoint PRESET FOLDER".into()) };
    let config = arch::preset(preset).ok_or_else(|| format!("there is no preset `{preset}`"))?;
    let graph = arch::build(&Config::parse(&config)?, None, &ArchOptions::default())?.graph;
    // What a trained model has on average: matrices that keep a vector's length, norms of one, slow decays.
    let mut tensors: BTreeMap<&str, (&[usize], f32, f32)> = BTreeMap::new();
    for recipe in &graph.weights {
        for part in &recipe.parts {
            let (mean, spread) = match (recipe.class, part.map) {
                (_, Map::NegExp) => (0.0, 0.5),
                (_, Map::AddOne) => (0.0, 0.05),
                (WeightClass::Vector, _) => (1.0, 0.05),
                _ => (0.0, (3.0 / recipe.columns as f32).sqrt()),
            };
            tensors.insert(&part.tensor, (&part.shape, mean, spread));
        }
    }
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder)?;
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, (shape, ..)) in &tensors {
        let bytes = 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes]});
        header.insert((*name).into(), entry);
        at += bytes;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join("model.safetensors"))?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut state = 0x9e37_79b9_u32;
    for (shape, mean, spread) in tensors.values() {
        for _ in 0..shape.iter().product::<usize>() {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let uniform = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            file.write_all(&half::bf16::from_f32(mean + spread * uniform).to_le_bytes())?;
        }
    }
    file.flush()?;
    fs::write(folder.join("config.json"), config)?;
    println!("{}: {} tensors, {at} bytes", folder.display(), tensors.len());
    Ok(())
}
