//! Scopes: the paths that a task declares it will change, and when two of them overlap.
//!
//! A scope is a path of a file or of a directory, from the project's directory. It covers itself and
//! everything below it; `.` covers all. Two scopes overlap if one covers the other. Patterns are not
//! possible on purpose: whether two patterns overlap is a puzzle, whether two prefixes do is a look.

use std::collections::BTreeSet;

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

/// Whether `scope` covers `path`. What lies outside of the project is covered by nothing inside, not by
/// `.` either.
pub fn covers(scope: &str, path: &str) -> bool {
    let (mut scope, mut path) = (parts(scope), parts(path));
    let is_outside = |first: Option<&str>| first == Some("..");
    if is_outside(path.clone().next()) != is_outside(scope.clone().next()) {
        return false;
    }
    scope.all(|part| path.next() == Some(part))
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

/// All paths of both, as [`normal`] has them, sorted and without those that others cover.
pub fn union(a: &[String], b: &[String]) -> Vec<String> {
    let all: BTreeSet<&str> = a.iter().chain(b).map(String::as_str).collect();
    let is_covered = |path: &str| {
        let mut above = directory(path);
        while let Some(next) = above {
            if all.contains(next) {
                return true;
            }
            above = directory(next);
        }
        false
    };
    all.iter().filter(|path| !is_covered(path)).map(|path| (*path).to_owned()).collect()
}

/// At most so many paths that cover all of these: as long as there are more, the deepest ones are
/// replaced by their directories.
pub fn fold(paths: &[String], most: usize) -> Vec<String> {
    let mut paths = union(paths, &[]);
    while paths.len() > most {
        let depth = |path: &str| parts(path).count();
        let deepest = paths.iter().map(|path| depth(path)).max().unwrap_or(0);
        let up = |path: &String| match directory(path) {
            Some(above) if depth(path) == deepest => above.to_owned(),
            _ => path.clone(),
        };
        let folded = union(&paths.iter().map(up).collect::<Vec<_>>(), &[]);
        if folded == paths {
            break;
        }
        paths = folded;
    }
    paths
}

/// The directory that a path lies in; `None` for the topmost ones, `.` and `..`.
fn directory(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        Some((directory, _)) => Some(directory),
        None if path == "." || path == ".." => None,
        None => Some("."),
    }
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

    #[test]
    fn what_lies_outside_of_the_project_meets_only_its_like() {
        assert!(!covers(".", "../lock") && !covers("../lock", "lock") && !covers("..", "."));
        assert!(covers("../docs", "../docs/x") && covers("..", "../docs"));
        assert!(!overlap("../docs", "docs"));
    }

    #[test]
    fn many_paths_become_their_directories() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(union(&words("b a/b a/b/c"), &words("a/c b")), words("a/b a/c b"));
        let paths = words("../x a/b/c a/b/d a/e f");
        assert_eq!(fold(&paths, 5), paths);
        assert_eq!(fold(&paths, 4), words("../x a/b a/e f"));
        assert_eq!(fold(&paths, 3), words(".. a f"));
        assert_eq!(fold(&paths, 2), words(". .."), "nothing is above the topmost");
        assert_eq!(fold(&words("../x f"), 1), words(". .."), "there is nothing above them");
    }

    proptest! {
        #[test]
        fn what_is_folded_is_covered(
            paths in prop::collection::vec("(\\.\\./)?[a-d](/[a-d]){0,3}", 0..40), most in 2usize..20,
        ) {
            let folded = fold(&paths, most);
            prop_assert!(folded.len() <= most);
            for path in &paths {
                prop_assert!(folded.iter().any(|scope| covers(scope, path)), "{path} of {folded:?}");
            }
            for (i, one) in folded.iter().enumerate() {
                prop_assert!(folded[i + 1..].iter().all(|other| !overlap(one, other)));
            }
        }

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
