//! `Deadlines`: reads the deadlines of requests from their headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forebay_stream::{Failure, Meta};
use tokio::time::Instant;

use crate::codes;

/// The headers that hold a request's deadline, and the clock that deadlines are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines {
    /// The name of the header that holds the deadline: milliseconds since 1970 (UTC), in decimal.
    pub(crate) header: String,
    /// The name of the header that holds the time from the request's timestamp to its deadline:
    /// milliseconds, in decimal.
    pub(crate) timeout_header: String,
    /// Reads the clock. It is the wall clock, because deadlines are set on other machines.
    pub(crate) now: fn() -> SystemTime,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            header: "forebay-deadline-ms".to_owned(),
            timeout_header: "forebay-timeout-ms".to_owned(),
            now: SystemTime::now,
        }
    }
}

impl Deadlines {
    /// Fails if the deadline has passed, or cannot be read.
    pub(crate) fn check(&self, meta: &Meta) -> Result<(), Failure> {
        let Some(deadline) = self.deadline(meta)? else { return Ok(()) };
        let now = (self.now)();
        if now < deadline {
            return Ok(());
        }
        let late = now.duration_since(deadline).unwrap_or_default();
        let message = format_args!("the deadline was {} ms ago", late.as_millis());
        Err(Failure::new(codes::DEADLINE_EXCEEDED, message))
    }

    /// Returns the deadline on tokio's clock. Fails as [`check`](Self::check) does.
    pub(crate) fn due(&self, meta: &Meta) -> Result<Option<Instant>, Failure> {
        let Some(deadline) = self.deadline(meta)? else { return Ok(None) };
        self.check(meta)?;
        let left = deadline.duration_since((self.now)()).unwrap_or_default();
        Ok(Instant::now().checked_add(left))
    }

    /// Returns a request's deadline, or the earlier one if the request has both headers. A null
    /// header counts as absent. If a header is repeated, the last one counts.
    fn deadline(&self, meta: &Meta) -> Result<Option<SystemTime>, Failure> {
        let at = meta.header(&self.header).map(|value| millis(&self.header, value)).transpose()?;
        let after = meta.header(&self.timeout_header);
        let after = after.map(|value| millis(&self.timeout_header, value)).transpose()?;
        let after = match (after, meta.timestamp) {
            (None, _) => None,
            (Some(after), Some(timestamp)) => Some((timestamp, after)),
            (Some(_), None) => {
                let header = &self.timeout_header;
                let message = format_args!(
                    "{header} counts from the record's timestamp, but the record has none"
                );
                return Err(invalid(message));
            }
        };
        // A deadline beyond the range of the clock never passes.
        let deadlines = [at.map(|at| (UNIX_EPOCH, at)), after].into_iter().flatten();
        Ok(deadlines.filter_map(|(start, wait)| start.checked_add(wait)).min())
    }
}

/// Parses a number of milliseconds: digits only. A number that overflows 64 bits becomes the
/// largest one, which is a deadline that never passes.
fn millis(header: &str, value: &Bytes) -> Result<Duration, Failure> {
    let text = std::str::from_utf8(value).ok();
    let digits =
        text.filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let digits = digits.ok_or_else(|| {
        let message = format_args!("the header {header} does not hold milliseconds as digits");
        invalid(message)
    })?;
    Ok(Duration::from_millis(digits.parse().unwrap_or(u64::MAX)))
}

fn invalid(message: std::fmt::Arguments<'_>) -> Failure {
    Failure::new(codes::INVALID_DEADLINE, message)
}

