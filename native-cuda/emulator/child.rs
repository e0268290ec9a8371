//! For tests: runs a test again, alone, in a process whose CUDA driver is the emulator. A process of its
//! own, because the loader looks for libraries where it was told at the start, and because the emulator
//! ends the process when it finds a fault in a kernel.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Set in the child, to the test's name.
const CHILD: &str = "SELVEDGE_EMULATOR_TEST";

/// Orders in which the emulator can run threads and blocks.
pub const ORDERS: [&str; 4] = ["forward", "reverse", "random1", "random2"];

/// Runs `body` on the emulator in the given order, in a child process; panics if it fails there. `test` is
/// the name of the calling `#[test]` function, with its modules.
pub fn on_emulator(test: &str, order: &str, body: impl FnOnce()) {
    let output = child(test, order, body);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{test}` in {order} order: {}\n{errors}", output.status);
}

/// The same, but gives the child's output, whatever became of it.
pub fn child(test: &str, order: &str, body: impl FnOnce()) -> Output {
    if std::env::var_os(CHILD).is_some_and(|name| name == test) {
        body();
        std::process::exit(0);
    }
    let this = std::env::current_exe().expect("a path to this test");
    let mut command = Command::new(this);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, test).env("SELVEDGE_EMULATOR_ORDER", order).env("LD_LIBRARY_PATH", library());
    let output = command.output().expect("this test once more");
    let ran = String::from_utf8_lossy(&output.stdout).contains("running 1 test");
    assert!(ran, "no test is called `{test}`");
    output
}

/// Builds the emulator where that is needed, and gives the folder that it lies in.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // From the tests of this crate, or from those of the workspace's root.
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let here = [root.join("emulator"), root.join("native-cuda/emulator")];
        let folder = here.into_iter().find(|folder| folder.is_dir()).expect("the emulator's folder");
        let output = Command::new("sh").arg(folder.join("build.sh")).output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder.join("build")
    })
}
