//! Stop strings, and a text in pieces: all separated by zero bytes, the stop strings before an empty one.

use openledger_text::StopStrings;

/// Whether a stop string was found. What comes out is the same however the text is cut, and holds no
/// stop string.
pub fn check(data: &[u8]) -> bool {
    let Ok(data) = std::str::from_utf8(data) else {
        return false;
    };
    let mut parts = data.split('\0');
    let stops: Vec<String> = parts
        .by_ref()
        .take_while(|stop| !stop.is_empty())
        .map(str::to_owned)
        .collect();
    let Ok(mut scanner) = StopStrings::new(stops.clone()) else {
        return false;
    };
    let pieces: Vec<&str> = parts.collect();
    let mut whole = scanner.clone();
    let (mut out, mut stopped) = (String::new(), false);
    for piece in &pieces {
        let scanned = scanner.push(piece);
        out.push_str(&scanned.text);
        if scanned.stopped {
            stopped = true;
            break;
        }
    }
    if !stopped {
        out.push_str(&scanner.finish());
    }
    let at_once = whole.push(&pieces.concat());
    let mut expected = at_once.text;
    if !at_once.stopped {
        expected.push_str(&whole.finish());
    }
    assert_eq!((&out, stopped), (&expected, at_once.stopped));
    assert!(stops.iter().all(|stop| !out.contains(stop.as_str())));
    assert!(pieces.concat().starts_with(&out));
    stopped
}
