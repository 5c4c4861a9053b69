//! The announcement of readiness on standard output: a text for people, or a line for programs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use chatterbox_engine::messages::EngineInfo;
use chatterbox_http::state::App;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::telemetry::print_line;

/// Options of the announcement.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Logs")]
pub struct AnnounceOptions {
    /// What is printed on standard output when the server is ready: `text` for people, or `json` for programs, one line with
    /// the address, the process id and the models
    #[arg(long, env = "ANNOUNCE", default_value = "text")]
    pub announce: Announcement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Announcement {
    Text,
    Json,
}

/// Says that the server is ready, and where.
pub fn announce(form: Announcement, address: SocketAddr, app: &App, engine: &EngineInfo) {
    print_line(&match form {
        Announcement::Text => text(address, app, engine),
        Announcement::Json => json(address, engine),
    });
}

fn json(address: SocketAddr, engine: &EngineInfo) -> String {
    let local = reachable(address);
    json!({
        "event": "ready",
        "url": format!("http://{local}"),
        "host": local.ip(),
        "port": local.port(),
        "pid": std::process::id(),
        "version": chatterbox_speech::VERSION,
        "models": engine.names(),
    })
    .to_string()
}

fn text(address: SocketAddr, app: &App, engine: &EngineInfo) -> String {
    let url = format!("http://{}", reachable(address));
    let mut lines = vec![
        format!(
            "chatterbox-server {} listens on {url}",
            chatterbox_speech::VERSION
        ),
        format!("Open {url} in a browser. {url}/docs describes the API."),
    ];
    let open = app.keys.open();
    if address.ip().is_unspecified() {
        lines.extend(
            outward_address(address.is_ipv6())
                .map(|ip| SocketAddr::new(ip, address.port()))
                .map(|other| format!("From other machines: http://{other}")),
        );
    } else if open && address.ip().is_loopback() {
        lines.push("Only this machine can reach it; with API_KEY set, others can too.".to_owned());
    }
    let voice = app.speech.voices.default_voice().map(|voice| voice.id);
    let voice = voice.or_else(|| app.speech.voice_options.default_voice.clone());
    lines.push(format!(
        "Models: {}. Default voice: {}.",
        engine.names().join(", "),
        voice.as_deref().unwrap_or("the model's own")
    ));
    let key = if open {
        ""
    } else {
        " -H \"X-API-Key: $API_KEY\""
    };
    lines.push(format!(
        "Try: curl -f {url}/api/tts{key} -H 'Content-Type: application/json' \
         -d '{{\"text\": \"Hello from your own speech server.\"}}' -o hello.wav"
    ));
    lines.join("\n")
}

/// The address for this machine's own programs.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
    }
}

/// This machine's address on the way to other networks, if there is one. Nothing is sent: a UDP socket only chooses a route.
fn outward_address(v6: bool) -> Option<IpAddr> {
    // Addresses for documentation, which no machine has.
    let (own, other) = if v6 {
        ("[::]:0", "[2001:db8::1]:9")
    } else {
        ("0.0.0.0:0", "192.0.2.1:9")
    };
    let socket = UdpSocket::bind(own).ok()?;
    socket.connect(other).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_unspecified_address_is_announced_as_loopback() {
        for (address, local) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            assert_eq!(reachable(address).to_string(), local);
        }
    }
}
