//! Compares the structure of `src/` with the table of modules in docs/architecture.md.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The limits for a file and for a function, in lines.
const MOST_LINES: usize = 500;
const MOST_FUNCTION_LINES: usize = 60;

/// Files and functions above the limits, each with its reason.
const LONG: [(&str, &str); 3] = [
    ("helpers/git/wire.rs::read", "one match over the keys of the protocol"),
    ("helpers/kubectl/setup.rs::plan", "five steps of one plan, and waits for a function for each"),
    ("profile/draft.rs::finish", "one check after the other, in the order of the messages"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One source file, without its unit tests and comments.
struct Source {
    /// The path below `src/`.
    path: String,
    /// The top-level module that the file belongs to.
    module: String,
    code: String,
}

/// Returns all sources except files of unit tests.
fn sources() -> Vec<Source> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
            if entry.path().is_dir() {
                visit(&entry.path(), found);
            } else if entry.file_name() != "tests.rs" {
                found.push(entry.path());
            }
        }
    }
    let src = root().join("src");
    let mut paths = Vec::new();
    visit(&src, &mut paths);
    let source = |path: PathBuf| {
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let path = path.strip_prefix(&src).expect("a path below src").display().to_string();
        let module = path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        Source { path, module, code: code.join("\n") }
    };
    paths.into_iter().map(source).collect()
}

/// Returns the word at the start of a text.
fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns the words that begin with a capital letter: the names of types.
fn types(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// Returns the modules that a file names: the first part of each path from the crate's root.
fn named(code: &str) -> BTreeSet<String> {
    code.split("crate::").skip(1).map(word).filter(|module| !module.is_empty()).collect()
}

/// Returns the modules of the types that a file imports, by the name of the type.
fn imports(code: &str) -> BTreeMap<String, String> {
    let paths = code.split("use crate::").skip(1).filter_map(|rest| rest.split(';').next());
    paths.flat_map(|path| types(path).map(move |name| (name.to_owned(), word(path)))).collect()
}

/// Returns each public function by name, with the modules whose types it returns.
fn functions(source: &Source) -> Vec<(String, BTreeSet<String>)> {
    let imports = imports(&source.code);
    let heads = source.code.split("pub fn ").skip(1).filter_map(|rest| rest.split(['{', ';']).next());
    heads
        .map(|head| {
            let result = head.rsplit_once("->").map_or("", |(_, result)| result);
            let mut modules: BTreeSet<String> = types(result).filter_map(|name| imports.get(name).cloned()).collect();
            // A type with its path, such as `keyring::Entry`.
            modules.extend(
                result.split("::").map(|part| part.rsplit(['<', ' ', '(', '&']).next().unwrap_or_default().to_owned()),
            );
            (word(head), modules)
        })
        .collect()
}

/// Returns the dependencies of each module.
///
/// If another module's function returns a type, the caller depends on the module of that type as well.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let sources = sources();
    let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in &sources {
        found.entry(source.module.clone()).or_default().extend(named(&source.code));
    }
    // Functions that only one module defines, so that the name identifies the module.
    let mut by_name: BTreeMap<String, (BTreeSet<&str>, BTreeSet<String>)> = BTreeMap::new();
    for source in &sources {
        for (name, returned) in functions(source) {
            let entry = by_name.entry(name).or_default();
            entry.0.insert(&source.module);
            entry.1.extend(returned);
        }
    }
    for source in &sources {
        for (name, (defining, returned)) in &by_name {
            let [owner] = defining.iter().copied().collect::<Vec<_>>()[..] else { continue };
            let is_called = [format!(".{name}("), format!("::{name}(")].iter().any(|call| source.code.contains(call));
            if is_called && owner != source.module && found[&source.module].contains(owner) {
                let returned = returned.iter().filter(|module| modules.contains(module.as_str())).cloned();
                found.entry(source.module.clone()).or_default().extend(returned);
            }
        }
    }
    for (module, known) in &mut found {
        known.remove(module);
    }
    found
}

/// Returns the table: each module with the modules that it may depend on. `None` stands for "all".
fn allowed() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let page = read(&root().join("docs/architecture.md"));
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let table =
        page.split("## Modules").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a chapter on modules");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let module = names(cells[0]).pop_first().expect("the name of a module");
        (module, (cells[2] != "all").then(|| names(cells[2])))
    })
    .collect()
}

/// A module depends only on modules that its row of the table lists.
#[test]
fn modules_depend_only_as_the_table_says() {
    let (allowed, dependencies) = (allowed(), dependencies());
    assert!(dependencies.len() > 10, "the sources were found");
    for (module, known) in dependencies {
        let may = allowed.get(&module).unwrap_or_else(|| panic!("docs/architecture.md has no module {module}"));
        let Some(may) = may else { continue };
        let strangers: Vec<&String> = known.difference(may).collect();
        assert!(strangers.is_empty(), "{module} depends on {strangers:?}, which docs/architecture.md does not allow");
    }
}

