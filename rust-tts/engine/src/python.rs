//! Messages as classes of Python: frozen, made with keywords, read by attribute.

/// Defines message structs; with the feature `python` each is a class. A field with a default may be left out in Python.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident { $(
            $(#[$field_meta:meta])*
            pub $field:ident: $kind:ty $(= $default:expr)?,
        )* }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        #[cfg_attr(
            feature = "python",
            pyo3::pyclass(frozen, get_all, eq, from_py_object, module = "chatterbox_server._core")
        )]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }

        #[cfg(feature = "python")]
        #[pyo3::pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = (*, $($field $(= $default)?),*))]
            #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
            fn new($($field: $kind),*) -> Self {
                Self { $($field),* }
            }

            fn __repr__(&self) -> String {
                format!("{self:?}")
            }
        }
    )* };
}
pub(crate) use message;

#[cfg(feature = "python")]
mod conversions {
    use std::convert::Infallible;
    use std::sync::Arc;

    use chatterbox_settings::name_of;
    use clap::ValueEnum;
    use pyo3::exceptions::PyValueError;
    use pyo3::prelude::*;
    use pyo3::types::{PyBytes, PyString};

    use crate::messages::{FailureCode, FileBytes, Pcm};
    use crate::options::{
        Backend, Device, Dtype, EngineKind, MultilingualVersion, Profile, S3GenDecoder, S3GenDtype,
    };

    impl<'py> IntoPyObject<'py> for Pcm {
        type Target = PyBytes;
        type Output = Bound<'py, PyBytes>;
        type Error = PyErr;

        fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
            PyBytes::new_with(py, size_of_val(&*self), |bytes| {
                for (bytes, sample) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(&*self) {
                    *bytes = sample.to_le_bytes();
                }
                Ok(())
            })
        }
    }

    impl FromPyObject<'_, '_> for Pcm {
        type Error = PyErr;

        fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
            let bytes = object.cast::<PyBytes>()?;
            let (samples, rest) = bytes.as_bytes().as_chunks::<4>();
            if !rest.is_empty() {
                return Err(PyValueError::new_err(
                    "pcm: expected 4 bytes for each sample",
                ));
            }
            Ok(samples
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect())
        }
    }

    impl<'py> IntoPyObject<'py> for FileBytes {
        type Target = PyBytes;
        type Output = Bound<'py, PyBytes>;
        type Error = Infallible;

        fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
            Ok(PyBytes::new(py, &self.0))
        }
    }

    impl FromPyObject<'_, '_> for FileBytes {
        type Error = PyErr;

        fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
            Ok(Self(Arc::from(object.cast::<PyBytes>()?.as_bytes())))
        }
    }

    /// Enums that Python knows by their names.
    macro_rules! named {
        ($($kind:ty),*) => { $(
            impl<'py> IntoPyObject<'py> for $kind {
                type Target = PyString;
                type Output = Bound<'py, PyString>;
                type Error = Infallible;

                fn into_pyobject(self, py: Python<'py>) -> Result<Self::Output, Infallible> {
                    Ok(PyString::new(py, &name_of(&self)))
                }
            }

            impl FromPyObject<'_, '_> for $kind {
                type Error = PyErr;

                fn extract(object: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
                    by_name(object)
                }
            }
        )* };
    }

    named!(
        FailureCode,
        EngineKind,
        Device,
        Backend,
        Dtype,
        S3GenDtype,
        S3GenDecoder,
        Profile,
        MultilingualVersion
    );

    fn by_name<T: ValueEnum>(object: Borrowed<'_, '_, PyAny>) -> PyResult<T> {
        let name: String = object.extract()?;
        T::from_str(&name, false).map_err(|_| {
            let names: Vec<_> = T::value_variants().iter().map(name_of).collect();
            PyValueError::new_err(format!("{name:?} is unknown; use {}", names.join(", ")))
        })
    }
}
