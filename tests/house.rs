//! The arrows of the house: the table in docs/architecture.md, held against the `crate::` paths in src/.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The table: room → rooms it may know. `None` stands for "all".
fn allowed() -> BTreeMap<String, Option<BTreeSet<String>>> {
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md"));
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let table = page.split("## Rooms").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a chapter on rooms");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let room = names(cells[0]).pop_first().expect("the name of a room");
        (room, (cells[2] != "all").then(|| names(cells[2])))
    })
    .collect()
}

/// The source files of each room, without their unit tests.
fn rooms() -> BTreeMap<String, String> {
    fn visit(dir: &Path, room: Option<&str>, rooms: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(dir).expect("a folder of sources").map(|entry| entry.expect("an entry").path()) {
            let stem = entry.file_stem().expect("a name").to_string_lossy().into_owned();
            let room = room.unwrap_or(&stem);
            if stem == "tests" {
                continue;
            }
            if entry.is_dir() {
                visit(&entry, Some(room), rooms);
            } else {
                let source = read(&entry);
                let code = source.split("#[cfg(test)]").next().unwrap_or_default();
                rooms.entry(room.to_owned()).or_default().push_str(code);
            }
        }
    }
    let mut found = BTreeMap::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut found);
    found
}

/// The rooms that a source names: the first part of each path from the crate's root, in code and not in comments.
fn named(source: &str) -> BTreeSet<String> {
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let word = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    code.split("crate::").skip(1).map(word).filter(|room| !room.is_empty()).collect()
}

#[test]
fn every_room_knows_only_whom_the_map_says() {
    let (allowed, rooms) = (allowed(), rooms());
    assert!(rooms.len() > 10, "the sources were found");
    for (room, source) in rooms {
        let may = allowed.get(&room).unwrap_or_else(|| panic!("docs/architecture.md has no room {room}"));
        let Some(may) = may else { continue };
        // A room knows itself.
        let strangers: Vec<String> =
            named(&source).into_iter().filter(|name| *name != room && !may.contains(name)).collect();
        assert!(strangers.is_empty(), "{room} knows {strangers:?}, which docs/architecture.md does not allow");
    }
}

#[test]
fn the_map_allows_nothing_that_is_not_used() {
    let rooms = rooms();
    for (room, may) in allowed() {
        let Some(may) = may.filter(|_| room != "main") else { continue };
        let source =
            rooms.get(&room).unwrap_or_else(|| panic!("docs/architecture.md has a room {room} that is not there"));
        let unused: Vec<String> = may.difference(&named(source)).cloned().collect();
        assert!(unused.is_empty(), "docs/architecture.md lets {room} know {unused:?}, which it does not");
    }
}
