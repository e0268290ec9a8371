//! How the structs of parameters are declared.

/// Declares a struct that a kernel reads; for tests, the list of its fields as well.
macro_rules! parameters {
    ($(#[$doc:meta])* pub struct $name:ident { $($(#[$of_field:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $($(#[$of_field])* pub $field: $type,)*
        }

        #[cfg(test)]
        impl crate::ops::mirror::Parameters for $name {
            const NAME: &'static str = stringify!($name);
            const FIELDS: &'static [crate::ops::mirror::Field] = &[$(crate::ops::mirror::Field {
                name: stringify!($field),
                offset: std::mem::offset_of!($name, $field),
                there: <$type as crate::ops::mirror::Mirror>::THERE,
            }),*];
        }
    };
}
