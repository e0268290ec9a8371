//! Tables of what a compiler says of shaders: read, written, compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::Card;

/// Lanes of the waves that RADV counts: one of 64 lanes is two.
const COUNTED_LANES: u64 = 32;

/// Beginning of the line of the document that names the compiler.
const COMPILER: &str = "Compiler: ";

/// Lists of `shaders/permutations` whose values share a row: lists and the name that a row has for them.
const SHARED: [(&str, &str); 2] = [("FORMATS", "{format}"), ("REDUCTIONS", "{reduction}")];

/// Figures of a shader, or the worst of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Figures {
    /// Lanes of a subgroup.
    lanes: u64,
    /// Vector registers of a lane.
    vector: u64,
    /// Scalar registers of a subgroup, before the compiler orders instructions.
    scalar: u64,
    /// Subgroups that a SIMD holds at once.
    waves: u64,
    /// Bytes of a workgroup's memory.
    memory: u64,
    instructions: u64,
    /// Bytes of code.
    code: u64,
    /// Registers spilled and bytes of scratch memory.
    spilled: u64,
}

impl Figures {
    fn read(statistics: &Value) -> Result<Self> {
        let figure = |name: &str| statistics[name].as_u64().with_context(|| format!("the driver tells no `{name}`"));
        let lanes = figure("Subgroup size")?;
        Ok(Self {
            lanes,
            vector: figure("VGPRs")?,
            scalar: figure("Pre-Sched SGPRs")?,
            waves: figure("Subgroups per SIMD")? * COUNTED_LANES / lanes.max(COUNTED_LANES),
            memory: figure("LDS size")?,
            instructions: figure("Instructions")?,
            code: figure("Code size")?,
            spilled: figure("Spilled VGPRs")? + figure("Spilled SGPRs")? + figure("Scratch size")?,
        })
    }

    /// Lanes that a SIMD holds at once.
    fn occupancy(self) -> u64 {
        self.waves * self.lanes
    }

    /// The worse of each.
    fn worst(self, other: Self) -> Self {
        Self {
            lanes: self.lanes.min(other.lanes),
            vector: self.vector.max(other.vector),
            scalar: self.scalar.max(other.scalar),
            waves: self.waves.min(other.waves),
            memory: self.memory.max(other.memory),
            instructions: self.instructions.max(other.instructions),
            code: self.code.max(other.code),
            spilled: self.spilled.max(other.spilled),
        }
    }
}

/// The shaders as compiled for a card.
pub struct Compiled {
    card: Card,
    /// Version of the driver.
    driver: String,
    shaders: BTreeMap<String, Figures>,
}

impl Compiled {
    /// Reads the lines of `xtask-isa`.
    pub fn read(card: Card, lines: &str) -> Result<Self> {
        let mut lines = lines.lines().map(serde_json::from_str::<Value>);
        let first = lines.next().context("no line of the device")??;
        let driver = first["driver"].as_str().context("no version of the driver")?.to_owned();
        let mut shaders = BTreeMap::new();
        for line in lines {
            let line = line?;
            let name = line["shader"].as_str().context("a line without a shader")?;
            shaders.insert(name.to_owned(), Figures::read(&line).with_context(|| name.to_owned())?);
        }
        ensure!(!shaders.is_empty(), "no shader was compiled");
        Ok(Self { card, driver, shaders })
    }
}

/// Shaders that differ only in the format of their numbers and in how lanes are summed.
struct Row {
    /// `linear_rows.norm.{format}.{reduction}.8`
    name: String,
    /// Their number.
    count: u64,
    worst: Figures,
}

/// What the compiler says for all cards.
pub struct Report {
    cards: Vec<Compiled>,
    /// The name that rows have for a value in a shader's name.
    shared: BTreeMap<String, &'static str>,
    /// Folders of shaders.
    folders: Vec<String>,
}

