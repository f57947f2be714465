//! Every way a token can be wrong, and what is said to it.
