//! Composes every shader of `shaders/permutations`, checks it with naga, and writes what naga reads out
//! of it (bindings, workgroup size, workgroup memory, layout of the parameters) as Rust, so that none
//! of it is typed twice. The parts themselves are embedded once each, without their comments.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use naga::{AddressSpace, StorageAccess, TypeInner, valid};

/// One line of the list, expanded.
struct Permutation {
    name: String,
    files: Vec<String>,
    constants: Vec<(String, String)>,
}

fn main() {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("shaders");
    println!("cargo::rerun-if-changed=shaders");
    println!("cargo::rerun-if-changed=build.rs");
    let list = read(&root.join("permutations"));
    let groups: BTreeMap<&str, &str> = list.lines().filter_map(group).collect();
    let permutations: Vec<Permutation> = list.lines().flat_map(|line| expand(line, &groups)).collect();

    let mut parts = BTreeMap::new();
    let mut rust = String::from("pub(super) static SHADERS: &[Shader] = &[\n");
    for permutation in &permutations {
        describe(permutation, &root, &mut parts, &mut rust);
    }
    rust.push_str("];\n");
    for (file, source) in &parts {
        let code = strip_comments(source);
        writeln!(rust, "const {}: &str = {code:?};", constant(file)).expect("writing to a string");
    }
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it")).join("shaders.rs");
    std::fs::write(&out, rust).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// `linear/rows` -> `LINEAR_ROWS`
fn constant(file: &str) -> String {
    file.replace('/', "_").to_uppercase()
}

/// A line that gives files a name.
fn group(line: &str) -> Option<(&str, &str)> {
    let (name, files) = line.split('#').next()?.split_once(":=")?;
    Some((name.trim(), files))
}

/// Expands a line of the list into its permutations.
fn expand(line: &str, groups: &BTreeMap<&str, &str>) -> Vec<Permutation> {
    let line = line.split('#').next().unwrap_or_default().trim();
    if line.contains(":=") {
        return vec![];
    }
    let Some((name, rest)) = line.split_once('=') else { return vec![] };
    let (parts, variables) = rest.split_once('|').unwrap_or((rest, ""));
    let mut lines = vec![(name.trim().to_owned(), parts.trim().to_owned())];
    for variable in variables.split_whitespace() {
        let (variable, values) = variable.split_once('=').unwrap_or_else(|| panic!("`{variable}` in `{line}`"));
        let hole = format!("{{{variable}}}");
        let fill =
            |(name, parts): &(String, String), value: &str| (name.replace(&hole, value), parts.replace(&hole, value));
        lines = lines.iter().flat_map(|l| values.split(',').map(move |v| fill(l, v))).collect();
    }
    let permutation = |(name, parts): (String, String)| {
        let parts = parts.split_whitespace().flat_map(|p| groups.get(p).copied().unwrap_or(p).split_whitespace());
        let (constants, files): (Vec<&str>, Vec<&str>) = parts.partition(|p| p.contains('='));
        let pair = |c: &str| c.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        Permutation {
            name,
            files: files.into_iter().map(str::to_owned).collect(),
            constants: constants.into_iter().filter_map(pair).collect(),
        }
    };
    lines.into_iter().map(permutation).collect()
}

/// Checks one permutation and writes its entry of the table.
fn describe(permutation: &Permutation, root: &Path, parts: &mut BTreeMap<String, String>, rust: &mut String) {
    let name = &permutation.name;
    let mut header = String::new();
    for (key, value) in &permutation.constants {
        writeln!(header, "const {key} = {value};").expect("writing to a string");
    }
    let mut source = header.clone();
    for file in &permutation.files {
        let part = parts.entry(file.clone()).or_insert_with(|| read(&root.join(format!("{file}.wgsl"))));
        source.push_str(part);
    }
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|e| panic!("shader `{name}`:\n{}", e.emit_to_string(&source)));
    let subgroups = permutation.files.iter().any(|f| f.ends_with("_subgroup"));
    // `unpack2x16float` and its kin are part of WebGPU without any feature.
    let mut capabilities = valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(valid::Capabilities::SUBGROUP, subgroups);
    let mut validator = valid::Validator::new(valid::ValidationFlags::all(), capabilities);
    validator.subgroup_stages(valid::ShaderStages::COMPUTE).subgroup_operations(valid::SubgroupOperationSet::all());
    if let Err(e) = validator.validate(&module) {
        panic!("shader `{name}`:\n{}", e.emit_to_string(&source));
    }

    let mut layouter = naga::proc::Layouter::default();
    layouter.update(module.to_ctx()).unwrap_or_else(|e| panic!("shader `{name}`: {e}"));
    let mut bindings = BTreeMap::new();
    let mut params = String::new();
    let mut shared = 0;
    for (_, variable) in module.global_variables.iter() {
        let size = layouter[variable.ty].size;
        let variable_name = variable.name.as_deref().unwrap_or_default();
        let kind = match variable.space {
            AddressSpace::WorkGroup => {
                shared += size;
                continue;
            }
            AddressSpace::Uniform => {
                if let TypeInner::Struct { members, .. } = &module.types[variable.ty].inner {
                    for member in members {
                        let field = member.name.as_deref().unwrap_or_default();
                        write!(params, "({field:?}, {}), ", member.offset).expect("writing to a string");
                    }
                }
                "Uniform"
            }
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => "ReadWrite",
            AddressSpace::Storage { .. } => "Read",
            _ => continue,
        };
        let binding = variable.binding.unwrap_or_else(|| panic!("shader `{name}`: `{variable_name}` has no binding"));
        assert_eq!(binding.group, 0, "shader `{name}`: all bindings are in group 0");
        if let Some(other) = bindings.insert(binding.binding, (variable_name.to_owned(), kind)) {
            panic!("shader `{name}`: binding {} is both `{}` and `{variable_name}`", binding.binding, other.0);
        }
    }
    for (expected, (index, (variable, _))) in bindings.iter().enumerate() {
        assert_eq!(expected as u32, *index, "shader `{name}`: `{variable}` leaves a gap in the bindings");
    }
    assert_eq!(bindings.get(&0).map(|b| b.1), Some("Uniform"), "shader `{name}`: binding 0 holds the parameters");
    let storage = bindings.values().filter(|b| b.1 != "Uniform").count();
    assert!(storage <= 8, "shader `{name}`: {storage} storage buffers; WebGPU promises 8");
    assert!(shared <= 16 << 10, "shader `{name}`: {shared} bytes of workgroup memory; WebGPU promises 16 KiB");
    let entry = module.entry_points.first().unwrap_or_else(|| panic!("shader `{name}` has no entry point"));
    let workgroup = entry.workgroup_size;
    let invocations: u32 = workgroup.iter().product();
    assert!(invocations <= 256, "shader `{name}`: {invocations} invocations; WebGPU promises 256");

    let files: Vec<String> = permutation.files.iter().map(|f| constant(f)).collect();
    let list: String = bindings.values().map(|(n, kind)| format!("({n:?}, Access::{kind}), ")).collect();
    writeln!(
        rust,
        "Shader {{ name: {name:?}, header: {header:?}, parts: &[{}], subgroups: {subgroups}, \
         workgroup: {workgroup:?}, shared_bytes: {shared}, bindings: &[{list}], params: &[{params}] }},",
        files.join(", ")
    )
    .expect("writing to a string");
}

/// Drops comments, indentation and empty lines: they need not travel in the binary.
fn strip_comments(source: &str) -> String {
    let mut out = String::new();
    for line in source.lines() {
        let code = line.split("//").next().unwrap_or_default().trim();
        if !code.is_empty() {
            out.push_str(code);
            out.push('\n');
        }
    }
    out
}
