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
    /// Attention of many rows.
    Attention,
    /// Mamba-2's scan of many rows.
    Scan,
}

impl FormKind {
    /// All.
    pub const ALL: [Self; 4] = [Self::ManyRows, Self::FewRows, Self::Attention, Self::Scan];

    /// Its forms, the one that runs everywhere first.
    pub fn forms(self) -> [Form; 2] {
        match self {
            Self::ManyRows => [Form::Tile, Form::Lanes],
            Self::FewRows => [Form::Rows, Form::Quads],
            Self::Attention => [Form::Query, Form::Flash],
            Self::Scan => [Form::Heads, Form::Columns],
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
    /// A workgroup for a head of a chunk: `shaders/ssd_scan/chunk_output.wgsl`.
    Heads,
    /// Lanes along the columns of all heads: `shaders/ssd_columns/chunk_output.wgsl`.
    Columns,
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
            Self::Heads | Self::Columns => FormKind::Scan,
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
            Self::Heads => "heads",
            Self::Columns => "columns",
        }
    }

    /// Lanes that a subgroup has at least; 0: none are needed.
    pub fn least_subgroup(self) -> u32 {
        match self {
            Self::Tile | Self::Rows | Self::Query | Self::Heads => 0,
            Self::Quads => 4,
            Self::Lanes | Self::Flash | Self::Columns => 8,
        }
    }

    /// Whether it runs on a device.
    pub fn runs_on(self, device: &BackendInfo) -> bool {
        self.least_subgroup() == 0 || device.subgroups && self.least_subgroup() <= device.least_subgroup
    }

    /// The form that a shader belongs to, by the beginning of its name.
    pub(super) fn of_shader(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        match (parts.next()?, parts.next()) {
            ("linear_tile", _) => Some(Self::Tile),
            ("linear_lanes", _) => Some(Self::Lanes),
            ("linear_rows" | "linear_pair", _) => Some(Self::Rows),
            ("linear_quads" | "linear_pair_quads", _) => Some(Self::Quads),
            ("attention", _) => Some(Self::Query),
            ("attention_flash", _) => Some(Self::Flash),
            // The others are those of both forms.
            ("ssd_scan", Some("chunk_state" | "chunk_output")) => Some(Self::Heads),
            ("ssd_columns", _) => Some(Self::Columns),
            _ => None,
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
    pub const BASIC: Self = Self([Form::Tile, Form::Rows, Form::Query, Form::Heads]);

    /// The last of each kind that runs on a device, but for those that are `given`.
    pub fn of(device: &BackendInfo, given: &[Form]) -> Self {
        let runs = |kind: FormKind| kind.forms().into_iter().rfind(|form| form.runs_on(device));
        let chosen = FormKind::ALL.into_iter().filter_map(runs).chain(given.iter().copied());
        chosen.fold(Self::BASIC, Self::with)
    }

    /// The same with another form of a kind.
    pub fn with(mut self, form: Form) -> Self {
        self.0[form.kind() as usize] = form;
        self
    }

    /// Whether a form is the one of its kind.
    pub fn has(self, form: Form) -> bool {
        self.0[form.kind() as usize] == form
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
            assert!(shaders::all().iter().any(|shader| Form::of_shader(shader.name) == Some(form)), "{form}");
        }
        assert_eq!("tiles".parse::<Form>().expect_err("none").name, "tiles");
    }

    #[test]
    fn what_needs_subgroups_says_so() {
        for shader in shaders::all().iter().filter(|shader| shader.subgroups) {
            if let Some(form) = Form::of_shader(shader.name) {
                // The basic forms have permutations without.
                let other = shader.name.replace(".subgroup", ".tree");
                assert!(form.least_subgroup() > 0 || shaders::find(&other).is_some(), "{}", shader.name);
            }
        }
    }

    #[test]
    fn a_device_without_subgroups_has_the_basic_forms() {
        let mut device = CpuBackend::new().info().clone();
        device.least_subgroup = 32;
        assert_eq!(Forms::of(&device, &[]), Forms::BASIC);
        device.subgroups = true;
        assert_eq!(Forms::of(&device, &[]).to_string(), "lanes,quads,flash,columns");
        assert_eq!(Forms::of(&device, &[Form::Tile, Form::Query]).to_string(), "tile,quads,query,columns");
        device.least_subgroup = 4;
        assert_eq!(Forms::of(&device, &[]).to_string(), "tile,quads,query,heads");
    }
}
