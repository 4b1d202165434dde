//! Wall time for people, monotonic time for deadlines, and random bits.
//!
//! No decision about who owns what ever compares two clocks: wall times are for display, for
//! `not_before` and for file names that sort; leases are judged on the observer's own monotonic
//! clock alone.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A source of time and of random bits, so that a simulation can supply its own.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970, by the wall clock.
    fn wall_ms(&self) -> u64;
    /// Milliseconds of the clock that stands still while the machine sleeps.
    fn mono_ms(&self) -> u64;
    /// Milliseconds of the clock that counts sleep too; `boot - mono` jumps at a resume.
    fn boot_ms(&self) -> u64;
    /// 64 random bits.
    fn random(&self) -> u64;
}

/// The machine's own clocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealClock;

fn read_ms(id: ClockId) -> u64 {
    let Ok(time) = clock_gettime(id) else { return 0 };
    u64::try_from(Duration::from(time).as_millis()).unwrap_or(0)
}

impl Clock for RealClock {
    fn wall_ms(&self) -> u64 {
        read_ms(ClockId::CLOCK_REALTIME)
    }
    fn mono_ms(&self) -> u64 {
        read_ms(ClockId::CLOCK_MONOTONIC)
    }
    fn boot_ms(&self) -> u64 {
        read_ms(ClockId::CLOCK_BOOTTIME)
    }
    fn random(&self) -> u64 {
        let mut bytes = [0u8; 8];
        match getrandom::fill(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes),
            // Without a random source the clocks and the pid still differ between processes.
            Err(_) => {
                self.boot_ms().rotate_left(32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    ^ (u64::from(std::process::id()) << 17)
                    ^ self.wall_ms()
            }
        }
    }
}

/// The last millisecond that RFC 3339 can say: it has years of four digits.
pub const LAST_MS: u64 = 253_402_300_799_999;

/// A time for people and files: RFC 3339, UTC, milliseconds. What is later is told as the last.
pub fn rfc3339(ms: u64) -> String {
    let ms = ms.min(LAST_MS);
    let secs = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
    match chrono::DateTime::<chrono::Utc>::from_timestamp(secs, nanos) {
        Some(time) => time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        None => "9999-12-31T23:59:59.999Z".to_owned(),
    }
}

/// Milliseconds since 1970 of an RFC 3339 time; `None` if it is none.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let time = chrono::DateTime::parse_from_rfc3339(text.trim()).ok()?;
    u64::try_from(time.timestamp_millis()).ok()
}

/// The local time of day, for messages to people.
pub fn local_hms(ms: u64) -> String {
    let secs = i64::try_from(ms / 1000).unwrap_or(0);
    match chrono::DateTime::<chrono::Utc>::from_timestamp(secs, 0) {
        Some(time) => time.with_timezone(&chrono::Local).format("%H:%M:%S").to_string(),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_that_is_written_can_be_read() {
        for ms in [0, 1, 1_700_000_000_123, LAST_MS] {
            assert_eq!(parse_rfc3339(&rfc3339(ms)), Some(ms));
        }
        assert_eq!(rfc3339(LAST_MS + 1), "9999-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(u64::MAX), rfc3339(LAST_MS));
    }
}
