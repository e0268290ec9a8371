//! Rotary fields of a config, read for every family as transformers 5 reads them.
//!
//! | | taken from, in this order |
//! |---|---|
//! | the object | `rope_scaling` unless it is null or empty, else `rope_parameters` |
//! | `rope_theta`, `partial_rotary_factor` | the object, the root, the family's default |
//! | the form | the object's `rope_type`, its `type`, `default` |
//! | `original_max_position_embeddings` | the root, the object, `max_position_embeddings` |
//!
//! An object with one object for each kind of layer gives that of the layers with full attention, but for the families
//! that rotate by kind. Every form that is a table of frequencies is implemented; another is refused by its name. Source:
//! transformers 5.24, `modeling_rope_utils.py`; YaRN: Peng et al. 2023, arXiv 2309.00071.

use std::f64::consts::PI;

use crate::arch::{ArchError, Config, ConfigError};
use crate::graph::Rotary;
use crate::graph::ops::Growth;

/// Values of the fields that a config lacks, and what its family does with them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RotaryDefaults {
    /// Of `rope_theta`.
    pub theta: f64,
    /// Of `partial_rotary_factor`; `None`: the family rotates whole heads.
    pub partial: Option<f64>,
    /// Of `max_position_embeddings`.
    pub context: usize,
}

/// Forms that are implemented, for errors.
const FORMS: &str = "\"default\", \"linear\", \"dynamic\", \"llama3\", \"yarn\", \"proportional\", \"longrope\" with one list of factors";
/// Keys of an object that holds one object for each kind of layer, for layers with full attention.
const FULL_ATTENTION: [&str; 2] = ["full_attention", "attention"];

/// The rotary fields of a config.
pub(crate) struct RotaryFields<'a> {
    config: &'a Config,
    /// The field that holds the object.
    place: &'static str,
    /// The object; empty where there is none.
    own: Config,
}

impl<'a> RotaryFields<'a> {
    /// Finds the object.
    pub fn of(config: &'a Config) -> Result<Self, ConfigError> {
        let found = Self::find(config)?;
        Ok(Self { own: one_kind(config, found.place, found.own)?, ..found })
    }

    /// Finds the object for one kind of layer, of a family that has one for each.
    pub fn of_kind(config: &'a Config, kind: &str) -> Result<Self, ConfigError> {
        let Self { place, own, .. } = Self::find(config)?;
        let own =
            own.nested(kind).ok_or_else(|| config.invalid(place, format!("an object with one under `{kind}`")))?;
        Ok(Self { config, place, own })
    }

    /// The object as it is.
    fn find(config: &'a Config) -> Result<Self, ConfigError> {
        for place in ["rope_scaling", "rope_parameters"] {
            if config.get(place).is_none() {
                continue;
            }
            let own = config.nested(place).ok_or_else(|| config.invalid(place, "an object or null"))?;
            if own.fields() > 0 {
                return Ok(Self { config, place, own });
            }
        }
        Ok(Self { config, place: "rope_parameters", own: Config::empty() })
    }

    /// The form, if the object names one.
    pub fn form(&self) -> Result<Option<&str>, ConfigError> {
        match ["rope_type", "type"].into_iter().find(|field| self.own.get(field).is_some()) {
            Some(field) => self.own.string(field).map(Some),
            None => Ok(None),
        }
    }

    /// An error about a form that is not implemented.
    pub fn unsupported(&self, supported: &str) -> ConfigError {
        let field = if self.own.get("rope_type").is_some() { "rope_type" } else { "type" };
        self.own.unsupported(field, supported)
    }

    /// The base of the wavelengths.
    pub fn theta(&self, default: f64) -> Result<f64, ConfigError> {
        self.own.positive_or("rope_theta", self.config.positive_or("rope_theta", default)?)
    }

