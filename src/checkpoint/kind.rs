//! Files of kinds that are not read: a sentence about each, with advice.

use super::{CheckpointError, Source, adapter, gguf, read_whole};
use crate::json;

/// Names of files that an error lists.
const LISTED: usize = 4;
/// Files that are asked for one by one where a place cannot list its files.
const PROBED: [&str; 3] = [adapter::CONFIG, "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Ends of the names of weights in other formats.
const FORMATS: [(&str, &str); 7] = [
    (".bin", PICKLE),
    (".pth", PICKLE),
    (".pt", PICKLE),
    (".onnx", "ONNX is not read: take the repository that it was made from"),
    (".h5", "TensorFlow's weights are not read: take the same model's safetensors"),
    (".msgpack", "Flax's weights are not read: take the same model's safetensors"),
    (".ckpt", PICKLE),
];
const PICKLE: &str = "PyTorch's pickles are not read, as reading one runs what it says: take a revision of the model with safetensors, or load it with transformers and `save_pretrained` it";
/// Ends of the names of files whose download is not finished.
const UNFINISHED: [&str; 4] = [".incomplete", ".part", ".crdownload", ".aria2"];

/// The record that `selvedge convert` keeps beside what it writes.
pub const CONVERSION_RECORD: &str = "selvedge-conversion.json";

/// The sentence on what lies in a place that lacks config.json or weights, behind a semicolon, and empty where there is
/// nothing to say.
pub(super) async fn what_lies_there(source: &dyn Source) -> Result<String, CheckpointError> {
    let mut names = source.list();
    if names.is_empty() {
        for name in PROBED {
            if source.size(name).await?.is_some() {
                names.push(name.into());
            }
        }
    }
    let base = match read_whole(source, adapter::CONFIG, super::LARGEST_CONFIG).await? {
        Some(bytes) => {
            let config = json::parse(&String::from_utf8_lossy(&bytes)).unwrap_or_default();
            config.get("base_model_name_or_path").and_then(|name| name.as_str()).map(str::to_owned)
        }
        None => None,
    };
    Ok(format!("; {}", sentence(&names, base.as_deref())))
}

/// Sentence about a place with such files. `base` is the model that an adapter is for.
fn sentence(names: &[String], base: Option<&str>) -> String {
    let here = || names.iter().map(String::as_str).filter(|name| !name.contains('/'));
    let is = |name: &str| here().any(|there| there == name);
    if names.is_empty() {
        return "no file is there".into();
    }
    if is(adapter::CONFIG) || here().any(|name| name.starts_with("adapter_model.")) {
        let base = base.map_or_else(|| "another model".to_owned(), |base| format!("`{base}`"));
        return format!(
            "an adapter (LoRA or one of its kin) for {base} is there: load that model, and merge this into it meanwhile"
        );
    }
    if is(CONVERSION_RECORD) {
        return format!(
            "{CONVERSION_RECORD} is there: a conversion is not finished; the same `selvedge convert` goes on with it"
        );
    }
    if let Some((name, what)) = here().find_map(|name| {
        let lower = name.to_ascii_lowercase();
        // Trainers leave their own state and arguments behind.
        let state = ["training_args", "optimizer", "scheduler", "rng_state"].iter().any(|own| lower.starts_with(own));
        let format = FORMATS.iter().find(|(end, _)| lower.ends_with(end) && !state)?;
        Some((name, format.1))
    }) {
        return format!("`{name}` is there; {what}");
    }
    let safetensors: Vec<&str> = here().filter(|name| name.ends_with(".safetensors")).collect();
    if let [only] = safetensors[..]
        && only.ends_with("-00001-of-00001.safetensors")
    {
        return format!("`{only}` is there without an index: rename it to model.safetensors");
    }
    if let Some(shard) = safetensors.iter().find(|name| name.starts_with("model-") && name.contains("-of-")) {
        return format!(
            "{} files like `{shard}` are there without model.safetensors.index.json, which says what lies in which: fetch it too",
            safetensors.len()
        );
    }
    if let Some(name) = here().find(|name| UNFINISHED.iter().any(|end| name.ends_with(end))) {
        return format!("`{name}` is there: the download is not finished");
    }
    if let Some(inner) = names.iter().find_map(|name| name.strip_suffix("/config.json")) {
        return format!("a model is in `{inner}` within: name that folder");
    }
    if is("model_index.json") {
        return "model_index.json is there: this is a pipeline of diffusers, not a language model".into();
    }
    let mut listed: Vec<String> = here().take(LISTED).map(|name| format!("`{name}`")).collect();
    let more = here().count() - listed.len();
    if more > 0 {
        listed.push(format!("{more} more"));
    }
    if listed.is_empty() { "no file is there".into() } else { format!("what is there: {}", listed.join(", ")) }
}

/// First bytes of a file, by which its kind is known.
pub(super) const FIRST: usize = 64;

/// Kind of a file by its first bytes, if it is known and no safetensors file.
pub(super) fn of_bytes(bytes: &[u8]) -> Option<&'static str> {
    let text = bytes.trim_ascii_start();
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(LFS) {
        return Some(POINTER);
    }
    if starts(gguf::MAGIC) {
        return Some("it is a GGUF file under another name; give it a name that ends in .gguf, and name that file");
    }
    if starts(b"PK\x03\x04") || starts(b"\x80\x02") {
        return Some("it is one of PyTorch's pickles under another name; take the model's safetensors");
    }
    if text.starts_with(b"<") {
        return Some("it is a web page, perhaps an error saved in the file's place; fetch it anew");
    }
    if text.starts_with(b"{") {
        return Some("it is JSON, perhaps an error saved in the file's place; fetch it anew");
    }
    (!bytes.is_empty() && bytes.iter().all(|&byte| byte == 0))
        .then_some("it begins with zeros; is the download complete?")
}

