//! Rotary fields of a config, read for every family as transformers 5 reads them.
//!
//! | | taken from, in this order |
//! |---|---|
//! | the object | `rope_scaling` unless it is null or empty, else `rope_parameters` |
//! | `rope_theta`, `partial_rotary_factor` | the object, the root, the family's default |
//! | the form | the object's `rope_type`, its `type`, `default` |
//! | `original_max_position_embeddings` | the root, the object, `max_position_embeddings` |
//!
//! An object with one object for each kind of layer gives that of the layers with full attention: the families here
//! rotate no others. Every form that is a table of frequencies is implemented; another is refused by its name. Source:
//! transformers 5.24, `modeling_rope_utils.py`; YaRN: Peng et al. 2023, arXiv 2309.00071.

use std::f64::consts::PI;

use crate::arch::{ArchError, Config, ConfigError};
use crate::graph::Rotary;

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
const FORMS: &str = "\"default\", \"linear\", \"dynamic\", \"llama3\", \"yarn\", \"proportional\"";
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
        for place in ["rope_scaling", "rope_parameters"] {
            if config.get(place).is_none() {
                continue;
            }
            let own = config.nested(place).ok_or_else(|| config.invalid(place, "an object or null"))?;
            if own.fields() > 0 {
                return Ok(Self { config, place, own: one_kind(config, place, own)? });
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
    let fields = RotaryFields::of(config)?;
    let theta = fields.theta(defaults.theta)?;
    let partial = defaults.partial.map(|default| fields.partial(default)).transpose()?;
    let form = fields.form()?.unwrap_or("default");
    // What rotates whole heads overlooks a part of them, unless it is scaled: then transformers cannot run it either.
    if partial.is_none() && !["default", "proportional"].contains(&form) && fields.partial(1.0)? != 1.0 {
        let holder = if fields.own.has("partial_rotary_factor") { &fields.own } else { config };
        return Err(holder.unsupported("partial_rotary_factor", "1").into());
    }
    let (table, scale) = fields.table(theta, head, partial, defaults.context)?;
    if table.is_empty() || 2 * table.len() > head {
        return Err(config.invalid("head_dim", "an even number of rotated columns").into());
    }
    let inverse_frequencies: Vec<f32> = table.into_iter().map(|f| f as f32).collect();
    if !inverse_frequencies.iter().all(|f| f.is_finite()) {
        return Err(config.invalid(fields.place, "such that every frequency is finite").into());
    }
    Ok(Rotary { inverse_frequencies, scale: scale as f32 })
}
