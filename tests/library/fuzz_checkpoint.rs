//! Damaged checkpoints: open, build and load them, and ask for an error or a model, never a panic.
//!
//! A valid tiny model is damaged by flipped bytes, cuts, splices and swapped numbers, from a seed. Seconds by
//! default; `SELVEDGE_FUZZ_SECONDS` sets the time, `SELVEDGE_FUZZ_SEED` the seed to begin with (a failure prints it).
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::{self, Checkpoint, Memory, SinkError, WeightChoice, WeightSink};
use selvedge::graph::{RowBlock, WeightDesc, WeightId};
use selvedge::state::{KvFormat, StateLayout};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// What a JSON number or literal may turn into.
const VALUES: &[&str] = &[
    "0",
    "1",
    "2",
    "3",
    "7",
    "16",
    "-1",
    "4096",
    "4097",
    "65535",
    "65536",
    "1048576",
    "16777216",
    "268435456",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e308",
    "1e-308",
    "0.5",
    "null",
    "true",
    "false",
    "\"\"",
    "\"silu\"",
    "[]",
    "[[]]",
    "{}",
    "Infinity",
    "-Infinity",
    "NaN",
    "[1,2]",
    "{\"__float__\": \"Infinity\"}",
    "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
];

/// Damages one file.
fn damage(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(8) {
        0 => (0..=random.below(4)).for_each(|_| {
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }),
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            // A piece of itself over another place, or inserted there.
            let (from, to) = (random.below(bytes.len()), random.below(bytes.len()));
            let piece = bytes[from..bytes.len().min(from + random.below(200))].to_vec();
            let end = if random.below(2) == 0 { to } else { bytes.len().min(to + piece.len()) };
            bytes.splice(to..end, piece);
        }
        3 => {
            let at = random.below(bytes.len());
            bytes.splice(at..at, b"[".repeat(random.below(2000)));
        }
        _ => swap_number(bytes, random),
    }
}

/// Replaces one number of a JSON text by something else.
fn swap_number(bytes: &mut Vec<u8>, random: &mut Random) {
    let number = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e');
    let starts: Vec<usize> = (1..bytes.len())
        .filter(|&i| bytes[i].is_ascii_digit() && matches!(bytes[i - 1], b' ' | b'[' | b',' | b':'))
        .collect();
    if starts.is_empty() {
        return;
    }
    let start = *random.pick(&starts);
    let end = start + bytes[start..].iter().take_while(|b| number(b)).count();
    let value = match random.below(4) {
        // Near misses are worth more than nonsense.
        0 => String::from_utf8_lossy(&bytes[start..end]).parse::<u64>().map_or_else(
            |_| "1".into(),
            |n| n.wrapping_add([1, u64::MAX, n, 4, u64::MAX - 3][random.below(5)]).to_string(),
        ),
        _ => (*random.pick(VALUES)).to_owned(),
    };
    bytes.splice(start..end, value.into_bytes());
}

/// A model as two texts and its data.
struct Seed {
    config: Vec<u8>,
    header: Vec<u8>,
    data: Vec<u8>,
}

impl Seed {
    fn read(case: &str) -> Self {
        let read = |file: &str| std::fs::read(format!("tests/goldens/{case}/{file}")).expect("a golden");
        let weights = read("model.safetensors");
        let length = u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
        let (header, data) = weights[8..].split_at(length);
        Self { config: read("config.json"), header: header.to_vec(), data: data.to_vec() }
    }

    /// A damaged copy, in one file or as a shard behind an index.
    fn damaged(&self, random: &mut Random) -> Memory {
        let (mut config, mut header) = (self.config.clone(), self.header.clone());
        let mut length = header.len() as u64;
        let which = random.below(4);
        for _ in 0..=random.below(3) {
            match which {
                0 | 1 => damage(&mut config, random),
                _ => damage(&mut header, random),
            }
        }
        if random.below(20) > 0 {
            length = header.len() as u64;
        }
        let mut weights = length.to_le_bytes().to_vec();
        weights.extend(&header);
        weights.extend(&self.data);
        if which == 3 {
            damage(&mut weights, random);
        }
        let memory = Memory::new().with("config.json", config);
        if random.below(4) > 0 {
            return memory.with("model.safetensors", weights);
        }
        let mut index =
            br#"{"metadata": {"total_size": 7}, "weight_map": {"model.memory_tokens": "a.safetensors"}}"#.to_vec();
        damage(&mut index, random);
        memory.with("model.safetensors.index.json", index).with("a.safetensors", weights)
    }
}

/// Takes everything and keeps nothing, but holds the loader to what it promised.
#[derive(Default)]
struct Null {
    row: usize,
    rows: usize,
}

impl WeightSink for Null {
    type Error = SinkError;

    fn create_weight(&mut self, _: WeightId, desc: &WeightDesc) -> Result<(), SinkError> {
        *self = Self { row: desc.row_bytes(), rows: desc.rows };
        Ok(())
    }

    fn write_weight<'a>(&'a mut self, _: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        assert!(block.bytes.len().is_multiple_of(self.row) && block.first + block.bytes.len() / self.row <= self.rows);
        Box::pin(async { Ok(()) })
    }
}

/// How far a model came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    Nothing,
    Opened,
    Built,
    Loaded,
}

/// Opens, builds and loads what lies in memory.
pub fn run(memory: Memory, choice: WeightChoice) -> Reached {
    let Ok(checkpoint) = pollster::block_on(Checkpoint::open(memory)) else { return Reached::Nothing };
    let Ok(config) = Config::parse(checkpoint.config()) else { return Reached::Opened };
    let Ok(model) = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()) else {
        return Reached::Opened;
    };
    // What `inspect` shows and a backend would allocate: no overflow.
    let layout = StateLayout::new(&model.graph, 1, model.context + model.prefix_tokens.len(), KvFormat::F16);
    assert!(layout.bytes().at(model.context as u64) <= layout.allocated());
    let (mut sink, mut progress) = (Null::default(), |_: checkpoint::LoadProgress| {});
    match pollster::block_on(checkpoint::load(&checkpoint, &model.graph, choice, &mut sink, &mut progress)) {
        Ok(_) => Reached::Loaded,
        Err(_) => Reached::Built,
    }
}

#[test]
fn damaged_checkpoints_are_errors_and_never_panics() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse().expect(name));
    let time = Duration::from_secs(number("SELVEDGE_FUZZ_SECONDS").unwrap_or(3));
    let first = number("SELVEDGE_FUZZ_SEED").unwrap_or(1);
    let seeds = ["hymba/caseA", "falcon_h1_rms"].map(Seed::read);
    let choices = [WeightChoice::Auto, WeightChoice::F16, WeightChoice::Bf16];
    let start = Instant::now();
    let mut reached = [0u64; 4];
    let mut seed = first;
    while start.elapsed() < time || seed - first < 200 {
        let mut random = Random(seed);
        let memory = random.pick(&seeds).damaged(&mut random);
        let choice = *random.pick(&choices);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(memory, choice)));
        let Ok(outcome) = outcome else { panic!("a panic; repeat it with SELVEDGE_FUZZ_SEED={seed}") };
        reached[outcome as usize] += 1;
        seed += 1;
    }
    let [nothing, opened, built, loaded] = reached;
    println!("{} models: {nothing} not opened, {opened} not built, {built} not loaded, {loaded} loaded", seed - first);
    assert!(reached.iter().all(|&n| n > 0), "the damage is of every kind");
}
