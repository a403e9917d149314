//! The end of a container's log. Without a terminal the engine sends it in frames: one byte for the stream, three of
//! nothing, four for the length (big-endian), and so many of text.

use std::collections::VecDeque;

/// Bytes kept: what fits into an event, a webhook and a terminal.
pub(super) const LIMIT: usize = 64 << 10;

const HEADER: usize = 8;

/// Takes a log piece by piece, and keeps its end.
#[derive(Debug)]
pub(super) struct Tail {
    framed: bool,
    header: Vec<u8>,
    left: usize,
    kept: VecDeque<u8>,
}

impl Tail {
    pub(super) fn new(framed: bool) -> Self {
        Self { framed, header: Vec::with_capacity(HEADER), left: 0, kept: VecDeque::new() }
    }

    pub(super) fn take(&mut self, mut piece: &[u8]) {
        if !self.framed {
            return self.keep(piece);
        }
        while !piece.is_empty() {
            if self.left == 0 {
                let (head, rest) = piece.split_at(piece.len().min(HEADER - self.header.len()));
                self.header.extend_from_slice(head);
                piece = rest;
                if let [_, _, _, _, length @ ..] = &self.header[..]
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    self.left = u32::from_be_bytes(length) as usize;
                    self.header.clear();
                }
            } else {
                let (text, rest) = piece.split_at(piece.len().min(self.left));
                self.keep(text);
                self.left -= text.len();
                piece = rest;
            }
        }
    }

    fn keep(&mut self, text: &[u8]) {
        let text = text.get(text.len().saturating_sub(LIMIT)..).unwrap_or_default();
        let surplus = (self.kept.len() + text.len()).saturating_sub(LIMIT);
        self.kept.drain(..surplus.min(self.kept.len()));
        self.kept.extend(text);
    }

    /// The text, without control characters other than line breaks and tabs, and without a first line that was cut.
    pub(super) fn finish(self) -> String {
        let cut = self.kept.len() >= LIMIT;
        let bytes: Vec<u8> = self.kept.into();
        let text = String::from_utf8_lossy(&bytes);
        let text = if cut { text.split_once('\n').map_or(&*text, |(_, rest)| rest) } else { &text };
        text.replace("\r\n", "\n").chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_put_together_however_they_arrive() {
        let whole = [frame(1, "one\n"), frame(2, ""), frame(2, "tw\u{1b}[0mö\r\n"), frame(1, "three")].concat();
        for size in [1, 3, 7, 1000] {
            let mut tail = Tail::new(true);
            whole.chunks(size).for_each(|piece| tail.take(piece));
            assert_eq!(tail.finish(), "one\ntw[0mö\nthree", "in pieces of {size}");
        }
    }

    #[test]
    fn a_terminals_log_has_no_frames() {
        let mut tail = Tail::new(false);
        tail.take(b"one\r\n\ttwo\n");
        assert_eq!(tail.finish(), "one\n\ttwo\n");
    }

    #[test]
    fn the_end_is_kept_and_the_cut_line_is_not() {
        let mut tail = Tail::new(true);
        for number in 0..20_000 {
            tail.take(&frame(1, &format!("line {number}\n")));
        }
        let text = tail.finish();
        assert!(text.len() <= LIMIT && text.len() > LIMIT - 20);
        assert!(text.starts_with("line ") && text.ends_with("line 19999\n"));
    }
}