impl Report {
    /// `list`: the text of `shaders/permutations`.
    pub fn new(cards: Vec<Compiled>, list: &str, folders: Vec<String>) -> Result<Self> {
        let mut shared = BTreeMap::new();
        for (list_name, row_name) in SHARED {
            let definition = list.lines().find_map(|line| {
                let (name, values) = line.split_once(":=")?;
                (name.trim() == list_name).then(|| values.trim())
            });
            let values = definition.with_context(|| format!("no list {list_name} in shaders/permutations"))?;
            shared.extend(values.split(',').map(|value| (value.to_owned(), row_name)));
        }
        Ok(Self { cards, shared, folders })
    }

    /// Shaders, once a card.
    pub fn count(&self) -> u64 {
        self.cards.iter().map(|compiled| compiled.shaders.len() as u64).sum()
    }

    /// A line for each card.
    pub fn summary(&self) -> String {
        let line = |compiled: &Compiled| {
            let Some((name, figures)) = compiled.shaders.iter().min_by_key(|(_, figures)| figures.occupancy()) else {
                return String::new();
            };
            format!(
                "{}, {}: {} shaders, on a SIMD at least {} waves of {} lanes ({name})",
                compiled.card.architecture,
                compiled.driver,
                compiled.shaders.len(),
                figures.waves,
                figures.lanes
            )
        };
        self.cards.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Shaders that spill registers or use scratch memory are an error.
    pub fn spills(&self) -> Result<()> {
        let mut names = vec![];
        for compiled in &self.cards {
            let spilling = compiled.shaders.iter().filter(|(_, figures)| figures.spilled > 0);
            names.extend(spilling.map(|(name, _)| format!("{name} on {}", compiled.card.architecture)));
        }
        if !names.is_empty() {
            bail!("shaders that spill registers or use scratch memory: {}", names.join(", "));
        }
        Ok(())
    }

    /// The rows of a card by folder.
    fn rows(&self, compiled: &Compiled) -> BTreeMap<&str, Vec<Row>> {
        let mut rows: BTreeMap<String, Row> = BTreeMap::new();
        for (shader, &figures) in &compiled.shaders {
            let parts = shader.split('.').map(|part| self.shared.get(part).copied().unwrap_or(part));
            let name = parts.collect::<Vec<_>>().join(".");
            let row = rows.entry(name.clone()).or_insert(Row { name, count: 0, worst: figures });
            row.count += 1;
            row.worst = row.worst.worst(figures);
        }
        let mut folders: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
        for row in rows.into_values() {
            folders.entry(self.folder(&row.name)).or_default().push(row);
        }
        folders
    }

    /// The folder of a shader: the longest whose name its own begins with.
    fn folder(&self, shader: &str) -> &str {
        let fitting = self.folders.iter().filter(|folder| shader.starts_with(folder.as_str()));
        fitting.max_by_key(|folder| folder.len()).map_or("", String::as_str)
    }

    /// Text of the document.
    pub fn document(&self) -> String {
        let mut out = INTRODUCTION.to_owned();
        let _ = writeln!(out, "\n{COMPILER}{}", named(&self.cards[0].driver));
        for compiled in &self.cards {
            let Card { architecture, products, family } = &compiled.card;
            let _ = writeln!(out, "\n## {architecture}: {family} ({products})\n\n{HEAD}");
            for (folder, rows) in self.rows(compiled) {
                let _ = writeln!(out, "| **{folder}** | | | | | | | | |");
                for Row { name, count, worst } in rows {
                    let cells = [worst.lanes, worst.vector, worst.scalar, worst.waves]
                        .into_iter()
                        .chain([worst.memory, worst.instructions, worst.code])
                        .map(thousands);
                    let cells = cells.collect::<Vec<_>>().join(" | ");
                    let _ = writeln!(out, "| `{name}` | {count} | {cells} |");
                }
            }
        }
        out
    }

    /// Fewer lanes at once than a document says are an error, and so are rows that it has too many or too few. The reason if it is
    /// of another compiler, with which nothing can be compared.
    pub fn compare(&self, document: &str) -> Result<Option<String>> {
        let compiler = document.lines().find_map(|line| line.strip_prefix(COMPILER)).unwrap_or_default();
        if let Some(other) = self.cards.iter().find(|compiled| compiler != named(&compiled.driver)) {
            return Ok(Some(format!(
                "docs/isa.md is of {compiler} and not of {}: waves are not compared",
                other.driver
            )));
        }
        let mut faults = vec![];
        for compiled in &self.cards {
            let architecture = compiled.card.architecture;
            let mut documented = documented(document, architecture)?;
            for Row { name, worst, .. } in self.rows(compiled).into_values().flatten() {
                match documented.remove(name.as_str()) {
                    None => faults.push(format!("{name} on {architecture} has no row")),
                    Some([lanes, waves]) if worst.occupancy() < waves * lanes => {
                        let now = format!("{} waves of {} lanes", worst.waves, worst.lanes);
                        faults.push(format!("{name} on {architecture}: {now}, not {waves} of {lanes}"));
                    }
                    Some(_) => {}
                }
            }
            faults.extend(documented.keys().map(|name| format!("{name} on {architecture} has a row and no shader")));
        }
        if !faults.is_empty() {
            bail!("docs/isa.md says otherwise (`cargo xtask isa` writes it anew):\n{}", faults.join("\n"));
        }
        Ok(None)
    }
}

/// The compiler of a version of the driver, as the document names it.
fn named(driver: &str) -> String {
    format!("RADV of {driver}")
}

/// Lanes and waves by row, as a document has them for a card.
fn documented<'a>(document: &'a str, architecture: &str) -> Result<BTreeMap<&'a str, [u64; 2]>> {
    let heading = format!("\n## {architecture}:");
    let (_, section) = document.split_once(&heading).with_context(|| format!("docs/isa.md has no {architecture}"))?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows = BTreeMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let figure = |place: usize| cells.get(place)?.parse().ok();
        let figures = figure(LANES).zip(figure(WAVES));
        let (lanes, waves) = figures.with_context(|| format!("docs/isa.md: no row: {line}"))?;
        rows.insert(cells[0].trim_matches('`'), [lanes, waves]);
    }
    Ok(rows)
}

