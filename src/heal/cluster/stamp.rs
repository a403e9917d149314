//! Points in time as RFC 3339 has them.

use std::time::{Duration, SystemTime};

/// Reads `2026-11-26T05:00:00Z`, also with an offset (`+01:00`). Only what can also be written again.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    let at = match text.get(text.len().checked_sub(6)?..)?.split_at_checked(1)? {
        (sign @ ("+" | "-"), offset) => {
            let (hours, minutes) = offset.split_once(':')?;
            let digits = |part: &str, most: u64| {
                let two = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
                part.parse::<u64>().ok().filter(|number| two && *number <= most)
            };
            let offset = Duration::from_secs(digits(hours, 23)? * 3600 + digits(minutes, 59)? * 60);
            let local = text.get(..text.len() - 6)?;
            let at = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
            if sign == "+" { at.checked_sub(offset) } else { at.checked_add(offset) }
        }
        _ => humantime::parse_rfc3339(text).ok(),
    };
    at.filter(|at| (SystemTime::UNIX_EPOCH..=last()).contains(at))
}

/// Writes one: `2026-11-26T05:00:00Z`.
pub(super) fn write(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at.clamp(SystemTime::UNIX_EPOCH, last())).to_string()
}

/// The end of the year 9999; what is later has no RFC 3339.
fn last() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_in_any_zone_and_written_in_utc() {
        for text in ["2026-11-26T05:00:00Z", "2026-11-26T06:30:00+01:30", "2026-11-25T23:00:00-06:00"] {
            assert_eq!(parse(text).map(write).as_deref(), Some("2026-11-26T05:00:00Z"), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "2026-11-26",
            "2026-11-26T05:00:00",
            "2026-11-26T05:00:00+1:00",
            "2026-11-26T05:00:00+24:00",
            "2026-11-26T05:00:00+0100",
            "1969-12-31T23:00:00Z",
            "1970-01-01T00:00:00+01:00",
            "ü-26T05:00:00+01:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(write(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 60)), "9999-12-31T23:59:59Z");
    }
}
