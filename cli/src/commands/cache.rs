//! `selvedge cache`: the models in the hub's cache on this machine: a list, and removal.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use indicatif::HumanBytes;
use serde::Serialize;

use crate::error::CommandError;
use crate::input::{self, Line as Answer};
use crate::terminal::{self, message, status};
use selvedge::hub::{Cache, Cached, Hub, ModelName, Settings};

/// Digits of a commit that are enough for people.
const SHORT: usize = 8;

/// List or remove the models in the hub's cache.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// List the models with the tags of their GGUF files, their revisions, sizes and times of last use
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a model with all its revisions, and all its GGUF files
    Remove {
        /// The model: owner/name
        model: String,
        /// Remove without asking
        #[arg(long)]
        yes: bool,
    },
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        let hub = Hub::new(Settings::from_env());
        match self.verb {
            Verb::List { json } => list(hub.cache(), json)?,
            Verb::Remove { model, yes } => remove(hub.cache(), &model, yes)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A line of `cache list --json`.
#[derive(Serialize)]
struct Line<'c> {
    repo: &'c str,
    revision: &'c str,
    refs: &'c [String],
    bytes: u64,
    /// Seconds since 1970.
    last_used: Option<u64>,
    /// True if a model is all there: config and weights, or a GGUF model.
    complete: bool,
    /// Tags of the GGUF models that are all there.
    gguf: &'c [String],
    path: String,
}

impl<'c> Line<'c> {
    fn new(cached: &'c Cached) -> Self {
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs());
        Self {
            repo: &cached.repo,
            revision: &cached.commit,
            refs: &cached.refs,
            bytes: cached.bytes,
            last_used: cached.last_used.and_then(seconds),
            complete: cached.complete,
            gguf: &cached.gguf,
            path: cached.path.display().to_string(),
        }
    }
}

fn list(cache: &Cache, json: bool) -> Result<(), CommandError> {
    let models = cache.list()?;
    terminal::print(&if json {
        terminal::json(&models.iter().map(Line::new).collect::<Vec<_>>())?
    } else {
        table(&models, SystemTime::now())
    })?;
    if models.is_empty() {
        status!("no models in {}; `selvedge fetch owner/name` gets one", cache.root().display());
    }
    Ok(())
}

/// For people: one line a revision. Tags of GGUF models stand behind the name.
fn table(models: &[Cached], now: SystemTime) -> String {
    let mut rows: Vec<[String; 4]> = vec![["model", "revision", "size", "last used"].map(str::to_owned)];
    for cached in models {
        let commit = &cached.commit[..SHORT];
        let refs = cached.refs.join(", ");
        let revision = if refs.is_empty() { commit.to_owned() } else { format!("{refs} ({commit})") };
        let state = if cached.complete { "" } else { ", incomplete" };
        let age = cached.last_used.and_then(|time| now.duration_since(time).ok());
        let used = age.map_or_else(|| "just now".into(), ago);
        let tags = if cached.gguf.is_empty() { String::new() } else { format!(":{}", cached.gguf.join(" :")) };
        let model = format!("{}{tags}", cached.repo);
        rows.push([model, revision, format!("{}{state}", HumanBytes(cached.bytes)), used]);
    }
    if rows.len() == 1 {
        return String::new();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 3] = [0, 1, 2].map(width);
    let mut text = String::new();
    for [model, revision, size, used] in &rows {
        let [first, second, third] = widths;
        text.push_str(&format!("{model:first$}  {revision:second$}  {size:third$}  {used}\n"));
    }
    text
}

fn ago(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    let (count, unit) = match minutes {
        0 => return "just now".into(),
        1..60 => (minutes, "minute"),
        60..1440 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

fn remove(cache: &Cache, model: &str, yes: bool) -> Result<(), CommandError> {
    let name: ModelName = model.parse()?;
    if model.contains(['@', ':']) {
        let all =
            format!("a model is removed with all its revisions and files: `selvedge cache remove {}`", name.repo());
        return Err(CommandError::Misuse(all));
    }
    let bytes = HumanBytes(cache.size(name.repo())?);
    if !yes {
        message(format_args!("remove {} ({bytes})? [y/N] ", name.repo()), "");
        let answer = input::line(&mut io::stdin().lock()).map_err(CommandError::Stdin)?;
        let yes = |answer: &str| ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str());
        if !matches!(answer, Answer::Text(answer) if yes(&answer)) {
            status!("nothing was removed");
            return Ok(());
        }
    }
    cache.remove(name.repo())?;
    status!("removed {} ({bytes})", name.repo());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_one_word() {
        let ages = [0, 59, 60, 3599, 3600, 86_399, 86_400, 864_000].map(|seconds| ago(Duration::from_secs(seconds)));
        let words = [
            "just now",
            "just now",
            "1 minute ago",
            "59 minutes ago",
            "1 hour ago",
            "23 hours ago",
            "1 day ago",
            "10 days ago",
        ];
        assert_eq!(ages, words);
    }
}
