//! Options of the server: where it listens, who may come in, and its limits.

use std::time::Duration;

use chatterbox_settings::{at_least_one, boolean, seconds, text};
use clap::Args;

use crate::origins::{CorsOrigin, host_name};

/// Options of the server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub struct HttpOptions {
    /// Address to listen on. Default: 0.0.0.0 when a key is set, 127.0.0.1 when none is
    #[arg(long, env = "HOST", value_parser = text)]
    pub host: Option<String>,

    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value_t = 8081)]
    pub port: u16,

    /// Keys that open the API, comma separated (so that they can be rotated). None: open to everybody
    #[arg(long, env = "API_KEY", value_delimiter = ',', hide_env_values = true)]
    pub api_key: Vec<String>,

    /// The same under another name
    #[arg(long, env = "API_TOKEN", value_delimiter = ',', hide_env_values = true)]
    pub api_token: Vec<String>,

    /// File with keys, separated by commas or line breaks
    #[arg(long, env = "API_KEY_FILE", value_parser = text, hide_env_values = true)]
    pub api_key_file: Option<String>,

    /// The same under another name
    #[arg(long, env = "API_TOKEN_FILE", value_parser = text, hide_env_values = true)]
    pub api_token_file: Option<String>,

    /// Origins of web pages that may call the API, comma separated; `*` is all of them, without credentials. Default: all
    /// when a key is set, pages of this machine (`http://localhost:3000`) when none is
    #[arg(long, env = "CORS_ORIGINS", value_delimiter = ',', value_parser = CorsOrigin::parse)]
    pub cors_origins: Vec<CorsOrigin>,

    /// Names of this server, comma separated, by which it may be reached while no key is set, beside addresses,
    /// `localhost` and the machine's own name
    #[arg(long, env = "ALLOWED_HOSTS", value_delimiter = ',', value_parser = host_name)]
    pub allowed_hosts: Vec<String>,

    /// Lets anybody list models and voices (`GET /v1/models`, `/v1/audio/models`, `/v1/audio/voices`), for programs that
    /// ask for the lists without their key
    #[arg(long, env = "PUBLIC_LISTINGS", value_parser = boolean, default_value = "false")]
    pub public_listings: bool,

    /// Connections held at once; further ones wait to be accepted
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 4096, value_parser = at_least_one)]
    pub max_connections: usize,

    #[command(flatten)]
    pub limits: HttpLimits,
}

/// Limits of connections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub struct HttpLimits {
    /// Seconds after which a step of the engine that does not end counts as its death
    #[arg(long, env = "ENGINE_STALL_TIMEOUT", default_value = "60", value_parser = seconds)]
    pub engine_stall_timeout: Duration,

    /// Seconds that running streams get to finish after SIGTERM
    #[arg(long, env = "DRAIN_TIMEOUT", default_value = "30", value_parser = seconds)]
    pub drain_timeout: Duration,

    /// Seconds within which a request's headers must have arrived
    #[arg(long, env = "HEADER_TIMEOUT", default_value = "10", value_parser = seconds)]
    pub header_timeout: Duration,

    /// Seconds between two parts of a request's body
    #[arg(long, env = "BODY_TIMEOUT", default_value = "20", value_parser = seconds)]
    pub body_timeout: Duration,

    /// WebSockets open at once, in all
    #[arg(long, env = "MAX_WS_CONNECTIONS", default_value_t = 1024, value_parser = at_least_one)]
    pub max_ws_connections: usize,

    /// WebSockets open at once with one key (or from one address, where no key is set)
    #[arg(long, env = "MAX_WS_CONNECTIONS_PER_CLIENT", default_value_t = 1024, value_parser = at_least_one)]
    pub max_ws_connections_per_client: usize,

    /// Utterance requests (`say`) running at once on one WebSocket
    #[arg(long, env = "MAX_SAYS_PER_CONNECTION", default_value_t = 16, value_parser = at_least_one)]
    pub max_says_per_connection: usize,

    /// Seconds between the pings that keep a WebSocket open; one that answers none of two in a row is closed
    #[arg(long, env = "WS_PING_INTERVAL", default_value = "20", value_parser = seconds)]
    pub ws_ping_interval: Duration,

    /// Seconds without a message and a running request after which a WebSocket is closed
    #[arg(long, env = "WS_IDLE_TIMEOUT", default_value = "600", value_parser = seconds)]
    pub ws_idle_timeout: Duration,
}
