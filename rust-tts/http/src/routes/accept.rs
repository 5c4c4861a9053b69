//! Content negotiation by the `Accept` header.

use axum::http::{HeaderMap, header};

/// The offer that the client likes best, and of those that it likes equally, the first. `None` when it likes none of
/// them, or does not say.
///
/// An offer has one media type or several, which mean the same.
pub fn preferred<'a, T>(
    headers: &HeaderMap,
    offers: impl IntoIterator<Item = (&'a [&'a str], T)>,
) -> Option<T> {
    let values = headers.get_all(header::ACCEPT).iter();
    let texts: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    let ranges: Vec<_> = texts.iter().flat_map(|text| text.split(',')).collect();
    let ranges: Vec<Range> = ranges.into_iter().filter_map(Range::parse).collect();
    let mut best = None;
    let mut most = 0.0;
    for (kinds, offer) in offers {
        let wanted = quality(&ranges, kinds);
        if wanted > most {
            (best, most) = (Some(offer), wanted);
        }
    }
    best
}

/// A media range and how much it is wanted, 0 to 1.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let (kind, subtype) = parts.next()?.trim().split_once('/')?;
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
        });
        let quality = weight.map_or(Some(1.0), |value| value.parse().ok());
        Some(Self {
            kind,
            subtype,
            // One that is no number is as good as none.
            quality: quality.filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
        })
    }

    /// How specifically it names a media type; 0 if it does not.
    fn specificity(&self, kind: &str, subtype: &str) -> u8 {
        match (self.kind, self.subtype) {
            ("*", "*") => 1,
            (own, "*") if own.eq_ignore_ascii_case(kind) => 2,
            (own, named) if own.eq_ignore_ascii_case(kind) => {
                3 * u8::from(named.eq_ignore_ascii_case(subtype))
            }
            _ => 0,
        }
    }
}

/// The weight that the most specific range gives to equivalent media types.
fn quality(ranges: &[Range], kinds: &[&str]) -> f32 {
    let kinds = kinds.iter().filter_map(|kind| kind.split_once('/'));
    let named = kinds.flat_map(|(kind, subtype)| {
        let named = ranges.iter();
        named.map(move |range| (range.specificity(kind, subtype), range.quality))
    });
    let closest = named.max_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    closest.map_or(
        0.0,
        |(specificity, quality)| if specificity > 0 { quality } else { 0.0 },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [(&[&str], u8); 3] = [
        (&["audio/wav", "audio/x-wav"], 1),
        (&["audio/mpeg"], 2),
        (&["audio/webm"], 3),
    ];

    fn chosen(accept: &str) -> Option<u8> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        preferred(&headers, OFFERS)
    }

    #[test]
    fn test_accept_header_is_negotiated() {
        for (accept, offer) in [
            ("*/*", Some(1)),
            ("audio/*", Some(1)),
            ("audio/mpeg", Some(2)),
            ("Audio/MPEG; codecs=mp3 ; q=0.3, audio/webm;q=0.2", Some(2)),
            ("audio/webm;q=0.9, audio/mpeg;q=0.3", Some(3)),
            ("audio/*;q=0.5, audio/wav;q=0", Some(2)),
            ("audio/*, audio/wav;q=0.1", Some(2)),
            ("audio/x-wav, audio/*;q=0.5", Some(1)),
            ("text/html, */*;q=0.1", Some(1)),
            ("audio/webm,audio/ogg,audio/wav,audio/*;q=0.9", Some(1)),
            ("audio/mpeg;q=x", None),
            ("text/html", None),
            ("", None),
            (",;,/,audio", None),
        ] {
            assert_eq!(chosen(accept), offer, "{accept}");
        }
        assert_eq!(preferred(&HeaderMap::new(), OFFERS), None);
    }
}
