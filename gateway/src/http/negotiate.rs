//! Of which type an answer is: what the header `accept` asks for.
//!
//! **Invariant:** a request that names no type that it is served is either told so or answered in the type that it came
//! in, as its route says; weights decide nothing but what is refused (`q=0`): of the types named the first counts.

use axum::http::{HeaderMap, header};

use super::body::{PROTOBUF, is_protobuf};

/// The content type of JSON bodies.
const JSON: &str = "application/json";

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// What a request's own body is: JSON unless it says otherwise.
    pub(super) fn sent(headers: &HeaderMap) -> Self {
        match is_protobuf(headers, header::CONTENT_TYPE) {
            true => Self::Protobuf,
            false => Self::Json,
        }
    }

    /// The first of the two that the request asks for; `otherwise` when it asks for neither.
    pub(super) fn asked(headers: &HeaderMap, otherwise: Self) -> Self {
        let known = |range: &str| match range {
            JSON => Some(Self::Json),
            PROTOBUF => Some(Self::Protobuf),
            _ => None,
        };
        ranges(headers).find_map(known).unwrap_or(otherwise)
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// Whether a request takes an answer of the type `wanted`: it does when it says nothing.
pub(super) fn takes(headers: &HeaderMap, wanted: &str) -> bool {
    let family = wanted.split_once('/').map_or(wanted, |(family, _)| family);
    let fits = |range: &str| {
        let any_of = range.strip_suffix("/*");
        range == wanted || range == "*/*" || any_of == Some(family)
    };
    !headers.contains_key(header::ACCEPT) || ranges(headers).any(fits)
}

/// The media ranges of `accept` that are not refused, without their parameters.
fn ranges(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::ACCEPT).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|part| {
            let mut fields = part.split(';').map(str::trim);
            let range = fields.next()?;
            let weight = fields.find_map(|field| field.strip_prefix("q="));
            let refused = weight.is_some_and(|weight| weight.parse() == Ok(0.0));
            (!refused).then_some(range)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_chosen_by_what_is_named_and_not_refused() {
        let headers = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            headers
        };
        let asked = |accept: &str| Encoding::asked(&headers(accept), Encoding::Json);
        assert_eq!(
            asked("text/html, application/x-protobuf;q=0.1"),
            Encoding::Protobuf
        );
        assert_eq!(asked("application/x-protobuf;q=0, */*"), Encoding::Json);
        assert_eq!(
            asked("application/json, application/x-protobuf"),
            Encoding::Json
        );
        assert!(takes(&HeaderMap::new(), "a/b"));
        for accept in ["*/*", "a/*", "c/d;q=0.5, a/b ; x=1", "a/b"] {
            assert!(takes(&headers(accept), "a/b"), "{accept}");
        }
        for accept in ["c/d", "c/*", "a/b;q=0", "a/b;v=1;q=0.000", ""] {
            assert!(!takes(&headers(accept), "a/b"), "{accept}");
        }
    }
}
