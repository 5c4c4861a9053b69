//! The standalone binary: the same server, with Python inside it.

use std::path::{Path, PathBuf};

use pyo3::prelude::*;

fn main() {
    match start_python() {
        Ok(()) => std::process::exit(chatterbox_server::cli::run(std::env::args().collect())),
        Err(problem) => {
            eprintln!("error: {problem}");
            std::process::exit(chatterbox_server::shutdown::status::CANNOT_START);
        }
    }
}

/// Starts the interpreter with the packages of the virtual environment.
///
/// An embedded interpreter knows no virtual environment: it looks for its standard library relative to whatever
/// `python3` the `PATH` has. The environment's own record says where the right one is.
fn start_python() -> Result<(), String> {
    let Some(venv) = find_venv() else {
        return Err("No virtual environment found. Set VIRTUAL_ENV, or run `make install` and start from there.".into());
    };
    let record = std::fs::read_to_string(venv.join("pyvenv.cfg"))
        .map_err(|error| format!("pyvenv.cfg: {error}"))?;
    let setting = |name: &str| {
        let lines = record.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
            .next()
    };
    let home = setting("home")
        .map(PathBuf::from)
        .and_then(|bin| bin.parent().map(Path::to_owned));
    if let Some(home) = home {
        // SAFETY: the interpreter is not initialised and no other thread runs.
        unsafe { std::env::set_var("PYTHONHOME", home) };
    }
    Python::initialize();
    // SAFETY: as above; child processes are not to inherit it.
    unsafe { std::env::remove_var("PYTHONHOME") };
    let prepare = |py: Python<'_>| {
        add_packages(py, &venv, setting("version").as_deref())?;
        chatterbox_server::provide_core(py)
    };
    Python::attach(prepare).map_err(|error| error.to_string())
}

fn find_venv() -> Option<PathBuf> {
    let is_venv = |path: &PathBuf| path.join("pyvenv.cfg").is_file();
    let active = std::env::var_os("VIRTUAL_ENV")
        .map(PathBuf::from)
        .filter(is_venv);
    active.or_else(|| {
        let here = std::env::current_dir().ok()?;
        here.ancestors()
            .map(|folder| folder.join(".venv"))
            .find(is_venv)
    })
}

fn add_packages(py: Python<'_>, venv: &Path, venv_version: Option<&str>) -> PyResult<()> {
    let version = py.version_info();
    let linked = format!("{}.{}", version.major, version.minor);
    if venv_version.is_some_and(|of_venv| !format!("{of_venv}.").starts_with(&format!("{linked}.")))
    {
        let message = format!(
            "{} is not an environment of Python {linked}, which this binary holds",
            venv.display()
        );
        return Err(pyo3::exceptions::PyRuntimeError::new_err(message));
    }
    let packages = venv
        .join("lib")
        .join(format!("python{linked}"))
        .join("site-packages");
    py.import("site")?.call_method1("addsitedir", (packages,))?;
    Ok(())
}
