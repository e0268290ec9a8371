//! Names of GGUF files: those of models, and those of one model in several files.

/// End of the names, in lower case.
const END: &str = ".gguf";
/// Part of the names of files with a vision tower, which hold no text model.
const VISION: &str = "mmproj";
/// Part of the names of importance matrices, which hold no model, and of models that were made with one.
const IMATRIX: &str = "imatrix";
/// Beginning of the names of layers that look ahead, apart from their model.
const AHEAD: &str = "mtp-";
/// Most files of a model.
pub(super) const MOST_FILES: usize = 1000;

/// True if a name is that of a GGUF file.
pub fn is_gguf(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(END)
}

/// True if a path is by its name that of a GGUF file with a text model, or with a part of one: neither a vision tower
/// nor an importance matrix, nor layers that look ahead.
pub fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    is_gguf(&name)
        && !name.contains(VISION)
        && !name.starts_with(AHEAD)
        && (!name.contains(IMATRIX) || type_of(&name).is_some())
}

/// Number and count of a file of several, and what stands before them: `name-00002-of-00003.gguf`.
pub(super) fn split(name: &str) -> Option<(&str, usize, usize)> {
    let stem = name.get(..name.len().checked_sub(END.len())?).filter(|_| is_gguf(name))?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let parse = |digits: &str| {
        digits.parse().ok().filter(|_| digits.len() == 5 && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Some((prefix, parse(number)?, parse(count)?))
}

/// A name without its end and, of a file of several, without number and count.
pub fn stem(name: &str) -> &str {
    match split(name) {
        Some((prefix, ..)) => prefix,
        None if is_gguf(name) => &name[..name.len() - END.len()],
        None => name,
    }
}

/// The name of one file of those that a name is one of; their numbers begin at 1.
pub(super) fn numbered(name: &str, number: usize) -> String {
    match split(name) {
        Some((prefix, _, count)) => {
            format!("{prefix}-{number:05}-of-{count:05}{}", &name[name.len() - END.len()..])
        }
        None => name.to_owned(),
    }
}

/// The name of the first file of those that a name is one of.
pub fn first_of(name: &str) -> String {
    numbered(name, 1)
}

/// The names of all files of the model that a name is a file of, the first one first.
pub fn files_of(name: &str) -> Vec<String> {
    let count = split(name).map_or(1, |(_, _, count)| count.clamp(1, MOST_FILES));
    (1..=count).map(|number| numbered(name, number)).collect()
}

/// The type of numbers that a file's name tells, as it is spelt there: `Q4_K_M` of `model-Q4_K_M-00001-of-00002.gguf`.
pub fn type_of(name: &str) -> Option<&str> {
    stem(name).rsplit(['-', '.']).find_map(|part| {
        let ends = std::iter::once(part).chain(part.match_indices('_').map(|(at, _)| &part[at + 1..]));
        ends.into_iter().find(|end| is_type(end))
    })
}

/// True for the name of a type of numbers, or of a mixture of some, in any case.
pub fn is_type(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default();
    let digits = first.strip_prefix(['I', 'T']).unwrap_or(first).strip_prefix('Q');
    let quantised = digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let floats = ["F16", "BF16", "FP16", "F32", "FP32", "MXFP4", "NVFP4"].contains(&first);
    (quantised || floats) && parts.all(|part| (1..=3).contains(&part.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_model_are_known_by_their_numbers() {
        assert_eq!(split("a-b-00002-of-00003.gguf"), Some(("a-b", 2, 3)));
        for name in ["a.gguf", "a-2-of-3.gguf", "a-00002-of-00003.bin", "a-+0002-of-00003.gguf", ".gguf", "é"] {
            assert_eq!(split(name), None, "{name}");
            assert_eq!(files_of(name), [name]);
        }
        assert_eq!(files_of("x/a-00002-of-00002.GGUF"), ["x/a-00001-of-00002.GGUF", "x/a-00002-of-00002.GGUF"]);
        assert_eq!(files_of("a-00001-of-99999.gguf").len(), MOST_FILES);
        assert_eq!(files_of("a-00001-of-00000.gguf"), ["a-00001-of-00000.gguf"]);
        assert_eq!([stem("a-00001-of-00002.gguf"), stem("a.b.GGUF"), stem("a.b")], ["a", "a.b", "a.b"]);
    }

    #[test]
    fn names_tell_types_and_kinds() {
        for (name, wanted) in [
            ("Qwen3-0.6B-Q4_K_M.gguf", Some("Q4_K_M")),
            ("qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", Some("q4_k_m")),
            ("Model.i1-IQ2_XXS.gguf", Some("IQ2_XXS")),
            ("model_q8_0.gguf", Some("q8_0")),
            ("gpt-oss-20b-mxfp4_moe.gguf", Some("mxfp4_moe")),
            ("Model-BF16.gguf", Some("BF16")),
            ("Model-TQ1_0.gguf", Some("TQ1_0")),
            ("Model-Q4_0_4_4.gguf", Some("Q4_0_4_4")),
            ("Model-Q4_K_M-imatrix.gguf", Some("Q4_K_M")),
            ("Qwen3-4B.gguf", None),
            ("Q.gguf", None),
        ] {
            assert_eq!(type_of(name), wanted, "{name}");
        }
        for name in ["mmproj-F16.gguf", "a/mmproj-model-f16.gguf", "imatrix_unsloth.gguf", "a.imatrix", "a.bin"] {
            assert!(!is_model(name), "{name}");
        }
        assert!(is_model("mmproj/a.GGUF") && is_model("a-imatrix-Q4_0.gguf"));
    }
}