#[cfg(test)]
mod in_a_pipeline;

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use forebay_stream::{Header, Meta};
    use proptest::prelude::*;

    use super::Deadlines;

    const AT: &str = "forebay-deadline-ms";
    const AFTER: &str = "forebay-timeout-ms";
    const NOW: Duration = Duration::from_secs(1000);

    fn deadlines() -> Deadlines {
        Deadlines { now: || UNIX_EPOCH + NOW, ..Deadlines::default() }
    }

    fn meta(timestamp: Option<u64>, headers: &[(&str, Option<&[u8]>)]) -> Meta {
        let headers = headers.iter().map(|(name, value)| Header {
            name: (*name).to_owned(),
            value: value.map(|value| value.to_vec().into()),
        });
        let timestamp = timestamp.map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
        Meta { headers: headers.collect(), timestamp, ..Meta::default() }
    }

    fn code(timestamp: Option<u64>, headers: &[(&str, &str)]) -> String {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect();
        let checked = deadlines().check(&meta(timestamp, &headers));
        checked.map_or_else(|failure| failure.code().to_owned(), |()| "ok".to_owned())
    }

    #[test]
    fn a_request_is_late_when_its_deadline_is_reached() {
        assert_eq!(code(None, &[]), "ok");
        assert_eq!(code(None, &[(AT, "1000001")]), "ok");
        assert_eq!(code(None, &[(AT, "1000000")]), "deadline_exceeded");
        assert_eq!(code(None, &[(AT, "0")]), "deadline_exceeded");
        assert_eq!(code(Some(999_000), &[(AFTER, "1001")]), "ok");
        assert_eq!(code(Some(999_000), &[(AFTER, "1000")]), "deadline_exceeded");
        assert_eq!(code(Some(1_000_000), &[(AFTER, "0")]), "deadline_exceeded");
    }

    #[test]
    fn the_earlier_of_two_deadlines_counts() {
        assert_eq!(code(Some(0), &[(AT, "1000001"), (AFTER, "5")]), "deadline_exceeded");
        assert_eq!(code(Some(1_000_000), &[(AT, "5"), (AFTER, "5")]), "deadline_exceeded");
        assert_eq!(code(Some(1_000_000), &[(AT, "1000001"), (AFTER, "5")]), "ok");
    }

    #[test]
    fn the_last_of_a_repeated_header_counts() {
        assert_eq!(code(None, &[(AT, "5"), (AT, "1000001")]), "ok");
    }

    #[test]
    fn a_null_header_is_no_deadline() {
        let null = meta(None, &[(AT, None), (AFTER, None)]);
        assert!(deadlines().check(&null).is_ok());
    }

    #[test]
    fn a_header_that_is_not_a_number_of_milliseconds_fails_the_request() {
        for value in ["", " ", "5 ", "+5", "-5", "5.0", "1e9", "0x5", "five", "\u{665}", "\0"] {
            assert_eq!(code(None, &[(AT, value)]), "invalid_deadline", "{value:?}");
            assert_eq!(code(Some(0), &[(AFTER, value)]), "invalid_deadline", "{value:?}");
        }
        assert_eq!(code(None, &[(AFTER, "5")]), "invalid_deadline", "without a timestamp");
        let failure = deadlines().check(&meta(None, &[(AT, Some(b"\xff"))])).unwrap_err();
        assert_eq!(failure.code(), "invalid_deadline");
        assert!(failure.message().contains(AT), "{failure}");
    }

    #[test]
    fn a_deadline_beyond_the_clocks_range_never_passes() {
        for value in ["18446744073709551615", "18446744073709551616", &"9".repeat(400)] {
            assert_eq!(code(Some(0), &[(AT, value)]), "ok");
            assert_eq!(code(Some(0), &[(AFTER, value)]), "ok");
        }
    }

    proptest! {
        #[test]
        fn fuzz_any_header_is_a_deadline_or_a_failure(at: Vec<u8>, after: Vec<u8>, timestamp: Option<u64>) {
            let timestamp = timestamp.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis)));
            let headers = meta(None, &[(AT, Some(&at)), (AFTER, Some(&after))]).headers;
            deadlines().check(&Meta { headers, timestamp, ..Meta::default() }).ok();
        }

        #[test]
        fn fuzz_any_number_is_a_deadline(at: u64) {
            let late = UNIX_EPOCH.checked_add(Duration::from_millis(at)).is_some_and(|at| at <= UNIX_EPOCH + NOW);
            prop_assert_eq!(code(None, &[(AT, &at.to_string())]) == "deadline_exceeded", late);
        }
    }

    #[test]
    fn deadlines_are_compared_with_the_wall_clock_by_default() {
        let soon = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_mins(1))
            .as_millis()
            .to_string();
        let meta = meta(None, &[(AT, Some(soon.as_bytes()))]);
        assert!(Deadlines::default().check(&meta).is_ok());
    }
}
