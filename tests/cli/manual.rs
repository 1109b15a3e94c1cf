//! `completions` and `manual`.

use crate::program::{command, run};

#[test]
fn completions_have_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = run(&mut command(&["completions", shell]));
        assert_eq!(ended.code, 0, "{ended:?}");
        for verb in ["register", "doctor", "replay"] {
            assert!(ended.stdout.contains(verb), "{shell} {verb}");
        }
    }
    assert_eq!(run(&mut command(&["completions", "tcsh"])).code, 2);
}

#[test]
fn there_is_a_manual_page_for_each_verb() {
    let folder = std::env::temp_dir().join(format!("etcd-service-manual-{}", std::process::id()));
    let path = folder.to_str().unwrap();
    let ended = run(&mut command(&["manual", path]));
    assert_eq!(ended.code, 0, "{ended:?}");
    let help = run(&mut command(&["--help"])).stdout;
    let verbs = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let verbs = verbs.take_while(|line| !line.is_empty());
    let verbs = verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let verbs: Vec<_> = verbs
        .filter(|verb| !verb.is_empty() && *verb != "help")
        .collect();
    assert!(verbs.len() >= 10, "{help}");
    for verb in verbs {
        let page = std::fs::read_to_string(folder.join(format!("etcd-service-{verb}.1")));
        let page = page.unwrap_or_else(|error| panic!("{verb}: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{verb}");
        assert!(page.contains("endpoints"), "{verb}");
    }
    assert!(folder.join("etcd-service.1").exists());
    std::fs::remove_dir_all(&folder).unwrap();
    // A file is not a folder.
    let ended = run(&mut command(&["manual", "/dev/null"]));
    assert_eq!(ended.code, 1, "{ended:?}");
    assert!(
        ended.stderr.contains("make the folder /dev/null"),
        "{ended:?}"
    );
}
