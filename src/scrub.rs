//! Takes out of somebody else's words what we have told them in confidence. Pure.
//!
//! A peer's error answer is shown to people, and what sent it may not be the peer: error pages of proxies and gateways repeat the
//! request that they could not serve, its headers and its body.

/// Shorter than this a "secret" is a word that stands in any sentence.
const SHORTEST: usize = 6;

/// What stands in a secret's place.
const INSTEAD: &str = "(secret)";

/// `text` without these.
#[must_use]
pub fn scrub<'s>(text: &str, secrets: impl IntoIterator<Item = &'s str>) -> String {
    let mut found: Vec<&str> =
        secrets.into_iter().filter(|secret| secret.len() >= SHORTEST && text.contains(secret)).collect();
    // The longest first: one may be a part of another.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found.iter().fold(text.to_owned(), |text, secret| text.replace(secret, INSTEAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_and_words_are_not() {
        let secrets = ["hunter2", "hunter2-and-more", "no", ""];
        assert_eq!(scrub("no hunter2-and-more, hunter2!", secrets), "no (secret), (secret)!");
        assert_eq!(scrub("nothing", secrets), "nothing");
    }
}
