//! The binary: everything is in the library's `commands`.

fn main() -> std::process::ExitCode {
    selvedge::commands::main()
}
