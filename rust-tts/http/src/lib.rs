//! The server's HTTP: a file per dialect over the one speech service, keys, limits of connections, and the page.

pub mod auth;
pub mod connections;
mod error;
mod finished;
pub mod machine;
mod observe;
mod options;
mod origins;
mod quota;
mod routes;
mod stall;
pub mod state;
mod uploads;

pub use options::{HttpLimits, HttpOptions};
