//! What a recurrent state in 8 bits costs: `cargo run --release --example state_precision -- [FOLDER…]`, by default with the
//! demo model.
//!
//! A text is read, the recurrent states are rounded to int8 with a scale a row (the last axis), and the text goes on from
//! them and from the exact ones. Printed is the Kullback-Leibler divergence of the next-token distributions in nats, mean and
//! largest over all places, and the share of places with the same most probable token.

use std::error::Error;
use std::path::{Path, PathBuf};

use selvedge::backend::Outputs;
use selvedge::backend::cpu::CpuBackend;
use selvedge::checkpoint::{Checkpoint, Folder};
use selvedge::runtime::{Engine, EngineOptions};
use selvedge::state::{SlotState, Snapshot, SnapshotError};

/// Tokens read before the state is rounded.
const CUTS: [usize; 4] = [16, 64, 128, 192];
/// Tokens that follow.
const AFTER: usize = 48;

/// The memory as it comes out of a file whose recurrent states are in 8 bits.
fn rounded(snapshot: Snapshot) -> Result<SlotState, SnapshotError> {
    let bytes = Snapshot { rounded: true, ..snapshot }.to_bytes()?;
    Ok(Snapshot::from_bytes(&bytes)?.state)
}

/// The text that a model goes on with from a few of its tokens.
async fn text(engine: &mut Engine) -> Result<Vec<u32>, Box<dyn Error>> {
    let vocabulary = engine.model().vocabulary as u64;
    let (mut ids, mut state) = (vec![], 0x2545_f491_4f6c_dd1d_u64);
    while ids.len() < CUTS[CUTS.len() - 1] + AFTER {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = ((state >> 33) % vocabulary) as u32;
        if engine.check_tokens(&[id]).is_ok() {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Logits `[tokens, vocabulary]` of a text from a memory on.
async fn logits(engine: &mut Engine, state: &SlotState, read: usize, ids: &[u32]) -> Result<Vec<f32>, Box<dyn Error>> {
    let slot = engine.open()?;
    engine.write_state(slot, state, read)?;
    let step = engine.enqueue(slot, ids, Outputs::All)?;
    let logits = engine.logits(&step).await?;
    engine.close(slot)?;
    Ok(logits)
}

/// Divergence of two distributions by their logits, and whether both have the same most probable token.
fn divergence(exact: &[f32], rounded: &[f32]) -> (f64, bool) {
    let log_sum = |logits: &[f32]| {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        f64::from(most) + logits.iter().map(|x| f64::from(x - most).exp()).sum::<f64>().ln()
    };
    let (a, b) = (log_sum(exact), log_sum(rounded));
    let kl = exact.iter().zip(rounded).map(|(x, y)| {
        let (p, q) = (f64::from(*x) - a, f64::from(*y) - b);
        p.exp() * (p - q)
    });
    let best = |logits: &[f32]| (0..logits.len()).max_by(|&i, &j| logits[i].total_cmp(&logits[j]));
    (kl.sum::<f64>().max(0.0), best(exact) == best(rounded))
}

async fn measure(folder: &Path) -> Result<(), Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Folder::open(folder)?).await?;
    let mut progress = |_: selvedge::checkpoint::LoadProgress<'_>| {};
    let options = EngineOptions { context: Some(512), ..EngineOptions::new(&mut progress) };
    let mut engine = Engine::load(&checkpoint, Box::new(CpuBackend::new()), options).await?;
    let ids = text(&mut engine).await?;
    let (mut all, mut same) = (vec![], 0);
    for cut in CUTS {
        let slot = engine.open()?;
        let step = engine.enqueue(slot, &ids[..cut], Outputs::Last)?;
        engine.logits(&step).await?;
        let snapshot = engine.snapshot(slot, &ids[..cut]).await?;
        engine.close(slot)?;
        let (exact, rounded) = (snapshot.state.clone(), rounded(snapshot)?);
        if rounded == exact {
            println!("| {} | no recurrent state | | |", folder.display());
            return Ok(());
        }
        let after = &ids[cut..cut + AFTER];
        let (exact, rounded) =
            (logits(&mut engine, &exact, cut, after).await?, logits(&mut engine, &rounded, cut, after).await?);
        let columns = engine.model().vocabulary;
        for (exact, rounded) in exact.chunks(columns).zip(rounded.chunks(columns)) {
            let (kl, agrees) = divergence(exact, rounded);
            all.push(kl);
            same += usize::from(agrees);
        }
    }
    let name = folder.file_name().map_or(folder.display().to_string(), |name| name.to_string_lossy().into_owned());
    let (mean, most) = (all.iter().sum::<f64>() / all.len() as f64, all.iter().copied().fold(0.0, f64::max));
    println!("| {name} | {mean:.1e} | {most:.1e} | {:.3} |", same as f64 / all.len() as f64);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        folders.push(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo").into());
    }
    println!("| model | mean KL | largest KL | same token |\n|---|---:|---:|---:|");
    for folder in &folders {
        pollster::block_on(measure(folder))?;
    }
    Ok(())
}
