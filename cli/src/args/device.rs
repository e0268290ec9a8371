//! Device of a command: `--device` and `--adapter`.

use std::rc::Rc;
use std::str::FromStr;

use clap::ValueEnum;

use crate::error::CommandError;
use crate::form_file::FormFile;
use crate::terminal::status;
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::webgpu::{Form, FormStore, Measure, WebGpuBackend, WebGpuOptions};
use selvedge::backend::{Backend, BackendError};

/// `--device`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// A real GPU if there is one, else the CPU
    Auto,
    /// A GPU, a software one if there is no other
    Gpu,
    /// An NVIDIA GPU through CUDA
    Cuda,
    /// The CPU
    Cpu,
}

/// A value of `--forms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormArg {
    /// This one, whatever is measured.
    Form(Form),
    /// The others are measured, whatever is kept.
    Measured,
}

impl FromStr for FormArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "measured" => Ok(Self::Measured),
            name => name.parse().map(Self::Form).map_err(|error| format!("{error}, measured")),
        }
    }
}

/// How a GPU is opened, beyond which one.
#[derive(Clone, Debug, Default)]
pub(crate) struct GpuArgs<'a> {
    /// `--adapter`
    pub adapter: Option<&'a str>,
    /// `--forms`
    pub forms: &'a [FormArg],
    /// `--profile`
    pub profile: bool,
}

/// Opens a device. A choice that was made for the user is reported in one line on stderr.
pub(crate) async fn open(device: Device, args: GpuArgs<'_>) -> Result<Box<dyn Backend>, CommandError> {
    if let (Device::Cpu | Device::Cuda, Some(name)) = (device, args.adapter) {
        return Err(CommandError::Misuse(format!(
            "--adapter {name} names a GPU of `selvedge devices`; it goes with --device gpu"
        )));
    }
    if let Device::Cpu | Device::Cuda = device {
        let of_gpus = [(args.profile, "--profile times"), (!args.forms.is_empty(), "--forms chooses")];
        if let Some((_, option)) = of_gpus.iter().find(|(given, _)| *given) {
            return Err(CommandError::Misuse(format!("{option} kernels of a GPU; it goes with --device gpu")));
        }
    }
    match device {
        Device::Cpu => Ok(cpu()),
        Device::Cuda => Ok(cuda()?),
        Device::Gpu => {
            let backend = gpu(&args, true).await?;
            if backend.info().software {
                status!("{} is a software GPU: slower than --device cpu", backend.info().adapter);
            }
            Ok(backend)
        }
        // Whoever names an adapter wants that one and no CPU instead of it.
        Device::Auto if args.adapter.is_some() => Ok(gpu(&args, false).await?),
        Device::Auto => match gpu(&args, false).await {
            Ok(backend) => {
                status!("running on {}", backend.info().adapter);
                Ok(backend)
            }
            Err(BackendError::NoDevice { reason, .. }) => {
                status!("running on the CPU; no GPU: {reason}");
                Ok(cpu())
            }
            Err(error) => Err(error.into()),
        },
    }
}

fn cpu() -> Box<dyn Backend> {
    Box::new(CpuBackend::new())
}

async fn gpu(args: &GpuArgs<'_>, software: bool) -> Result<Box<dyn Backend>, BackendError> {
    let adapter = args.adapter.map(str::to_owned);
    let form = |arg: &FormArg| if let FormArg::Form(form) = arg { Some(*form) } else { None };
    let anew = args.forms.contains(&FormArg::Measured);
    let options = WebGpuOptions {
        adapter,
        software,
        forms: args.forms.iter().filter_map(form).collect(),
        measure: if anew { Measure::Anew } else { Measure::Once },
        form_store: FormFile::of_user().map(|file| Rc::new(file) as Rc<dyn FormStore>),
        profile: args.profile,
        ..WebGpuOptions::default()
    };
    Ok(Box::new(WebGpuBackend::new(&options).await?))
}

#[cfg(feature = "native-cuda")]
fn cuda() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(selvedge::backend::cuda::CudaBackend::new(0)?))
}

#[cfg(not(feature = "native-cuda"))]
fn cuda() -> Result<Box<dyn Backend>, BackendError> {
    Err(BackendError::NoDevice {
        kind: "cuda",
        reason: "this binary was built without CUDA; build it with `--features native-cuda`".into(),
    })
}
