//! Parsing of values from flags, variables and `.env`.

pub mod env_file;

use std::time::Duration;

use clap::ValueEnum;

pub fn name_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Environment variables spell booleans in many ways; compose files pass `"1"` and `"True"`.
pub fn boolean(value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" | "" => Ok(false),
        _ => Err("expected true or false".into()),
    }
}

/// Any text. An empty variable, as `.env` files have them, never reaches this.
#[allow(clippy::unnecessary_wraps)]
pub fn text(value: &str) -> Result<String, String> {
    Ok(value.trim().to_owned())
}

/// A number that is one: not infinite, and not `NaN`.
pub fn finite(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected a number".into()),
    }
}

pub fn non_negative(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number, at least 0".into()),
    }
}

/// A number, 0 to `most`.
pub fn within(value: &str, most: f64) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if (0.0..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected a number, 0 to {most}")),
    }
}

pub fn at_least_one(value: &str) -> Result<usize, String> {
    match value.parse::<usize>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number, at least 1".into()),
    }
}

pub fn seconds(value: &str) -> Result<Duration, String> {
    match value.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 86_400.0 => Ok(Duration::from_secs_f64(number)),
        _ => Err("expected seconds, more than 0 and at most a day".into()),
    }
}

pub fn prompt_seconds(value: &str) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if (1.0..=10.0).contains(&number) => Ok(number),
        _ => Err("expected seconds, 1 to 10".into()),
    }
}

pub fn milliseconds(value: &str, most: f64) -> Result<f64, String> {
    match value.parse::<f64>() {
        Ok(number) if (0.0..=most).contains(&number) => Ok(number),
        _ => Err(format!("expected milliseconds, 0 to {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_boolean_spellings() {
        for (value, read) in [
            ("true", Some(true)),
            ("1", Some(true)),
            ("Yes", Some(true)),
            ("off", Some(false)),
            ("2", None),
        ] {
            assert_eq!(boolean(value).ok(), read, "{value}");
        }
    }

    #[test]
    fn test_seconds_are_positive_and_finite() {
        for bad in ["0", "-1", "NaN", "inf", "1e9", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    }
}
