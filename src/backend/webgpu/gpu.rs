//! The device itself: finding an adapter, what it offers, its errors, waiting for it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::forms::{Form, FormKind, Forms};
use super::kept::FormStore;
use super::shaders::{self, Access, Shader};
use crate::backend::{BackendError, BackendInfo, BackendKind, Counters, Result};

/// When the forms of kernels are measured, of which the fastest is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Never: those of many lanes are taken where they run, and where there are none the first.
    Never,
    /// When a model is loaded, unless [`WebGpuOptions::form_store`] has what was measured before.
    Once,
    /// Whenever a model is loaded; the store takes the new choice.
    Anew,
}

/// How to open a device.
#[derive(Clone, Debug)]
pub struct WebGpuOptions {
    /// Part of the adapter's name, in any case; `None`: the most powerful one.
    pub adapter: Option<String>,
    /// Whether a GPU that is really a CPU will do.
    pub software: bool,
    /// Ask for exactly what WebGPU promises everywhere, even where there is more.
    pub default_limits: bool,
    /// Use subgroup operations where they are there.
    pub subgroups: bool,
    /// The device has subgroups though wgpu cannot tell, because the page asked the browser for them itself: the lanes of
    /// the smallest and of the largest.
    pub page_has_subgroups: Option<[u32; 2]>,
    /// Names of the adapter and of its driver where wgpu has none of them, as in a browser.
    pub page_names: Option<[String; 2]>,
    /// Cut matrices into segments of at most so many bytes; `None`: of as many as a binding holds. Tests ask for
    /// few: a matrix too large for a binding is slow to make.
    pub segment: Option<u64>,
    /// Quantise on the device what a checkpoint has in more bits. Otherwise the loader does on the host, and codes
    /// are to the last bit those of the CPU's backend.
    pub quantise: bool,
    /// Run every kind of kernel against its CPU reference before anything else.
    pub self_test: bool,
    /// Forms that are used whatever is measured.
    pub forms: Vec<Form>,
    /// When the other forms are measured.
    pub measure: Measure,
    /// Where measured choices are kept, so that the next load of the same shapes on the same device reads its own; `None`:
    /// every load measures.
    pub form_store: Option<Rc<dyn FormStore>>,
    /// Time every kernel: [`Backend::kernel_times`](crate::backend::Backend::kernel_times). Steps take longer by it.
    pub profile: bool,
}

impl Default for WebGpuOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            software: true,
            default_limits: false,
            subgroups: true,
            page_has_subgroups: None,
            page_names: None,
            segment: None,
            quantise: true,
            self_test: true,
            forms: vec![],
            measure: Measure::Once,
            form_store: None,
            profile: false,
        }
    }
}

/// A shader made into something that can be dispatched.
pub(super) struct Pipeline {
    pub shader: &'static Shader,
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// A pipeline's shader and its overridden constants.
type PipelineKey = (&'static str, Vec<(&'static str, u64)>);

/// A device and its queue. Shared by the backend and its self-test.
pub(super) struct Gpu {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub info: BackendInfo,
    /// Numbers of the adapter's maker and of its model, where the driver tells.
    pub ids: [u32; 2],
    /// Most bytes of a matrix's segment.
    pub segment: u64,
    /// Whether it quantises weights.
    pub quantises: bool,
    /// The forms that are in use, and those that were asked for.
    pub forms: Cell<Forms>,
    pub given_forms: Vec<Form>,
    /// When forms are measured.
    pub measure: Cell<Measure>,
    /// Where choices are kept.
    pub form_store: Option<Rc<dyn FormStore>>,
    /// Kept alive: browsers drop the device with it.
    _instance: wgpu::Instance,
    pipelines: RefCell<HashMap<PipelineKey, Rc<Pipeline>>>,
    pub counters: RefCell<Counters>,
    failure: Arc<Mutex<Option<DeviceError>>>,
}