/// The table lists no dependency that the module does not have.
#[test]
fn table_allows_no_unused_dependency() {
    let dependencies = dependencies();
    for (module, may) in allowed() {
        let Some(may) = may.filter(|_| module != "main") else { continue };
        let known = dependencies.get(&module);
        let known = known.unwrap_or_else(|| panic!("docs/architecture.md has a module {module} that is not there"));
        let unused: Vec<&String> = may.difference(known).collect();
        assert!(unused.is_empty(), "docs/architecture.md lets {module} depend on {unused:?}, which it does not");
    }
}

/// The table is in order: no module depends on a module above it, so there is no cycle.
#[test]
fn modules_depend_only_downwards() {
    let page = read(&root().join("docs/architecture.md"));
    let table = page.split("## Modules").nth(1).expect("a chapter on modules");
    let order: Vec<String> =
        table.lines().filter(|line| line.starts_with("| `")).map(|line| word(&line[3..])).collect();
    let place = |module: &str| order.iter().position(|known| known == module);
    for (module, known) in dependencies() {
        for below in known.iter().filter(|_| module != "lib" && module != "main") {
            assert!(place(&module) < place(below), "{module} depends on {below}, which stands above it in the table");
        }
    }
}

/// A helper does not name the commands, and only the library's entry point names the command line.
#[test]
fn helpers_and_modules_name_no_caller() {
    for source in sources() {
        let named = named(&source.code);
        assert!(source.module != "helpers" || !named.contains("commands"), "{} names a command", source.path);
        assert!(source.module == "lib" || !named.contains("cli"), "{} names cli", source.path);
    }
}

/// Only the helper itself and the table of helpers name a tool.
#[test]
fn only_a_helper_names_its_tool() {
    for source in sources() {
        for tool in ["kubectl", "git", "docker", "engflow"] {
            let is_own = source.path.starts_with(&format!("helpers/{tool}/")) || source.path == "helpers/mod.rs";
            let names = [format!("{tool}::"), format!("::{tool}")];
            let is_named = names.iter().any(|name| source.code.contains(name.as_str()));
            assert!(is_own || !is_named, "{} names the helper {tool}", source.path);
        }
    }
}

/// Returns the name and the number of lines of each function in a formatted file.
fn function_lengths(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let is_head =
        |line: &str| line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ").starts_with("fn ");
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_head(line)) {
        let indent = line.len() - line.trim_start().len();
        let end = lines[at..].iter().position(|line| *line == format!("{}}}", " ".repeat(indent)));
        let name = word(line.split("fn ").nth(1).unwrap_or_default());
        found.extend(end.map(|length| (name, length + 1)));
    }
    found
}

/// Only the listed files and functions exceed the limits, and each listed one does.
#[test]
fn files_and_functions_are_short() {
    let mut long = BTreeSet::new();
    for source in sources() {
        let text = read(&root().join("src").join(&source.path));
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        if text.lines().count() > MOST_LINES {
            long.insert(source.path.clone());
        }
        let functions = function_lengths(text).into_iter().filter(|(_, lines)| *lines > MOST_FUNCTION_LINES);
        long.extend(functions.map(|(name, _)| format!("{}::{name}", source.path)));
    }
    let excused: BTreeSet<String> = LONG.iter().map(|(what, _)| (*what).to_owned()).collect();
    assert_eq!(long, excused, "the long files and functions, and the listed ones");
}

/// Code that differs between operating systems is in `os/`, behind a contract.
#[test]
fn only_os_uses_platform_specific_names() {
    for source in sources().iter().filter(|source| source.module != "os") {
        for name in
            ["std::os::", "rustix::", "signal_hook::", "windows_sys::", "target_os", "target_env", "cfg(unix", "/proc/"]
        {
            assert!(!source.code.contains(name), "{} uses {name}", source.path);
        }
    }
}

/// A `cfg` attribute applies to a whole item and not to a statement.
#[test]
fn function_bodies_have_no_cfg_attribute() {
    for source in sources() {
        let inner = source.code.lines().find(|line| line.starts_with(' ') && line.trim_start().starts_with("#[cfg("));
        assert!(inner.is_none(), "{}: {}", source.path, inner.unwrap_or_default());
    }
}

/// Returns the text files below a folder, by path from the root.
fn texts(folder: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(root().join(folder)).expect("a folder").flatten() {
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            texts(&path, found);
        } else {
            found.push(PathBuf::from(path));
        }
    }
}

/// Sentences name the actor: git, the caller, another process, the user. These words name none.
#[test]
fn sentences_name_the_actor() {
    const WORDS: [&str; 5] = ["whoever", "whom", "somebody", "nobody", "anybody"];
    let mut paths = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from).to_vec();
    for folder in ["src", "tests", "docs", "integrations", "benches", "examples"] {
        texts(folder, &mut paths);
    }
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| !path.ends_with("tests/architecture.rs")) {
        let Ok(text) = std::fs::read_to_string(root().join(path)) else { continue };
        for (line, text) in text.lines().enumerate() {
            let words = text.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
            let hits = words.filter(|word| WORDS.contains(&word.as_str()));
            found.extend(hits.map(|word| format!("{}:{}: {word}", path.display(), line + 1)));
        }
    }
    assert_eq!(found, Vec::<String>::new());
}
