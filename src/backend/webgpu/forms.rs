//! Forms: kernels that compute the same in different ways. Which of them is fastest depends on the device and on the
//! model's shapes, and is measured: [`measure`](super::measure). None is chosen by the name of a driver.

use std::fmt;
use std::str::FromStr;

use crate::backend::BackendInfo;

/// A kind of kernel that has several forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormKind {
    /// A matrix times many rows: prefill.
    ManyRows,
    /// A matrix times few rows: decode.
    FewRows,
    /// Attention of many rows: prefill.
    Attention,
    /// Attention of few rows: decode.
    FewAttention,
    /// Mamba-2's scan of many rows.
    Scan,
    /// Norms before linear layers of few rows.
    Norms,
}

impl FormKind {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::ManyRows, Self::FewRows, Self::Attention, Self::FewAttention, Self::Scan, Self::Norms];

    /// Its forms, the one that runs everywhere first.
    pub fn forms(self) -> [Form; 2] {
        match self {
            Self::ManyRows => [Form::Tile, Form::Lanes],
            Self::FewRows => [Form::Rows, Form::Quads],
            Self::Attention => [Form::Query, Form::Flash],
            Self::FewAttention => [Form::Head, Form::Split],
            Self::Scan => [Form::Heads, Form::Columns],
            Self::Norms => [Form::Within, Form::Apart],
        }
    }
}

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Tiles of both matrices in workgroup memory: `shaders/linear/tile.wgsl`.
    Tile,
    /// Sums in registers, rows of the input handed from lane to lane: `shaders/linear/lanes.wgsl`.
    Lanes,
    /// A workgroup for four outputs: `shaders/linear/rows.wgsl`.
    Rows,
    /// A subgroup for four outputs: `shaders/linear/quads.wgsl`.
    Quads,
    /// A workgroup for a query: `shaders/attention/attention.wgsl`.
    Query,
    /// A workgroup for eight queries: `shaders/attention/flash.wgsl`.
    Flash,
    /// A workgroup for a head of a row: `shaders/attention/attention.wgsl`.
    Head,
    /// A workgroup for the heads that share their keys, and for a slice of these: `shaders/attention/flash.wgsl`.
    Split,
    /// A workgroup for a head of a chunk: `shaders/ssd_scan/chunk_output.wgsl`.
    Heads,
    /// Lanes along the columns of all heads: `shaders/ssd_columns/chunk_output.wgsl`.
    Columns,
    /// With the residual sum, on the way into the linear layer: `shaders/shared/words_add_norm.wgsl` and its like.
    Within,
    /// A kernel of its own: `shaders/norm/norm.wgsl`; the layer before it makes the residual sum, where it can.
    Apart,
}

