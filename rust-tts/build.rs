//! Lets the standalone binary and the tests find libpython where the interpreter of the build has it.

fn main() {
    // Without an rpath the loader takes whichever libpython it meets first, or none.
    pyo3_build_config::add_libpython_rpath_link_args();
}