/// Places in a row.
const LANES: usize = 2;
const WAVES: usize = 5;

const HEAD: &str = "\
| shader | of | lanes | VGPRs | SGPRs | waves | LDS, bytes | instructions | code, bytes |
|---|---:|---:|---:|---:|---:|---:|---:|---:|";

const INTRODUCTION: &str = "\
# Shaders on AMD's cards

Every shader of the project (`shaders/permutations`) as the compiler of a real card makes it. No card was needed: RADV, Mesa's
driver for AMD's cards, opens a null device of a family that `RADV_FORCE_FAMILY` names, and its compiler, ACO, makes the code
that such a card would run. `cargo xtask isa` writes this file with the driver that `cargo xtask setup` installs, in some 20
seconds of a CPU core a card, and faster when Mesa has the shaders in its cache. `cargo xtask isa --check`, which is also a
stage of `cargo xtask test`, fails if a shader spills registers, uses scratch memory, or has fewer lanes on a SIMD than here
(with the same version of Mesa). The code is that of wgpu's Vulkan backend: `xtask/isa` has naga write SPIR-V with wgpu's
options and asks the driver for the pipeline's statistics (`VK_KHR_pipeline_executable_properties`). wgpu itself cannot open a
null device, as it submits work to it.

A row is one kernel: `{format}` stands for all formats of weights, or of keys and values, and `{reduction}` for sums by
subgroups and by trees; *of* is the number of shaders in the row, and each figure the worst of them. *Lanes* are those of a
wave (a subgroup), as the driver chooses. *VGPRs* are vector registers of a lane, as they are allocated; *SGPRs* are the
scalar registers that are live at once before the compiler orders instructions (a wave is always allocated 128). *Waves* are
those that a SIMD holds at once, by registers and by the workgroup's memory (*LDS*), of at most 16; RADV's own figure counts a
wave of 64 lanes as two. The more of them, the more of the memory's latency is hidden. Instructions are those of the whole
kernel, however often they run.

