//! Help in a person's words: clap's own are replaced, and each verb's page begins with what the list of
//! verbs says of it.

use clap::Command;
use clap::builder::StyledStr;

/// Verbs, and what is said of them in a list.
type Abouts = Vec<(String, Option<StyledStr>)>;

/// The command line with its texts as people read them. Costs a build of every verb, so only where a
/// page or an error is printed.
pub fn for_people(mut all: Command) -> Command {
    let said = abouts(&all);
    all.build();
    let nested: Vec<(String, Abouts)> =
        all.get_subcommands().map(|verb| (verb.get_name().to_owned(), abouts(verb))).collect();
    for (name, about) in said {
        let below = nested.iter().find(|(of, _)| *of == name).map(|(_, below)| below.clone());
        all = all.mut_subcommand(&name, |verb| {
            let mut verb = in_words(verb);
            if let Some(about) = about {
                verb = verb.about(about);
            }
            for (name, about) in below.unwrap_or_default() {
                verb = verb.mut_subcommand(&name, |verb| {
                    let verb = in_words(verb);
                    match about {
                        Some(about) => verb.about(about),
                        None => verb,
                    }
                });
            }
            verb
        });
    }
    in_words(all)
}

fn abouts(of: &Command) -> Abouts {
    // The verb `help` is the library's own; `in_words` says what it does.
    let verbs = of.get_subcommands().filter(|verb| verb.get_name() != "help");
    verbs.map(|verb| (verb.get_name().to_owned(), verb.get_about().cloned())).collect()
}

fn in_words(command: Command) -> Command {
    let has_verbs = command.has_subcommands();
    let command = command.mut_args(|option| {
        let option = option.hide_possible_values(true);
        match option.get_id().as_str() {
            "help" => option.help("Show this page").long_help(None::<&str>),
            "version" => option.help("Show the version"),
            _ => option,
        }
    });
    let command = match command.find_subcommand("help").is_some() {
        true => {
            command.mut_subcommand("help", |help| help.about("Show this page, or that of a verb"))
        }
        false => command,
    };
    match has_verbs {
        true => command.subcommand_value_name("VERB").subcommand_help_heading("Verbs"),
        false => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::CommandFactory;

    fn pages(command: &mut Command, found: &mut Vec<(String, String)>) {
        found.push((command.get_name().to_owned(), command.render_long_help().to_string()));
        let names: Vec<String> =
            command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        for name in names.iter().filter(|name| *name != "help") {
            pages(command.find_subcommand_mut(name).unwrap(), found);
        }
    }

    #[test]
    fn every_page_begins_with_a_sentence_and_has_no_words_of_a_library() {
        let mut all = for_people(Cli::command());
        let mut found = Vec::new();
        pages(&mut all, &mut found);
        assert!(found.len() > 45, "{}", found.len());
        for (name, page) in found {
            let first = page.lines().next().unwrap_or_default();
            assert!(first.len() > 12 && !first.starts_with('`'), "{name}: {first}");
            for word in
                ["possible values", "Print help", "Print version", "COMMAND]\n", "subcommand"]
            {
                assert!(!page.contains(word), "{name}: {word}\n{page}");
            }
        }
    }

    #[test]
    fn every_option_has_a_line() {
        let mut all = Cli::command();
        all.build();
        let mut commands = vec![&all];
        while let Some(command) = commands.pop() {
            for option in command.get_arguments() {
                let said = option.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!said.is_empty(), "{} {}", command.get_name(), option.get_id());
            }
            commands.extend(command.get_subcommands());
        }
    }
}
