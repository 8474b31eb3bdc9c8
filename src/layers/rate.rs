//! How many requests a route takes in a span of time: of everybody, of each address, or of each value of
//! a header. Before breaker and queue, so that a greedy client cannot fill the one or trip the other.
//!
//! Keys are chosen by clients, so there is a fixed number of buckets, and a key's hash says which is its
//! own. However many strangers come, a key meets none but those few that fall into its bucket.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};
use tower::Layer;

use super::context::Context;
use super::peer::Peer;
use super::{Handle, Request};
use crate::config::{Rate, RateKey};
use crate::problem::{Code, Problem};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// All of them together are about 4 MiB.
const BUCKETS: u64 = 65_536;

/// The bucket for everybody, and for those without a key.
const SHARED: u64 = 0;

type Buckets = RateLimiter<u64, HashMapStateStore<u64>, DefaultClock, StateInformationMiddleware>;

/// Whose requests they are, by the route's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

fn refused(after: Duration) -> Problem {
    Problem::new(Code::RateLimited).retry_after(after)
}

/// The limit of one route.
#[derive(Debug)]
pub struct RateLimit {
    buckets: Buckets,
    key: RateKey,
    /// Keys are kept as hashes: a header may be long. The seed is random, so nobody can aim at a
    /// neighbour's bucket.
    hasher: RandomState,
    policy: HeaderValue,
    count: u64,
    clock: DefaultClock,
}

impl RateLimit {
    /// The limit of the configuration.
    #[must_use]
    pub fn new(rate: &Rate) -> Self {
        Self::with_buckets(rate, BUCKETS)
    }

    fn with_buckets(rate: &Rate, buckets: u64) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let count = at_least_one(rate.limit.count);
        let burst = at_least_one(rate.burst());
        let quota = Quota::with_period(rate.limit.per / count.get())
            .unwrap_or_else(|| Quota::per_second(count))
            .allow_burst(burst);
        let policy = format!("\"route\";q={count};w={}", rate.limit.per.as_secs());
        Self {
            buckets: RateLimiter::hashmap(quota).with_middleware(),
            key: rate.key.clone(),
            hasher: RandomState::new(),
            policy: HeaderValue::try_from(policy).expect("digits and ASCII"),
            count: buckets,
            clock: DefaultClock::default(),
        }
    }

    /// Whose request it is.
    #[must_use]
    pub fn key_of(&self, headers: &HeaderMap, context: &Context) -> Key {
        let key: Cow<'_, [u8]> = match &self.key {
            RateKey::Route => return Key(SHARED),
            RateKey::ClientIp => match context.peer.as_deref().and_then(Peer::ip) {
                Some(IpAddr::V4(ip)) => Cow::Owned(ip.octets().to_vec()),
                // Whoever has one IPv6 address has a /64 of them.
                Some(IpAddr::V6(ip)) => Cow::Owned(ip.octets()[..8].to_vec()),
                None => return Key(SHARED),
            },
            RateKey::Header(name) => match headers.get(name) {
                Some(value) => Cow::Borrowed(value.as_bytes()),
                None => return Key(SHARED),
            },
        };
        Key(SHARED + 1 + self.hasher.hash_one(key) % self.count)
    }

    /// One more request of somebody.
    ///
    /// # Errors
    /// When they have had theirs.
    pub fn take(&self, key: Key) -> Result<u32, Problem> {
        self.check(key).map_err(refused)
    }

    /// The remaining requests, or the time after which there is one again.
    fn check(&self, key: Key) -> Result<u32, Duration> {
        match self.buckets.check_key(&key.0) {
            Ok(snapshot) => Ok(snapshot.remaining_burst_capacity()),
            Err(refused) => Err(refused.wait_time_from(self.clock.now())),
        }
    }

    fn announce(&self, response: &mut Response, remaining: u32, after: Duration) {
        let headers = response.headers_mut();
        let seconds = after.as_millis().div_ceil(1000);
        let state = format!("\"route\";r={remaining};t={seconds}");
        if let Ok(state) = HeaderValue::try_from(state) {
            headers.insert(RATE_LIMIT, state);
        }
        headers.insert(RATE_LIMIT_POLICY, self.policy.clone());
    }
}

/// The layer; without a limit it is a branch.
pub fn layer<N: Handle>(limit: Option<Arc<RateLimit>>) -> impl Layer<N, Service = RateLimited<N>> {
    tower::layer::layer_fn(move |next| RateLimited {
        next,
        limit: limit.clone(),
    })
}