impl Form {
    /// All, in the order of their kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        FormKind::ALL.into_iter().flat_map(FormKind::forms)
    }

    /// What it is a form of.
    pub fn kind(self) -> FormKind {
        match self {
            Self::Tile | Self::Lanes => FormKind::ManyRows,
            Self::Rows | Self::Quads => FormKind::FewRows,
            Self::Query | Self::Flash => FormKind::Attention,
            Self::Head | Self::Split => FormKind::FewAttention,
            Self::Heads | Self::Columns => FormKind::Scan,
            Self::Apart | Self::Within => FormKind::Norms,
        }
    }

    /// Its name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tile => "tile",
            Self::Lanes => "lanes",
            Self::Rows => "rows",
            Self::Quads => "quads",
            Self::Query => "query",
            Self::Flash => "flash",
            Self::Head => "head",
            Self::Split => "split",
            Self::Heads => "heads",
            Self::Columns => "columns",
            Self::Apart => "apart",
            Self::Within => "within",
        }
    }

    /// Lanes that a subgroup has at least; 0: none are needed.
    pub fn least_subgroup(self) -> u32 {
        match self {
            Self::Tile | Self::Rows | Self::Query | Self::Head | Self::Heads | Self::Apart | Self::Within => 0,
            Self::Quads => 4,
            Self::Lanes | Self::Flash | Self::Split | Self::Columns => 8,
        }
    }

    /// Whether it runs on a device.
    pub fn runs_on(self, device: &BackendInfo) -> bool {
        self.least_subgroup() == 0 || device.subgroups && self.least_subgroup() <= device.least_subgroup
    }

    /// Whether a shader is one of its kernels, by the beginning of its name. Those of all forms of a kind are not, but where
    /// kernels move.
    pub(super) fn has_shader(self, name: &str) -> bool {
        let mut parts = name.split('.');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match self {
            Self::Tile => first == "linear_tile",
            Self::Lanes => first == "linear_lanes",
            Self::Rows => matches!(first, "linear_rows" | "linear_pair"),
            Self::Quads => matches!(first, "linear_quads" | "linear_pair_quads"),
            Self::Query | Self::Head => first == "attention",
            Self::Flash => first == "attention_flash",
            // All keys in one slice, or several.
            Self::Split => matches!(first, "attention_flash" | "attention_split" | "attention_merge"),
            // The step and the carry are those of both forms.
            Self::Heads => first == "ssd_scan" && matches!(second, "chunk_state" | "chunk_output"),
            Self::Columns => first == "ssd_columns",
            // All that changes when a norm moves.
            Self::Apart | Self::Within => {
                let linear = matches!(first, "linear_rows" | "linear_pair" | "linear_quads" | "linear_pair_quads");
                linear || matches!(first, "norm" | "add" | "gate" | "activation")
            }
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is none of a form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no form `{name}`; there are: {}", Form::all().map(Form::name).collect::<Vec<_>>().join(", "))]
pub struct NoForm {
    /// The name.
    pub name: String,
}

impl FromStr for Form {
    type Err = NoForm;

    fn from_str(name: &str) -> Result<Self, NoForm> {
        Self::all().find(|form| form.name() == name).ok_or_else(|| NoForm { name: name.to_owned() })
    }
}

/// A form of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forms([Form; FormKind::ALL.len()]);

impl Forms {
    /// Those that run everywhere.
    pub const BASIC: Self = Self([Form::Tile, Form::Rows, Form::Query, Form::Head, Form::Heads, Form::Within]);

    /// Of each kind the one of many lanes, where it runs on a device, but for those that are `given`.
    pub fn of(device: &BackendInfo, given: &[Form]) -> Self {
        let lanes = FormKind::ALL.into_iter().flat_map(FormKind::forms).filter(|form| form.least_subgroup() > 0);
        let chosen = lanes.filter(|form| form.runs_on(device)).chain(given.iter().copied());
        chosen.fold(Self::BASIC, Self::with)
    }

    /// The same with another form of a kind.
    pub fn with(mut self, form: Form) -> Self {
        self.0[form.kind() as usize] = form;
        self
    }

    /// The form of a kind.
    pub fn of_kind(self, kind: FormKind) -> Form {
        self.0[kind as usize]
    }

    /// Whether a form is the one of its kind.
    pub fn has(self, form: Form) -> bool {
        self.of_kind(form.kind()) == form
    }
}

impl fmt::Display for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(Form::name).join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use crate::backend::cpu::CpuBackend;
    use crate::backend::webgpu::shaders;

    #[test]
    fn every_form_has_a_name_a_place_and_shaders() {
        for form in Form::all() {
            assert_eq!(form.name().parse(), Ok(form));
            assert!(form.kind().forms().contains(&form));
            assert!(shaders::all().iter().any(|shader| form.has_shader(shader.name)), "{form}");
        }
        assert_eq!("tiles".parse::<Form>().expect_err("none").name, "tiles");
    }

    #[test]
    fn what_needs_subgroups_says_so() {
        for shader in shaders::all().iter().filter(|shader| shader.subgroups) {
            // The basic forms have permutations without.
            let other = shader.name.replace(".subgroup", ".tree");
            let there = other != shader.name && shaders::find(&other).is_some();
            let forms = Form::all().filter(|form| form.kind() != FormKind::Norms && form.has_shader(shader.name));
            for form in forms {
                assert!(form.least_subgroup() > 0 || there, "{}", shader.name);
            }
        }
    }

    #[test]
    fn a_device_without_subgroups_has_the_basic_forms() {
        let mut device = CpuBackend::new().info().clone();
        device.least_subgroup = 32;
        assert_eq!(Forms::of(&device, &[]), Forms::BASIC);
        device.subgroups = true;
        assert_eq!(Forms::of(&device, &[]).to_string(), "lanes,quads,flash,split,columns,within");
        assert_eq!(Forms::of(&device, &[Form::Tile, Form::Query]).to_string(), "tile,quads,query,split,columns,within");
        device.least_subgroup = 4;
        assert_eq!(Forms::of(&device, &[]).to_string(), "tile,quads,query,head,heads,within");
    }
}
