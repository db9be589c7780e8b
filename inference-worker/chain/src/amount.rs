//! Amounts of money as people write and read them.

use crate::OPEN;

/// What a number without a unit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 10^12 planck.
    Open,
    /// The least amount there is.
    Planck,
}

/// Decimals of an OPEN.
const DECIMALS: usize = 12;

/// Reads an amount into planck: `12.5 OPEN`, `12.5OPEN` or `7 planck`, or a number alone, which is of `unit`.
///
/// # Errors
/// What such an amount looks like.
pub fn planck(text: &str, unit: Unit) -> Result<u128, String> {
    let wrong = || {
        let alone = match unit {
            Unit::Open => "12 or 0.5, which are OPEN",
            Unit::Planck => "7000, which is planck",
        };
        format!(
            "`{text}` is no amount: write `12.5 OPEN`, `7 planck`, or a number alone as {alone}"
        )
    };
    let (number, unit) = if let Some(number) = text.strip_suffix("OPEN") {
        (number, Unit::Open)
    } else if let Some(number) = text.strip_suffix("planck") {
        (number, Unit::Planck)
    } else {
        (text, unit)
    };
    let number = number.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let decimals = match unit {
        Unit::Open => DECIMALS,
        Unit::Planck => 0,
    };
    let given = whole.to_owned() + fraction;
    let is_number = !given.is_empty() && given.bytes().all(|b| b.is_ascii_digit());
    if !is_number || fraction.len() > decimals || (decimals == 0 && number.contains('.')) {
        return Err(wrong());
    }
    format!("{whole}{fraction:0<decimals$}")
        .parse()
        .map_err(|_| wrong())
}

/// Planck as OPEN, all twelve decimals.
pub fn in_open(planck: u128) -> String {
    format!("{}.{:012}", planck / OPEN, planck % OPEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_should_be_exact_in_every_unit() {
        for (text, unit, amount) in [
            ("12", Unit::Open, 12 * OPEN),
            ("0.5", Unit::Open, OPEN / 2),
            ("1.000000000001", Unit::Open, OPEN + 1),
            ("12", Unit::Planck, 12),
            ("12 OPEN", Unit::Planck, 12 * OPEN),
            ("0.5OPEN", Unit::Planck, OPEN / 2),
            ("7 planck", Unit::Open, 7),
        ] {
            assert_eq!(planck(text, unit), Ok(amount), "{text}");
        }
        for wrong in [
            "",
            ".",
            "-1",
            "1.0000000000001",
            "1,5",
            "0x1",
            "1.5.2",
            "OPEN",
            "1 open",
            "1.5 planck",
        ] {
            assert!(planck(wrong, Unit::Open).is_err(), "{wrong}");
        }
        assert!(planck("1.5", Unit::Planck).is_err());
        assert_eq!(in_open(12 * OPEN + 1), "12.000000000001");
    }
}
