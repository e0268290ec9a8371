//! Sequences that are forked, taken back, saved and dropped remember what a plain reading of their tokens would.

use crate::support::acts::{random_acts, steps};
use crate::support::cpu;

#[test]
fn sequences_remember_what_a_plain_reading_would() {
    for (seed, case) in ["falcon_h1", "nemotron_h", "qwen3_5", "lfm2", "hymba/caseA"].into_iter().enumerate() {
        random_acts(&cpu(), case, 77 + seed as u32, steps(120));
    }
}
