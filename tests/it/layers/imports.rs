//! Imports between the files of `src/`.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::Source;
use super::tokens::{Token, tokens};

/// The segments of a path; of a module, those below the crate root.
pub(super) type Path = Vec<String>;

/// The modules that each module imports; a re-export counts as the module it leads to.
pub(super) type Imports = BTreeMap<Path, BTreeSet<Path>>;

/// The imports between the files of `src/`, without those of unit tests.
pub(super) fn imports(sources: &[Source]) -> Imports {
    let sources = sources.iter().filter(|source| !source.is_test());
    let files: BTreeMap<Path, Mentions> = sources
        .map(|source| (module(&source.name), mentions(&source.code())))
        .collect();
    let krate = Crate::new(&files);
    files
        .iter()
        .map(|(file, mentions)| (file.clone(), krate.imported(file, mentions)))
        .collect()
}

/// The module that a file holds.
fn module(name: &str) -> Path {
    let name = name.trim_end_matches(".rs");
    let name = name.strip_suffix("/mod").unwrap_or(name);
    if name == "lib" {
        return Path::new();
    }
    name.split('/').map(str::to_owned).collect()
}

/// The paths that one file mentions.
#[derive(Default)]
struct Mentions {
    used: Vec<Used>,
    /// Paths outside of `use` declarations.
    inline: Vec<Path>,
}

/// A name that a `use` declaration brings into scope, and its path.
struct Used {
    name: String,
    path: Path,
    is_re_export: bool,
}

fn mentions(code: &str) -> Mentions {
    let tokens = tokens(code);
    let mut found = Mentions::default();
    let mut n = 0;
    while let Some(token) = tokens.get(n) {
        let start = n;
        n += 1;
        let Token::Name(first) = token else {
            continue;
        };
        if first == "use" {
            let mut names = Vec::new();
            n = use_tree(&tokens, n, &Path::new(), &mut names);
            let is_re_export = is_public(&tokens[..start]);
            found
                .used
                .extend(names.into_iter().map(|(name, path)| Used {
                    name,
                    path,
                    is_re_export,
                }));
            continue;
        }
        let mut path = vec![first.clone()];
        while let Some([Token::PathSeparator, Token::Name(next)]) = tokens.get(n..n + 2) {
            path.push(next.clone());
            n += 2;
        }
        // In `<T as Trait>::Item` the path continues a type.
        let continues = start > 0 && tokens[start - 1] == Token::PathSeparator;
        if path.len() > 1 && !continues {
            found.inline.push(path);
        }
    }
    found
}

/// Whether the tokens before an item end in `pub` or `pub(…)`.
fn is_public(before: &[Token]) -> bool {
    let before = match before.iter().rposition(|token| *token == Token::Other('(')) {
        Some(open) if before.last() == Some(&Token::Other(')')) => &before[..open],
        _ => before,
    };
    before.last() == Some(&Token::Name("pub".to_owned()))
}

/// Reads the tree at `n` of a `use` declaration; returns the position after it.
fn use_tree(
    tokens: &[Token],
    mut n: usize,
    prefix: &Path,
    names: &mut Vec<(String, Path)>,
) -> usize {
    let mut path = prefix.clone();
    let mut alias = None;
    while let Some(token) = tokens.get(n) {
        match token {
            Token::Name(name) if name == "as" => {
                alias = match tokens.get(n + 1) {
                    Some(Token::Name(alias)) => Some(alias.clone()),
                    _ => None,
                };
                n += 1;
            }
            Token::Name(name) => path.push(name.clone()),
            Token::Other('*') => path.push("*".to_owned()),
            Token::PathSeparator => {}
            Token::Other('{') => {
                n += 1;
                while tokens
                    .get(n)
                    .is_some_and(|token| *token != Token::Other('}'))
                {
                    n = use_tree(tokens, n, &path, names);
                    n += usize::from(tokens.get(n) == Some(&Token::Other(',')));
                }
                return n + 1;
            }
            Token::Other(_) => break,
        }
        n += 1;
    }
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if let Some(last) = path.last() {
        names.push((alias.unwrap_or_else(|| last.clone()), path));
    }
    n
}

