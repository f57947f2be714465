//! Actions against a webhook of the test's own.
