//! Counts of tests, read from what test runners print.

use std::collections::{BTreeMap, BTreeSet};

/// Tests by outcome, and the reasons of those that were skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Tests of which the runner says that they passed, among them those that were skipped early.
    ended_well: u64,
    /// Tests that ended at once, saying why.
    ended_early: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that did not run, and parts of tests that did not.
    pub skipped: u64,
    /// Tests that the runner was told to leave out.
    left_out: u64,
    /// Count of each reason.
    pub reasons: BTreeMap<String, u64>,
    /// Names of tests that failed.
    pub failures: BTreeSet<String>,
}

impl Tally {
    /// Counts what a line says; most say nothing.
    ///
    /// `cargo test` knows of no test that decides by itself to be skipped: such a test prints `skipped: REASON` and
    /// passes, and counts here as skipped instead. `skipped in part: REASON` is of a test whose rest ran.
    pub fn read(&mut self, line: &str) {
        if let Some(reason) = line.strip_prefix("skipped: ") {
            self.ended_early += 1;
            self.skip(reason, 1);
        }
        if let Some(reason) = line.strip_prefix("skipped in part: ") {
            self.skip(reason, 1);
        }
        // `test result: ok. 3 passed; 0 failed; 0 ignored; …`
        if let Some(counts) = line.strip_prefix("test result: ") {
            for part in counts.split([';', '.']) {
                let Some((count, word)) = part.trim().split_once(' ') else { continue };
                self.add(word, count);
            }
        }
        // `ℹ pass 3`
        if let Some((word, count)) = line.strip_prefix("ℹ ").and_then(|rest| rest.split_once(' ')) {
            self.add(word, count);
        }
        // `= 1 failed, 3 passed, 1 skipped in 2.05s =`
        let counts = line.trim_matches(['=', ' ']).rsplit_once(" in ");
        if let Some((counts, _)) = counts.filter(|(_, time)| time.contains("s") && time.starts_with(char::is_numeric)) {
            let counts: Option<Vec<_>> = counts.split(", ").map(|part| part.split_once(' ')).collect();
            for (count, word) in counts.unwrap_or_default() {
                self.add(word, count);
            }
        }
        // `test a::b ... FAILED`, `✖ adds (1.2ms)`, `FAILED folder/file.py::test - why`
        let cargo = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
        let node = line.trim_start().strip_prefix("✖ ").and_then(|rest| rest.strip_suffix("ms)"));
        let node = node.and_then(|rest| rest.rsplit_once(" (")).map(|(name, _)| name);
        let pytest = line.strip_prefix("FAILED ").filter(|rest| rest.contains("::"));
        let pytest = pytest.map(|rest| rest.split(" - ").next().unwrap_or(rest));
        self.failures.extend([cargo, node, pytest].into_iter().flatten().map(str::to_owned));
    }

    fn add(&mut self, word: &str, count: &str) {
        let to = match word {
            "passed" | "pass" => &mut self.ended_well,
            "failed" | "fail" | "cancelled" | "error" | "errors" => &mut self.failed,
            "ignored" | "skipped" | "todo" => &mut self.skipped,
            "filtered out" => &mut self.left_out,
            _ => return,
        };
        *to += count.parse().unwrap_or(0);
    }

    /// Tests that passed.
    pub fn passed(&self) -> u64 {
        self.ended_well.saturating_sub(self.ended_early)
    }

    /// Counts what the runner was told to leave out as skipped.
    pub fn left_to(&mut self, tier: &str) {
        let count = std::mem::take(&mut self.left_out);
        if count > 0 {
            self.skip(&format!("left to {tier}"), count);
        }
    }

    /// Counts what passed outside of a test runner.
    pub fn pass(&mut self, count: u64) {
        self.ended_well += count;
    }

    /// Counts what did not run.
    pub fn skip(&mut self, reason: &str, count: u64) {
        self.skipped += count;
        *self.reasons.entry(reason.to_owned()).or_default() += count;
    }
}

impl std::ops::AddAssign<&Tally> for Tally {
    fn add_assign(&mut self, other: &Self) {
        self.ended_well += other.ended_well;
        self.ended_early += other.ended_early;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures.iter().cloned());
        for (reason, count) in &other.reasons {
            *self.reasons.entry(reason.clone()).or_default() += count;
        }
    }
}

/// The plain line that any reader of test output understands.
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed(), self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> (u64, u64, u64) {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.read(line));
        (tally.passed(), tally.failed, tally.skipped)
    }

    #[test]
    fn reads_cargo_test() {
        let lines = [
            "running 3 tests",
            "test passed ... ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
            "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 1 filtered out; finished in 1.50s",
        ];
        assert_eq!(tally(&lines), (8, 2, 1));
    }

    #[test]
    fn reads_node_test() {
        let lines = ["✔ adds (1.2ms)", "ℹ tests 6", "ℹ pass 3", "ℹ fail 1", "ℹ cancelled 0", "ℹ skipped 2", "ℹ todo 0"];
        assert_eq!(tally(&lines), (3, 1, 2));
    }

    #[test]
    fn reads_pytest() {
        let lines =
            ["server/clients/test_openai.py ..F.s", "===== 1 failed, 226 passed, 2 skipped in 104.35s (0:01:44) ====="];
        assert_eq!(tally(&lines), (226, 1, 2));
        assert_eq!(tally(&["3 passed in 2.05s", "1 error in 0.10s", "2 words in 5 texts"]), (3, 1, 0));
    }

    #[test]
    fn failures_have_names() {
        let mut tally = Tally::default();
        for line in [
            "test gpu::adds ... FAILED",
            "test gpu::subtracts ... ok",
            "✖ a tab closed amid a reply (4625.296168ms)",
            "✖ failing tests:",
            "FAILED server/clients/test_a.py::test_b[c] - AssertionError: no",
        ] {
            tally.read(line);
        }
        let names: Vec<&str> = tally.failures.iter().map(String::as_str).collect();
        assert_eq!(names, ["a tab closed amid a reply", "gpu::adds", "server/clients/test_a.py::test_b[c]"]);
    }

    #[test]
    fn a_test_that_was_skipped_did_not_pass() {
        let lines = [
            "---- webgpu::self_test stdout ----",
            "skipped: WebGPU: there is no adapter",
            "skipped in part: WebGPU: there is no adapter",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        ];
        assert_eq!(tally(&lines), (2, 0, 2));
    }

    #[test]
    fn what_is_left_to_another_tier_is_skipped() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 27 filtered out; finished in 9.02s");
        assert_eq!((tally.passed(), tally.skipped), (7, 0));
        for _ in 0..2 {
            tally.left_to("--all");
        }
        assert_eq!((tally.skipped, tally.reasons["left to --all"]), (27, 27));
    }

    #[test]
    fn tallies_add_up_with_their_reasons() {
        let mut one = Tally::default();
        one.read("skipped in part: no driver");
        let mut two = one.clone();
        two += &one;
        assert_eq!((two.skipped, two.reasons["no driver"]), (2, 2));
        assert_eq!(two.to_string(), "0 passed, 0 failed, 2 skipped");
    }
}