    /// The part of a head that is rotated. A `null` is no part: the whole.
    fn partial(&self, default: f64) -> Result<f64, ConfigError> {
        const FIELD: &str = "partial_rotary_factor";
        let holder = if self.own.has(FIELD) { &self.own } else { self.config };
        let default = if holder.has(FIELD) { 1.0 } else { default };
        let partial = holder.positive_or(FIELD, default)?;
        if partial > 1.0 { Err(holder.invalid(FIELD, "above 0 and at most 1")) } else { Ok(partial) }
    }

    /// A number that the form cannot do without.
    fn needed(&self, field: &str) -> Result<f64, ConfigError> {
        match self.own.get(field) {
            Some(_) => self.own.positive_or(field, 1.0),
            None => Err(ConfigError::Missing(format!("{}.{field}", self.place))),
        }
    }

    /// Positions before the context was stretched.
    fn original(&self, longest: f64) -> Result<f64, ConfigError> {
        const FIELD: &str = "original_max_position_embeddings";
        let found = self.config.size_opt(FIELD)?;
        let found = if found.is_some() { found } else { self.own.size_opt(FIELD)? };
        Ok(found.map_or(longest, |original| original as f64))
    }

    /// The growth of queries with the position, where the object has one; `context` is the family's
    /// `max_position_embeddings`.
    pub fn growth(&self, context: usize) -> Result<Option<Growth>, ConfigError> {
        const FIELD: &str = "llama_4_scaling_beta";
        let beta = self.own.number_or(FIELD, 0.0)? as f32;
        let longest = self.config.size_or("max_position_embeddings", context)?;
        let original = self.original(longest as f64)? as u32;
        Ok((beta != 0.0).then_some(Growth { beta, original }))
    }

    /// The rotary embedding of heads of `head` columns.
    pub fn rotary(&self, head: usize, defaults: &RotaryDefaults) -> Result<Rotary, ArchError> {
        let Self { config, own, .. } = self;
        let theta = self.theta(defaults.theta)?;
        let partial = defaults.partial.map(|default| self.partial(default)).transpose()?;
        let form = self.form()?.unwrap_or("default");
        // transformers overlooks a factor without a form, and with it what the model was made for.
        if self.form()?.is_none() && own.number_or("factor", 1.0)? != 1.0 {
            return Err(config.invalid(self.place, "such that `rope_type` says what `factor` is for").into());
        }
        // What rotates whole heads overlooks a part of them, unless it is scaled: then transformers cannot run it either.
        if partial.is_none() && !["default", "proportional"].contains(&form) && self.partial(1.0)? != 1.0 {
            let holder = if own.has("partial_rotary_factor") { own } else { config };
            return Err(holder.unsupported("partial_rotary_factor", "1").into());
        }
        let (table, scale) = self.table(theta, head, partial, defaults.context)?;
        if table.is_empty() || 2 * table.len() > head {
            return Err(config.invalid("head_dim", "an even number of rotated columns").into());
        }
        let inverse_frequencies: Vec<f32> = table.into_iter().map(|f| f as f32).collect();
        if !inverse_frequencies.iter().all(|f| f.is_finite()) {
            return Err(config.invalid(self.place, "such that every frequency is finite").into());
        }
        Ok(Rotary { inverse_frequencies, scale: scale as f32 })
    }

