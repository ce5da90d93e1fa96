//! See src.
