//! Stop strings: an answer ends where one of them would begin.

use crate::error::{Result, TextError};
use crate::stream::StreamDecoder;

/// The most stop strings of one answer.
pub const MAX_STOPS: usize = 16;

/// The longest stop string, bytes.
pub const MAX_STOP_BYTES: usize = 1024;

/// Cuts a text that comes in pieces before the first stop string, and never lets out a part of one.
///
/// What comes out does not depend on how the text is cut into pieces: the stop string that is complete
/// first ends it, the longest of those that end at the same place.
#[derive(Clone, Debug)]
pub struct StopStrings {
    stops: Vec<String>,
    /// What may be the beginning of a stop string; shorter than the longest of them.
    held: String,
}

/// What is known of a text after one more piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Text that is certain to come before any stop string; it may be empty.
    pub text: String,
    /// Whether a stop string was found: the text ends here.
    pub stopped: bool,
}

impl StopStrings {
    /// At the beginning of a text.
    ///
    /// # Errors
    /// For an empty string, and beyond [`MAX_STOPS`] or [`MAX_STOP_BYTES`].
    pub fn new(stops: Vec<String>) -> Result<Self> {
        let refuse = |reason: String| Err(TextError::Stop(reason));
        if stops.len() > MAX_STOPS {
            return refuse(format!("{} of them; at most {MAX_STOPS}", stops.len()));
        }
        if stops.iter().any(String::is_empty) {
            return refuse("one is empty, so that it would be everywhere".to_owned());
        }
        if stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
            return refuse(format!("one is longer than {MAX_STOP_BYTES} bytes"));
        }
        Ok(Self {
            stops,
            held: String::new(),
        })
    }

    /// Takes the next piece. After a stop string nothing is to be pushed any more.
    pub fn push(&mut self, piece: &str) -> Scanned {
        self.held.push_str(piece);
        let found = |stop: &String| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start))
        };
        if let Some((_, start)) = self.stops.iter().filter_map(found).min() {
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return Scanned {
                text,
                stopped: true,
            };
        }
        let certain = self.held.len() - self.open();
        Scanned {
            text: self.held.drain(..certain).collect(),
            stopped: false,
        }
    }

    /// Bytes that are held back.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Ends the text: what was held back was no stop string after all.
    pub fn finish(self) -> String {
        self.held
    }

    /// Bytes at the end of what is held that a stop string may begin with.
    fn open(&self) -> usize {
        let longest = |stop: &String| {
            let most = self.held.len().min(stop.len() - 1);
            let begins = |len: &usize| {
                let tail = self.held.len() - len;
                self.held.is_char_boundary(tail) && stop.starts_with(&self.held[tail..])
            };
            (1..=most).rev().find(begins).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }

    /// A check for the engine, which knows tokens only: given all output tokens after each one, whether
    /// the text of an answer holds a stop string by now. The text that is delivered is cut by a scanner
    /// of its own.
    pub fn check(mut self, mut decoder: StreamDecoder) -> impl FnMut(&[u32]) -> bool + Send {
        let mut seen = 0;
        move |output| {
            let new = output.get(seen..).unwrap_or_default();
            seen = output.len();
            new.iter().any(|id| {
                // Who delivers the text meets the same error.
                let piece = decoder.push(*id).unwrap_or_default();
                self.push(&piece).stopped
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text that comes out, its pieces joined, and whether it was stopped.
    fn scan(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops = stops.iter().map(ToString::to_string).collect();
        let mut scanner = StopStrings::new(stops).unwrap();
        let mut out = String::new();
        for piece in pieces {
            let scanned = scanner.push(piece);
            out.push_str(&scanned.text);
            if scanned.stopped {
                return (out, true);
            }
        }
        (out + &scanner.finish(), false)
    }

    /// All ways to cut a text in three.
    fn cuts(text: &str) -> Vec<[&str; 3]> {
        let at: Vec<usize> = (0..=text.len())
            .filter(|i| text.is_char_boundary(*i))
            .collect();
        let mut cuts = Vec::new();
        for (n, a) in at.iter().enumerate() {
            for b in &at[n..] {
                cuts.push([&text[..*a], &text[*a..*b], &text[*b..]]);
            }
        }
        cuts
    }

    #[test]
    fn a_text_should_end_before_the_first_stop_string_however_it_is_cut() {
        let cases: [(&[&str], &str, &str, bool); 9] = [
            (&["END"], "one ENEND two END", "one EN", true),
            (&["END"], "one EN", "one EN", false),
            (&["\n\n", "###"], "a\n##\n\nb", "a\n##", true),
            // Complete first, though the other begins before it.
            (&["abc", "b"], "xabc", "xa", true),
            // The longest of those that end at the same place.
            (&["c", "abc"], "xabc", "x", true),
            (&["aab"], "aaab", "a", true),
            (&["é€"], "caf\u{e9}\u{e9}\u{20ac}!", "caf\u{e9}", true),
            (&[], "anything", "anything", false),
            (&["x"], "x", "", true),
        ];
        for (stops, text, expected, stopped) in cases {
            for pieces in cuts(text) {
                assert_eq!(
                    scan(stops, &pieces),
                    (expected.to_owned(), stopped),
                    "{stops:?} {pieces:?}"
                );
            }
        }
    }

    #[test]
    fn only_a_possible_beginning_should_be_held_back() {
        let mut scanner = StopStrings::new(vec!["END".to_owned(), "\n\n".to_owned()]).unwrap();
        let mut push = |piece: &str| scanner.push(piece).text;
        assert_eq!(push("the E"), "the ");
        assert_eq!(push("N"), "");
        assert_eq!(push("T"), "ENT");
        assert_eq!(push("ER\n"), "ER");
        assert_eq!(push("\t"), "\n\t");
        assert_eq!(scanner.finish(), "");
    }

    #[test]
    fn stop_strings_without_a_meaning_should_be_refused() {
        for stops in [
            vec![String::new()],
            vec!["x".repeat(MAX_STOP_BYTES + 1)],
            vec!["x".to_owned(); MAX_STOPS + 1],
        ] {
            assert!(matches!(StopStrings::new(stops), Err(TextError::Stop(_))));
        }
    }
}
