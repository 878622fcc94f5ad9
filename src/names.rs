//! One spelling for each thing that has a name: in JSON, in SQL, on the command line and in messages.

/// A name that is none of those that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no {what}; there are {}", .known.join(", "))]
pub struct UnknownName {
    pub(crate) what: &'static str,
    pub(crate) name: String,
    pub(crate) known: &'static [&'static str],
}

/// Gives an enum one spelling in JSON, SQL, the command line and messages.
macro_rules! names {
    ($type:ty, $what:literal, $($variant:ident => $name:literal),+ $(,)?) => {
        impl $type {
            /// Every one of them.
            pub const ALL: &'static [$type] = &[$(<$type>::$variant),+];

            /// The name, as in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(<$type>::$variant => $name),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::names::UnknownName;

            fn from_str(text: &str) -> std::result::Result<Self, $crate::names::UnknownName> {
                match text {
                    $($name => Ok(<$type>::$variant),)+
                    _ => Err($crate::names::UnknownName {
                        what: $what,
                        name: $crate::text::shortened(text, 100).into_owned(),
                        known: &[$($name),+],
                    }),
                }
            }
        }
    };
}
pub(crate) use names;
