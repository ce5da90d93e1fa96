//! One call of a tool, from its request to the reply: what the pure halves in `protocol` say, put together with the profile
//! and its token.

pub mod docker;
pub mod engflow;
pub mod git;
pub mod kubectl;
