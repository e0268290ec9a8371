//! `selvedge devices`: the devices of this machine.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::error::CommandError;
use crate::form_file::FormFile;
use crate::terminal;
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::{Backend, BackendInfo, webgpu};

/// List the devices that models can run on.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<ExitCode, CommandError> {
        let mut devices = pollster::block_on(webgpu::adapters());
        let file = FormFile::of_user();
        #[cfg(feature = "native-cuda")]
        devices.extend(selvedge::backend::cuda::devices());
        devices.push(CpuBackend::new().info().clone());
        let forms = |device| match &file {
            Some(file) => pollster::block_on(webgpu::kept_forms(file, device)),
            None => vec![],
        };
        let devices = devices.iter().map(|device| (device, forms(device)));
        if self.json {
            let list: Vec<Value> = devices.map(|(device, forms)| describe(device, &forms)).collect();
            terminal::print(&format!("{}\n", Value::from(list)))?;
        } else {
            terminal::print(&devices.map(|(device, forms)| lines(device, &forms)).collect::<String>())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(device: &BackendInfo, forms: &[String]) -> Value {
    json!({
        "backend": device.kind.name(),
        "adapter": device.adapter,
        "driver": device.driver,
        "software": device.software,
        "f16": device.f16,
        "subgroups": device.subgroups,
        "max_binding": device.max_binding,
        "forms": forms,
    })
}

/// A device, and below it the forms that were measured to be the fastest, of whichever models.
fn lines(device: &BackendInfo, forms: &[String]) -> String {
    let mut notes = vec![device.driver.clone()];
    let features = [(device.software, "software"), (device.f16, "f16"), (device.subgroups, "subgroups")];
    notes.extend(features.iter().filter(|(has, _)| *has).map(|(_, name)| (*name).to_owned()));
    notes.retain(|note| !note.is_empty());
    let device = format!("{:<7} {} ({})\n", device.kind.name(), device.adapter, notes.join(", "));
    forms.iter().fold(device, |lines, forms| format!("{lines}        forms measured: {forms}\n"))
}