    /// Frequencies, all else read and checked.
    fn table(
        &self,
        theta: f64,
        head: usize,
        partial: Option<f64>,
        context: usize,
    ) -> Result<(Vec<f64>, f64), ConfigError> {
        let rotated = (head as f64 * partial.unwrap_or(1.0)) as usize;
        let plain = |columns: usize| frequencies(theta, columns, columns.div_ceil(2));
        let longest = self.config.size_opt("max_position_embeddings")?.unwrap_or(context) as f64;
        match self.form()?.unwrap_or("default") {
            "default" => Ok((plain(rotated), 1.0)),
            // Longer contexts than the model was made for would raise the base; an engine refuses them.
            "dynamic" => self.needed("factor").map(|_| (plain(rotated), 1.0)),
            "linear" => {
                let factor = self.needed("factor")?;
                Ok((plain(rotated).into_iter().map(|f| f / factor).collect(), 1.0))
            }
            "llama3" => self.llama3(plain(rotated), longest).map(|table| (table, 1.0)),
            "longrope" => self.factors(plain(rotated), longest),
            "yarn" => self.yarn(theta, plain(rotated), rotated, longest),
            "proportional" => {
                let factor = self.own.positive_or("factor", 1.0)?;
                let part = partial.map_or_else(|| self.partial(1.0), Ok)?;
                // Wavelengths of a whole head; the pairs behind the rotated ones stand still.
                let turning = ((part * head as f64) / 2.0) as usize;
                let mut table = frequencies(theta, head, turning);
                table.iter_mut().for_each(|f| *f /= factor);
                table.resize(head / 2, 0.0);
                Ok((table, 1.0))
            }
            _ => Err(self.unsupported(FORMS)),
        }
    }

    /// Llama 3's form: long waves are stretched by the factor, short ones left, those between blended.
    fn llama3(&self, plain: Vec<f64>, longest: f64) -> Result<Vec<f64>, ConfigError> {
        let factor = self.needed("factor")?;
        let [low, high] = [self.needed("low_freq_factor")?, self.needed("high_freq_factor")?];
        let original = self.original(longest)?;
        if high <= low {
            return Err(self.own.invalid("high_freq_factor", "more than low_freq_factor"));
        }
        let stretched = |f: f64| {
            let waves = original * f / (2.0 * PI);
            let blend = ((waves - low) / (high - low)).clamp(0.0, 1.0);
            (1.0 - blend) * f / factor + blend * f
        };
        Ok(plain.into_iter().map(stretched).collect())
    }

    /// LongRoPE's form (Ding et al. 2024, arXiv 2402.13753), a factor on each wavelength, as far as it is the same for all
    /// lengths: with two lists the frequencies would change with the length of the text.
    fn factors(&self, plain: Vec<f64>, longest: f64) -> Result<(Vec<f64>, f64), ConfigError> {
        let list = |field: &str| {
            let numbers = self.own.numbers(field)?;
            numbers.ok_or_else(|| ConfigError::Missing(format!("{}.{field}", self.place)))
        };
        let [short, long] = [list("short_factor")?, list("long_factor")?];
        if short != long {
            return Err(self.own.unsupported("long_factor", "the same numbers as in short_factor"));
        }
        if long.len() != plain.len() || !long.iter().all(|&factor| factor > 0.0 && factor.is_finite()) {
            return Err(self.own.invalid("long_factor", format!("{} numbers above 0", plain.len())));
        }
        let original = self.original(longest)?;
        let stretch = self.own.positive_or("factor", longest / original)?;
        let usual = if stretch <= 1.0 { 1.0 } else { (1.0 + stretch.ln() / original.ln()).sqrt() };
        let attention = self.own.positive_or("attention_factor", usual)?;
        Ok((plain.into_iter().zip(long).map(|(f, factor)| f / factor).collect(), attention))
    }