/// See [`layer`].
#[derive(Debug)]
pub struct RateLimited<N> {
    next: N,
    limit: Option<Arc<RateLimit>>,
}

impl<N: Handle> Handle for RateLimited<N> {
    async fn handle(&self, request: Box<Request>) -> Response {
        let Some(limit) = &self.limit else {
            return self.next.handle(request).await;
        };
        match limit.check(limit.key_of(request.headers(), &request.context)) {
            Ok(remaining) => {
                let mut response = self.next.handle(request).await;
                limit.announce(&mut response, remaining, Duration::ZERO);
                response
            }
            Err(after) => {
                let mut response = refused(after).into_response();
                limit.announce(&mut response, 0, after);
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::kept::Kept;
    use crate::layers::peer::Local;

    /// So many that no two keys of a test share one.
    const DISTINCT: u64 = u64::MAX >> 1;

    fn limit(rate: &str, burst: u32, key: &str, buckets: u64) -> RateLimit {
        let rate = Rate {
            limit: rate.parse().unwrap(),
            burst: Some(burst),
            key: key.parse().unwrap(),
        };
        RateLimit::with_buckets(&rate, buckets)
    }

    fn key_of(limit: &RateLimit, request: &Request) -> Key {
        limit.key_of(request.headers(), &request.context)
    }

    fn check(limit: &RateLimit, request: &Request) -> Result<u32, Duration> {
        limit.check(key_of(limit, request))
    }

    fn from(ip: &str, tenant: &str) -> Request {
        let mut request = Request::default();
        let tenant = HeaderValue::try_from(tenant).unwrap();
        request.headers_mut().insert("x-tenant", tenant);
        let peer = Peer {
            local: Arc::new(Local::Tcp("127.0.0.1:1".parse().unwrap())),
            remote: Some(std::net::SocketAddr::new(ip.parse().unwrap(), 5)),
        };
        request.context.peer = Some(Arc::new(peer));
        request
    }

    #[test]
    fn the_burst_is_taken_and_then_the_wait_is_said() {
        let limit = limit("1/h", 2, "route", 10);
        assert_eq!(check(&limit, &from("10.0.0.1", "a")), Ok(1));
        assert_eq!(check(&limit, &from("10.0.0.2", "b")), Ok(0));
        let wait = check(&limit, &from("10.0.0.3", "c")).unwrap_err();
        assert!(wait > Duration::from_secs(3500) && wait <= Duration::from_secs(3600));
    }

    #[test]
    fn each_address_has_its_own_and_an_ipv6_network_is_one() {
        let limit = limit("1/h", 1, "client_ip", DISTINCT);
        for (ip, fine) in [
            ("10.0.0.1", true),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("10.0.0.2", true),
            ("2001:db8::1", true),
            ("2001:db8::2", false),
            ("2001:db8:0:1::2", true),
        ] {
            assert_eq!(check(&limit, &from(ip, "a")).is_ok(), fine, "{ip}");
        }
    }

    #[test]
    fn an_unchanged_limit_survives_a_reload_and_a_changed_one_begins_anew() {
        let rate = |limit: &str| Rate {
            limit: limit.parse().unwrap(),
            burst: Some(1),
            key: RateKey::Route,
        };
        let (limits, request) = (Kept::<Rate, RateLimit>::default(), from("10.0.0.1", "a"));
        let of = |name: &str, limit: &str| {
            let rate = rate(limit);
            limits.of(name, rate.clone(), || RateLimit::new(&rate))
        };
        let before = of("a", "1/h");
        assert!(check(&before, &request).is_ok());
        assert!(check(&of("a", "1/h"), &request).is_err());
        for other in [of("a", "2/h"), of("b", "1/h")] {
            assert!(check(&other, &request).is_ok());
        }
    }

    #[test]
    fn strangers_take_nothing_from_a_known_key_and_hold_no_more_memory() {
        let limit = limit("1/h", 2, "header:x-tenant", 8);
        let known = from("10.0.0.1", "known");
        assert_eq!(check(&limit, &known), Ok(1));
        let own = key_of(&limit, &known);
        for stranger in 0..1000 {
            let stranger = from("10.0.0.1", &stranger.to_string());
            if key_of(&limit, &stranger) != own {
                let _ = check(&limit, &stranger);
            }
        }
        assert!(limit.buckets.len() <= 8);
        assert_eq!(check(&limit, &known), Ok(0));
        assert!(check(&limit, &known).is_err());
    }
}
