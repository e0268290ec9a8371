//! `"{} is {name}".format(...)`, as Python formats.

use super::Fault;
use super::execute::Interpreter;
use super::functions::Arguments;
use super::printf::Spec;
use super::value::Value;

/// The text with its fields replaced.
pub(super) fn format(interpreter: &mut Interpreter, text: &str, arguments: &Arguments) -> Result<String, Fault> {
    let mut automatic = 0;
    fields(interpreter, text, arguments, &mut automatic, 2)
}

fn fields(
    interpreter: &mut Interpreter,
    text: &str,
    arguments: &Arguments,
    automatic: &mut usize,
    levels: usize,
) -> Result<String, Fault> {
    if levels == 0 && text.contains('{') {
        return Err(Fault::new("fields of `format` are nested too deeply"));
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        interpreter.meter.make(at)?;
        out.push_str(&rest[..at]);
        let (mark, after) = rest[at..].split_at(1);
        rest = after;
        if let Some(after) = rest.strip_prefix(mark) {
            out.push_str(mark);
            rest = after;
            continue;
        }
        if mark == "}" {
            return Err(Fault::new("a `}` of `format` closes nothing"));
        }
        let mut open = 1;
        let end = rest.find(|c| {
            open += i32::from(c == '{') - i32::from(c == '}');
            open == 0
        });
        let Some(end) = end else { return Err(Fault::new("a `{` of `format` is not closed")) };
        let field = &rest[..end];
        rest = &rest[end + 1..];
        let (field, spec) = field.split_once(':').unwrap_or((field, ""));
        let (path, conversion) = field.split_once('!').map_or((field, None), |(path, how)| (path, Some(how)));
        let value = find(interpreter, path, arguments, automatic)?;
        let spec = fields(interpreter, spec, arguments, automatic, levels.saturating_sub(1))?;
        let value = match conversion {
            None => value,
            Some("s") => Value::Text(interpreter.text_of(&value)?),
            Some("r" | "a") => Value::text(interpreter.representation(&value)?),
            Some(other) => return Err(Fault::new(format!("`!{other}` has no meaning in `format`"))),
        };
        one(interpreter, &value, &spec, &mut out)?;
    }
    interpreter.meter.make(rest.len())?;
    out.push_str(rest);
    Ok(out)
}

fn find(
    interpreter: &mut Interpreter,
    path: &str,
    arguments: &Arguments,
    automatic: &mut usize,
) -> Result<Value, Fault> {
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (first, mut rest) = path.split_at(end);
    let place = if first.is_empty() {
        *automatic += 1;
        Some(*automatic - 1)
    } else {
        first.parse::<usize>().ok()
    };
    let found = match place {
        Some(place) => arguments.positional.get(place),
        None => arguments.named.iter().find(|(name, _)| &**name == first).map(|(_, value)| value),
    };
    let mut value = found.cloned().ok_or_else(|| Fault::new(format!("`format` is given no value for `{{{path}}}`")))?;
    while !rest.is_empty() {
        let part;
        if let Some(after) = rest.strip_prefix('[') {
            let Some((name, after)) = after.split_once(']') else {
                return Err(Fault::new("a `[` of `format` is not closed"));
            };
            (part, rest) = (name, after);
        } else {
            let after = rest.strip_prefix('.').unwrap_or(rest);
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (part, rest) = after.split_at(end);
        }
        let index = part.parse::<u32>().map_or_else(|_| Value::text(part), |index| Value::Int(index.into()));
        value = interpreter.item(&value, &index)?;
    }
    Ok(value)
}

fn one(interpreter: &Interpreter, value: &Value, spec: &str, out: &mut String) -> Result<(), Fault> {
    let (mut parsed, kind) = parse(spec)?;
    let unknown = || Fault::new(format!("the format {spec:?} has no meaning for {}", value.kind()));
    let text = match (value, value.as_int()) {
        (Value::Bool(_) | Value::None, _) if spec.is_empty() => interpreter.text_of(value)?.to_string(),
        (_, Some(whole)) if matches!(kind, None | Some('d' | 'x' | 'X' | 'o' | 'b' | 'n')) => {
            parsed.default_align('>');
            if parsed.precision.is_some() {
                return Err(unknown());
            }
            parsed.integer(interpreter, whole, kind.filter(|kind| *kind != 'n').unwrap_or('d'))?
        }
        (_, Some(code)) if kind == Some('c') => {
            u32::try_from(code).ok().and_then(char::from_u32).ok_or_else(unknown)?.to_string()
        }
        (_, Some(_)) | (Value::Float(_), _) => {
            let number = value.as_float().unwrap_or_default();
            parsed.default_align('>');
            match kind {
                Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => parsed.float(interpreter, number, kind)?,
                Some('n') => parsed.float(interpreter, number, 'g')?,
                None if parsed.precision.is_some() => {
                    let text = parsed.float(interpreter, number, 'g')?;
                    // Without a kind a number keeps a digit behind its point.
                    if text.contains(['.', 'e', 'n', 'i']) { text } else { text + ".0" }
                }
                None => parsed.float(interpreter, number, 'r')?,
                _ => return Err(unknown()),
            }
        }
        (Value::Text(_) | Value::Markup(_), _) if matches!(kind, None | Some('s')) => {
            let own = interpreter.text_of(value)?;
            if parsed.sign != '\0' || parsed.grouping.is_some() || parsed.align == '=' {
                return Err(unknown());
            }
            if parsed.zero && parsed.fill.is_none() {
                parsed.fill = Some('0');
            }
            parsed.default_align('<');
            parsed.text(&own)
        }
        _ if spec.is_empty() => interpreter.text_of(value)?.to_string(),
        _ => return Err(unknown()),
    };
    parsed.fill_in(interpreter, text, out)
}

/// `[[fill]align][sign][#][0][width][grouping][.precision][kind]`
fn parse(spec: &str) -> Result<(Spec, Option<char>), Fault> {
    let mut parsed = Spec::default();
    let mut chars = spec.chars().peekable();
    let mut ahead = spec.chars();
    let (first, second) = (ahead.next(), ahead.next());
    let aligns = |c: Option<char>| c.is_some_and(|c| "<>^=".contains(c));
    if aligns(second) {
        parsed.fill = first;
        parsed.align = second.unwrap_or_default();
        chars.next();
        chars.next();
    } else if aligns(first) {
        parsed.align = first.unwrap_or_default();
        chars.next();
    }
    if let Some(sign) = chars.next_if(|c| "+- ".contains(*c)) {
        parsed.sign = sign;
    }
    parsed.alternate = chars.next_if_eq(&'#').is_some();
    parsed.zero = chars.next_if_eq(&'0').is_some();
    let number = |chars: &mut std::iter::Peekable<std::str::Chars>| {
        let mut found = None;
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            let digit = digit.to_digit(10).unwrap_or(0) as usize;
            found = Some(found.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit));
        }
        found
    };
    parsed.width = number(&mut chars).unwrap_or(0);
    parsed.grouping = chars.next_if(|c| matches!(c, ',' | '_'));
    if chars.next_if_eq(&'.').is_some() {
        let precision = number(&mut chars).ok_or_else(|| Fault::new("a `.` of a format has no precision"))?;
        parsed.precision = Some(precision);
    }
    let kind = chars.next();
    if chars.next().is_some() {
        return Err(Fault::new(format!("the format {spec:?} has no meaning")));
    }
    Ok((parsed, kind))
}
