//! Texts that are kept many times over: ids above all, which are keys of a dozen maps and part of what is wanted and of what is
//! registered. One copy of each is enough; [`ArcStr`] is eight bytes, and nothing more where a text is empty.

use std::collections::HashSet;

use arcstr::ArcStr;

/// The same text in lower case; as it is, where it is so already.
#[must_use]
pub fn lower(text: &ArcStr) -> ArcStr {
    let lower = text.to_lowercase();
    if lower == **text { text.clone() } else { lower.into() }
}

/// Shares its memory with another one that says the same: for what is cloned by counting.
pub fn share<T: Clone + PartialEq>(one: &mut T, other: &T) {
    if one == other {
        one.clone_from(other);
    }
}

/// This part of a text; the text itself, where the part is all of it.
#[must_use]
pub fn part(whole: &ArcStr, part: &str) -> ArcStr {
    if part.len() == whole.len() { whole.clone() } else { part.into() }
}

/// So many texts are kept before it is first asked which of them somebody still has.
const FEW: usize = 64;

/// Texts that many have, each of them once, as long as somebody has it.
#[derive(Debug, Default)]
pub struct Texts {
    all: HashSet<ArcStr>,
    /// With so many it is asked again who still has them.
    many: usize,
}

impl Texts {
    /// Makes this text the one copy of it.
    pub fn share(&mut self, text: &mut ArcStr) {
        if let Some(known) = self.all.get(text.as_str()) {
            text.clone_from(known);
            return;
        }
        if self.all.len() >= self.many.max(FEW) {
            self.all.retain(|known| ArcStr::strong_count(known) != Some(1));
            self.many = self.all.len() * 2;
        }
        self.all.insert(text.clone());
    }

    /// The same text, shared.
    #[must_use]
    pub fn shared(&mut self, mut text: ArcStr) -> ArcStr {
        self.share(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_there_once() {
        let text = ArcStr::from("web-1");
        assert!(ArcStr::ptr_eq(&text, &lower(&text)));
        assert_eq!(lower(&ArcStr::from("Web-Ü")), "web-ü");
        let (mut same, mut another) = (ArcStr::from("web-1"), ArcStr::from("web-2"));
        share(&mut same, &text);
        share(&mut another, &text);
        assert!(ArcStr::ptr_eq(&same, &text));
        assert_eq!(another, "web-2");
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let mut texts = Texts::default();
        let kept = texts.shared("kept".into());
        for number in 0..10 * FEW {
            let text = arcstr::format!("{number}");
            assert!(ArcStr::ptr_eq(&texts.shared(text.clone()), &text), "the first one is the one copy");
        }
        assert!(texts.all.len() <= 2 * FEW, "{}", texts.all.len());
        assert!(ArcStr::ptr_eq(&kept, &texts.shared("kept".into())));
    }
}
