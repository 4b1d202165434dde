//! Commands with placeholders, and the values that are put into them.

use coord::jobs::{Command, Job, Template};

use super::text;

/// The first line has letters for `sh` and `many`; then words, an empty line, and values, one a line.
/// Values are never split, and a command that is stored means the same when it is read again.
pub fn template(bytes: &[u8]) {
    let text = text(bytes);
    let mut lines = text.split('\n');
    let flags = lines.next().unwrap_or_default();
    let argv: Vec<String> =
        lines.by_ref().take_while(|line| !line.is_empty()).map(str::to_owned).collect();
    let args: Vec<String> = lines.map(str::to_owned).collect();
    let (sh, many) = (flags.contains('s'), flags.contains('m'));
    let command = Command { argv, sh, many, names: vec!["name".to_owned(), "a b".to_owned()] };
    let template = match Template::new(&command) {
        Ok(template) => template,
        Err(e) => return assert!(e.hint.is_some(), "{e}"),
    };
    let stored = serde_json::to_string(&command).expect("a command is written");
    let again: Command = serde_json::from_str(&stored).expect("a command is read");
    assert_eq!(again, command);

    let dull = Job { seq: 1, slot: 1, args: vec!["x".to_owned(); args.len()] };
    let job = Job { args, ..dull.clone() };
    let lines_are_commands = command.argv.iter().all(|word| matches!(word.trim(), "" | "{}"));
    match (template.expand(&job), template.expand(&dull)) {
        (Ok(words), Ok(dull)) if !lines_are_commands => assert_eq!(words.len(), dull.len()),
        (Ok(words), _) => assert!(!words.is_empty()),
        // Without a shell only a value that is itself a command can be wrong, or a missing one.
        (Err(_), _) => {
            let all_missing = job.args.is_empty() || template.expand(&dull).is_err();
            assert!(lines_are_commands || sh || all_missing);
        }
    }
}
