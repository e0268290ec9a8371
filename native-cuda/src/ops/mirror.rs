//! Compares the structs and numbers of this side with those of the kernels. g++, which compiles the kernels for the
//! emulator anyway, is given them together with assertions about them.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::images;

/// A field of a struct, and what is true of the type `T` that it has in a kernel.
#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub offset: usize,
    pub there: &'static str,
}

/// A struct that `parameters!` declared.
pub trait Parameters {
    const NAME: &'static str;
    const FIELDS: &'static [Field];
}

/// A type of a field.
pub trait Mirror {
    const THERE: &'static str;
}

macro_rules! mirrors {
    ($($type:ty: $there:literal),* $(,)?) => {
        $(impl Mirror for $type {
            const THERE: &'static str = $there;
        })*
    };
}
mirrors! {
    u64: "std::is_pointer_v<T>",
    u32: "std::is_same_v<T, u32>",
    f32: "std::is_same_v<T, float>",
    Count: "std::is_same_v<T, u32>",
    Function: "std::is_same_v<T, u32>",
    NormKind: "std::is_same_v<T, u32>",
    Step: "std::is_same_v<T, Step>",
    View: "std::is_same_v<T, View>",
    KvRows: "std::is_same_v<T, KvRows>",
}

/// What is known here about a struct of the kernels.
struct Known {
    /// The folder of its kernels.
    op: &'static str,
    name: String,
    size: usize,
    fields: &'static [Field],
}

fn known<P: Parameters>(op: &'static str) -> Known {
    Known { op, name: format!("{}Params", P::NAME), size: size_of::<P>(), fields: P::FIELDS }
}

fn all() -> [Known; 18] {
    [
        known::<Activation>("activation"),
        known::<Add>("add"),
        known::<Attention>("attention"),
        known::<Conv>("conv"),
        known::<ConvAppend>("conv_append"),
        known::<Embed>("embed"),
        known::<Gate>("gate"),
        known::<GatedDelta>("gated_delta"),
        known::<Gather>("gather"),
        known::<KvAppend>("kv_append"),
        known::<Linear>("linear"),
        known::<MoeApply>("moe_apply"),
        known::<MoeRoute>("moe_route"),
        known::<Norm>("norm"),
        known::<Rope>("rope"),
        known::<Sample>("sample"),
        known::<SelectiveScan>("selective_scan"),
        known::<SsdScan>("ssd_scan"),
    ]
}

/// Numbers that the kernels of an op have under these names.
const NUMBERS: &[(&str, &str, u32)] = &[
    ("attention", "WARPS * WARP", attention::THREADS),
    ("gated_delta", "COLUMNS", gated_delta::COLUMNS),
    ("gated_delta", "COLUMNS * PARTS", gated_delta::THREADS),
    ("gated_delta", "PARTS * STATES", gated_delta::MOST_KEYS),
    ("linear", "WARP", WARP),
    ("linear", "FEW", linear::FEW),
    ("linear", "TILE", linear::TILE),
    ("sample", "THREADS", sample::THREADS),
    ("selective_scan", "LANES", selective_scan::LANES),
    ("selective_scan", "LANES * STATES", selective_scan::MOST_STATES),
    ("ssd_scan", "WARP * STATES", ssd_scan::MOST_STATES),
];

/// Fields of the prelude's `Sampler`, and the constants that say which words they are.
const SAMPLER: &[(&str, &str)] = &[
    ("temperature", "TEMPERATURE"),
    ("top_k", "TOP_K"),
    ("top_p", "TOP_P"),
    ("min_p", "MIN_P"),
    ("repetition", "REPETITION"),
    ("frequency", "FREQUENCY"),
    ("presence", "PRESENCE"),
    ("adjusts", "ADJUSTS"),
    ("seed", "SEED"),
    ("drawn", "DRAWN"),
    ("limit", "LIMIT"),
    ("finished", "FINISHED"),
    ("last_token", "LAST_TOKEN"),
    ("end_count", "END_COUNT"),
    ("masked", "MASKED"),
    ("ends", "ENDS"),
];

/// Assertions about a struct.
fn assertions(name: &str, size: usize, fields: &[Field]) -> String {
    let mut text = format!("static_assert(sizeof({name}) == {size}, \"{name}\");\n");
    for Field { name: field, offset, there } in fields {
        let there = there.replace('T', &format!("decltype({name}::{field})"));
        text += &format!("static_assert(offsetof({name}, {field}) == {offset}, \"{name}::{field}\");\n");
        text += &format!("static_assert({there}, \"the type of {name}::{field}\");\n");
    }
    text
}

