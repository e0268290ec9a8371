//! `"%s is %d" % values`, as Python formats.

use super::Fault;
use super::execute::Interpreter;
use super::value::Value;
use super::written::float;

/// The text with its marks replaced.
pub(super) fn format(interpreter: &Interpreter, format: &str, values: &Value) -> Result<String, Fault> {
    let tuple = match values {
        Value::Tuple(tuple) => tuple.items.clone(),
        other => vec![other.clone()],
    };
    let mut next = tuple.iter();
    let mut named = matches!(values, Value::Dict(_));
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let few = || Fault::new("there are fewer values than `%` marks");
    interpreter.meter.make(format.len())?;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut value = None;
        if chars.next_if_eq(&'(').is_some() {
            let name: String = chars.by_ref().take_while(|c| *c != ')').collect();
            let Value::Dict(dict) = values else { return Err(Fault::new("`%(name)s` takes its values from a dict")) };
            let found = dict.get(&Value::text(name.as_str()))?.cloned();
            value = Some(found.ok_or_else(|| Fault::new(format!("the dict has no {name:?} for `%({name})`")))?);
            named = true;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => spec.align = '<',
                '+' => spec.sign = '+',
                ' ' if spec.sign != '+' => spec.sign = ' ',
                '0' => spec.zero = true,
                '#' => spec.alternate = true,
                _ => {}
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars>| -> Result<Option<i128>, Fault> {
            if chars.next_if_eq(&'*').is_some() {
                let width = next.next().and_then(Value::as_int);
                return width.map(Some).ok_or_else(|| Fault::new("`*` takes a whole number"));
            }
            let mut digits = None;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                let digit = i128::from(digit.to_digit(10).unwrap_or(0));
                digits = Some((digits.unwrap_or(0_i128) * 10 + digit).min(1 << 40));
            }
            Ok(digits)
        };
        if let Some(width) = number(&mut chars)? {
            if width < 0 {
                spec.align = '<';
            }
            spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
        }
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(usize::try_from(number(&mut chars)?.unwrap_or(0).max(0)).unwrap_or(usize::MAX));
        }
        while chars.next_if(|c| "hlL".contains(*c)).is_some() {}
        let Some(kind) = chars.next() else { return Err(Fault::new("a `%` mark has no end")) };
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => next.next().cloned().ok_or_else(few)?,
        };
        let text = match kind {
            's' => spec.text(&interpreter.text_of(&value)?),
            'r' | 'a' => spec.text(&interpreter.representation(&value)?),
            'c' => match (&value, value.as_int()) {
                (Value::Text(text), _) if text.chars().count() == 1 => text.to_string(),
                (_, Some(code)) => {
                    let found = u32::try_from(code).ok().and_then(char::from_u32);
                    found.ok_or_else(|| Fault::new("`%c` takes a character"))?.to_string()
                }
                _ => return Err(Fault::new("`%c` takes a character")),
            },
            'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
                let whole = match (&value, kind) {
                    (Value::Float(number), 'd' | 'i' | 'u') if number.abs() < 1e38 => number.trunc() as i128,
                    _ => value
                        .as_int()
                        .ok_or_else(|| Fault::new(format!("`%{kind}` takes a number, not {}", value.kind())))?,
                };
                spec.default_align('>');
                spec.integer(interpreter, whole, if matches!(kind, 'i' | 'u') { 'd' } else { kind })?
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let number = value
                    .as_float()
                    .ok_or_else(|| Fault::new(format!("`%{kind}` takes a number, not {}", value.kind())))?;
                spec.default_align('>');
                spec.float(interpreter, number, kind)?
            }
            other => return Err(Fault::new(format!("`%{other}` has no meaning"))),
        };
        spec.default_align('>');
        spec.fill_in(interpreter, text, &mut out)?;
    }
    // Python lets whatever has items pass where no mark asks for it.
    if !named && next.next().is_some() && !matches!(values, Value::List(_) | Value::Range(_) | Value::Undefined(_)) {
        return Err(Fault::new("there are more values than `%` marks"));
    }
    Ok(out)
}

/// Format of one value, in `%` and in `str.format`.
#[derive(Default)]
pub(super) struct Spec {
    /// `<`, `>`, `^`, `=`; the null character: none.
    pub align: char,
    pub fill: Option<char>,
    /// `+`, ` `; otherwise only negative numbers have one.
    pub sign: char,
    pub zero: bool,
    pub alternate: bool,
    pub width: usize,
    pub grouping: Option<char>,
    pub precision: Option<usize>,
}

