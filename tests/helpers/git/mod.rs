//! `git`: the protocol has its golden cases in `src/helpers/git/wire.rs`; here the real git judges it.

mod real;