    /// YaRN: as Llama 3's, but for a blend that is linear in the pair's index, and a factor on the rotated columns.
    fn yarn(&self, theta: f64, plain: Vec<f64>, rotated: usize, longest: f64) -> Result<(Vec<f64>, f64), ConfigError> {
        let original = self.original(longest)?;
        // A `null` asks for the ratio of the two lengths.
        let factor = if self.own.is_null("factor") { longest / original } else { self.needed("factor")? };
        let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let [weight, all] = [self.own.number_or("mscale", 0.0)?, self.own.number_or("mscale_all_dim", 0.0)?];
        let usual = if weight != 0.0 && all != 0.0 { scale(weight) / scale(all) } else { scale(1.0) };
        let attention = self.own.positive_or("attention_factor", usual)?;
        let [fast, slow] = [("beta_fast", 32.0), ("beta_slow", 1.0)].map(|(field, default)| {
            // 0 counts as absent, as in Python.
            self.own.number_or(field, default).map(|turns| if turns == 0.0 { default } else { turns })
        });
        let columns = rotated as f64;
        // The column whose wave turns so many times in the original context.
        let column = |turns: f64| columns * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let [mut low, mut high] = [column(fast?), column(slow?)];
        if self.own.flag_or("truncate", true)? {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(columns - 1.0));
        if low == high {
            high += 0.001;
        }
        let blended = |(j, f): (usize, f64)| {
            let stretched = ((j as f64 - low) / (high - low)).clamp(0.0, 1.0);
            stretched * f / factor + (1.0 - stretched) * f
        };
        Ok((plain.into_iter().enumerate().map(blended).collect(), attention))
    }
}

/// `theta^(-2j / columns)` of the first `pairs` pairs.
fn frequencies(theta: f64, columns: usize, pairs: usize) -> Vec<f64> {
    (0..pairs).map(|j| theta.powf(-2.0 * j as f64 / columns as f64)).collect()
}

/// The object for layers with full attention, where there is one for each kind of layer.
fn one_kind(config: &Config, place: &str, own: Config) -> Result<Config, ConfigError> {
    let of_full = FULL_ATTENTION.into_iter().find(|kind| own.has(kind));
    if of_full.is_none() && !own.holds_objects() {
        return Ok(own);
    }
    let found = of_full.and_then(|kind| own.nested(kind));
    found.ok_or_else(|| config.unsupported(place, "one object, or one under `full_attention`"))
}

