//! The makers' recommendation for choosing tokens: `generation_config.json`, read field by field.
//!
//! The measure is `GenerationConfig` and `_get_logits_processor` of transformers 5.24: penalties count always, the
//! other fields where `do_sample` is true; a field that is absent or `null` has the default of
//! `_get_default_generation_params`, where sampling takes the 50 most probable tokens. A wrong field is named and
//! counts as absent, the others stay: transformers would end with an error at the first token. `max_new_tokens` is the
//! length of a reply where nobody asks for another; `max_length`, which counts the prompt too and which transformers
//! follows only without the other, is not read: the context is that bound. `frequency_penalty` and `presence_penalty`,
//! which transformers does not know and other runtimes write, are followed.

use serde_json::{Map, Value};

use crate::runtime::generation_config::{FILE, fields, shown};
use crate::state::Sampler;

/// `top_k` where a config samples and does not say.
const DEFAULT_TOP_K: u32 = 50;

/// A `top_p` that leaves only the most probable token of any vocabulary.
const ALMOST_0: f32 = 1e-7;

/// A `min_p` that does so.
const ALMOST_1: f32 = 1.0 - f32::EPSILON;

/// Sampling parameters that a model's makers recommend, in `generation_config.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recommended {
    pub(super) do_sample: bool,
    /// The fields from here to `min_p` are `None` without `do_sample`.
    pub(super) temperature: Option<f32>,
    pub(super) top_k: Option<u32>,
    pub(super) top_p: Option<f32>,
    pub(super) min_p: Option<f32>,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    max_new_tokens: Option<usize>,
    notices: Vec<String>,
}

impl Recommended {
    /// Reads the file, if there is one. One that is no JSON recommends nothing: loading the model has refused it before.
    pub fn from_file(file: Option<&[u8]>) -> Self {
        let Some(fields) = file.and_then(|bytes| fields(bytes).ok()) else { return Self::default() };
        let mut reader = Reader { fields: &fields, notices: vec![] };
        let do_sample = reader.flag("do_sample");
        let mut this = Self {
            do_sample,
            repetition_penalty: reader.number("repetition_penalty", |it| &mut it.repetition),
            frequency_penalty: reader.number("frequency_penalty", |it| &mut it.frequency),
            presence_penalty: reader.number("presence_penalty", |it| &mut it.presence),
            max_new_tokens: reader.count("max_new_tokens"),
            ..Self::default()
        };
        if do_sample {
            this.temperature = reader.number("temperature", |it| &mut it.temperature);
            this.top_k = reader.top_k().or(Some(DEFAULT_TOP_K));
            // transformers takes both intervals with their ends: only the most probable token is left there.
            this.top_p = reader.number_as("top_p", |it| &mut it.top_p, |it| if it == 0.0 { ALMOST_0 } else { it });
            this.min_p = reader.number_as("min_p", |it| &mut it.min_p, |it| if it == 1.0 { ALMOST_1 } else { it });
        }
        reader.unsupported(do_sample);
        this.notices = reader.notices;
        this
    }

    /// Most tokens of a reply, where nobody asks for another number.
    pub fn max_new_tokens(&self) -> Option<usize> {
        self.max_new_tokens
    }

    /// Fields of the file that are not followed, one sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

struct Reader<'f> {
    fields: &'f Map<String, Value>,
    notices: Vec<String>,
}

