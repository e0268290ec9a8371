//! Rust for hosts: what `src/constants.rs` and `src/backend/webgpu/kernels.rs` include.

use std::collections::BTreeMap;

use naga::{Expression, Literal};

use crate::permutations::{Family, hole};
use crate::push;
use crate::reflect::{Access, Field, Reflection};

/// The constants that Rust shares with all shaders.
pub fn constants(source: &str) -> String {
    let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|e| panic!("{}", e.emit_to_string(source)));
    let mut rust = String::new();
    for (_, constant) in module.constants.iter() {
        let name = constant.name.as_deref().unwrap_or_default();
        let declaration = format!("const {name} = ");
        let line = source.lines().find(|line| line.starts_with(&declaration)).unwrap_or_default();
        let comment = line.split_once("// ").map(|(_, comment)| comment);
        push(&mut rust, format_args!("/// {}", comment.unwrap_or_else(|| panic!("`{name}` has no comment"))));
        match module.global_expressions[constant.init] {
            Expression::Literal(Literal::U32(value)) => {
                push(&mut rust, format_args!("pub const {name}: u32 = {value};"));
            }
            Expression::Literal(Literal::F32(value)) => {
                push(&mut rust, format_args!("pub const {name}: f32 = {value:?};"));
            }
            ref other => panic!("`{name}` is neither u32 nor f32: {other:?}"),
        }
    }
    rust
}

/// One module of the tree.
#[derive(Default)]
struct Node {
    code: String,
    children: BTreeMap<String, Node>,
}

/// The interfaces of all shaders, and their parameters.
pub fn kernels(families: &[(Family, Vec<Reflection>)]) -> String {
    let mut params: BTreeMap<String, (&str, &[Field])> = BTreeMap::new();
    let mut tree = Node::default();
    for (family, reflections) in families {
        for reflection in reflections {
            let file = reflection.params_file.as_str();
            params.insert(params_type(file), (file, &reflection.params));
        }
        for (values, members) in interfaces(family, reflections) {
            interface(family, &values, &members, &mut tree);
        }
    }
    let mut rust = String::from("/// The parameters of the shaders.\npub mod params {\n");
    for (name, (file, fields)) in params {
        push(&mut rust, format_args!("/// `shaders/{file}.wgsl`\n#[repr(C)]"));
        push(&mut rust, format_args!("#[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]"));
        push(&mut rust, format_args!("pub struct {name} {{"));
        for field in fields {
            document(&mut rust, &field.comment);
            push(&mut rust, format_args!("pub {}: {},", field.name, field.rust));
        }
        rust.push_str("}\n");
    }
    rust.push_str("}\n");
    write_tree(&tree, &mut rust);
    rust
}

fn write_tree(node: &Node, rust: &mut String) {
    rust.push_str(&node.code);
    for (name, child) in &node.children {
        push(rust, format_args!("pub mod {name} {{"));
        write_tree(child, rust);
        rust.push_str("}\n");
    }
}

/// The permutations of a family by the values that change the interface; others' values are `None`.
fn interfaces<'f>(
    family: &Family,
    reflections: &'f [Reflection],
) -> BTreeMap<Vec<Option<String>>, Vec<&'f Reflection>> {
    let permutations = || family.permutations.iter().zip(reflections);
    let matters = |which: usize| {
        let but = |values: &[String]| [&values[..which], &values[which + 1..]].concat();
        permutations().any(|(p, r)| permutations().any(|(q, s)| but(&p.values) == but(&q.values) && !r.is_like(s)))
    };
    let matters: Vec<bool> = (0..family.variables.len()).map(matters).collect();
    let mut found: BTreeMap<_, Vec<&Reflection>> = BTreeMap::new();
    for (permutation, reflection) in permutations() {
        let values = permutation.values.iter().zip(&matters).map(|(value, &matters)| matters.then(|| value.clone()));
        found.entry(values.collect()).or_default().push(reflection);
    }
    found
}