impl Spec {
    pub fn default_align(&mut self, align: char) {
        if self.align == '\0' {
            self.align = align;
        }
    }

    /// A text cut to the precision.
    pub fn text(&self, text: &str) -> String {
        self.precision.map_or_else(|| text.to_owned(), |most| text.chars().take(most).collect())
    }

    fn signed(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (_, '+') => "+",
            (_, ' ') => " ",
            _ => "",
        }
    }

    /// A whole number: `d`, `x`, `X`, `o`, `b`.
    pub fn integer(&self, interpreter: &Interpreter, value: i128, kind: char) -> Result<String, Fault> {
        let size = value.unsigned_abs();
        let (prefix, mut digits) = match kind {
            'x' => ("0x", format!("{size:x}")),
            'X' => ("0X", format!("{size:X}")),
            'o' => ("0o", format!("{size:o}")),
            'b' => ("0b", format!("{size:b}")),
            _ => ("", size.to_string()),
        };
        if let Some(least) = self.precision {
            let zeros = least.saturating_sub(digits.len());
            interpreter.meter.make(zeros)?;
            digits = "0".repeat(zeros) + &digits;
        }
        if let Some(mark) = self.grouping {
            digits = grouped(&digits, mark, if kind == 'd' { 3 } else { 4 });
        }
        let prefix = if self.alternate { prefix } else { "" };
        self.zeros(interpreter, self.signed(value < 0), prefix, digits)
    }

    /// A number: `e`, `f`, `g`, `%`, and `r`, which is as Python writes it.
    pub fn float(&self, interpreter: &Interpreter, value: f64, kind: char) -> Result<String, Fault> {
        let size = value.abs();
        let precision = self.precision.unwrap_or(6);
        interpreter.meter.make(precision.saturating_add(400))?;
        let mut digits = if !value.is_finite() {
            float(size)
        } else {
            match kind.to_ascii_lowercase() {
                'e' => exponent(size, precision),
                'f' => format!("{size:.precision$}"),
                '%' => format!("{:.precision$}%", size * 100.0),
                'r' => float(size),
                _ => general(size, precision.max(1), self.alternate),
            }
        };
        if kind.is_ascii_uppercase() {
            digits = digits.to_uppercase();
        }
        if let Some(mark) = self.grouping {
            let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits = grouped(&digits[..whole], mark, 3) + &digits[whole..];
        }
        self.zeros(interpreter, self.signed(value.is_sign_negative() && !value.is_nan()), "", digits)
    }

    fn zeros(&self, interpreter: &Interpreter, sign: &str, prefix: &str, digits: String) -> Result<String, Fault> {
        let zero = (self.zero && self.align != '<') || self.align == '=';
        let missing = self.width.saturating_sub(sign.len() + prefix.len() + digits.len());
        if !zero || missing == 0 {
            return Ok([sign, prefix, &digits].concat());
        }
        let fill = self.fill.unwrap_or(if self.zero { '0' } else { ' ' });
        interpreter.meter.make(missing.saturating_mul(fill.len_utf8()))?;
        let fill: String = std::iter::repeat_n(fill, missing).collect();
        Ok([sign, prefix, &fill, &digits].concat())
    }

    /// Appends a text, filled up to the width.
    pub fn fill_in(&self, interpreter: &Interpreter, text: String, out: &mut String) -> Result<(), Fault> {
        let missing = self.width.saturating_sub(text.chars().count());
        let left = match self.align {
            '<' => 0,
            '^' => missing / 2,
            _ => missing,
        };
        let fill = self.fill.unwrap_or(' ');
        interpreter.meter.make(missing.saturating_mul(fill.len_utf8()).saturating_add(text.len()))?;
        out.extend(std::iter::repeat_n(fill, left));
        out.push_str(&text);
        out.extend(std::iter::repeat_n(fill, missing - left));
        Ok(())
    }
}

fn grouped(digits: &str, mark: char, size: usize) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(size) {
            out.push(mark);
        }
        out.push(digit);
    }
    out
}

/// An exponent of at least two digits.
fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

/// C's `%g`.
fn general(value: f64, precision: usize, keep_zeros: bool) -> String {
    let written = exponent(value, precision - 1);
    let (mantissa, power) = written.split_once('e').unwrap_or((&written, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') && !keep_zeros {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if power < -4 || power >= precision as i64 {
        let mark = &written[mantissa.len()..];
        return trim(mantissa) + mark;
    }
    let decimals = usize::try_from(precision as i64 - 1 - power).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}
