//! `cargo xtask isa`: registers, occupancy and code of every shader on AMD's cards, by the cards' own compiler. No card is
//! needed: RADV, Mesa's driver, opens a null device of a family that it is told, and compiles for it.

mod table;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::drivers::{self, Driver};
use crate::tally::Tally;
use crate::{shaders, shell};
use table::{Compiled, Report};

/// Compile every shader for AMD's cards and write docs/isa.md: registers, occupancy, memory of workgroups, instructions.
#[derive(clap::Args)]
pub struct Arguments {
    /// Write nothing; fail if a shader spills registers or a SIMD holds fewer lanes of it than docs/isa.md says.
    #[arg(long)]
    check: bool,
}

/// The document.
const DOCUMENT: &str = "docs/isa.md";

/// The list of shaders.
const PERMUTATIONS: &str = "shaders/permutations";

/// The variable by which RADV is told to open a null device, and of which family.
const FAMILY: &str = "RADV_FORCE_FAMILY";

/// A card that shaders are compiled for.
pub struct Card {
    /// RADV's name of its family.
    family: &'static str,
    /// AMD's name of its architecture.
    pub architecture: &'static str,
    /// Graphics cards of that family.
    pub products: &'static str,
}

const CARDS: [Card; 2] = [
    Card { family: "navi21", architecture: "RDNA 2", products: "Radeon RX 6800 to 6950 XT" },
    Card { family: "navi31", architecture: "RDNA 3", products: "Radeon RX 7900" },
];

pub fn run(arguments: &Arguments) -> Result<()> {
    let report = report(&driver()?.context("no RADV, Mesa's driver for AMD's cards: run `cargo xtask setup`")?)?;
    println!("{}", report.summary());
    if arguments.check {
        let reason = check(&report)?.unwrap_or_else(|| format!("occupancy is at least that of {DOCUMENT}"));
        println!("nothing spills; {reason}");
        return Ok(());
    }
    let document = shell::root().join(DOCUMENT);
    std::fs::write(&document, report.document()).with_context(|| document.display().to_string())?;
    println!("written to {DOCUMENT}");
    report.spills()
}

/// The stage of the tests: every shader on every card.
pub fn test(tally: &mut Tally) -> Result<()> {
    let Some(driver) = driver()? else {
        tally.skip("no RADV on this system", 1);
        return Ok(());
    };
    let report = report(&driver)?;
    println!("{}", report.summary());
    if let Some(reason) = check(&report)? {
        tally.skip(&reason, 1);
    }
    tally.pass(report.count());
    Ok(())
}

/// Refuses spills and compares with the document; why it could not be compared.
fn check(report: &Report) -> Result<Option<String>> {
    report.spills()?;
    let path = shell::root().join(DOCUMENT);
    let document = std::fs::read_to_string(&path).with_context(|| format!("{DOCUMENT}: run `cargo xtask isa`"))?;
    report.compare(&document)
}

/// RADV, where there is Vulkan as Linux has it.
fn driver() -> Result<Option<Driver>> {
    if cfg!(target_os = "linux") { drivers::radv() } else { Ok(None) }
}

/// Compiles every shader for every card.
fn report(driver: &Driver) -> Result<Report> {
    let folder = shaders::write()?;
    // With the example, as tests are built: what the libraries need for tests is another build of some.
    let targets = ["--quiet", "--example", "shaders", "--bin", "xtask-isa"];
    shell::run(shell::workspace("build").args(targets))?;
    let program = shell::root().join("target/debug/xtask-isa");
    let began = Instant::now();
    // Each card has a process of its own, because RADV reads its family from the environment.
    let cards = std::thread::scope(|scope| {
        let (folder, program) = (&folder, &program);
        let threads = CARDS.map(|card| scope.spawn(move || compile(card, driver, program, folder)));
        let joined =
            threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("the thread of a card has panicked")));
        joined.collect::<Result<Vec<Compiled>>>()
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let list = std::fs::read_to_string(shell::root().join(PERMUTATIONS)).context(PERMUTATIONS)?;
    let mut folders = vec![];
    for entry in std::fs::read_dir(shell::root().join("shaders"))? {
        folders.push(entry?.file_name().to_string_lossy().into_owned());
    }
    println!("compiled for {} cards in {seconds:.0} s", cards.len());
    Report::new(cards, &list, folders)
}

/// Compiles every shader for a card.
fn compile(card: Card, driver: &Driver, program: &Path, folder: &Path) -> Result<Compiled> {
    let mut command = Command::new(program);
    driver.choose(&mut command);
    let lines = shell::read(command.arg(folder).env(FAMILY, card.family))?;
    Compiled::read(card, &lines)
}
