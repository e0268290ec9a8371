//! Choice of one GGUF model among a repository's files, by the tag behind its name: `owner/name:Q4_K_M`.
//!
//! A tag is the name of a file, or what a path holds as a whole part, in any case: `Q4_K_M` of `x-Q4_K_M.gguf`,
//! `x.Q4_K_M.gguf`, `x-Q4_K_M-00001-of-00003.gguf` and `Q4_K_M/x.gguf`, but not of `x-IQ4_K_M.gguf`. Where several models
//! hold it, the one whose whole tag it is stands for them: `Q4_K_M` is `x-Q4_K_M.gguf` and not `x-UD-Q4_K_M.gguf`.

use std::collections::BTreeSet;

use super::is_path;
use crate::checkpoint::gguf::{first_of, is_gguf, is_model, is_type, stem, type_of};

/// Maker's mark before a type that belongs to the tag: another mixture under the same type's name.
const MARK: &str = "UD";
/// Names of files that an error lists.
const LISTED: usize = 6;

/// Paths of the first files of all models among some files, in order. Paths that could lead elsewhere are left out.
pub(super) fn models<'f>(files: impl IntoIterator<Item = &'f String>) -> Vec<String> {
    let models = files.into_iter().filter(|file| is_path(file) && is_model(file)).map(|file| first_of(file));
    models.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Tag of a model: the type of its numbers, as its file or its folder tells; else the file's path.
pub(super) fn tag(path: &str) -> String {
    let parts = path.rsplit('/');
    let found = parts.take(2).find_map(|part| {
        let kind = type_of(part)?;
        let before = stem(part).strip_suffix(kind).and_then(|before| before.strip_suffix(['-', '.']));
        let mark = before.and_then(|before| before.rsplit(['-', '.']).next()).filter(|mark| *mark == MARK);
        Some(mark.map_or_else(|| kind.to_owned(), |mark| format!("{mark}-{kind}")))
    });
    found.unwrap_or_else(|| path.to_owned())
}

/// Tags that each stand for one of the models.
pub(super) fn tags(models: &[String]) -> Vec<String> {
    let all: Vec<String> = models.iter().map(|model| tag(model)).collect();
    let is_only = |tag: &str| all.iter().filter(|other| other.eq_ignore_ascii_case(tag)).count() == 1;
    all.iter().zip(models).map(|(tag, model)| if is_only(tag) { tag } else { model }.clone()).collect()
}

/// The models that a tag stands for: none, one, or several where it does not say which.
pub(super) fn matching<'m>(models: &'m [String], wanted: &str) -> Vec<&'m String> {
    if is_gguf(wanted) {
        // Any of a model's files stands for it.
        let wanted = first_of(wanted);
        let exact = models.iter().find(|model| **model == wanted);
        let named = |model: &&String| model.rsplit('/').next() == Some(wanted.as_str());
        return exact.map_or_else(|| models.iter().filter(named).collect(), |model| vec![model]);
    }
    let found: Vec<&String> = models.iter().filter(|model| holds(model, wanted)).collect();
    let whole: Vec<&String> = found.iter().copied().filter(|model| tag(model).eq_ignore_ascii_case(wanted)).collect();
    if whole.len() == 1 { whole } else { found }
}

/// True if a path holds a tag as a whole part.
fn holds(path: &str, tag: &str) -> bool {
    let (path, tag) = (stem(path).to_ascii_lowercase(), tag.to_ascii_lowercase());
    path.match_indices(&tag).any(|(at, _)| {
        let before = path[..at].chars().next_back();
        let after = path[at + tag.len()..].chars().next();
        let begins = before.is_none_or(|before| "-./".contains(before) || (before == '_' && is_type(&tag)));
        begins && after.is_none_or(|after| "-./".contains(after))
    })
}

