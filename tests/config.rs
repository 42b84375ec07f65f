//! The configuration: what is read, what is refused and how, and the file that explains it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "config/mistakes.rs"]
mod mistakes;

use std::fs;
use std::path::{Path, PathBuf};

use plimsoll::annotations::BurstPolicy;
use plimsoll::policy::config::{Config, Mechanism, OnError, Placement};
use plimsoll::qos::QosClass;
use tempfile::TempDir;

/// A folder with a `config.toml` and drop-ins.
struct Node(TempDir);

impl Node {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }
    fn main(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }
    fn with(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }
    fn load(&self) -> Config {
        Config::load(&self.main()).unwrap()
    }
    fn problems(&self) -> Vec<String> {
        let problems: Vec<String> = Config::check(&self.main()).iter().map(ToString::to_string).collect();
        // Whatever check finds, load refuses, and the other way round.
        match Config::load(&self.main()) {
            Ok(_) => assert!(problems.is_empty(), "{problems:?}"),
            Err(error) => assert!(error.to_string().starts_with(&problems[0]), "{error} {problems:?}"),
        }
        problems
    }
}

fn parse(text: &str) -> Config {
    Config::from_toml(Path::new("c.toml"), text).unwrap()
}

/// The one problem of a text.
fn problem(text: &str) -> String {
    Config::from_toml(Path::new("c.toml"), text).expect_err(text).to_string()
}

#[test]
fn nothing_there_means_defaults() {
    let node = Node::new();
    assert_eq!(node.load(), Config::default());
    assert_eq!(
        Config::load(Path::new("/plimsoll-test-no-such-folder/config.toml")).unwrap(),
        Config::default()
    );
    assert_eq!(Config::files(&node.main()).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(Node::new().with("config.toml", "").load(), Config::default());
}

#[test]
fn defaults_are_those_of_the_contract() {
    let config = Config::default();
    let classes: Vec<_> = QosClass::ALL
        .into_iter()
        .map(|class| {
            let c = config.class(class);
            (class.name(), c.identity, c.burst, c.burst_percent)
        })
        .collect();
    let none = BurstPolicy::None;
    assert_eq!(
        classes,
        [
            ("LSE", 2, none, 1000),
            ("LSR", 2, none, 1000),
            ("LS", 2, BurstPolicy::Auto, 1000),
            ("BE", -1, none, 1000),
            ("SYSTEM", 0, none, 1000)
        ]
    );
    assert_eq!(
        (config.on_error, config.placement, config.kube_qos),
        (OnError::Ignore, Placement::Auto, false)
    );
    assert_eq!(config.paths.class_tree, Path::new("/plimsoll"));
    assert!(config.claims.namespaces.is_empty() && config.claims.outside_kubernetes);
    assert!(!config.exclusive.allocate);
}

#[test]
fn packaged_file_is_what_show_defaults_prints() {
    let packaged = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/config.toml")).unwrap();
    assert!(
        packaged == Config::defaults_toml(),
        "packaging/config.toml is out of date; it should be:\n{}",
        Config::defaults_toml()
    );
}

#[test]
fn shown_defaults_load_to_the_defaults_and_hold_every_key() {
    let text = Config::defaults_toml();
    assert_eq!(parse(&text), Config::default());
    // Every leaf of the serialised types is a line of the file; the classes' own on_error and placement are comments.
    let json = serde_json::to_value(Config::default()).unwrap();
    let shown: serde_json::Value = toml::from_str(&text).unwrap();
    fn keys(value: &serde_json::Value, path: &str, out: &mut Vec<String>) {
        match value.as_object() {
            Some(map) => map.iter().for_each(|(key, value)| keys(value, &format!("{path}.{key}"), out)),
            None => out.push(path.to_owned()),
        }
    }
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    keys(&json, "", &mut wanted);
    keys(&shown, "", &mut found);
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
    assert_eq!(text.matches("# placement =\n").count(), 5);
}

#[test]
fn any_configuration_shown_loads_back() {
    let config = parse(
        r#"
        on_error = "fail"
        [paths]
        log = '/var/log/a "b" \ é.log'
        [claims]
        namespaces = ["kube-system", "team-*", "*"]
        [exclusive]
        reserved_cpus = "0-1,8"
        [class.BE]
        identity = -2
        placement = "class-tree"
        [koordinator]
        slo_config = "/etc/koordinator/slo.json"
        "#,
    );
    assert_ne!(config, Config::default());
    assert_eq!(parse(&config.to_toml()), config);
}

#[test]
fn drop_ins_win_key_by_key_in_the_order_of_their_names() {
    let node = Node::new()
        .with(
            "config.toml",
            "on_error = \"fail\"\n[log]\nmax_bytes = 70000\n[class.LS]\nburst_percent = 200\nidentity = 1\n",
        )
        .with("config.d/20.toml", "[log]\nmax_bytes = 80000\n[class.LS]\nidentity = 0\n")
        .with("config.d/10.toml", "[log]\nmax_bytes = 90000\njournal = false\n")
        .with("config.d/30.toml.disabled", "nonsense")
        .with("config.d/.30.toml", "nonsense");
    let config = node.load();
    assert_eq!(config.on_error, OnError::Fail);
    assert_eq!((config.log.max_bytes, config.log.journal), (80_000, false));
    let ls = config.class(QosClass::Ls);
    assert_eq!((ls.identity, ls.burst_percent, ls.burst), (0, 200, BurstPolicy::Auto));
    assert_eq!(config.class(QosClass::Be), Config::default().class(QosClass::Be));
    let files: Vec<_> = Config::files(&node.main()).unwrap();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["config.toml", "10.toml", "20.toml"]);
}

