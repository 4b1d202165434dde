//! Whether there is a next attempt, what it is charged, and how long it rests.

use crate::queue::record::{Backoff, SECONDS_MAX};

/// Deaths by reboot that a task is forgiven. A machine that goes down twice while the same task
/// runs may be bad luck; at the third time the task may be what brings it down.
pub const BOOTS_FORGIVEN: u32 = 2;

/// Milliseconds of rest after the failure that makes `charged` charged attempts.
///
/// The base doubles (or whatever the factor is) with each, up to the most, and is then multiplied
/// by 0.5 to 1 as `random` says: tasks that failed together shall not all return together.
pub fn backoff_ms(backoff: &Backoff, charged: u32, random: u64) -> u64 {
    let further = i32::try_from(charged.saturating_sub(1)).unwrap_or(i32::MAX);
    let rest_s = backoff.base_s.max(0.0) * backoff.factor.max(0.0).powi(further);
    // `0 * inf` is no number; `min` takes the other side then.
    let rest_s = rest_s.min(backoff.max_s.max(0.0)).min(SECONDS_MAX);
    // 53 bits are what a float holds exactly.
    let jitter = 0.5 + 0.5 * ((random >> 11) as f64) / (((1u64 << 53) - 1) as f64);
    // At most a century, so that a time from now on can be written.
    (rest_s * 1000.0 * jitter).round() as u64
}

/// The attempts charged after a failure, and whether another may be claimed.
pub fn after_failure(charged_before: u32, max_attempts: u32, permanent: bool) -> (u32, bool) {
    let charged = charged_before.saturating_add(1);
    (charged, !permanent && charged < max_attempts)
}

/// What follows from a death by reboot: the boot deaths and the attempts charged so far, and
/// whether another attempt may be claimed. The first two are not charged.
pub fn after_boot(boots_before: u32, charged_before: u32, max_attempts: u32) -> (u32, u32, bool) {
    let boots = boots_before.saturating_add(1);
    if boots <= BOOTS_FORGIVEN {
        return (boots, charged_before, true);
    }
    let (charged, retry) = after_failure(charged_before, max_attempts, false);
    (boots, charged, retry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_rests() {
        let standard = Backoff::default();
        let at_most: Vec<u64> = (1..=8).map(|n| backoff_ms(&standard, n, u64::MAX)).collect();
        assert_eq!(at_most, [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000]);
        assert_eq!(backoff_ms(&standard, 1, 0), 5_000);
        assert_eq!(backoff_ms(&standard, 0, u64::MAX), 10_000);
    }

    #[test]
    fn odd_numbers_do_no_harm() {
        let odd = |base_s, factor, max_s| Backoff { base_s, factor, max_s };
        assert_eq!(backoff_ms(&odd(0.0, f64::INFINITY, 600.0), 9, 7), 300_000);
        assert_eq!(backoff_ms(&odd(-1.0, 2.0, 600.0), 9, 7), 0);
        assert_eq!(backoff_ms(&odd(1.0, 2.0, f64::NAN), 9, 7), 0);
        let century = (SECONDS_MAX * 1000.0) as u64;
        assert_eq!(backoff_ms(&odd(1e300, 1.0, 1e300), 1, u64::MAX), century);
    }

    #[test]
    fn three_attempts() {
        assert_eq!(after_failure(0, 3, false), (1, true));
        assert_eq!(after_failure(1, 3, false), (2, true));
        assert_eq!(after_failure(2, 3, false), (3, false));
        assert_eq!(after_failure(0, 3, true), (1, false));
        assert_eq!(after_failure(0, 1, false), (1, false));
        assert_eq!(after_failure(u32::MAX, u32::MAX, false), (u32::MAX, false));
    }

    #[test]
    fn two_reboots_are_forgiven() {
        assert_eq!(after_boot(0, 0, 1), (1, 0, true));
        assert_eq!(after_boot(1, 0, 1), (2, 0, true));
        assert_eq!(after_boot(2, 0, 1), (3, 1, false));
        assert_eq!(after_boot(2, 0, 3), (3, 1, true));
        assert_eq!(after_boot(4, 2, 3), (5, 3, false));
    }

    proptest! {
        #[test]
        fn rests_stay_within_bounds(
            base_s in 0.0f64..1e4, factor in 1.0f64..10.0, max_s in 0.0f64..1e5,
            charged in 0u32..2000, random: u64,
        ) {
            let rest = backoff_ms(&Backoff { base_s, factor, max_s }, charged, random) as f64;
            let full = (base_s * factor.powi(charged.saturating_sub(1) as i32)).min(max_s) * 1e3;
            prop_assert!(rest <= full + 1.0);
            prop_assert!(rest >= full / 2.0 - 1.0);
        }

        #[test]
        fn every_task_ends(max_attempts in 1u32..50, kinds in prop::collection::vec(any::<bool>(), 60)) {
            let (mut boots, mut charged, mut runs) = (0, 0, 0);
            for boot in kinds {
                runs += 1;
                let retry;
                if boot {
                    (boots, charged, retry) = after_boot(boots, charged, max_attempts);
                } else {
                    (charged, retry) = after_failure(charged, max_attempts, false);
                }
                prop_assert_eq!(retry, charged < max_attempts);
                if !retry {
                    break;
                }
            }
            prop_assert!(runs <= max_attempts + BOOTS_FORGIVEN);
        }
    }
}
