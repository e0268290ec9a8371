//! The list of shaders, `shaders/permutations`, expanded.

use std::collections::BTreeMap;

use crate::CONSTANTS;

/// A line of the list.
pub struct Family {
    /// `linear_rows.plain.{format}.{reduction}.{rows}`
    pub pattern: String,
    /// The names in braces with their values, in the order of the line.
    pub variables: Vec<(String, Vec<String>)>,
    /// For every choice of values, the first variable's slowest.
    pub permutations: Vec<Permutation>,
}

/// One shader.
pub struct Permutation {
    /// `linear_rows.plain.f16.tree.1`
    pub name: String,
    /// The value of each variable.
    pub values: Vec<String>,
    /// Under `shaders/`, without `.wgsl`.
    pub files: Vec<String>,
    constants: Vec<(String, String)>,
}

impl Permutation {
    /// Its own constants, which come before all files.
    pub fn header(&self) -> String {
        self.constants.iter().map(|(name, value)| format!("const {name} = {value};\n")).collect()
    }
}

/// Reads the list.
pub fn parse(list: &str) -> Vec<Family> {
    let lines = || list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let words: BTreeMap<&str, &str> =
        lines().filter_map(|line| line.split_once(":=")).map(|(word, meaning)| (word.trim(), meaning.trim())).collect();
    let families = lines().filter(|line| !line.is_empty() && !line.contains(":="));
    families.map(|line| family(line, &words)).collect()
}

/// Expands a line.
fn family(line: &str, words: &BTreeMap<&str, &str>) -> Family {
    let (pattern, rest) = line.split_once('=').unwrap_or_else(|| panic!("no `=` in `{line}`"));
    let (parts, variables) = rest.split_once('|').unwrap_or((rest, ""));
    let variable = |text: &str| {
        let (name, values) = text.split_once('=').unwrap_or_else(|| panic!("`{text}` in `{line}`"));
        let values = words.get(values).copied().unwrap_or(values);
        (name.to_owned(), values.split(',').map(str::to_owned).collect())
    };
    let variables: Vec<(String, Vec<String>)> = variables.split_whitespace().map(variable).collect();
    let mut choices = vec![vec![]];
    for (_, values) in &variables {
        let with = |chosen: &Vec<String>, value: &String| [chosen.as_slice(), std::slice::from_ref(value)].concat();
        choices = choices.iter().flat_map(|chosen| values.iter().map(move |value| with(chosen, value))).collect();
    }
    let permutation = |values: Vec<String>| {
        let fill = |text: &str| {
            variables
                .iter()
                .zip(&values)
                .fold(text.to_owned(), |text, ((name, _), value)| text.replace(&hole(name), value))
        };
        let filled = fill(parts);
        let parts = filled.split_whitespace().flat_map(|p| words.get(p).copied().unwrap_or(p).split_whitespace());
        let (constants, files): (Vec<&str>, Vec<&str>) = parts.partition(|part| part.contains('='));
        let pair = |constant: &str| constant.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Permutation {
            name: fill(pattern.trim()),
            files: [CONSTANTS].into_iter().chain(files).map(str::to_owned).collect(),
            constants: constants.into_iter().filter_map(pair).collect(),
            values,
        }
    };
    let permutations = choices.into_iter().map(permutation).collect();
    Family { pattern: pattern.trim().to_owned(), permutations, variables }
}

/// A variable as it stands in a pattern.
pub fn hole(variable: &str) -> String {
    format!("{{{variable}}}")
}
