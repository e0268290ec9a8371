//! The shaders' interfaces, as `build/` reads them out of the WGSL: a module each, with its buffers by name, its
//! constants, and the names of its shaders; their parameters are in [`params`]. A buffer or a parameter that is missing
//! or misnamed does not compile.

use std::marker::PhantomData;

/// Shaders that a host calls in the same way.
pub trait Interface {
    /// Their uniform.
    type Params: bytemuck::Pod;
    /// Their storage buffers but the step table, by the names they have in WGSL.
    type Buffers<'a>;

    /// Invocations of a workgroup.
    const WORKGROUP: usize;

    /// The buffers in the order of their bindings.
    fn list<'a>(buffers: Self::Buffers<'a>) -> Vec<&'a wgpu::Buffer>;
}

/// Shaders that work on a step: their first storage buffer is its table.
pub trait OfStep: Interface {}

/// One shader of an interface.
pub struct Permutation<I> {
    /// As in `shaders/permutations`.
    pub name: String,
    /// Values of its `override`s.
    pub overrides: Vec<(&'static str, f64)>,
    interface: PhantomData<I>,
}

impl<I> Permutation<I> {
    fn new(name: String, overrides: Vec<(&'static str, f64)>) -> Self {
        Self { name, overrides, interface: PhantomData }
    }
}

// Not every constant of a shader is of use to its host.
#[allow(dead_code)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/kernels.rs"));
}
pub use generated::*;
