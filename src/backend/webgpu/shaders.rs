//! The shaders, as `build/` composed and checked them. What their hosts have to know of them: `kernels`.

/// How a shader uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The parameters.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written.
    ReadWrite,
}

/// One permutation of the list in `shaders/permutations`.
#[derive(Debug)]
pub struct Shader {
    /// `linear_rows.f16.tree.1`
    pub name: &'static str,
    header: &'static str,
    parts: &'static [&'static str],
    /// Whether it uses subgroup operations.
    pub subgroups: bool,
    /// By binding number.
    pub bindings: &'static [Access],
}

impl Shader {
    /// The WGSL text. Browsers (Tint) want `enable subgroups;` in front; naga refuses it.
    pub fn source(&self, browser: bool) -> String {
        let enable = if self.subgroups && browser { "enable subgroups;\n" } else { "" };
        let mut text = format!("{enable}{}", self.header);
        for part in self.parts {
            text.push_str(part);
        }
        text
    }
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// All permutations.
pub fn all() -> &'static [Shader] {
    SHADERS
}

/// A shader by its name.
pub fn find(name: &str) -> Option<&'static Shader> {
    SHADERS.iter().find(|s| s.name == name)
}