/// An op's kernels, in a namespace of their own, and assertions about them.
fn unit(op: &str, assertions: &str) -> String {
    format!("namespace of_{op} {{\n#include \"{op}/{op}.cu\"\n{assertions}}}\n")
}

/// Compiles a text, or gives the compiler's words.
fn compile(units: &str) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("g++");
    command.args(["-std=c++20", "-fsyntax-only", "-w", "-x", "c++"]);
    command.arg("-I").arg(root.join("emulator")).arg("-I").arg(root.join("kernels")).arg("-");
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("g++, which the emulator needs too");
    let text = format!("#include <cstddef>\n#include <type_traits>\n#include \"prelude.cuh\"\n{units}");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a compiler that reads");
    let output = child.wait_with_output().expect("a compiler that ends");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

#[test]
fn parameters_and_numbers_are_those_of_the_kernels() {
    let mut units = assertions(View::NAME, size_of::<View>(), View::FIELDS);
    units += &assertions(KvRows::NAME, size_of::<KvRows>(), KvRows::FIELDS);
    units += "static_assert(sizeof(Sampler) == 4 * SAMPLER_WORDS, \"Sampler\");\n";
    for (field, word) in SAMPLER {
        units += &format!("static_assert(offsetof(Sampler, {field}) == 4 * {word}, \"Sampler::{field}\");\n");
    }
    for Known { op, name, size, fields } in all() {
        let mut about = assertions(&name, size, fields);
        for (_, there, here) in NUMBERS.iter().filter(|(of, ..)| *of == op) {
            about += &format!("static_assert({there} == {here}, \"{there} of {op}\");\n");
        }
        units += &unit(op, &about);
    }
    if let Err(words) = compile(&units) {
        panic!("src/ops is not what the kernels have:\n{words}");
    }
}

#[test]
fn exchanged_fields_are_found() {
    let [step, a, b, rest @ ..] = Add::FIELDS else { panic!("fields of Add") };
    let exchanged = [&[*step, Field { name: b.name, ..*a }, Field { name: a.name, ..*b }], rest].concat();
    let words = compile(&unit("add", &assertions("AddParams", size_of::<Add>(), &exchanged))).expect_err("a and b");
    assert!(words.contains("AddParams::a") && words.contains("AddParams::b"), "{words}");
    let wrong = Field { there: f32::THERE, ..*step };
    let words = compile(&unit("add", &assertions("AddParams", size_of::<Add>(), &[wrong]))).expect_err("its type");
    assert!(words.contains("the type of AddParams::step"), "{words}");
}

/// Of every kernel in an op's PTX, for all architectures: bytes of its parameters, and most threads of a block.
fn declared(op: &str) -> Vec<(usize, u32)> {
    let image = images().iter().find(|image| image.op == op).expect("an image");
    let mut kernels = Vec::new();
    for entry in image.ptx.iter().flat_map(|ptx| ptx.split(".entry ").skip(1)) {
        let bytes = entry.split(['[', ']']).nth(1).expect("a size in brackets");
        let threads = entry.split(".maxntid").nth(1).expect("a limit").split(',').next().expect("a number");
        kernels.push((bytes.trim().parse().expect("bytes"), threads.trim().parse().expect("threads")));
    }
    kernels
}

#[test]
fn parameters_and_blocks_are_as_large_here_as_in_the_ptx() {
    assert_eq!(all().len(), images().len());
    for Known { op, size, .. } in all() {
        let threads: &[u32] = match op {
            "attention" => &[attention::THREADS],
            "gated_delta" => &[gated_delta::THREADS],
            "linear" => &[linear::THREADS],
            "moe_apply" => &[moe_apply::THREADS],
            "moe_route" => &[moe_route::THREADS],
            "norm" => &[norm::MOST_THREADS],
            "sample" => &[sample::THREADS, sample::FREEZE_THREADS],
            "selective_scan" => &[selective_scan::THREADS],
            "ssd_scan" => &[ssd_scan::THREADS],
            _ => &[COLUMN_THREADS],
        };
        let declared = declared(op);
        assert!(!declared.is_empty(), "no kernel in the PTX of {op}");
        let fits = |&(bytes, most): &(usize, u32)| bytes == size && threads.contains(&most);
        assert!(declared.iter().all(fits), "{op}: {size} bytes and {threads:?} here, {declared:?} in the PTX");
    }
}
