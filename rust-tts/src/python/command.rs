//! Commands of the command line that are written in Python.

use pyo3::exceptions::{PyModuleNotFoundError, PySystemExit};
use pyo3::prelude::*;

use crate::shutdown::status;
use crate::telemetry;

/// Advice on a missing package. Those of the embedded voice are always installed.
const MISSING: &str = "; run: make install-chatterbox";

/// Calls `main(arguments)` of `module` and returns the exit status that it gives.
///
/// Python copied the environment before `.env` was read, so it is handed over as well.
pub fn command(module: &str, arguments: &[String]) -> i32 {
    Python::attach(|py| {
        let ended = call(py, module, arguments);
        ended.unwrap_or_else(|error| {
            if error.is_instance_of::<PySystemExit>(py) {
                let code = error.value(py).getattr("code");
                // Without a code, and with None, all went well.
                let code = code.and_then(|code| code.extract::<Option<i32>>());
                return code.map_or(status::CANNOT_START, |code| code.unwrap_or(status::OK));
            }
            let advice = if error.is_instance_of::<PyModuleNotFoundError>(py) {
                MISSING
            } else {
                ""
            };
            telemetry::print_error(&format!("error: {error}{advice}"));
            status::CANNOT_START
        })
    })
}

fn call(py: Python<'_>, module: &str, arguments: &[String]) -> PyResult<i32> {
    let environment = py.import("os")?.getattr("environ")?;
    for (name, value) in std::env::vars_os() {
        environment.set_item(name, value)?;
    }
    py.import(module)?
        .call_method1("main", (arguments,))?
        .extract()
}