/// Writes one interface into its module.
fn interface(family: &Family, values: &[Option<String>], members: &[&Reflection], tree: &mut Node) {
    let mut pattern = family.pattern.clone();
    let (mut arguments, mut most) = (Vec::new(), Vec::new());
    for ((name, all), value) in family.variables.iter().zip(values) {
        match value {
            Some(value) => pattern = pattern.replace(&hole(name), value),
            None => {
                let numbers: Option<Vec<usize>> = all.iter().map(|value| value.parse().ok()).collect();
                arguments.push(format!("{name}: {}", if numbers.is_some() { "usize" } else { "&str" }));
                most.extend(numbers.and_then(|numbers| Some((name.to_uppercase(), numbers.into_iter().max()?))));
            }
        }
    }
    let mut node = tree;
    for segment in pattern.split('.').filter(|segment| !segment.contains('{')) {
        node = node.children.entry(segment.to_owned()).or_default();
    }
    assert!(node.code.is_empty(), "two interfaces would be called `{pattern}`");
    let Some(first) = members.first() else { return };

    let rust = &mut node.code;
    push(rust, format_args!("/// `{pattern}`\npub enum Interface {{}}"));
    let buffers: Vec<_> = first.bindings.iter().filter(|b| b.access != Access::Uniform && b.name != "table").collect();
    push(rust, format_args!("/// The buffers of `{pattern}`.\npub struct Buffers<'a> {{"));
    for buffer in &buffers {
        document(rust, &[&format!("{:?}.", buffer.access), buffer.comment.as_str()].join(" "));
        push(rust, format_args!("pub {}: &'a wgpu::Buffer,", buffer.name));
    }
    let names: Vec<String> = buffers.iter().map(|buffer| format!("buffers.{}", buffer.name)).collect();
    push(
        rust,
        format_args!(
            "}}\nimpl crate::backend::webgpu::kernels::Interface for Interface {{\n\
             type Params = crate::backend::webgpu::kernels::params::{};\ntype Buffers<'a> = Buffers<'a>;\n\
             const WORKGROUP: usize = {};\n\
             fn list<'a>(buffers: Self::Buffers<'a>) -> Vec<&'a wgpu::Buffer> {{ vec![{}] }}\n}}",
            params_type(&first.params_file),
            first.workgroup,
            names.join(", ")
        ),
    );
    if first.bindings.get(1).is_some_and(|binding| binding.name == "table") {
        push(rust, format_args!("impl crate::backend::webgpu::kernels::OfStep for Interface {{}}"));
    }
    let overrides: Vec<String> = first.overrides.iter().map(|name| name.to_lowercase()).collect();
    arguments.extend(overrides.iter().map(|name| format!("{name}: usize")));
    let name = if pattern.contains('{') { format!("format!({pattern:?})") } else { format!("{pattern:?}.to_owned()") };
    let numbers =
        first.overrides.iter().zip(&overrides).map(|(name, argument)| format!("({name:?}, {argument} as f64)"));
    push(
        rust,
        format_args!(
            "/// A shader of these.\npub fn shader({}) -> crate::backend::webgpu::kernels::Permutation<Interface> {{\n\
             crate::backend::webgpu::kernels::Permutation::new({name}, vec![{}])\n}}",
            arguments.join(", "),
            numbers.collect::<Vec<_>>().join(", ")
        ),
    );
    for (variable, number) in most {
        push(rust, format_args!("/// The largest value there is.\npub const MOST_{variable}: usize = {number};"));
    }
    let constants: BTreeMap<&String, &u32> = members.iter().flat_map(|member| &member.constants).collect();
    for (constant, value) in constants {
        // A number that permutations disagree about is none of the host's.
        if members.iter().all(|member| member.constants.get(constant).is_none_or(|other| other == value)) {
            push(rust, format_args!("/// As the shader has it.\npub const {constant}: usize = {value};"));
        }
    }
}

/// `linear/rows` -> `LinearRows`; of `conv/conv` and `conv/params` the folder says it all.
fn params_type(file: &str) -> String {
    let (folder, stem) = file.split_once('/').unwrap_or((file, "params"));
    let camel = |words: &str| {
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        words.split('_').map(capital).collect::<String>()
    };
    if stem == folder || stem == "params" { camel(folder) } else { camel(folder) + &camel(stem) }
}

/// A comment of the shader as documentation.
fn document(rust: &mut String, comment: &str) {
    if !comment.is_empty() {
        push(rust, format_args!("/// {}", comment.replace('[', "\\[").replace(']', "\\]")));
    }
}
