//! The time of a rendering, for `strftime_now`.

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A moment of local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub year: i64,
    /// From 1.
    pub month: u32,
    /// From 1.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub microsecond: u32,
}

impl Moment {
    /// Now, where this runs.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn now() -> Self {
        use std::time::{SystemTime, UNIX_EPOCH};
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let offset = local_offset(seconds);
        Self::from_seconds(seconds.saturating_add(offset), since.subsec_micros())
    }

    /// Now, where the page is.
    #[cfg(all(target_arch = "wasm32", feature = "web"))]
    pub fn now() -> Self {
        let date = js_sys::Date::new_0();
        let seconds = (date.get_time() / 1000.0).floor() as i64 - (date.get_timezone_offset() * 60.0) as i64;
        Self::from_seconds(seconds, date.get_milliseconds() * 1000)
    }

    /// Now, where no clock tells: the beginning of Unix time.
    #[cfg(all(target_arch = "wasm32", not(feature = "web")))]
    pub fn now() -> Self {
        Self::from_seconds(0, 0)
    }

    /// Seconds since the beginning of 1970, of local time.
    pub fn from_seconds(seconds: i64, microsecond: u32) -> Self {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
        // Years that begin in March have the leap day at their end; 400 of them have 146,097 days.
        let from_march = days + 719_468;
        let (era, day_of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month + 2) / 5 + 1) as u32;
        let month = if month < 10 { month + 3 } else { month - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Self { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60, microsecond }
    }

    fn leap(self) -> bool {
        self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0)
    }

    /// From 0.
    fn day_of_year(self) -> u32 {
        let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        before[self.month.clamp(1, 12) as usize - 1] + self.day - 1 + u32::from(self.month > 2 && self.leap())
    }

    /// From Sunday, which is 0.
    fn day_of_week(self) -> u32 {
        let years = self.year - 1;
        let days = years * 365 + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
        (days + i64::from(self.day_of_year()) + 1).rem_euclid(7) as u32
    }

    /// The year and week of ISO 8601.
    fn iso_week(self) -> (i64, u32) {
        let weekday = (self.day_of_week() + 6) % 7;
        // The week belongs to the year of its Thursday.
        let thursday = i64::from(self.day_of_year()) - i64::from(weekday) + 3;
        let length = |year: i64| 365 + i64::from(Self { year, ..self }.leap());
        if thursday < 0 {
            return (self.year - 1, ((thursday + length(self.year - 1)) / 7 + 1) as u32);
        }
        if thursday >= length(self.year) {
            return (self.year + 1, 1);
        }
        (self.year, (thursday / 7 + 1) as u32)
    }

    /// As C's `strftime` in the locale `C`; what has no meaning stays.
    pub fn format(self, format: &str) -> String {
        let mut out = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                out.push(c);
                continue;
            }
            let rest = chars.as_str();
            let flag = rest.chars().next().filter(|c| matches!(c, '-' | '_' | '0' | '^' | '#'));
            if flag.is_some() {
                chars.next();
            }
            let Some(code) = chars.next() else {
                out.push('%');
                out.extend(flag);
                break;
            };
            let number = |value: i64, width: usize, pad: char| match flag {
                Some('-') => value.to_string(),
                Some('_') => format!("{value:>width$}"),
                Some('0') => format!("{value:0>width$}"),
                _ if pad == '0' => format!("{value:0>width$}"),
                _ => format!("{value:>width$}"),
            };
            let two = |value: u32| number(value.into(), 2, '0');
            let hour12 = (self.hour + 11) % 12 + 1;
            let (weekday, yearday) = (self.day_of_week(), self.day_of_year());
            let text = match code {
                'a' => DAYS[weekday as usize][..3].into(),
                'A' => DAYS[weekday as usize].into(),
                'b' | 'h' => MONTHS[self.month.clamp(1, 12) as usize - 1][..3].into(),
                'B' => MONTHS[self.month.clamp(1, 12) as usize - 1].into(),
                'c' => self.format("%a %b %e %H:%M:%S %Y"),
                'C' => number(self.year.div_euclid(100), 2, '0'),
                'd' => two(self.day),
                'D' | 'x' => self.format("%m/%d/%y"),
                'e' => number(self.day.into(), 2, ' '),
                'f' => format!("{:06}", self.microsecond),
                'F' => self.format("%Y-%m-%d"),
                'g' => number(self.iso_week().0.rem_euclid(100), 2, '0'),
                'G' => self.iso_week().0.to_string(),
                'H' => two(self.hour),
                'I' => two(hour12),
                'j' => number(i64::from(yearday) + 1, 3, '0'),
                'k' => number(self.hour.into(), 2, ' '),
                'l' => number(hour12.into(), 2, ' '),
                'm' => two(self.month),
                'M' => two(self.minute),
                'n' => "\n".into(),
                'p' => if self.hour < 12 { "AM" } else { "PM" }.into(),
                'P' => if self.hour < 12 { "am" } else { "pm" }.into(),
                'r' => self.format("%I:%M:%S %p"),
                'R' => self.format("%H:%M"),
                'S' => two(self.second),
                't' => "\t".into(),
                'T' | 'X' => self.format("%H:%M:%S"),
                'u' => ((weekday + 6) % 7 + 1).to_string(),
                'U' => two((yearday + 7 - weekday) / 7),
                'V' => two(self.iso_week().1),
                'w' => weekday.to_string(),
                'W' => two((yearday + 7 - (weekday + 6) % 7) / 7),
                'y' => number(self.year.rem_euclid(100), 2, '0'),
                'Y' => number(self.year, 4, '0'),
                // A moment without a zone, as `datetime.now()` is.
                'z' | 'Z' => String::new(),
                '%' => "%".into(),
                other => format!("%{}{other}", flag.map(String::from).unwrap_or_default()),
            };
            out.push_str(&if flag == Some('^') { text.to_uppercase() } else { text });
        }
        out
    }
}

/// Seconds that the local time is ahead of UTC.
#[cfg(all(not(target_arch = "wasm32"), feature = "native"))]
fn local_offset(seconds: i64) -> i64 {
    use chrono::{Local, Offset, TimeZone};
    Local.timestamp_opt(seconds, 0).single().map_or(0, |time| time.offset().fix().local_minus_utc().into())
}

#[cfg(all(not(target_arch = "wasm32"), not(feature = "native")))]
fn local_offset(_: i64) -> i64 {
    0
}
