//! Mistakes in the files: each is named with its file, line and key, and with what to write instead.

use plimsoll::policy::config::{Config, MAX_FILE_BYTES, MAX_FILES};

use super::{Node, problem};

#[test]
fn unknown_keys_are_named_with_line_and_suggestion() {
    assert_eq!(
        problem("kube_qos = true\n\n[log]\n  journl = true\n"),
        "c.toml line 4, key log.journl: unknown key; did you mean log.journal?"
    );
    assert_eq!(
        problem("on-error = \"fail\""),
        "c.toml line 1, key on-error: unknown key; did you mean on_error?"
    );
    assert_eq!(
        problem("[class.ls]\nidentity = 1"),
        "c.toml line 1, key class.ls: unknown key; did you mean class.LS?"
    );
    assert_eq!(
        problem("[class.LS.extra]\n"),
        "c.toml line 1, key class.LS.extra: unknown key; known here: identity, burst, burst_percent, on_error, placement"
    );
    assert_eq!(
        problem("class.LS.brust = 'auto'"),
        "c.toml line 1, key class.LS.brust: unknown key; did you mean class.LS.burst?"
    );
}

#[test]
fn wrong_values_are_named_with_line_and_what_is_allowed() {
    for (text, line, key, allowed) in [
        ("on_error = 'stop'", 1, "on_error", r#""ignore", "fail""#),
        ("on_error = true", 1, "on_error", r#""ignore", "fail""#),
        ("\nkube_qos = 'yes'", 2, "kube_qos", "true, false"),
        ("[log]\nmax_bytes = 65535", 2, "log.max_bytes", "65536 to 1073741824"),
        ("[log]\nmax_bytes = 1073741825", 2, "log.max_bytes", "65536 to 1073741824"),
        ("[log]\nmax_bytes = 99999999999999999999999", 2, "log.max_bytes", "65536"),
        ("[log]\nmax_bytes = 70000.0", 2, "log.max_bytes", "65536"),
        ("[exclusive]\nmin_shared_cpus = -1", 2, "exclusive.min_shared_cpus", "0 to 8192"),
        ("[exclusive]\nlock_timeout_ms = 0", 2, "exclusive.lock_timeout_ms", "1 to 5000"),
        ("[exclusive]\nreserved_cpus = '3-1'", 2, "exclusive.reserved_cpus", "0-3,8"),
        ("[exclusive]\nreserved_cpus = '0-4294967295'", 2, "exclusive.reserved_cpus", "8191"),
        ("[class.LS]\n\nidentity = 3", 3, "class.LS.identity", "-2 to 2"),
        ("[class.LS]\nidentity = -3", 2, "class.LS.identity", "-2 to 2"),
        ("[class.LS]\nburst_percent = 0", 2, "class.LS.burst_percent", "1 to 10000"),
        (
            "[class.LS]\nburst = 'Auto'",
            2,
            "class.LS.burst",
            r#""none", "auto", "cpuBurstOnly", "cfsQuotaBurstOnly""#,
        ),
        ("[class.BE]\nplacement = ''", 2, "class.BE.placement", r#""auto", "keep", "class-tree""#),
        ("[claims]\nnamespaces = 'a'", 2, "claims.namespaces", "a list"),
        ("[claims]\nnamespaces = ['a', '']", 2, "claims.namespaces", "a list"),
        ("[claims]\nnamespaces = ['a*b']", 2, "claims.namespaces", "a list"),
        ("[paths]\nrun = 'run'", 2, "paths.run", "absolute"),
        ("[paths]\nlog = '/var/../log'", 2, "paths.log", "without \"..\""),
        ("[paths]\nlog = \"/var/\\u0000\"", 2, "paths.log", "absolute"),
        ("[paths]\nclass_tree = '/'", 2, "paths.class_tree", "not \"/\""),
        ("[paths]\nclass_tree = '/a/../b'", 2, "paths.class_tree", "without \"..\""),
        ("[paths]\nclass_tree = '/a//b'", 2, "paths.class_tree", "without \"..\""),
        ("[paths]\nclass_tree = '/a/'", 2, "paths.class_tree", "without \"..\""),
        ("[paths]\nclass_tree = 'a'", 2, "paths.class_tree", "absolute"),
        ("[koordinator]\nslo_config = 'slo.json'", 2, "koordinator.slo_config", "absolute"),
    ] {
        let problem = problem(text);
        assert!(problem.starts_with(&format!("c.toml line {line}, key {key}: ")), "{text}: {problem}");
        let (_, said) = problem.split_once("; allowed: ").expect(&problem);
        assert!(said.contains(allowed), "{text}: {problem}");
    }
    assert_eq!(
        problem("log = true"),
        "c.toml line 1, key log: a table is wanted here, not a value of type boolean; \
         write [log] on a line of its own and its keys below"
    );
    assert!(problem("[[class]]\n").starts_with("c.toml line 1, key class: a table is wanted here"));
}

#[test]
fn what_is_not_toml_is_named_with_its_line() {
    for (text, line) in
        [("a = 1\n[log\n", 2), ("on_error = \n", 1), ("\n\nkube_qos = true\nkube_qos = true\n", 4)]
    {
        let problem = problem(text);
        assert!(problem.starts_with(&format!("c.toml line {line}: not TOML: ")), "{problem}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn all_problems_of_all_files_are_found_at_once() {
    let node = Node::new()
        .with("config.toml", "[log]\nmax_bytes = 1\n[class.LS]\nidentity = 7\non_eror = 'fail'\n")
        .with("config.d/a.toml", "kube_qos = 1\n")
        .with("config.d/b.toml", "[")
        .with("config.d/c.toml", "kube_qos = true\n");
    let problems = node.problems();
    let wanted = [
        "config.toml line 2, key log.max_bytes",
        "config.toml line 4, key class.LS.identity",
        "config.toml line 5, key class.LS.on_eror",
        "a.toml line 1, key kube_qos",
        "b.toml line 1: not TOML",
    ];
    assert_eq!(problems.len(), wanted.len(), "{problems:#?}");
    for (problem, wanted) in problems.iter().zip(wanted) {
        assert!(problem.contains(wanted), "{problem}");
    }
    let error = Config::load(&node.main()).unwrap_err().to_string();
    assert!(error.ends_with("and 4 more, see `plimsoll config check`"), "{error}");
}

#[test]
fn files_that_are_no_files_are_refused() {
    let folder = Node::new().with("config.toml/x", "");
    assert!(folder.problems()[0].contains("is a folder"));

    let pipe = Node::new();
    nix::unistd::mkfifo(&pipe.main(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(pipe.problems()[0].contains("is not a regular file"));

    let not_text = Node::new().with("config.toml", b"# fine\non_error = \"\xff\"\n");
    assert!(not_text.problems()[0].contains("line 2 is not UTF-8"));

    let fits = "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap());
    assert_eq!(Node::new().with("config.toml", &fits).load(), Config::default());
    let large = Node::new().with("config.toml", format!("{fits}#"));
    assert!(large.problems()[0].contains("larger than 256 KiB"));

    let lost = Node::new().with("config.d/a.toml", "");
    std::os::unix::fs::symlink("nowhere", lost.0.path().join("config.d/b.toml")).unwrap();
    let problems = lost.problems();
    assert!(problems[0].contains("b.toml") && problems[0].contains("leads nowhere"), "{problems:?}");

    let no_folder = Node::new().with("config.d", "");
    assert!(no_folder.problems()[0].starts_with("list "));
}

#[test]
fn the_number_of_drop_ins_is_bounded() {
    let mut node = Node::new();
    for i in 0..=MAX_FILES {
        node = node.with(&format!("config.d/{i}.toml"), "");
    }
    assert!(node.problems()[0].contains("more than 256 files"));
}

#[test]
fn hostile_files_are_refused_without_harm() {
    let deep = 100_000;
    for text in [
        format!("{}=1", "a.".repeat(deep) + "a"),
        format!("a={}", "[".repeat(deep)),
        format!("a={}", "{a=".repeat(deep / 2)),
        format!("[{}]", "a.".repeat(deep) + "a"),
        format!("{}=1", "x".repeat(deep)),
        format!("on_error = '{}'", "x".repeat(deep)),
        "\"\\u001b[31m\\n\" = 1".to_owned(),
        "a".repeat(deep),
        "\0".to_owned(),
    ] {
        let problem = problem(&text);
        assert!(problem.len() < 500, "{} bytes: {}", problem.len(), &problem[..200]);
        assert!(!problem.chars().any(char::is_control), "{problem:?}");
    }
}