Time is not seen here: neither the memory's bandwidth, latency and caches, nor how often a loop runs, nor conflicts in LDS,
nor the start of a kernel. A kernel with fewer waves may be the faster one, if it reads less. `selvedge bench --profile` times
kernels on a card.
";

/// A number with commas.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "FORMATS    := f32,q4\nREDUCTIONS := tree,subgroup\n";

    /// `counted`: waves as RADV counts them.
    fn line(shader: &str, counted: u64, spilled: u64) -> String {
        format!(
            "{{\"shader\":\"{shader}\",\"Subgroup size\":64,\"VGPRs\":48,\"Pre-Sched SGPRs\":20,\"LDS size\":0,\
             \"Subgroups per SIMD\":{counted},\"Instructions\":1234,\"Code size\":5678,\"Spilled VGPRs\":{spilled},\
             \"Spilled SGPRs\":0,\"Scratch size\":0}}\n"
        )
    }

    fn report(driver: &str, lines: &[String]) -> Report {
        let card = Card { family: "navi31", architecture: "RDNA 3", products: "cards" };
        let lines = format!("{{\"device\":\"a card\",\"driver\":\"{driver}\"}}\n{}", lines.concat());
        let compiled = Compiled::read(card, &lines).expect("lines");
        let folders = ["conv", "conv_append", "linear"].map(str::to_owned).to_vec();
        Report::new(vec![compiled], LIST, folders).expect("lists")
    }

    #[test]
    fn formats_share_a_row_with_their_worst() {
        let lines = [line("linear_rows.q4.tree.8", 12, 0), line("linear_rows.f32.subgroup.8", 32, 0)];
        let document = report("Mesa 25", &lines).document();
        assert!(document.contains("| **linear** |"), "{document}");
        let row = "| `linear_rows.{format}.{reduction}.8` | 2 | 64 | 48 | 20 | 6 | 0 | 1,234 | 5,678 |";
        assert!(document.contains(row), "{document}");
    }

    #[test]
    fn a_shader_lies_in_the_longest_folder() {
        let report = report("Mesa 25", &[line("conv", 16, 0)]);
        assert_eq!(report.folder("conv_append"), "conv_append");
        assert_eq!(report.folder("conv_decode"), "conv");
    }

    #[test]
    fn fewer_waves_and_other_rows_are_faults() {
        let before = report("Mesa 25", &[line("conv", 12, 0)]);
        let document = before.document();
        assert_eq!(before.compare(&document).expect("the same"), None);
        assert_eq!(report("Mesa 25", &[line("conv", 14, 0)]).compare(&document).expect("more waves"), None);
        let fewer = report("Mesa 25", &[line("conv", 10, 0)]).compare(&document).expect_err("fewer waves");
        assert!(fewer.to_string().contains("conv on RDNA 3: 5 waves of 64 lanes, not 6 of 64"), "{fewer}");
        let other = report("Mesa 25", &[line("linear", 12, 0)]).compare(&document).expect_err("another shader");
        assert!(other.to_string().contains("linear on RDNA 3 has no row"), "{other}");
        assert!(other.to_string().contains("conv on RDNA 3 has a row and no shader"), "{other}");
        let skipped = report("Mesa 26", &[line("conv", 10, 0)]).compare(&document).expect("another compiler");
        assert!(skipped.is_some_and(|reason| reason.contains("Mesa 26")));
    }

    #[test]
    fn spills_are_named() {
        report("Mesa 25", &[line("conv", 12, 0)]).spills().expect("none");
        let error = report("Mesa 25", &[line("conv", 12, 4)]).spills().expect_err("four registers");
        assert!(error.to_string().contains("conv on RDNA 3"), "{error}");
    }
}
