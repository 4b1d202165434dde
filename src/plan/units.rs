//! Durations and sizes as people write them, and durations as people read them.

const DURATION_UNITS: [(&str, f64); 6] = [
    ("ms", 1.0),
    ("s", 1_000.0),
    ("m", 60_000.0),
    ("h", 3_600_000.0),
    ("d", 86_400_000.0),
    ("w", 604_800_000.0),
];

const SIZE_UNITS: [(&str, f64); 5] = [
    ("B", 1.0),
    ("K", 1024.0),
    ("M", 1_048_576.0),
    ("G", 1_073_741_824.0),
    ("T", 1_099_511_627_776.0),
];

/// The longest duration that is taken: a century. Deadlines are sums, which so cannot overflow.
const DURATION_MAX_MS: f64 = 36_525.0 * 86_400_000.0;

/// Milliseconds of `90` (seconds), `90s`, `1.5h`, `45m`, `250ms`, `2d`, `1h30m`.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let wrong =
        |why: &str| format!("`{text}` is not a duration{why}: write 90s, 1.5h, 45m, 250ms or 2d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong(""));
    }
    let mut total = 0.0;
    let mut parts = 0;
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(|| wrong(""))?;
        parts += 1;
        let factor = match DURATION_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, factor)) => *factor,
            // A bare number means seconds, but not inside `1h30`, where a minute may be meant.
            None if unit.is_empty() && parts == 1 => 1_000.0,
            None if unit.is_empty() => return Err(wrong(" (the last number has no unit)")),
            None => return Err(wrong(&format!(" (there is no unit `{unit}`)"))),
        };
        total += number * factor;
        rest = after.trim_start();
    }
    if total > DURATION_MAX_MS {
        return Err(format!("`{text}` is longer than a century: write less, such as 2d"));
    }
    Ok(whole(total))
}

/// Bytes of `512`, `64M`, `1.5G`, `10 KiB`: units of 1024.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write 512, 64M or 1.5G");
    let (number, unit, after) = number_and_unit(text.trim()).ok_or_else(wrong)?;
    let upper = unit.to_ascii_uppercase();
    let short = match upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')) {
        Some("") | None if upper.is_empty() || upper == "B" => "B",
        Some(letter) => letter,
        None => upper.as_str(),
    };
    let factor = SIZE_UNITS.iter().find(|(name, _)| *name == short).map(|(_, f)| *f);
    let bytes = number * factor.filter(|_| after.is_empty()).ok_or_else(wrong)?;
    if bytes > 9e18 {
        return Err(format!("`{text}` is larger than any disk: write less, such as 64M"));
    }
    Ok(whole(bytes))
}

/// A duration for people: `48 ms`, `3.2s`, `42s`, `1m30s`, `12m`, `6h12m`, `2d3h`. It is cut off,
/// never rounded up: what reads `1m` has lasted a minute.
pub fn human_duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let pair = |big: u64, b: char, small: u64, s: char| {
        if small == 0 { format!("{big}{b}") } else { format!("{big}{b}{small}{s}") }
    };
    match seconds {
        0 => format!("{ms} ms"),
        1..10 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..600 => pair(seconds / 60, 'm', seconds % 60, 's'),
        600..3600 => format!("{}m", seconds / 60),
        3600..86_400 => pair(seconds / 3600, 'h', seconds % 3600 / 60, 'm'),
        _ => pair(seconds / 86_400, 'd', seconds % 86_400 / 3600, 'h'),
    }
}

/// Splits `1.5h rest` into its number, its unit and what follows.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    Some((number, unit, rest))
}

/// The callers have checked the range; a conversion of floats saturates in any case.
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("1.5h", 5_400_000),
            ("45m", 2_700_000),
            ("250ms", 250),
            ("2d", 172_800_000),
            ("1h30m", 5_400_000),
            ("48 ms", 48),
            (" 0s ", 0),
            ("0.5", 500),
        ] {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for bad in
            ["", " ", "s", "-5s", "5x", "1h30", "1..5s", ".", "1e9s", "5 fortnights", "9999999d"]
        {
            let message = duration_ms(bad).unwrap_err();
            assert!(message.contains("write"), "{bad:?}: {message}");
        }
        assert!(duration_ms("5x").unwrap_err().contains("no unit `x`"));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512", 512),
            ("512B", 512),
            ("64M", 67_108_864),
            ("64 MiB", 67_108_864),
            ("64mb", 67_108_864),
            ("1.5G", 1_610_612_736),
            ("0", 0),
        ] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "64X", "64M 3", "-1", "1iB", "99999999T"] {
            assert!(size_bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn for_people() {
        for (ms, text) in [
            (0, "0 ms"),
            (48, "48 ms"),
            (3_249, "3.2s"),
            (42_900, "42s"),
            (60_000, "1m"),
            (90_000, "1m30s"),
            (720_000, "12m"),
            (22_320_000, "6h12m"),
            (7_200_000, "2h"),
            (183_600_000, "2d3h"),
        ] {
            assert_eq!(human_duration(ms), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_and_is_near(ms in 0u64..4_000_000_000) {
            let back = duration_ms(&human_duration(ms)).unwrap();
            prop_assert!(back <= ms);
            prop_assert!((ms - back) * 10 <= ms.max(10) || ms - back < 1_000);
        }

        #[test]
        fn no_text_panics(text in ".{0,12}") {
            let _d = duration_ms(&text);
            let _s = size_bytes(&text);
        }
    }
}