#[test]
fn drop_ins_count_without_a_main_file() {
    let node = Node::new().with("config.d/a.toml", "kube_qos = true");
    assert!(node.load().kube_qos);
}

#[test]
fn a_drop_in_takes_back_an_optional_path() {
    let node = Node::new()
        .with("config.toml", "[koordinator]\nslo_config = \"/a\"")
        .with("config.d/a.toml", "[koordinator]\nslo_config = \"\"");
    assert_eq!(node.load().koordinator.slo_config, None);
}

#[test]
fn values_at_the_edges_are_taken() {
    let config = parse(
        "log = { max_bytes = 65_536 }\nexclusive.min_shared_cpus = 0\nexclusive.lock_timeout_ms = 5000\n\
         [class.BE]\nidentity = -2\nburst_percent = 10000\n[class.LSE]\nidentity = 2\nburst_percent = 0x1\n",
    );
    assert_eq!((config.log.max_bytes, config.exclusive.min_shared_cpus), (65_536, 0));
    assert_eq!((config.class(QosClass::Be).identity, config.class(QosClass::Be).burst_percent), (-2, 10_000));
    assert_eq!(config.class(QosClass::Lse).burst_percent, 1);
}

#[test]
fn a_class_overrides_what_holds_for_all() {
    let config = parse(
        "on_error = 'fail'\nplacement = 'keep'\n[class.BE]\non_error = 'ignore'\nplacement = 'class-tree'",
    );
    assert_eq!(config.on_error(None), OnError::Fail);
    assert_eq!(config.on_error(Some(QosClass::Ls)), OnError::Fail);
    assert_eq!(config.on_error(Some(QosClass::Be)), OnError::Ignore);
    assert_eq!(config.placement(QosClass::Ls), Placement::Keep);
    assert_eq!(config.placement(QosClass::Be), Placement::ClassTree);
}

#[test]
fn claims_are_allowed_by_name_prefix_or_star_only() {
    let mut claims = Config::default().claims;
    assert!(claims.allows(None) && !claims.allows(Some("default")) && !claims.allows(Some("")));
    claims = parse("[claims]\nnamespaces = ['prod', 'team-*']\noutside_kubernetes = false").claims;
    for (namespace, allowed) in [
        (None, false),
        (Some("prod"), true),
        (Some("prod2"), false),
        (Some("team-"), true),
        (Some("team-a"), true),
        (Some("team"), false),
        (Some("xteam-a"), false),
        (Some("PROD"), false),
        (Some(""), false),
    ] {
        assert_eq!(claims.allows(namespace), allowed, "{namespace:?}");
    }
    assert!(parse("[claims]\nnamespaces = ['*']").claims.allows(Some("anything")));
}

#[test]
fn serialised_configuration_uses_the_names_of_the_file() {
    let config = parse(
        "[identity]\nmechanism = 'qos-level'\n[system]\ncpus = '0,1'\n[class.LS]\nburst = 'cpuBurstOnly'",
    );
    assert_eq!(config.identity.mechanism, Mechanism::QosLevel);
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(json["identity"]["mechanism"], "qos-level");
    assert_eq!(json["system"]["cpus"], "0-1");
    assert_eq!(json["class"]["LS"]["burst"], "cpuBurstOnly");
    assert_eq!(json["class"]["SYSTEM"]["identity"], 0);
}
