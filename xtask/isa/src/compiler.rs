//! The compiler of a Vulkan driver, asked through `VK_KHR_pipeline_executable_properties`.

use std::ffi::{CStr, CString, c_char};

use anyhow::{Context, Result, ensure};
use ash::{Device, Entry, ext, khr, vk};
use serde_json::{Map, Value};

use crate::shader::{ENTRY_POINT, Shader};

/// Name of the number of lanes of a subgroup among the statistics.
const SUBGROUP_SIZE: &str = "Subgroup size";

/// A device whose driver tells what it makes of a shader. It submits nothing, so a null device will do.
pub struct Compiler {
    device: Device,
    executables: khr::pipeline_executable_properties::Device,
    device_name: String,
    driver_version: String,
    // The driver's library: what comes from it is dropped before it.
    _entry: Entry,
}

impl Compiler {
    /// Opens the first device that the loader finds.
    pub fn open() -> Result<Self> {
        // SAFETY: loading the Vulkan loader and its drivers runs their initialisers, as any Vulkan program does; the structures
        // that calls read live until they return.
        unsafe {
            let entry = Entry::load().context("no Vulkan loader")?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let instance =
                entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)?;
            let physical = instance.enumerate_physical_devices()?.into_iter().next().context("no Vulkan device")?;

            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            instance.get_physical_device_properties2(physical, &mut properties);
            let device_name = properties.properties.device_name_as_c_str()?.to_string_lossy().into_owned();
            let driver_version = driver.driver_info_as_c_str()?.to_string_lossy().into_owned();

            // Of wgpu's choices, those on which the code depends.
            let mut executables =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
            let mut vulkan_12 = vk::PhysicalDeviceVulkan12Features::default()
                .shader_int8(true)
                .vulkan_memory_model(true)
                .vulkan_memory_model_device_scope(true);
            let mut vulkan_13 = vk::PhysicalDeviceVulkan13Features::default()
                .shader_integer_dot_product(true)
                .shader_zero_initialize_workgroup_memory(true)
                .subgroup_size_control(true);
            let extensions = [khr::pipeline_executable_properties::NAME, ext::robustness2::NAME].map(CStr::as_ptr);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .enabled_features(&features)
                .push_next(&mut executables)
                .push_next(&mut robustness)
                .push_next(&mut vulkan_12)
                .push_next(&mut vulkan_13);
            let device = instance
                .create_device(physical, &info, None)
                .with_context(|| format!("{device_name} ({driver_version}) lacks what the statistics need"))?;
            let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Self { device, executables, device_name, driver_version, _entry: entry })
        }
    }

    pub fn device_name(&self) -> &str {
        &self.device_name
    }

    pub fn driver_version(&self) -> &str {
        &self.driver_version
    }

    /// Compiles a shader; what the driver counts in its code, by the driver's names.
    pub fn statistics(&self, shader: &Shader) -> Result<Map<String, Value>> {
        let bindings: Vec<_> = shader
            .buffers
            .iter()
            .map(|buffer| {
                let storage = vk::DescriptorType::STORAGE_BUFFER;
                vk::DescriptorSetLayoutBinding::default()
                    .binding(buffer.binding)
                    .descriptor_type(if buffer.uniform { vk::DescriptorType::UNIFORM_BUFFER } else { storage })
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let entry_point = CString::new(ENTRY_POINT)?;
        // SAFETY: the objects are of this device, and none is used after it was destroyed. What is left when something failed
        // ends with the program.
        unsafe {
            let set = self.device.create_descriptor_set_layout(
                &vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings),
                None,
            )?;
            let layout = self
                .device
                .create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&[set]), None)?;
            let module =
                self.device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&shader.words), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry_point);
            let info = vk::ComputePipelineCreateInfo::default()
                .stage(stage)
                .layout(layout)
                .flags(vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR);
            let pipelines = self.device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = pipelines.map_err(|(_, error)| error)?[0];
            let statistics = self.read(pipeline);
            self.device.destroy_pipeline(pipeline, None);
            self.device.destroy_shader_module(module, None);
            self.device.destroy_pipeline_layout(layout, None);
            self.device.destroy_descriptor_set_layout(set, None);
            statistics
        }
    }

    /// The statistics of a pipeline's one executable.
    fn read(&self, pipeline: vk::Pipeline) -> Result<Map<String, Value>> {
        // SAFETY: the pipeline is alive and was made to have its statistics read.
        let (executables, statistics) = unsafe {
            let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let executables = self.executables.get_pipeline_executable_properties(&info)?;
            let first = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
            (executables, self.executables.get_pipeline_executable_statistics(&first)?)
        };
        ensure!(executables.len() == 1, "compiled into {} programs", executables.len());
        let mut found = Map::new();
        found.insert(SUBGROUP_SIZE.into(), executables[0].subgroup_size.into());
        for statistic in &statistics {
            if statistic.format == vk::PipelineExecutableStatisticFormatKHR::UINT64 {
                // SAFETY: the format says which of the union's values it is.
                found.insert(text(&statistic.name), unsafe { statistic.value.u64 }.into());
            }
        }
        Ok(found)
    }
}

/// A string in an array of characters.
fn text(characters: &[c_char]) -> String {
    let end = characters.iter().position(|&character| character == 0).unwrap_or(characters.len());
    let bytes: Vec<u8> = characters[..end].iter().map(|&character| character as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
