//! Options of commands that keep what a model remembers in a folder.

use std::path::PathBuf;

use bytesize::ByteSize;

use crate::error::CommandError;
use selvedge::generate::Chat;
use selvedge::generate::prompt_cache::{FolderStore, StoreOptions};
use selvedge::runtime::Engine;

/// A folder of states, if one is wanted.
#[derive(Clone, clap::Args)]
pub(crate) struct CacheArgs {
    /// Keep what the model remembers of all conversations in a folder, for later runs
    #[arg(long, value_name = "FOLDER")]
    cache_dir: Option<PathBuf>,
    /// Most bytes of that folder: 500MB, 4GiB
    #[arg(long, value_name = "SIZE", default_value = "4GiB", requires = "cache_dir")]
    cache_limit: ByteSize,
    /// Keep recurrent states there in 32 bits, not in 8: answers after a restart are those of an unbroken run, bit for bit
    #[arg(long, requires = "cache_dir")]
    cache_exact: bool,
}

impl CacheArgs {
    /// Whether there is a folder.
    pub(crate) fn is_given(&self) -> bool {
        self.cache_dir.is_some()
    }

    /// Lets conversations be kept in the folder, if there is one. What is wrong in it is among the cache's notices.
    pub(crate) async fn keep(&self, engine: &Engine, chat: &mut Chat) -> Result<(), CommandError> {
        let Some(folder) = &self.cache_dir else { return Ok(()) };
        let options = StoreOptions { limit: self.cache_limit.as_u64(), exact: self.cache_exact };
        Ok(chat.keep_in(engine, Box::new(FolderStore::open(folder)?), options).await?)
    }
}
