//! What a refusal means, case by case.

use lakesync_proto::ErrorCode;

use super::world::refusal;
use crate::outbox::verdict::{Verdict, judge};

#[test]
fn a_named_delta_is_judged_by_the_code() {
    let cases = [
        (409, ErrorCode::ClockDrift, Verdict::Ahead(1)),
        (422, ErrorCode::LateDelta, Verdict::Late(1)),
        (422, ErrorCode::UnknownTable, Verdict::Schema(1)),
        (422, ErrorCode::SchemaError, Verdict::Schema(1)),
        (403, ErrorCode::Forbidden, Verdict::Reject(1)),
        (400, ErrorCode::ValidationError, Verdict::Reject(1)),
        (400, ErrorCode::DeltaIdMismatch, Verdict::Reject(1)),
        (409, ErrorCode::DeltaIdReused, Verdict::Reject(1)),
    ];
    for (status, code, verdict) in cases {
        assert_eq!(judge(&refusal(status, code, Some(1)), 3), verdict, "{code}");
    }
}

#[test]
fn an_index_beyond_the_batch_names_nobody() {
    let refused = refusal(400, ErrorCode::ValidationError, Some(3));
    assert_eq!(judge(&refused, 3), Verdict::Split);
}

#[test]
fn a_batch_that_is_refused_as_a_whole_is_split_until_one_is_left() {
    let refused = refusal(422, ErrorCode::SchemaError, None);
    assert_eq!(judge(&refused, 2), Verdict::Split);
    assert_eq!(judge(&refused, 1), Verdict::Schema(0));
    let mut too_long = refusal(413, ErrorCode::ValidationError, None);
    too_long.code.clear();
    assert_eq!(judge(&too_long, 2), Verdict::Split);
    assert_eq!(judge(&too_long, 1), Verdict::Reject(0));
}

#[test]
fn what_is_nobodys_edit_costs_none() {
    let mut page_of_a_proxy = refusal(400, ErrorCode::ValidationError, None);
    page_of_a_proxy.code.clear();
    for count in [1, 3] {
        assert_eq!(judge(&page_of_a_proxy, count), Verdict::Later);
        for (status, code) in [
            (401, ErrorCode::AuthError),
            (403, ErrorCode::Forbidden),
            (403, ErrorCode::AuthError),
            (404, ErrorCode::NotFound),
            (429, ErrorCode::RateLimited),
            (503, ErrorCode::BackpressureError),
            (507, ErrorCode::StorageFull),
        ] {
            assert_eq!(
                judge(&refusal(status, code, None), count),
                Verdict::Later,
                "{code}"
            );
        }
    }
}

#[test]
fn a_failed_gateway_leaves_open_whether_it_took_the_batch() {
    for status in [302, 408, 500, 502, 503, 504] {
        let refused = refusal(status, ErrorCode::InternalError, None);
        assert_eq!(judge(&refused, 1), Verdict::Unknown, "{status}");
    }
    let named = refusal(500, ErrorCode::InternalError, Some(0));
    assert_eq!(judge(&named, 1), Verdict::Unknown);
}
