//! Requests per subject.
//!
//! **Invariant:** the table of subjects is bounded; who finds it full shares one limit with the others who do, so a
//! flood of names is limited too.

use std::net::{IpAddr, Ipv6Addr};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use lakesync_proto::ErrorCode;

use super::config::Rate;
use crate::error::Refusal;

/// How many subjects are told apart (100,000, some 10 MB): more at once are a flood.
const SUBJECTS_MAX: usize = 100_000;
/// The name that those share who came when the table was full; no subject or address has it.
const OVERFLOW: &str = "";

type Table<C> =
    RateLimiter<String, HashMapStateStore<String>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The limiter of one process.
#[derive(Debug)]
pub(super) struct Limiter<C: Clock = DefaultClock> {
    table: Table<C>,
    clock: C,
}

impl Limiter {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_clock(rate, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Limiter<C> {
    fn with_clock(rate: Rate, clock: C) -> Self {
        let quota = Quota::per_second(rate.requests_per_second).allow_burst(rate.burst);
        Self {
            table: RateLimiter::hashmap_with_clock(quota, clock.clone()),
            clock,
        }
    }

    /// Lets one request of `subject` pass.
    ///
    /// # Errors
    /// 429 with the seconds to wait.
    pub(super) fn check(&self, subject: &str) -> Result<(), Refusal> {
        if self.table.len() >= SUBJECTS_MAX {
            self.table.retain_recent();
        }
        let key = match self.table.len() < SUBJECTS_MAX {
            true => subject,
            false => OVERFLOW,
        };
        self.table.check_key(&key.to_owned()).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Refusal::new(ErrorCode::RateLimited, "Too many requests")
                .with("retryAfter", seconds.max(1))
        })
    }
}

/// The name under which requests without a token are counted: an IPv6 host owns at least a /64.
pub(super) fn address_key(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            format!("{}/64", Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn rate(requests_per_second: u32, burst: u32) -> Rate {
        Rate {
            requests_per_second: NonZeroU32::new(requests_per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn a_subject_waits_for_its_own_limit_and_for_no_other() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(rate(2, 3), clock.clone());
        for _ in 0..3 {
            limiter.check("ada").unwrap();
        }
        let refused = limiter.check("ada").unwrap_err();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert_eq!(refused.message, "Too many requests");
        assert_eq!(refused.details["retryAfter"], 1);
        limiter.check("ben").unwrap();
        clock.advance(Duration::from_millis(500));
        limiter.check("ada").unwrap();
        assert!(limiter.check("ada").is_err());
    }

    #[test]
    fn a_flood_of_names_shares_one_limit_and_the_table_stays_bounded() {
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::with_clock(rate(1, 2), clock.clone());
        for nth in 0..SUBJECTS_MAX {
            limiter.check(&nth.to_string()).unwrap();
        }
        let passed = (0..10).filter(|nth| limiter.check(&format!("late-{nth}")).is_ok());
        assert_eq!(passed.count(), 2);
        assert!(limiter.table.len() <= SUBJECTS_MAX + 1);
        clock.advance(Duration::from_secs(60));
        limiter.check("after the flood").unwrap();
        assert!(limiter.table.len() < 10, "the past is forgotten");
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one() {
        let key = |text: &str| address_key(text.parse().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
    }
}
