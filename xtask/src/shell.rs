//! Other programs: finding them, running them, reading what they print.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The feature that brings the CUDA backend.
pub const CUDA: &str = "selvedge/native-cuda";

/// The folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The cargo that started this program, in the workspace.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// A verb of cargo over the workspace, as its tests are built: with the CUDA backend, whose tests bring their own driver. The
/// features of one package alone would be another build.
pub fn workspace(verb: &str) -> Command {
    cargo(&[verb, "--workspace", "--exclude", "xtask-bindgen", "--features", CUDA])
}

/// A program run in the workspace.
pub fn program(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root());
    command
}

/// Path of a program of that name in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| [folder.join(name), folder.join(format!("{name}.exe"))])
        .find(|file| file.is_file())
}

/// Runs a command, saying so; an exit status other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", spell(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", spell(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", spell(command));
    }
    Ok(())
}

/// Standard output of a command.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", spell(command)))?;
    if !output.status.success() {
        bail!("`{}` failed: {}\n{}", spell(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command whose standard output is passed on and also handed over line by line.
pub fn watch(command: &mut Command, mut line: impl FnMut(&str)) -> Result<()> {
    eprintln!("$ {}", spell(command));
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{}`", spell(command)))?;
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut bytes = vec![];
        // Bytes, not strings: a test may print what is no UTF-8.
        while output.read_until(b'\n', &mut bytes)? > 0 {
            let text = String::from_utf8_lossy(&bytes);
            print!("{text}");
            line(text.trim_end());
            bytes.clear();
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` failed: {status}", spell(command));
    }
    Ok(())
}

/// A command as a person would type it, with the variables it sets.
fn spell(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        value.map(|value| format!("{}={}", name.to_string_lossy(), value.to_string_lossy()))
    });
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program()).to_string_lossy();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    variables.chain([program.into_owned()]).chain(arguments).collect::<Vec<_>>().join(" ")
}