/// First bytes of the text that Git keeps in the place of a large file.
pub(super) const LFS: &[u8] = b"version https://git-lfs.github.com/spec";
/// Explanation of a Git LFS pointer.
pub(super) const POINTER: &str = "it is Git's pointer to a large file, not the file itself; run `git lfs pull` in its folder, or fetch the model anew";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_folder_has_its_sentence() {
        for (names, said) in [
            (&["adapter_config.json", "adapter_model.safetensors"][..], "an adapter"),
            (&["config.json", "pytorch_model-00002-of-00007.bin"], "pickles"),
            (&["params.json", "consolidated.00.pth"], "pickles"),
            (&["model.onnx"], "ONNX"),
            (&["tf_model.h5"], "TensorFlow"),
            (&["flax_model.msgpack"], "Flax"),
            (&["config.json", "model-00001-of-00001.safetensors"], "rename it to model.safetensors"),
            (&["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"], "2 files like"),
            (&["config.json", "model.safetensors.incomplete"], "not finished"),
            (&["model-00001-of-00003.safetensors", CONVERSION_RECORD], "a conversion is not finished"),
            (&["README.md", "v2/config.json"], "a model is in `v2` within"),
            (&["refs/main", "snapshots/0ff1ce/config.json"], "a model is in `snapshots/0ff1ce` within"),
            (&["model_index.json", "unet/config.json.txt"], "diffusers"),
            (&["training_args.bin", "notes.txt"], "what is there: `training_args.bin`, `notes.txt`"),
            (&["a", "b", "c", "d", "e", "f"], "`d`, 2 more"),
            (&["deep/a"], "no file is there"),
            (&[], "no file is there"),
        ] {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            let sentence = sentence(&names, None);
            assert!(sentence.contains(said), "{names:?}: {sentence}");
        }
        let adapter = ["adapter_config.json".to_owned()];
        assert!(sentence(&adapter, Some("them/base")).contains("for `them/base`"));
    }

    #[test]
    fn other_files_are_known_by_their_first_bytes() {
        for (bytes, said) in [
            (&b"version https://git-lfs.github.com/spec/v1\noid sha256:77"[..], "git lfs pull"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"PK\x03\x04....", "pickles"),
            (b"\n <!doctype html>", "web page"),
            (b"{\"error\": \"gated\"}", "JSON"),
            (&[0; 32], "zeros"),
        ] {
            assert!(of_bytes(bytes).is_some_and(|what| what.contains(said)), "{said}");
        }
        assert_eq!(of_bytes(b"\x40\0\0\0\0\0\0\0{\"a\":"), None);
        assert_eq!(of_bytes(b""), None);
    }
}
