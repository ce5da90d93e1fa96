//! For tests: well-formed inputs with damage.
//!
//! Random bytes rarely pass the first check of a parser. A good document with a few changed bytes reaches
//! every part of it.

use proptest::prelude::*;

/// Returns one of `seeds` after up to eight edits.
///
/// An edit changes, inserts, removes, exchanges, doubles or cuts off bytes.
pub fn mutated(seeds: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..6_u8);
    let edits = proptest::collection::vec(edit, 0..=8);
    (prop::sample::select(seeds), edits).prop_map(|(seed, edits)| {
        let mut bytes = seed.as_bytes().to_vec();
        for (at, to, byte, how) in edits {
            if bytes.is_empty() {
                break;
            }
            let (at, to) = (at.index(bytes.len()), to.index(bytes.len()));
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                3 => bytes.swap(at, to),
                4 => {
                    let part = bytes[at.min(to)..at.max(to)].to_vec();
                    bytes.extend(part);
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}