/// What the device said outside of any call.
#[derive(Clone, Debug)]
enum DeviceError {
    Lost(String),
    OutOfMemory(String),
    Error(String),
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::PRIMARY;
    wgpu::Instance::new(descriptor)
}

fn describe(adapter: &wgpu::Adapter) -> BackendInfo {
    let info = adapter.get_info();
    let driver = [info.driver.as_str(), info.driver_info.as_str()].join(" ");
    BackendInfo {
        kind: BackendKind::WebGpu,
        adapter: if info.name.is_empty() { "WebGPU adapter".into() } else { info.name.clone() },
        driver: format!("{} ({:?})", driver.trim(), info.backend),
        software: info.device_type == wgpu::DeviceType::Cpu,
        f16: false,
        subgroups: adapter.features().contains(wgpu::Features::SUBGROUP),
        least_subgroup: info.subgroup_min_size,
        most_subgroup: info.subgroup_max_size,
        forms: None,
        forms_from: None,
        notice: None,
        max_binding: adapter.limits().max_storage_buffer_binding_size,
        memory: if info.device_type == wgpu::DeviceType::Cpu { crate::backend::host::free_memory() } else { None },
    }
}

/// Every adapter of this machine; in a browser, the one it offers.
pub async fn adapters() -> Vec<BackendInfo> {
    let found = instance().enumerate_adapters(wgpu::Backends::PRIMARY).await;
    found.iter().map(describe).collect()
}

/// Finds the adapter that the options ask for.
async fn choose(instance: &wgpu::Instance, options: &WebGpuOptions) -> Result<wgpu::Adapter> {
    let no_device = |reason: String| BackendError::NoDevice { kind: "gpu", reason };
    let mut found = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    if cfg!(target_arch = "wasm32") || found.is_empty() {
        let request = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&request).await;
        return adapter
            .map_err(|e| no_device(format!("{e}; is a graphics driver (Vulkan, Metal or D3D12) installed?")));
    }
    let names = found.iter().map(|a| a.get_info().name).collect::<Vec<_>>().join(", ");
    if let Some(wanted) = &options.adapter {
        let wanted_lower = wanted.to_lowercase();
        found.retain(|a| a.get_info().name.to_lowercase().contains(&wanted_lower));
        if found.is_empty() {
            return Err(no_device(format!("none is called `{wanted}`; there are: {names}")));
        }
    }
    let rank = |a: &wgpu::Adapter| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    if !options.software {
        found.retain(|a| a.get_info().device_type != wgpu::DeviceType::Cpu);
    }
    let best = found.into_iter().min_by_key(rank);
    best.ok_or_else(|| no_device(format!("only software adapters here ({names}); `--device gpu` accepts them")))
}

/// The limits asked for: WebGPU's defaults, raised where size matters and the adapter has more.
fn limits(adapter: &wgpu::Limits, options: &WebGpuOptions) -> wgpu::Limits {
    let mut limits = wgpu::Limits::defaults();
    if !options.default_limits {
        limits.max_buffer_size = adapter.max_buffer_size;
        limits.max_storage_buffer_binding_size = adapter.max_storage_buffer_binding_size;
    }
    limits
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // A browser frees a buffer whenever it collects garbage, unless it is told.
        self.device.destroy();
    }
}

