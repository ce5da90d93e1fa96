//! Names of enum variants, on the command line and in the configuration.

/// Gives each variant of an enum its name: `NAMES` in the order of the variants, `named` and `name`.
macro_rules! names {
    ($type:ident { $($variant:ident: $name:literal),+ $(,)? }) => {
        #[allow(dead_code, reason = "an enum may need only some of them")]
        impl $type {
            /// The names, in the order of the variants.
            pub const NAMES: [&'static str; [$($name),+].len()] = [$($name),+];

            /// Returns the variant with this name.
            pub fn named(name: &str) -> Option<$type> {
                match name {
                    $($name => Some($type::$variant),)+
                    _ => None,
                }
            }

            /// Returns the name.
            pub fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name),+
                }
            }
        }
    };
}