impl Reader<'_> {
    /// A field that is there.
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&mut self, name: &str, value: &str, wanted: &str) {
        self.notices.push(format!("{FILE}: `{name}` is {value}, not {wanted}; it counts as absent"));
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.get(name).cloned() {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => {
                self.wrong(name, &shown(&other), "true or false");
                false
            }
        }
    }

    /// A number that a sampler takes in the place that `place` gives.
    fn number(&mut self, name: &str, place: fn(&mut Sampler) -> &mut f32) -> Option<f32> {
        self.number_as(name, place, |number| number)
    }

    /// The same, changed by `map` first.
    fn number_as(&mut self, name: &str, place: fn(&mut Sampler) -> &mut f32, map: fn(f32) -> f32) -> Option<f32> {
        let value = self.get(name)?.clone();
        let Some(number) = value.as_f64().map(|number| map(number as f32)) else {
            self.wrong(name, &shown(&value), "a number");
            return None;
        };
        let mut sampler = Sampler::default();
        *place(&mut sampler) = number;
        match sampler.check() {
            Ok(()) => Some(number),
            Err(error) => {
                self.wrong(name, &shown(&value), error.wanted());
                None
            }
        }
    }

    /// A whole number of at least one. Converters write them with a fraction.
    fn count(&mut self, name: &str) -> Option<usize> {
        let value = self.get(name)?.clone();
        match value.as_f64() {
            Some(count) if count >= 1.0 && count.fract() == 0.0 => Some(count as usize),
            _ => {
                self.wrong(name, &shown(&value), "a whole number of at least 1");
                None
            }
        }
    }

    /// A count; 0 and -1 mean all, as transformers and vLLM have it. Converters write whole numbers with a fraction.
    fn top_k(&mut self) -> Option<u32> {
        let value = self.get("top_k")?.clone();
        match value.as_f64() {
            Some(-1.0) => Some(0),
            Some(count) if count >= 0.0 && count.fract() == 0.0 => Some(count.min(f64::from(u32::MAX)) as u32),
            _ => {
                self.wrong("top_k", &shown(&value), "a whole number (0 or -1: all)");
                None
            }
        }
    }

    /// Names the fields that ask for what there is not.
    fn unsupported(&mut self, do_sample: bool) {
        let asks = |(name, neutral, _): &&(&str, Neutral, bool)| {
            self.get(name).is_some_and(|value| match (value, neutral) {
                (Value::Bool(flag), _) => *flag,
                (Value::Array(list), _) => !list.is_empty(),
                (Value::Object(map), _) => !map.is_empty(),
                (Value::Number(number), Neutral::AtMost(most)) => number.as_f64().is_some_and(|it| it > *most),
                (Value::Number(number), Neutral::AtLeast(least)) => number.as_f64().is_some_and(|it| it < *least),
                (Value::Number(number), Neutral::Is(neutral)) => number.as_f64() != Some(*neutral),
                _ => true,
            })
        };
        let counts = |(_, _, sampling): &&(&str, Neutral, bool)| do_sample || !sampling;
        let names: Vec<String> =
            UNSUPPORTED.iter().filter(counts).filter(asks).map(|(name, ..)| format!("`{name}`")).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            self.notices.push(format!("{FILE} asks for {names}: not supported, tokens are chosen without"));
        }
    }
}

/// The values of a field that change nothing, besides `null`, `false` and what is empty.
#[derive(Clone, Copy)]
enum Neutral {
    AtMost(f64),
    AtLeast(f64),
    Is(f64),
    Nothing,
}

