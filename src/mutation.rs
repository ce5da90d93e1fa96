//! For tests: well-formed inputs, damaged. Random bytes hardly get past the first look of a parser; a good document with a
//! few bytes changed gets everywhere.

use proptest::prelude::*;

/// One of `seeds` after up to eight edits: bytes changed, put in, taken out, doubled or cut off.
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