/// The rotary embedding of heads of `head` columns.
pub(crate) fn rotary(config: &Config, head: usize, defaults: &RotaryDefaults) -> Result<Rotary, ArchError> {
    RotaryFields::of(config)?.rotary(head, defaults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const WHOLE: RotaryDefaults = RotaryDefaults { theta: 10000.0, partial: None, context: 4096 };
    const HALF: RotaryDefaults = RotaryDefaults { partial: Some(0.5), ..WHOLE };

    fn read(fields: &Value, defaults: &RotaryDefaults) -> Result<Rotary, ArchError> {
        rotary(&Config::parse(&fields.to_string()).expect("JSON"), 16, defaults)
    }

    /// What `ROPE_INIT_FUNCTIONS` of transformers 5.24 gives for heads of 16 columns.
    #[test]
    fn every_form_gives_the_frequencies_and_the_factor_of_transformers() {
        let yarn = json!({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024});
        let cases: Vec<(Value, &RotaryDefaults, &[f32], f32)> = vec![
            (
                json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}}),
                &WHOLE,
                &[0.25, 0.04848069, 0.009401508, 0.001823166, 0.0003535534, 6.856205e-5, 1.329574e-5, 2.578346e-6],
                1.0,
            ),
            (
                json!({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}),
                &WHOLE,
                &[1.0, 0.3162278, 0.1, 0.03162278, 0.01, 0.003162278, 0.001, 0.0003162278],
                1.0,
            ),
            (
                json!({"rope_parameters": {
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 512, "rope_theta": 5e5,
                }}),
                &WHOLE,
                &[1.0, 0.1939228, 0.02734414, 0.0009115831, 0.0001767767, 3.428102e-5, 6.64787e-6, 1.289173e-6],
                1.0,
            ),
            (
                json!({"rope_theta": 1e6, "rope_scaling": yarn}),
                &WHOLE,
                &[1.0, 0.133371, 0.01581139, 0.001405853, 0.00025, 4.445699e-5, 7.905694e-6, 1.405853e-6],
                1.138_629_4,
            ),
            (
                json!({"rope_theta": 1e4, "rope_scaling": {
                    "type": "yarn", "factor": 16.0, "original_max_position_embeddings": 256, "beta_fast": 8,
                    "beta_slow": 2, "truncate": false, "mscale": 0.8, "mscale_all_dim": 0.5,
                }}),
                &WHOLE,
                &[1.0, 0.3162278, 0.05437074, 0.001976424, 0.000625, 0.0001976424, 6.25e-5, 1.976424e-5],
                1.073_050_7,
            ),
            (
                json!({"rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": 0.7}}),
                &WHOLE,
                &[1.0, 0.3162278, 0.1, 0.02569351, 0.00625, 0.001383497, 0.00025, 7.905695e-5],
                0.7,
            ),
            // The root's length goes first, and a `null` is the ratio of the lengths.
            (
                json!({"original_max_position_embeddings": 128, "rope_scaling": {
                    "type": "yarn", "factor": null, "original_max_position_embeddings": 1024,
                }}),
                &WHOLE,
                &[1.0, 0.2141125, 0.03541667, 0.0009882118, 0.0003125, 9.882118e-5, 3.125e-5, 9.882118e-6],
                1.346_573_6,
            ),
            (json!({"rope_scaling": yarn}), &HALF, &[1.0, 0.075, 0.005, 0.00025], 1.138_629_4),
            (
                json!({"rope_parameters": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0}}),
                &WHOLE,
                &[0.5, 0.1581139, 0.05, 0.01581139, 0.0, 0.0, 0.0, 0.0],
                1.0,
            ),
        ];
        for (fields, defaults, frequencies, scale) in cases {
            let rotary = read(&fields, defaults).expect("a form that is implemented");
            assert_eq!(rotary.inverse_frequencies.len(), frequencies.len(), "{fields}");
            for (got, want) in rotary.inverse_frequencies.iter().zip(frequencies) {
                assert!((got - want).abs() <= 2e-6 * want, "{fields}: {got} instead of {want}");
            }
            assert!((rotary.scale - scale).abs() < 1e-6, "{fields}: {} instead of {scale}", rotary.scale);
        }
    }

    #[test]
    fn one_base_is_read_in_every_dialect() {
        let plain = Rotary::from_base(7e4, 16);
        for fields in [
            json!({"rope_theta": 70000}),
            json!({"rope_theta": 7e4, "rope_scaling": null, "rope_parameters": null}),
            json!({"rope_theta": 7e4, "rope_scaling": {}, "rope_parameters": {}}),
            json!({"rope_theta": 7e4, "rope_scaling": {"rope_type": "default"}}),
            json!({"rope_theta": 7e4, "rope_scaling": {"type": "default"}}),
            json!({"rope_theta": 7e4, "rope_scaling": {"rope_type": null, "factor": null}}),
            json!({"rope_scaling": {"type": "default", "rope_theta": 7e4}}),
            json!({"rope_parameters": {"rope_theta": 7e4}}),
            json!({"rope_theta": null, "rope_parameters": {"rope_type": "default", "rope_theta": 7e4}}),
            // The object before the root; an empty one is none; a full `rope_scaling` before `rope_parameters`.
            json!({"rope_theta": 5.0, "rope_parameters": {"rope_theta": 7e4}}),
            json!({"rope_scaling": {}, "rope_parameters": {"rope_theta": 7e4}}),
            json!({"rope_scaling": {"rope_theta": 7e4}, "rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
            json!({"rope_theta": 7e4, "rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_theta": 5.0}}),
            // `rope_type` before `type`.
            json!({"rope_theta": 7e4, "rope_scaling": {"rope_type": "default", "type": "linear", "factor": 4.0}}),
            json!({"rope_theta": 7e4, "rope_parameters": {"full_attention": {"rope_type": "default"}}}),
            json!({"rope_parameters": {"sliding_attention": {"rope_theta": 3.0}, "full_attention": {"rope_theta": 7e4}}}),
            json!({"rope_parameters": {"mrope_section": [1, 1, 0], "mrope_interleaved": true, "rope_theta": 7e4}}),
        ] {
            assert_eq!(read(&fields, &WHOLE).as_ref(), Ok(&plain), "{fields}");
        }
        assert_eq!(read(&json!({}), &WHOLE), Ok(Rotary::from_base(10000.0, 16)));
    }

    #[test]
    fn the_part_of_a_head_is_that_of_the_object_then_of_the_root() {
        for (fields, rotated) in [
            (json!({}), 8),
            (json!({"partial_rotary_factor": 0.25}), 4),
            (json!({"partial_rotary_factor": 0.25, "rope_parameters": {"partial_rotary_factor": 1}}), 16),
            (json!({"partial_rotary_factor": 0.25, "rope_scaling": {"rope_type": "default"}}), 4),
            (json!({"partial_rotary_factor": null}), 16),
        ] {
            assert_eq!(read(&fields, &HALF), Ok(Rotary::from_base(10000.0, rotated)), "{fields}");
        }
        // An odd part rotates one column more, and its wavelengths are those of the odd number.
        let odd = read(&json!({"partial_rotary_factor": 0.2}), &HALF).expect("3 of 16 columns");
        assert_eq!(odd.inverse_frequencies, [1.0, 10000f64.powf(-2.0 / 3.0) as f32]);
        // Families that rotate whole heads overlook it, as in transformers.
        assert_eq!(read(&json!({"partial_rotary_factor": 0.5}), &WHOLE), Ok(Rotary::from_base(10000.0, 16)));
    }

    #[test]
    fn what_is_not_implemented_or_not_clear_is_refused_by_name() {
        for (fields, name) in [
            (json!({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}), "`rope_scaling.long_factor`"),
            (
                json!({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}}),
                "`long_factor` = [2.0]",
            ),
            (
                json!({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}),
                "must be 8 numbers",
            ),
            (json!({"rope_scaling": {"type": "su"}}), "`type` = \"su\""),
            (json!({"rope_parameters": {"type": "mrope"}}), "`type` = \"mrope\""),
            (json!({"rope_parameters": {"rope_type": 3}}), "`rope_type`"),
            (json!({"rope_scaling": "linear"}), "`rope_scaling`"),
            (json!({"rope_parameters": [1]}), "`rope_parameters`"),
            (json!({"rope_scaling": {"factor": 2.0}}), "`rope_scaling`"),
            (json!({"rope_scaling": {"type": "linear"}}), "`rope_scaling.factor`"),
            (json!({"rope_scaling": {"type": "linear", "factor": 0}}), "`factor`"),
            (json!({"rope_scaling": {"type": "dynamic"}}), "`rope_scaling.factor`"),
            (json!({"rope_scaling": {"type": "yarn"}}), "`rope_scaling.factor`"),
            (json!({"rope_scaling": {"type": "llama3", "factor": 8.0}}), "`rope_scaling.low_freq_factor`"),
            (
                json!({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}}),
                "`high_freq_factor`",
            ),
            (json!({"rope_theta": "10000"}), "`rope_theta`"),
            (json!({"rope_theta": 0}), "`rope_theta`"),
            (json!({"rope_theta": 1.0, "rope_scaling": {"type": "yarn", "factor": 2.0}}), "finite"),
            (json!({"rope_parameters": {"sliding_attention": {"rope_theta": 1e4}}}), "`full_attention`"),
            (json!({"rope_parameters": {"full_attention": null}}), "`full_attention`"),
            (
                json!({"partial_rotary_factor": 0.5, "rope_scaling": {"type": "linear", "factor": 2.0}}),
                "`partial_rotary_factor`",
            ),
        ] {
            let error = read(&fields, &WHOLE).expect_err(name).to_string();
            assert!(error.contains(name), "{fields}: {error}");
        }
        for partial in [json!(0), json!(1.5), json!("half"), json!(0.01)] {
            assert!(read(&json!({"partial_rotary_factor": partial}), &HALF).is_err(), "{partial}");
        }
    }
}