/// Fields of transformers that change which tokens are chosen and that are not implemented; whether they count with
/// `do_sample` only.
const UNSUPPORTED: [(&str, Neutral, bool); 21] = [
    ("typical_p", Neutral::AtLeast(1.0), true),
    ("epsilon_cutoff", Neutral::AtMost(0.0), true),
    ("eta_cutoff", Neutral::AtMost(0.0), true),
    ("top_h", Neutral::Nothing, true),
    ("num_beams", Neutral::AtMost(1.0), false),
    ("penalty_alpha", Neutral::AtMost(0.0), false),
    ("guidance_scale", Neutral::Is(1.0), false),
    ("sequence_bias", Neutral::Nothing, false),
    ("encoder_repetition_penalty", Neutral::Is(1.0), false),
    ("no_repeat_ngram_size", Neutral::AtMost(0.0), false),
    ("encoder_no_repeat_ngram_size", Neutral::AtMost(0.0), false),
    ("bad_words_ids", Neutral::Nothing, false),
    ("min_length", Neutral::AtMost(0.0), false),
    ("min_new_tokens", Neutral::AtMost(0.0), false),
    ("forced_bos_token_id", Neutral::Nothing, false),
    ("forced_eos_token_id", Neutral::Nothing, false),
    ("exponential_decay_length_penalty", Neutral::Nothing, false),
    ("suppress_tokens", Neutral::Nothing, false),
    ("begin_suppress_tokens", Neutral::Nothing, false),
    ("watermarking_config", Neutral::Nothing, false),
    ("stop_strings", Neutral::Nothing, false),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Recommended {
        Recommended::from_file(Some(text.as_bytes()))
    }

    #[test]
    fn one_wrong_field_is_named_and_the_others_stay() {
        let good = r#""do_sample": true, "temperature": 0.6, "top_p": 0.95, "min_p": 0.1, "repetition_penalty": 1.05"#;
        for (name, value) in [
            ("top_k", "50.5"),
            ("top_k", "-2"),
            ("top_k", "\"many\""),
            ("top_k", "Infinity"),
            ("top_k", "true"),
            ("frequency_penalty", "NaN"),
            ("presence_penalty", "[1]"),
            ("presence_penalty", "20000"),
        ] {
            let found = read(&format!("{{{good}, \"{name}\": {value}}}"));
            let wanted = (Some(0.6), Some(0.95), Some(0.1), Some(1.05), Some(50));
            let Recommended { temperature, top_p, min_p, repetition_penalty, top_k, .. } = found;
            assert_eq!((temperature, top_p, min_p, repetition_penalty, top_k), wanted, "{name}: {value}");
            let [notice] = &found.notices[..] else { panic!("{name}: {value}: {:?}", found.notices) };
            assert!(notice.contains(&format!("`{name}` is {value}")), "{notice}");
        }
        for (name, value) in [
            ("temperature", "-0.5"),
            ("temperature", "Infinity"),
            ("temperature", "{\"__float__\": \"NaN\"}"),
            ("temperature", "\"0.6\""),
            ("top_p", "-0.1"),
            ("top_p", "1.5"),
            ("min_p", "2"),
            ("repetition_penalty", "0"),
            ("repetition_penalty", "false"),
        ] {
            let found = read(&format!("{{\"do_sample\": true, \"top_k\": 20, \"{name}\": {value}}}"));
            assert!(found.do_sample && found.top_k == Some(20), "{name}: {value}");
            assert_eq!(
                (found.temperature, found.top_p, found.min_p, found.repetition_penalty),
                (None, None, None, None)
            );
            assert!(found.notices.len() == 1 && found.notices[0].contains(name), "{:?}", found.notices);
        }
        let long = read(&format!("{{\"top_k\": 1, \"repetition_penalty\": \"{}\"}}", "x".repeat(9000)));
        assert!(long.notices[0].len() < 200, "{:?}", long.notices);
    }

    #[test]
    fn every_way_to_say_all_is_understood() {
        for (value, count) in
            [("20", 20), ("20.0", 20), ("0", 0), ("-1", 0), ("-1.0", 0), ("null", 50), ("1e30", u32::MAX)]
        {
            let found = read(&format!("{{\"do_sample\": true, \"top_k\": {value}}}"));
            assert_eq!((found.top_k, found.notices.len()), (Some(count), 0), "{value}");
        }
        let ends = read("{\"do_sample\": true, \"top_p\": 0, \"min_p\": 1.0}");
        assert_eq!((ends.top_p, ends.min_p, ends.notices.len()), (Some(ALMOST_0), Some(ALMOST_1), 0));
        let absent = read("{\"do_sample\": true}");
        assert_eq!((absent.top_k, absent.temperature, absent.notices.len()), (Some(50), None, 0));
    }

    #[test]
    fn the_length_of_a_reply_is_read_and_that_of_a_text_is_not() {
        for (value, length) in [("7", Some(7)), ("32768.0", Some(32768)), ("1e30", Some(usize::MAX)), ("null", None)] {
            let found = read(&format!("{{\"max_length\": 20, \"max_new_tokens\": {value}}}"));
            assert_eq!((found.max_new_tokens(), found.notices.len()), (length, 0), "{value}");
        }
        assert_eq!(read("{\"max_length\": 20}").max_new_tokens(), None);
        for value in ["0", "-1", "2.5", "\"9\"", "true", "NaN"] {
            let found = read(&format!("{{\"max_new_tokens\": {value}}}"));
            assert_eq!(found.max_new_tokens(), None, "{value}");
            assert!(
                found.notices.len() == 1 && found.notices[0].contains("`max_new_tokens` is"),
                "{:?}",
                found.notices
            );
        }
    }

    #[test]
    fn without_sampling_only_the_penalties_count() {
        for flag in ["", "\"do_sample\": false,", "\"do_sample\": null,", "\"do_sample\": \"yes\","] {
            let text = format!(
                "{{{flag} \"temperature\": 0.6, \"top_k\": -7, \"repetition_penalty\": 1.2, \"typical_p\": 0.5}}"
            );
            let found = read(&text);
            assert_eq!((found.do_sample, found.temperature, found.top_k), (false, None, None), "{flag}");
            assert_eq!(found.repetition_penalty, Some(1.2));
            assert_eq!(found.notices.len(), usize::from(flag.contains("yes")), "{:?}", found.notices);
        }
    }

    #[test]
    fn what_is_not_supported_is_named_once_where_it_would_change_something() {
        let neutral = r#"{"do_sample": true, "typical_p": 1.0, "epsilon_cutoff": 0.0, "num_beams": 1, "bad_words_ids": null,
            "suppress_tokens": [], "guidance_scale": 1, "no_repeat_ngram_size": 0, "max_new_tokens": 9, "cache": {}}"#;
        assert!(read(neutral).notices.is_empty(), "{:?}", read(neutral).notices);
        let odd = read(
            r#"{"do_sample": true, "typical_p": 0.9, "no_repeat_ngram_size": 3, "suppress_tokens": [1], "stop_strings": "."}"#,
        );
        let [notice] = &odd.notices[..] else { panic!("{:?}", odd.notices) };
        for name in ["typical_p", "no_repeat_ngram_size", "suppress_tokens", "stop_strings"] {
            assert!(notice.contains(&format!("`{name}`")), "{notice}");
        }
    }

    #[test]
    fn what_is_no_object_recommends_nothing() {
        for file in [&b"[]"[..], b"{", b"", b"\xff"] {
            assert_eq!(Recommended::from_file(Some(file)), Recommended::default());
        }
        assert_eq!(Recommended::from_file(None), Recommended::default());
    }
}
