//! Names of containers while one takes another's place: `web.new-1a2b3c4d`. The name says what a container is to the
//! replacement under way, so it is read before anything else is known about a container.

/// What a container is to a replacement under way, as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// No replacement is under way for it.
    Settled,
    /// `.new-`: it will take the place of the container with the plain name.
    Staged,
    /// `.old-`: its place has been taken, or is being taken.
    Retired,
    /// `.undo-`: it had taken the place, and is being taken back.
    Undo,
    /// `.bad-`: it was to take the place, failed, and was taken back.
    Failed,
}

impl Role {
    const ALL: [Self; 5] = [Self::Settled, Self::Staged, Self::Retired, Self::Undo, Self::Failed];

    /// What stands between the point and the operation's number.
    const fn word(self) -> Option<&'static str> {
        match self {
            Self::Settled => None,
            Self::Staged => Some("new"),
            Self::Retired => Some("old"),
            Self::Undo => Some("undo"),
            Self::Failed => Some("bad"),
        }
    }

    /// The name that a container has in this role. `name` is the plain one ([`logical`]), so that additions never pile up.
    #[must_use]
    pub fn name(self, name: &str, operation: &str) -> String {
        match self.word() {
            None => name.to_owned(),
            Some(word) => format!("{name}.{word}-{operation}"),
        }
    }
}

/// The name without what a replacement adds, and what the addition says.
#[must_use]
pub fn logical(name: &str) -> (&str, Role) {
    split(name).map_or((name, Role::Settled), |(base, role, _)| (base, role))
}

/// The operation's number in a name, if a replacement has added one.
#[must_use]
pub fn operation_in(name: &str) -> Option<&str> {
    split(name).map(|(_, _, operation)| operation)
}

/// The number of the operation that replaces the container with this full id: eight digits that anybody computes alike, so that
/// two who want to replace the same container ask for the same name, which only one of them gets.
#[must_use]
pub fn operation(id: &str) -> String {
    // FNV-1a with 32 bits; the crate `fnv` knows the one with 64 only.
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

fn split(name: &str) -> Option<(&str, Role, &str)> {
    /// Digits of the operation's number in such a name.
    const DIGITS: usize = 8;
    let (base, addition) = name.rsplit_once('.')?;
    let (word, operation) = addition.split_once('-')?;
    let is_operation =
        operation.len() == DIGITS && operation.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let role = Role::ALL.into_iter().find(|role| role.word() == Some(word))?;
    (!base.is_empty() && is_operation).then_some((base, role, operation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacements_addition_to_the_name_is_read() {
        assert_eq!(logical("web"), ("web", Role::Settled));
        assert_eq!(logical("web.new-1a2b3c4d"), ("web", Role::Staged));
        assert_eq!(logical("web.old-00000000"), ("web", Role::Retired));
        assert_eq!(logical("web.undo-00000000"), ("web", Role::Undo));
        assert_eq!(logical("my.web.bad-deadbeef"), ("my.web", Role::Failed));
        for plain in [
            "web.new-",
            "web.new-1a2b3c4",
            "web.new-1A2B3C4D",
            "web.newer-1a2b3c4d",
            ".new-1a2b3c4d",
            "web.new1a2b3c4d",
        ] {
            assert_eq!(logical(plain), (plain, Role::Settled), "{plain}");
            assert_eq!(operation_in(plain), None, "{plain}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for role in Role::ALL {
            let name = role.name("my.web", "1a2b3c4d");
            assert_eq!(logical(&name), ("my.web", role));
            assert_eq!(operation_in(&name), (role != Role::Settled).then_some("1a2b3c4d"));
        }
    }

    #[test]
    fn an_operations_number_is_fnv_1a() {
        // the function's published test vectors
        assert_eq!(operation(""), "811c9dc5");
        assert_eq!(operation("a"), "e40c292c");
        assert_eq!(operation("foobar"), "bf9cf968");
    }
}
