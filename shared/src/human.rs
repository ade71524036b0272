//! Durations, sizes and numbers as people write them. Rounded for reading, not for parsing.
//!
//! `humantime` writes every unit down to nanoseconds, and `humansize` a fixed number of decimals.
//! Neither rounds to two units or to three digits.

use std::time::Duration;

/// A duration: `0.3 s`, `42 s`, `5 min 03 s`, `1 h 05 min`, `2 d 03 h`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let tenths = (duration.as_secs_f64() * 10.0).round() as u64;
    if tenths < 100 {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let seconds = duration.as_secs_f64().round() as u64;
    let minutes = (duration.as_secs_f64() / 60.0).round() as u64;
    let hours = (duration.as_secs_f64() / 3600.0).round() as u64;
    if seconds < 60 {
        format!("{seconds} s")
    } else if seconds < 3600 {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    } else if minutes < 24 * 60 {
        format!("{} h {:02} min", minutes / 60, minutes % 60)
    } else {
        format!("{} d {:02} h", hours / 24, hours % 24)
    }
}

/// A size in bytes with decimal prefixes: `999 B`, `1.3 GB`, `812 kB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB", "EB"] {
        // What would be rounded to 1000 is 1.0 of the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    if value < 9.95 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A fraction of 1 in percent: `72.75 %`.
#[must_use]
pub fn percentage(fraction: f64) -> String {
    format!("{:.2} %", fraction * 100.0)
}

/// A speed: `0.52 img/s`, `12.3 img/s`, `1234 img/s`.
#[must_use]
pub fn rate(images_per_second: f64) -> String {
    let digits = match images_per_second {
        r if r < 0.995 => 2,
        r if r < 99.95 => 1,
        _ => 0,
    };
    format!("{images_per_second:.digits$} img/s")
}

/// Writes rows in columns, the first `left` of them to the left, the others to the right.
pub fn align(
    out: &mut String,
    left: usize,
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let head = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let padded = if column < left {
                format!("  {cell:<width$}")
            } else {
                format!("  {cell:>width$}")
            };
            line.push_str(&padded);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            (0.0, "0.0 s"),
            (0.31, "0.3 s"),
            (9.96, "10 s"),
            (42.4, "42 s"),
            (59.6, "1 min 00 s"),
            (303.0, "5 min 03 s"),
            (3599.7, "1 h 00 min"),
            (3900.0, "1 h 05 min"),
            (86_399.0, "1 d 00 h"),
            (183_600.0, "2 d 03 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(Duration::from_secs_f64(seconds)), text);
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (9_960, "10 kB"),
            (812_345, "812 kB"),
            (999_499, "999 kB"),
            (999_500, "1.0 MB"),
            (1_300_000_000, "1.3 GB"),
            (u64::MAX, "18 EB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn fractions_and_rates() {
        assert_eq!(percentage(0.7275), "72.75 %");
        assert_eq!(percentage(1.0), "100.00 %");
        assert_eq!(percentage(f64::NAN), "NaN %");
        assert_eq!(rate(0.521), "0.52 img/s");
        assert_eq!(rate(12.34), "12.3 img/s");
        assert_eq!(rate(1234.4), "1234 img/s");
    }
}