/// The modules of the crate, and what they re-export.
struct Crate {
    modules: BTreeSet<Path>,
    re_exports: BTreeMap<Path, BTreeMap<String, Path>>,
}

impl Crate {
    fn new(files: &BTreeMap<Path, Mentions>) -> Self {
        let mut krate = Self {
            modules: files.keys().cloned().collect(),
            re_exports: BTreeMap::new(),
        };
        for (file, mentions) in files {
            let re_exports = mentions.used.iter().filter(|used| used.is_re_export);
            let re_exports = re_exports
                .filter_map(|used| Some((used.name.clone(), krate.absolute(&used.path, file)?)))
                .collect();
            krate.re_exports.insert(file.clone(), re_exports);
        }
        krate
    }

    /// A path below the crate root, or `None` for one into another crate.
    fn absolute(&self, path: &[String], file: &Path) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([file, rest].concat()),
            "super" => {
                let parents = path.iter().take_while(|name| *name == "super").count();
                let above = file.get(..file.len().checked_sub(parents)?)?;
                Some([above, &path[parents..]].concat())
            }
            _ => {
                let child = [file, std::slice::from_ref(first)].concat();
                self.modules.contains(&child).then(|| [file, path].concat())
            }
        }
    }

    /// The module that defines what lies at an absolute path.
    fn definer(&self, path: &[String]) -> Path {
        let mut path = path.to_vec();
        let mut followed = BTreeSet::new();
        loop {
            let length = (0..=path.len())
                .rev()
                .find(|length| self.modules.contains(&path[..*length]))
                .unwrap_or_default();
            let (module, rest) = path.split_at(length);
            let re_export = rest
                .first()
                .and_then(|name| self.re_exports.get(module)?.get(name));
            match re_export {
                Some(original) if followed.insert(path.clone()) => {
                    path = [original, &rest[1..]].concat();
                }
                _ => return module.to_vec(),
            }
        }
    }

    /// The other modules that a file imports.
    fn imported(&self, file: &Path, mentions: &Mentions) -> BTreeSet<Path> {
        let mut imported = BTreeSet::new();
        let mut modules = BTreeMap::new();
        for used in mentions.used.iter().filter(|used| !used.is_re_export) {
            match self.absolute(&used.path, file) {
                // What the file uses of the module counts, at each place.
                Some(path) if self.modules.contains(&path) => {
                    modules.insert(&used.name, path);
                }
                Some(path) => {
                    imported.insert(self.definer(&path));
                }
                None => {}
            }
        }
        for path in &mentions.inline {
            let path = match modules.get(&path[0]) {
                Some(module) => Some([module, &path[1..]].concat()),
                None => self.absolute(path, file),
            };
            imported.extend(path.map(|path| self.definer(&path)));
        }
        imported.remove(file);
        imported
    }
}

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

#[test]
fn imports_are_found_in_trees_paths_and_re_exports() {
    let sources = [
        source("lib.rs", "mod a; mod b; pub use b::inner::Thing;"),
        source(
            "a.rs",
            "use crate::{b::{self, Other as Name}, Thing};\nfn f() { b::inner::g(); }",
        ),
        source(
            "b/mod.rs",
            "mod inner; pub(crate) use inner::Other; // use crate::a::X;",
        ),
        source(
            "b/inner.rs",
            "fn g() -> &'static str { let quote = '\"'; super::super::a::f(); r#\"crate::b\"# }",
        ),
        source("b/tests.rs", "use crate::a::f;"),
    ];
    let found = imports(&sources);
    let of = |file: &str| {
        let modules = found[&module(file)].iter().map(|module| module.join("::"));
        modules.collect::<Vec<_>>()
    };
    assert_eq!(of("lib.rs"), [""; 0]);
    assert_eq!(of("a.rs"), ["b::inner"]);
    assert_eq!(of("b/mod.rs"), [""; 0]);
    assert_eq!(of("b/inner.rs"), ["a"]);
    assert_eq!(found.len(), 4, "unit tests are left out");
}