impl Gpu {
    pub async fn open(options: &WebGpuOptions) -> Result<Rc<Self>> {
        let instance = instance();
        let adapter = choose(&instance, options).await?;
        let mut info = describe(&adapter);
        if let Some([adapter, driver]) = &options.page_names {
            (info.adapter, info.driver) = (adapter.clone(), driver.clone());
        }
        let wgpu::AdapterInfo { vendor, device: model, .. } = adapter.get_info();
        info.subgroups &= options.subgroups;
        let mut features = wgpu::Features::empty();
        features.set(wgpu::Features::SUBGROUP, info.subgroups);
        info.subgroups |= options.subgroups && options.page_has_subgroups.is_some();
        if options.profile && !adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let what = format!("timestamps on `{}`, which have to time kernels", info.adapter);
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        }
        features.set(wgpu::Features::TIMESTAMP_QUERY, options.profile);
        if let Some([least, most]) = options.page_has_subgroups {
            (info.least_subgroup, info.most_subgroup) = (least, most);
        }
        if let Some(form) = options.forms.iter().find(|form| !form.runs_on(&info)) {
            let (adapter, least) = (&info.adapter, form.least_subgroup());
            let what = format!("the form `{form}` on `{adapter}`: it takes subgroups of {least} lanes or more");
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        }
        let forms = Forms::of(&info, &options.forms);
        let limits = limits(&adapter.limits(), options);
        info.max_binding = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        let segment = options.segment.unwrap_or(u64::MAX).min(info.max_binding);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("selvedge"),
            required_features: features,
            required_limits: limits,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| BackendError::NoDevice {
            kind: "gpu",
            reason: format!("`{}` refused to open: {e}", info.adapter),
        })?;

        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Arc<Mutex<Option<DeviceError>>>, what: DeviceError| {
            // The first failure explains the ones that follow from it.
            if let Ok(mut slot) = failure.lock() {
                slot.get_or_insert(what);
            }
        };
        let errors = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let what = match &error {
                wgpu::Error::OutOfMemory { .. } => DeviceError::OutOfMemory(error.to_string()),
                _ => DeviceError::Error(error.to_string()),
            };
            note(&errors, what);
        }));
        let losses = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            note(&losses, DeviceError::Lost(format!("{message} ({reason:?})")));
        });
        Ok(Rc::new(Self {
            device,
            queue,
            info,
            ids: [vendor, model],
            _instance: instance,
            segment,
            quantises: options.quantise,
            forms: Cell::new(forms),
            given_forms: options.forms.clone(),
            measure: Cell::new(options.measure),
            form_store: options.form_store.clone(),
            pipelines: RefCell::default(),
            counters: RefCell::default(),
            failure,
        }))
    }

    /// Kinds of which no form was given, in their order.
    pub fn free_kinds(&self) -> impl Iterator<Item = FormKind> {
        FormKind::ALL.into_iter().filter(|&kind| self.given_forms.iter().all(|form| form.kind() != kind))
    }

    /// What went wrong since the last look, if anything did. A lost device stays lost.
    pub fn check(&self, doing: &str) -> Result<()> {
        let Ok(mut slot) = self.failure.lock() else { return Ok(()) };
        match slot.clone() {
            None => Ok(()),
            Some(DeviceError::Lost(message)) => Err(BackendError::DeviceLost(message)),
            Some(DeviceError::OutOfMemory(message)) => {
                *slot = None;
                Err(BackendError::OutOfMemory { what: format!("{doing} ({message})"), bytes: 0 })
            }
            Some(DeviceError::Error(message)) => {
                *slot = None;
                Err(BackendError::Driver { backend: "webgpu", message: format!("{doing}: {message}") })
            }
        }
    }

    /// A zeroed storage buffer, checked against what one binding may hold.
    pub fn storage(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer> {
        self.buffer(
            what,
            bytes,
            wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
        )
    }

    /// A buffer of any use. At least 16 bytes: a binding must not be empty.
    pub fn buffer(&self, what: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let size = bytes.max(16).next_multiple_of(16);
        if size > self.info.max_binding {
            return Err(BackendError::Limit {
                what: what.to_owned(),
                needed: format!("one buffer of {size} bytes"),
                available: format!("{} bytes a buffer", self.info.max_binding),
            });
        }
        self.counters.borrow_mut().objects += 1;
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(what),
            size,
            usage,
            mapped_at_creation: false,
        });
        match self.check(what) {
            Err(BackendError::OutOfMemory { what, .. }) => Err(BackendError::OutOfMemory { what, bytes: size }),
            other => other.map(|()| buffer),
        }
    }

    /// The pipeline of a shader; made once. `constants` are the shader's `override`s.
    pub fn pipeline(&self, name: &str, constants: &[(&'static str, f64)]) -> Result<Rc<Pipeline>> {
        let shader = shaders::find(name)
            .ok_or_else(|| BackendError::Unsupported { backend: "webgpu", what: format!("a shader `{name}`") })?;
        let key = (shader.name, constants.iter().map(|&(n, v)| (n, v.to_bits())).collect::<Vec<_>>());
        if let Some(pipeline) = self.pipelines.borrow().get(&key) {
            return Ok(pipeline.clone());
        }
        let entries: Vec<wgpu::BindGroupLayoutEntry> = shader
            .bindings
            .iter()
            .enumerate()
            .map(|(binding, &access)| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let device = &self.device;
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(shader.name), entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(shader.name),
            bind_group_layouts: &[Some(&layout)],
            ..Default::default()
        });
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some(shader.name),
            source: wgpu::ShaderSource::Wgsl(shader.source(cfg!(target_arch = "wasm32")).into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
            cache: None,
        });
        self.counters.borrow_mut().objects += 4;
        self.check(shader.name)?;
        let made = Rc::new(Pipeline { shader, pipeline, layout });
        self.pipelines.borrow_mut().insert(key, made.clone());
        Ok(made)
    }

    /// Submits command buffers.
    pub fn submit(&self, commands: impl IntoIterator<Item = wgpu::CommandBuffer>) -> wgpu::SubmissionIndex {
        self.counters.borrow_mut().submits += 1;
        self.queue.submit(commands)
    }

    /// Waits until everything submitted so far is done.
    pub async fn finish(&self) -> Result<()> {
        let (done, waiting) = futures::channel::oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = done.send(());
        });
        self.wait(waiting, None).await
    }

    /// Waits for a callback of the device.
    pub async fn wait<T>(
        &self,
        waiting: futures::channel::oneshot::Receiver<T>,
        submission: Option<wgpu::SubmissionIndex>,
    ) -> Result<T> {
        // Natively somebody must turn the crank; in a browser this does nothing.
        let polled = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None });
        let lost = |why: &str| BackendError::DeviceLost(why.to_owned());
        if let Err(e) = polled {
            self.check("waiting")?;
            return Err(lost(&e.to_string()));
        }
        match waiting.await {
            Ok(value) => Ok(value),
            Err(_) => {
                self.check("waiting")?;
                Err(lost("it never answered"))
            }
        }
    }

    /// Copies bytes of a buffer to the host. Makes a staging buffer: not for the steady state.
    pub async fn download(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let size = bytes.next_multiple_of(4).max(4);
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer("staging", size, usage)?;
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, Some(size));
        let submission = self.submit([encoder.finish()]);
        let mut data = self.map(&staging, size, Some(submission)).await?;
        data.truncate(bytes as usize);
        staging.destroy();
        Ok(data)
    }

    /// Reads the first bytes of a mappable buffer and gives it back unmapped.
    pub async fn map(
        &self,
        staging: &wgpu::Buffer,
        bytes: u64,
        submission: Option<wgpu::SubmissionIndex>,
    ) -> Result<Vec<u8>> {
        let (done, waiting) = futures::channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            let _ = done.send(result);
        });
        let failed = |message: String| BackendError::Driver { backend: "webgpu", message };
        if let Err(e) = self.wait(waiting, submission).await? {
            self.check("reading back")?;
            // Only a device that is gone refuses; a browser may tell of that later than of this.
            return Err(BackendError::DeviceLost(format!("reading back: {e}")));
        }
        let data = staging.get_mapped_range(0..bytes).map_err(|e| failed(e.to_string()))?.to_vec();
        staging.unmap();
        Ok(data)
    }
}
