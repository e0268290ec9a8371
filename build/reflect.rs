//! What naga, and the comments of the text, say about a composed shader. Panics where a shader is wrong or takes more
//! than WebGPU promises.

use std::collections::BTreeMap;

use naga::{
    AddressSpace, Expression, GlobalVariable, Handle, Literal, Module, Scalar, StorageAccess, TypeInner, valid,
};

use crate::permutations::Permutation;
use crate::{CONSTANTS, Parts, strip_comments};

/// How a shader uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Uniform,
    Read,
    ReadWrite,
}

/// A variable of the shader with a binding.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: String,
    pub access: Access,
    /// The comment behind its declaration.
    pub comment: String,
}

/// A field of the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub rust: &'static str,
    pub comment: String,
}

/// A shader as its host sees it.
#[derive(Clone, Debug)]
pub struct Reflection {
    pub subgroups: bool,
    /// Invocations of a workgroup.
    pub workgroup: u32,
    /// By binding number; the parameters are the first.
    pub bindings: Vec<Binding>,
    /// The file that declares the parameters.
    pub params_file: String,
    pub params: Vec<Field>,
    /// Named constants that are a u32, without those of all shaders.
    pub constants: BTreeMap<String, u32>,
    /// Numbers that a pipeline is made with.
    pub overrides: Vec<String>,
}

impl Reflection {
    /// Whether a host calls the other shader as it does this one.
    pub fn is_like(&self, other: &Self) -> bool {
        let buffers = |r: &Self| r.bindings.iter().map(|b| (b.name.clone(), b.access)).collect::<Vec<_>>();
        let rest = |r: &Self| (r.workgroup, r.params_file.clone(), r.overrides.clone());
        buffers(self) == buffers(other) && rest(self) == rest(other)
    }
}

/// Composes a shader, checks it and reads it.
pub fn reflect(permutation: &Permutation, parts: &mut Parts) -> Reflection {
    let name = &permutation.name;
    let shared = declared(parts.get(CONSTANTS));
    let mut source = permutation.header();
    let mut params_file = None;
    for file in &permutation.files {
        let part = parts.get(file);
        if part.lines().any(|line| line == "struct Params {") {
            params_file = Some(file.clone());
        }
        source.push_str(part);
    }
    let params_file = params_file.unwrap_or_else(|| panic!("shader `{name}` has no `struct Params`"));
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("shader `{name}`:\n{}", e.emit_to_string(&source)));
    let subgroups = strip_comments(&source).contains("subgroup");
    validate(name, &source, &module, subgroups);

    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap_or_else(|e| panic!("shader `{name}`: {e}"));
    let of_workgroup = module.global_variables.iter().filter(|(_, v)| v.space == AddressSpace::WorkGroup);
    let memory: u32 = of_workgroup.map(|(_, variable)| layouter[variable.ty].size).sum();
    assert!(memory <= 16 << 10, "shader `{name}`: {memory} bytes of workgroup memory; WebGPU promises 16 KiB");
    let entry = module.entry_points.first().unwrap_or_else(|| panic!("shader `{name}` has no entry point"));
    let workgroup = entry.workgroup_size.iter().product();
    assert!(workgroup <= 256, "shader `{name}`: {workgroup} invocations; WebGPU promises 256");

    let constants = module.constants.iter().filter_map(|(_, c)| Some((c.name.clone()?, number(&module, c.init)?)));
    Reflection {
        subgroups,
        workgroup,
        bindings: bindings(name, &source, &module),
        params: fields(name, parts.get(&params_file), &module),
        params_file,
        constants: constants.filter(|(constant, _)| !shared.contains(constant)).collect(),
        overrides: module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect(),
    }
}

fn validate(name: &str, source: &str, module: &Module, subgroups: bool) {
    // `unpack2x16float` and its kin are part of WebGPU without any feature.
    let mut capabilities = valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(valid::Capabilities::SUBGROUP, subgroups);
    let mut validator = valid::Validator::new(valid::ValidationFlags::all(), capabilities);
    validator.subgroup_stages(valid::ShaderStages::COMPUTE).subgroup_operations(valid::SubgroupOperationSet::all());
    if let Err(e) = validator.validate(module) {
        panic!("shader `{name}`:\n{}", e.emit_to_string(source));
    }
}

