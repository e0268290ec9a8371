//! Stop tokens: the ids that the config and `generation_config.json` name, and those that a device can watch for.

use serde_json::{Map, Value};

use super::generation_config::{FILE, shown};
use crate::state::MOST_ENDS;

/// Wrong ids that one message names.
const NAMED: usize = 4;

/// The ids that end a text, each once and in the order of the files, and notices of the values that are left out.
///
/// `config` holds the ids of config.json, `file` the fields of generation_config.json. An id beyond the vocabulary is
/// never chosen, and what is no id ends nothing: both are named and left out.
pub(super) fn read(config: &[u32], file: Option<&Map<String, Value>>, vocabulary: usize) -> (Vec<u32>, Vec<String>) {
    let (mut ids, mut beyond, mut wrong) = (config.to_vec(), vec![], vec![]);
    let values = match file.and_then(|fields| fields.get("eos_token_id")) {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    for value in values {
        match id(value) {
            Ok(id) => ids.extend(id),
            Err(()) => wrong.push(shown(value)),
        }
    }
    let mut ids = distinct(ids);
    ids.retain(|&id| {
        let known = (id as usize) < vocabulary;
        if !known {
            beyond.push(id.to_string());
        }
        known
    });
    let mut notices = vec![];
    if !wrong.is_empty() {
        notices.push(format!("{FILE}: `eos_token_id` holds {}, no token id; it ends nothing", some_of(&wrong)));
    }
    if !beyond.is_empty() {
        let most = vocabulary.saturating_sub(1);
        notices.push(format!(
            "`eos_token_id` names {}, beyond the vocabulary (ids 0 to {most}); it ends nothing",
            some_of(&beyond)
        ));
    }
    (ids, notices)
}

/// A token id, or `None` for what means none.
fn id(value: &Value) -> Result<Option<u32>, ()> {
    match value.as_f64() {
        // Some configs write -1 for none.
        None if value.is_null() => Ok(None),
        Some(-1.0) => Ok(None),
        Some(id) if id >= 0.0 && id.fract() == 0.0 && id <= f64::from(u32::MAX) => Ok(Some(id as u32)),
        _ => Err(()),
    }
}

fn some_of(values: &[String]) -> String {
    let more = values.len().saturating_sub(NAMED);
    let named = values[..values.len() - more].join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// Each id once, in the order of their first places.
pub(super) fn distinct(mut ids: Vec<u32>) -> Vec<u32> {
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|&id| seen.insert(id));
    ids
}

/// The ids that a device watches for: a slot's record has room for [`MOST_ENDS`]. The host looks for the others when
/// the token comes.
pub(crate) fn watched(ids: &[u32]) -> &[u32] {
    &ids[..ids.len().min(MOST_ENDS)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_value(config: &[u32], value: Value) -> (Vec<u32>, Vec<String>) {
        let fields = [("eos_token_id".to_owned(), value)].into_iter().collect();
        read(config, Some(&fields), 100)
    }

    #[test]
    fn every_form_is_read_and_each_id_counts_once() {
        use serde_json::json;
        for (value, ids) in [
            (json!(7), vec![2, 7]),
            (json!([7, 2, 7, 2]), vec![2, 7]),
            (json!([9.0, 7]), vec![2, 9, 7]),
            (json!(null), vec![2]),
            (json!(-1), vec![2]),
            (json!([]), vec![2]),
        ] {
            assert_eq!(read_value(&[2, 2], value.clone()), (ids, vec![]), "{value}");
        }
        assert_eq!(read(&[5, 5], None, 100), (vec![5], vec![]));
    }

    #[test]
    fn what_ends_nothing_is_named_and_the_rest_stays() {
        use serde_json::json;
        for (value, word) in [
            (json!([7, 100]), "100"),
            (json!([7, "<|im_end|>"]), "im_end"),
            (json!([7, -3]), "-3"),
            (json!([7, 1.5]), "1.5"),
            (json!([7, [2]]), "[2]"),
            (json!([7, true]), "true"),
            (json!([7, 1e12]), "1000000000000"),
        ] {
            let (ids, notices) = read_value(&[2], value);
            assert_eq!(ids, [2, 7], "{word}");
            assert!(notices.len() == 1 && notices[0].contains(word), "{word}: {notices:?}");
        }
        let many: Vec<u32> = (50..4000).collect();
        let (ids, notices) = read(&many, None, 100);
        assert_eq!((ids.len(), watched(&ids).len()), (50, MOST_ENDS));
        assert!(notices[0].contains("100, 101, 102, 103 and 3896 more"), "{notices:?}");
    }
}
