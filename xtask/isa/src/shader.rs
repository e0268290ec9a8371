//! WGSL to SPIR-V, as wgpu's Vulkan backend makes it on a device with `robustBufferAccess2`: the driver keeps accesses to
//! buffers within their bounds, naga those to arrays, and every loop has naga's counter.

use anyhow::{Result, anyhow};
use naga::back::pipeline_constants::process_overrides;
use naga::back::spv::{self, ZeroInitializeWorkgroupMemoryMode};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ShaderStage};

/// Name of the entry point of every shader of the project.
pub const ENTRY_POINT: &str = "main";

/// The line that browsers want and naga refuses.
const ENABLE_SUBGROUPS: &str = "enable subgroups;\n";

/// A shader as a Vulkan driver gets it.
pub struct Shader {
    /// SPIR-V.
    pub words: Vec<u32>,
    /// Its buffers, all of them in the first set.
    pub buffers: Vec<Buffer>,
}

/// A buffer that a shader uses.
pub struct Buffer {
    pub binding: u32,
    /// True for parameters, false for storage.
    pub uniform: bool,
}

impl Shader {
    /// Translates WGSL; `override`s have their defaults.
    pub fn from_wgsl(source: &str) -> Result<Self> {
        let source = source.strip_prefix(ENABLE_SUBGROUPS).unwrap_or(source);
        let module = naga::front::wgsl::parse_str(source).map_err(|error| anyhow!(error.emit_to_string(source)))?;
        let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module)?;
        let entry = (ShaderStage::Compute, ENTRY_POINT);
        let (module, info) = process_overrides(&module, &info, Some(entry), &Default::default())?;
        let entry = spv::PipelineOptions { shader_stage: entry.0, entry_point: entry.1.to_owned() };
        let words = spv::write_vec(&module, &info, &options(), Some(&entry))?;
        let buffer = |variable: &naga::GlobalVariable| {
            let binding = variable.binding.as_ref()?.binding;
            Some(Buffer { binding, uniform: variable.space == AddressSpace::Uniform })
        };
        let buffers = module.global_variables.iter().filter_map(|(_, variable)| buffer(variable)).collect();
        Ok(Self { words, buffers })
    }
}

fn options() -> spv::Options<'static> {
    spv::Options {
        // What Vulkan 1.3 takes.
        lang_version: (1, 6),
        bounds_check_policies: BoundsCheckPolicies {
            index: BoundsCheckPolicy::Restrict,
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: ZeroInitializeWorkgroupMemoryMode::Native,
        force_loop_bounding: true,
        emit_int_div_checks: true,
        ..Default::default()
    }
}
