//! The verb `manual`.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};

use crate::Arguments;
use crate::arguments::ConnectionArguments;
use crate::failure::{Failure, Outcome};
use crate::output::{say, write_whole};

/// The arguments of `manual`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  etcd-service manual ~/.local/share/man/man1 && man etcd-service-run")]
pub(crate) struct Manual {
    /// The folder for the pages, which is made if it does not exist
    folder: PathBuf,
}

impl Manual {
    pub(crate) fn run(self, _: &ConnectionArguments) -> Outcome {
        fs::create_dir_all(&self.folder).map_err(|error| {
            Failure::failed(format!(
                "make the folder {}: {error}",
                self.folder.display()
            ))
        })?;
        let mut program = Arguments::command();
        // Gives each verb the flags that all verbs have.
        program.build();
        for page in pages(&program)? {
            let path = self.folder.join(&page.file);
            write_whole(&path, &page.text)
                .map_err(|error| Failure::failed(format!("write {}: {error}", path.display())))?;
            say(path.display())?;
        }
        Ok(0)
    }
}

/// A manual page.
struct Page {
    file: String,
    text: Vec<u8>,
}

/// The page of the program, and those of its verbs.
fn pages(program: &Command) -> Result<Vec<Page>, Failure> {
    let verbs = program
        .get_subcommands()
        .filter(|verb| verb.get_name() != "help" && !verb.is_hide_set());
    let mut pages = vec![page(program.clone(), "etcd-service")?];
    for verb in verbs {
        let name = format!("etcd-service-{}", verb.get_name());
        pages.push(page(verb.clone(), &name)?);
    }
    Ok(pages)
}

fn page(command: Command, name: &str) -> Result<Page, Failure> {
    let mut text = Vec::new();
    let command = command
        .display_name(name)
        .bin_name(name.replacen("etcd-service-", "etcd-service ", 1))
        .version(env!("CARGO_PKG_VERSION"));
    let rendered = clap_mangen::Man::new(command).render(&mut text);
    rendered.map_err(|error| Failure::failed(format!("write the page {name}: {error}")))?;
    let file = format!("{name}.1");
    Ok(Page { file, text })
}
