//! Bounds of a template: its source, its nesting, and the steps, bytes and time of one rendering.
//!
//! A template is a program from a stranger. It is stopped before it takes the stack, the memory or the time of its
//! host: every step, every byte made and every level of nesting is counted here.

use std::cell::Cell;

use web_time::{Duration, Instant};

use super::Fault;

/// Bytes of a template's source; published ones have at most about 30,000.
pub(crate) const SOURCE_BYTES: usize = 1 << 20;

/// Levels of nesting of a template's source: blocks in blocks, brackets in brackets.
pub(super) const SOURCE_NESTING: usize = 80;

/// Levels of nesting while rendering: macros that call macros, with all that lies around the calls.
pub(super) const CALL_NESTING: usize = 320;

/// Levels of nesting of a value: lists in lists. JSON is read with at most 128.
pub(super) const VALUE_NESTING: u16 = 150;

/// Scopes in scopes: macros that were made in macros.
pub(super) const SCOPE_NESTING: u16 = 200;

/// Steps of a rendering; published templates take thousands.
const STEPS: u64 = 10_000_000;

/// Bytes that a rendering may make, over and over again, without any input.
const BYTES: u64 = 64 << 20;

/// Bytes that it may make more for each byte of its input: a template that appends to a text copies it each time.
const BYTES_FOR_EACH: u64 = 1000;

/// The most that it may make, whatever the input.
const MOST_BYTES: u64 = 1 << 30;

/// The time of a rendering.
const DEADLINE: Duration = Duration::from_secs(10);

/// The clock is read once in so many steps.
const CLOCK_EVERY: u64 = 1 << 16;

/// The count of what one rendering has taken.
pub(super) struct Meter {
    steps: Cell<u64>,
    next_look: Cell<u64>,
    bytes: Cell<u64>,
    most_bytes: u64,
    began: Instant,
}

impl Meter {
    /// A rendering of so many bytes of input begins.
    pub fn new(input_bytes: usize) -> Self {
        let most_bytes = (input_bytes as u64).saturating_mul(BYTES_FOR_EACH).saturating_add(BYTES).min(MOST_BYTES);
        let began = Instant::now();
        Self { steps: Cell::new(0), next_look: Cell::new(CLOCK_EVERY), bytes: Cell::new(0), most_bytes, began }
    }

    /// Counts steps.
    pub fn step(&self, count: u64) -> Result<(), Fault> {
        let steps = self.steps.get().saturating_add(count);
        self.steps.set(steps);
        if steps > STEPS {
            return Err(Fault::limit(format!("takes more than {STEPS} steps: does it loop without end?")));
        }
        if steps >= self.next_look.get() {
            self.next_look.set(steps + CLOCK_EVERY);
            if self.began.elapsed() > DEADLINE {
                return Err(Fault::limit(format!("takes longer than {} seconds", DEADLINE.as_secs())));
            }
        }
        Ok(())
    }

    /// Counts the reading of a text or a list of such a size.
    pub fn read(&self, size: usize) -> Result<(), Fault> {
        self.step(1 + size as u64 / 32)
    }

    /// Counts bytes that are about to be made.
    pub fn make(&self, bytes: usize) -> Result<(), Fault> {
        let bytes = self.bytes.get().saturating_add(bytes as u64);
        if bytes > self.most_bytes {
            let most = self.most_bytes >> 20;
            return Err(Fault::limit(format!("makes more than {most} MiB of text and values")));
        }
        self.bytes.set(bytes);
        self.step(1)
    }

    /// Counts values of a list that is about to be made.
    pub fn make_items(&self, count: usize) -> Result<(), Fault> {
        self.make(count.saturating_mul(size_of::<super::value::Value>()))?;
        self.step(count as u64 / 8)
    }
}
