//! Scopes: the paths that a task declares it will change, and when two of them overlap.
//!
//! A scope is a path of a file or of a directory, from the project's directory. It covers itself and
//! everything below it; `.` covers all. Two scopes overlap if one covers the other. Patterns are not
//! possible on purpose: whether two patterns overlap is a puzzle, whether two prefixes do is a look.

/// The parts of a scope or of a changed path: without `.`, doubled and trailing slashes.
fn parts(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}

/// A scope as it is written down: no `./`, no doubled or trailing slash; `.` for everything.
///
/// # Errors
/// What is wrong with it: an absolute path, one that leads out of the project, a NUL, nothing.
pub fn normal(scope: &str) -> Result<String, String> {
    let wrong = |what: &str| {
        Err(format!(
            "scope `{}` {what}: give a path from the project's directory, such as `src/auth/`",
            scope.escape_debug()
        ))
    };
    if scope.is_empty() {
        return wrong("is empty");
    }
    if scope.starts_with('/') {
        return wrong("is absolute");
    }
    if scope.contains('\0') || scope.contains('\n') {
        return wrong("has a character that no path has");
    }
    if scope.split('/').any(|part| part == "..") {
        return wrong("leads out of the project");
    }
    let plain = parts(scope).collect::<Vec<_>>().join("/");
    Ok(if plain.is_empty() { ".".to_owned() } else { plain })
}

/// Whether `scope` covers `path`.
pub fn covers(scope: &str, path: &str) -> bool {
    let mut path = parts(path);
    if path.clone().next() == Some("..") {
        return false;
    }
    parts(scope).all(|part| path.next() == Some(part))
}

/// Whether two scopes have something in common.
pub fn overlap(a: &str, b: &str) -> bool {
    covers(a, b) || covers(b, a)
}

/// Whether any scope of one task overlaps with any of another.
pub fn any_overlap(a: &[String], b: &[String]) -> bool {
    a.iter().any(|a| b.iter().any(|b| overlap(a, b)))
}

/// The changed paths that no scope covers.
pub fn outside<'a>(scopes: &[String], changed: &'a [String]) -> Vec<&'a String> {
    changed.iter().filter(|path| !scopes.iter().any(|scope| covers(scope, path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_ends_at_a_slash() {
        for (a, b, both) in [
            ("src/a", "src/a", true),
            ("src/a/", "src/a/b.rs", true),
            ("src/a", "src/ab", false),
            ("src/a", "src/b", false),
            (".", "anything/at/all", true),
            ("./src//a/.", "src/a/x", true),
            ("a.b", "a/b", false),
        ] {
            assert_eq!(overlap(a, b), both, "{a} {b}");
            assert_eq!(overlap(b, a), both, "{b} {a}");
        }
    }

    #[test]
    fn what_no_scope_can_be() {
        for bad in ["", "/etc", "../x", "a/../b", "a\0", "a\nb"] {
            assert!(normal(bad).is_err(), "{bad:?}");
        }
        assert_eq!(normal("./packages//wallet/"), Ok("packages/wallet".to_owned()));
        assert_eq!(normal("./"), Ok(".".to_owned()));
        assert_eq!(normal("a..b/..c"), Ok("a..b/..c".to_owned()));
    }

    #[test]
    fn what_lies_outside() {
        let scopes = ["src/auth".to_owned(), "Cargo.toml".to_owned()];
        let changed = ["src/auth/mod.rs", "src/author.rs", "Cargo.toml", "Cargo.lock"];
        let changed = changed.map(str::to_owned);
        assert_eq!(outside(&scopes, &changed), ["src/author.rs", "Cargo.lock"]);
    }

    proptest! {
        #[test]
        fn overlap_is_a_common_path(a in "[ab](/[ab]){0,3}", b in "[ab](/[ab]){0,3}") {
            // By the definition: some path below one is below the other; the longer of the two is it.
            let below = |a: &str, b: &str| format!("{a}/").starts_with(&format!("{b}/"));
            prop_assert_eq!(overlap(&a, &b), below(&a, &b) || below(&b, &a));
            let spelled = format!("./{a}//");
            prop_assert_eq!(normal(&spelled), Ok(a.clone()));
        }
    }
}
