//! Drafts by the model's own heads: `--speculate`.

use clap::builder::RangedU64ValueParser;

use selvedge::runtime::MOST_DRAFTS;

/// Drafts where no number is given.
const USUAL: &str = "2";

/// Speculation of a command that generates.
#[derive(Clone, Copy, clap::Args)]
pub(crate) struct SpeculateArgs {
    /// Let the model's heads for later tokens (MTP) draft up to N tokens [without a number: 2], which it verifies in one step:
    /// the same text, in fewer steps where they guess well
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = USUAL,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST_DRAFTS as u64)
    )]
    speculate: Option<usize>,
}

impl SpeculateArgs {
    /// Most drafts ahead of a step; 0 without speculation.
    pub(crate) fn drafts(self) -> usize {
        self.speculate.unwrap_or(0)
    }
}