/// The model that a tag stands for, or the only one where there is no tag; else what is wrong, with the names that are
/// right. `name` is the repository's, with its revision.
pub(super) fn choose(models: &[String], wanted: Option<&str>, name: &str) -> Result<String, String> {
    let tags = || {
        let tags = tags(models);
        format!("name one, as in {name}:{}; there are {}", tags[0], tags.join(", "))
    };
    match wanted {
        _ if models.is_empty() => Err("there is no model in a GGUF file".into()),
        None if models.len() == 1 => Ok(models[0].clone()),
        None => Err(format!("there are {} models in GGUF files; {}", models.len(), tags())),
        Some(wanted) => match matching(models, wanted)[..] {
            [model] => Ok(model.clone()),
            [] => Err(format!("no GGUF file is of the tag `{wanted}`; {}", tags())),
            ref several => {
                let named: Vec<&str> = several.iter().take(LISTED).map(|model| model.as_str()).collect();
                let more = several.len() - named.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                Err(format!(
                    "`{wanted}` stands for {} models; name one by its file, as in {name}:{}; there are {}{more}",
                    several.len(),
                    named[0],
                    named.join(", ")
                ))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn tags_stand_for_files() {
        let files = paths(&[
            "README.md",
            "BF16/tiny-BF16-00001-of-00002.gguf",
            "BF16/tiny-BF16-00002-of-00002.gguf",
            "Q8/tiny.gguf",
            "tiny-IQ4_XS.gguf",
            "tiny-Q4_K_M.gguf",
            "tiny-UD-Q4_K_M.gguf",
            "tiny-UD-Q4_K_XL.gguf",
            "tiny.q4_k_s.gguf",
            "tiny_q5_0.GGUF",
            "mmproj-F16.gguf",
            "imatrix.gguf",
            "../tiny-Q2_K.gguf",
        ]);
        let models = models(&files);
        assert_eq!(models.len(), 8, "{models:?}");
        let kinds = "BF16, Q8, IQ4_XS, Q4_K_M, UD-Q4_K_M, UD-Q4_K_XL, q4_k_s, q5_0";
        assert_eq!(tags(&models).join(", "), kinds);
        for (wanted, model) in [
            ("Q4_K_M", "tiny-Q4_K_M.gguf"),
            ("q4_k_m", "tiny-Q4_K_M.gguf"),
            ("ud-q4_k_m", "tiny-UD-Q4_K_M.gguf"),
            ("Q4_K_XL", "tiny-UD-Q4_K_XL.gguf"),
            ("Q4_K_S", "tiny.q4_k_s.gguf"),
            ("Q5_0", "tiny_q5_0.GGUF"),
            ("bf16", "BF16/tiny-BF16-00001-of-00002.gguf"),
            ("q8", "Q8/tiny.gguf"),
            ("tiny-IQ4_XS.gguf", "tiny-IQ4_XS.gguf"),
            ("tiny.gguf", "Q8/tiny.gguf"),
            ("Q8/tiny.gguf", "Q8/tiny.gguf"),
            ("tiny-BF16-00002-of-00002.gguf", "BF16/tiny-BF16-00001-of-00002.gguf"),
        ] {
            assert_eq!(choose(&models, Some(wanted), "a/b"), Ok(model.to_owned()), "{wanted}");
        }
        for wanted in ["Q4_K", "K_M", "Q4", "XS", "Q2_K", "F16", "00001", "of", "iny", "UD-Q4", "TINY.gguf", "gguf"] {
            let error = choose(&models, Some(wanted), "a/b").expect_err(wanted);
            assert!(error.contains(&format!("`{wanted}`")) && error.contains(kinds), "{error}");
            assert!(error.contains("as in a/b:BF16;"), "{error}");
        }
        let error = choose(&models, Some("tiny"), "a/b").expect_err("all of them");
        assert!(error.contains("`tiny` stands for 7 models") && error.contains("and 1 more"), "{error}");
        assert!(
            choose(&models, None, "a/b@v1").expect_err("several").contains("as in a/b@v1:BF16; there are BF16, Q8,")
        );
        assert!(choose(&[], Some("Q4_0"), "a/b").expect_err("none").contains("no model in a GGUF file"));
        assert_eq!(choose(&models[..1], None, "a/b").as_ref(), Ok(&models[0]));
    }

    #[test]
    fn models_of_one_type_are_told_by_their_files() {
        let models = models(&paths(&["small-Q8_0.gguf", "large-Q8_0.gguf", "x/base.gguf", "chat.gguf"]));
        assert_eq!(tags(&models).join(", "), "chat.gguf, large-Q8_0.gguf, small-Q8_0.gguf, x/base.gguf");
        let error = choose(&models, Some("Q8_0"), "a/b").expect_err("two");
        assert!(error.contains("2 models") && error.contains("a/b:large-Q8_0.gguf; there are"), "{error}");
        assert_eq!(choose(&models, Some("small"), "a/b").as_deref(), Ok("small-Q8_0.gguf"));
    }
}
