//! Whatever stands in a `config.json`, only what is Plimsoll's is changed, and the change can be undone.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const HOOK: &str = "/opt/plimsoll-hook";

/// Any JSON, a few levels deep. Numbers are as JSON writers write them.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((any::<String>(), inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// An object with some entries of its own among any others, in any order.
fn around(own: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let own: Vec<_> = own.into_iter().map(|(key, value)| (Just(key.to_owned()), value)).collect();
    let other = vec(("[a-z\"\\\\é]{0,6}", json()), 0..5);
    (own, other)
        .prop_map(|(own, other)| [own, other].concat())
        .prop_shuffle()
        .prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
        .boxed()
}

/// A `config.json` with the objects and lists that an engine may leave out.
fn config() -> BoxedStrategy<Value> {
    let list = || vec(json(), 0..3).prop_map(Value::from).boxed();
    let text = |text: &'static str| text.prop_map(Value::from).boxed();
    around(vec![
        ("hooks", around(vec![("createRuntime", list()), ("poststop", list()), ("prestart", list())])),
        (
            "linux",
            around(vec![
                ("cgroupsPath", text("(/[a-z]{1,5}){1,3}")),
                (
                    "resources",
                    around(vec![(
                        "cpu",
                        around(vec![("cpus", text("[0-9]")), ("quota", Just(json!(5)).boxed())]),
                    )]),
                ),
            ]),
        ),
        ("annotations", Just(json!({"koordinator.sh/qosClass": "BE"})).boxed()),
    ])
}

const STAGES: [Stage; 3] = [Stage::Prestart, Stage::CreateRuntime, Stage::Poststop];

fn ours() -> Ours<'static> {
    Ours { program: HOOK.as_ref(), config: None, stages: &STAGES, sandbox: None }
}

fn open(file: &Path) -> Result<Spec> {
    Unread::open(file)?.read(&ours())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_not_ours_survives_and_the_edits_are_undone(config in config()) {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("config.json");
        let engines = config.to_string();
        fs::write(&file, &engines).unwrap();
        let mut spec = open(&file).unwrap();
        // Read and written it is the same, byte for byte.
        prop_assert_eq!(spec.value.to_string(), engines.clone());
        let mut edits = Edits::default();
        spec.set("/linux/cgroupsPath", Some(json!("/plimsoll/best-effort/x")), &mut edits).unwrap();
        spec.set("/linux/resources/cpu/quota", Some(json!(-1)), &mut edits).unwrap();
        spec.set("/linux/resources/unified/cpu.weight", Some(json!("1")), &mut Edits::default()).unwrap();
        spec.put("/linux/resources/unified", None).unwrap();
        spec.add_hooks(&ours(), &edits).unwrap();
        spec.note(&edits).unwrap();
        spec.write().unwrap();
        let edited: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        prop_assert_eq!(edited.pointer("/linux/cgroupsPath"), Some(&json!("/plimsoll/best-effort/x")));
        for stage in STAGES {
            let last = edited["hooks"][stage.name()].as_array().and_then(|hooks| hooks.last());
            prop_assert_eq!(last.map(|hook| &hook["path"]), Some(&json!(HOOK)));
        }
        prop_assert_eq!(open(&file).unwrap().value.to_string(), engines);
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn no_file_makes_it_panic(text in prop_oneof![any::<Vec<u8>>(), json().prop_map(|json| json.to_string().into_bytes())]) {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("config.json");
        fs::write(&file, &text).unwrap();
        let Ok(mut spec) = open(&file) else { return Ok(()) };
        let mut edits = Edits::default();
        let _ = spec.set("/linux/resources/cpu/quota", Some(json!(-1)), &mut edits);
        let _ = spec.cpu();
        if spec.add_hooks(&ours(), &edits).is_ok() && spec.note(&edits).is_ok() {
            spec.write().unwrap();
        }
    }
}

/// What a wrapper that was killed leaves is gone after the next write, and somebody else's files are not.
#[test]
fn a_file_left_behind_is_removed() {
    let folder = tempfile::TempDir::new().unwrap();
    for name in ["config.json", "config.json.orig", ".config.json.plimsoll-7", ".config.json.swp"] {
        fs::write(folder.path().join(name), "{}").unwrap();
    }
    let file = folder.path().join("config.json");
    let mut spec = open(&file).unwrap();
    spec.add_hooks(&ours(), &Edits::default()).unwrap();
    spec.write().unwrap();
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".config.json.swp", "config.json", "config.json.orig"]);
}