/// The variables in the order of their bindings, which leave no gap.
fn bindings(name: &str, source: &str, module: &Module) -> Vec<Binding> {
    let mut found: BTreeMap<u32, Binding> = BTreeMap::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(access) = access(variable) else { continue };
        let variable_name = variable.name.clone().unwrap_or_default();
        let place = variable.binding.unwrap_or_else(|| panic!("shader `{name}`: `{variable_name}` has no binding"));
        assert_eq!(place.group, 0, "shader `{name}`: all bindings are in group 0");
        let declaration = format!("> {variable_name}: ");
        let comment = comment(source, |line| line.starts_with('@') && line.contains(&declaration));
        let binding = Binding { name: variable_name.clone(), access, comment };
        if let Some(other) = found.insert(place.binding, binding) {
            panic!("shader `{name}`: binding {} is both `{}` and `{variable_name}`", place.binding, other.name);
        }
    }
    for (expected, (index, binding)) in found.iter().enumerate() {
        assert_eq!(expected as u32, *index, "shader `{name}`: `{}` leaves a gap in the bindings", binding.name);
    }
    let bindings: Vec<Binding> = found.into_values().collect();
    let uniforms = bindings.iter().filter(|b| b.access == Access::Uniform).count();
    let first = bindings.first().map(|b| b.access);
    assert!(first == Some(Access::Uniform) && uniforms == 1, "shader `{name}`: binding 0 alone holds the parameters");
    let storage = bindings.len() - 1;
    assert!(storage <= 8, "shader `{name}`: {storage} storage buffers; WebGPU promises 8");
    bindings
}

fn access(variable: &GlobalVariable) -> Option<Access> {
    match variable.space {
        AddressSpace::Uniform => Some(Access::Uniform),
        AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => Some(Access::ReadWrite),
        AddressSpace::Storage { .. } => Some(Access::Read),
        _ => None,
    }
}

/// The fields of the parameters: words, one behind the other.
fn fields(name: &str, file: &str, module: &Module) -> Vec<Field> {
    let uniform = module.global_variables.iter().find(|(_, variable)| variable.space == AddressSpace::Uniform);
    let (_, uniform) = uniform.unwrap_or_else(|| panic!("shader `{name}` has no parameters"));
    let TypeInner::Struct { members, span } = &module.types[uniform.ty].inner else {
        panic!("shader `{name}`: its parameters are no struct");
    };
    assert_eq!(*span as usize, 4 * members.len(), "shader `{name}`: parameters are words of 32 bits");
    let field = |member: &naga::StructMember| {
        let field = member.name.clone().unwrap_or_default();
        let rust = match module.types[member.ty].inner {
            TypeInner::Scalar(Scalar::U32) => "u32",
            TypeInner::Scalar(Scalar::F32) => "f32",
            _ => panic!("shader `{name}`: `{field}` of the parameters is neither u32 nor f32"),
        };
        let declaration = format!("{field}: ");
        let inside = file.split_once("struct Params {").map_or("", |(_, after)| after);
        Field { comment: comment(inside, |line| line.trim_start().starts_with(&declaration)), name: field, rust }
    };
    members.iter().map(field).collect()
}

/// What stands behind the first line that `is_it`.
fn comment(source: &str, is_it: impl Fn(&str) -> bool) -> String {
    let line = source.lines().find(|line| is_it(line)).unwrap_or_default();
    line.split_once("//").map_or("", |(_, comment)| comment.trim()).to_owned()
}

/// The constants that a file declares.
fn declared(source: &str) -> Vec<String> {
    let names = source.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(" ="));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// The value of a constant that is a u32.
pub fn number(module: &Module, value: Handle<Expression>) -> Option<u32> {
    match module.global_expressions[value] {
        Expression::Literal(Literal::U32(number)) => Some(number),
        Expression::Constant(other) => number(module, module.constants[other].init),
        _ => None,
    }
}
