//! Changes to a JSON text that keep the rest of the text unchanged: order, white space, and foreign keys.
//! Pure.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Returns the members of an object in order, without parsing their values.
///
/// A key is borrowed from the text unless it contains escapes.
///
/// # Errors
/// The error of the parser.
pub fn members<'a>(object: &'a RawValue) -> serde_json::Result<Vec<(Cow<'a, str>, &'a RawValue)>> {
    serde_json::Deserializer::from_str(object.get()).deserialize_map(Pairs)
}

/// Returns `text` with `value` at `path`. `value` is JSON text.
///
/// Missing objects on the path are created. An existing value is replaced. An empty text counts as an empty
/// object.
///
/// # Errors
/// The error of the parser, if the text is not JSON, or if a value on the path is not an object.
pub fn set(text: &str, path: &[&str], value: &str) -> serde_json::Result<String> {
    let Some((key, rest)) = path.split_first() else { return Ok(value.to_owned()) };
    if text.trim().is_empty() {
        return Ok(set("{}", path, value)? + "\n");
    }
    let (spans, end) = spans(text)?;
    if let Some(span) = spans.iter().find(|span| span.key == *key) {
        // The lines of a new value get the indentation of its key.
        let old = &text[span.value..span.end];
        let new = if rest.is_empty() { indented(value, margin(&text[..span.start])) } else { set(old, rest, value)? };
        return Ok(format!("{}{new}{}", &text[..span.value], &text[span.end..]));
    }
    let mut nested = value.to_owned();
    for key in rest.iter().rev() {
        nested = format!("{{\n  {}: {}\n}}", quoted(key), indented(&nested, "  "));
    }
    let Some(last) = spans.last() else {
        let outer = margin(&text[..end]);
        let inner = format!("{outer}  ");
        let member = format!("{}: {}", quoted(key), indented(&nested, &inner));
        let open = text[..end].trim_end();
        return Ok(format!("{open}\n{inner}{member}\n{outer}{}", &text[end..]));
    };
    // The new member follows the layout of the one before it: the same line, or a new line with the same
    // indentation.
    let before = &text[..last.start];
    let gap = &before[before.trim_end().len()..];
    let member = format!("{}: {}", quoted(key), indented(&nested, margin(before)));
    let gap = if gap.is_empty() { " " } else { gap };
    Ok(format!("{},{gap}{member}{}", &text[..last.end], &text[last.end..]))
}

/// Returns `text` without the member at `path`. If there is none, returns it unchanged.
///
/// # Errors
/// As for [`set`].
pub fn remove(text: &str, path: &[&str]) -> serde_json::Result<String> {
    let Some((key, rest)) = path.split_first() else { return Ok(text.to_owned()) };
    let (spans, end) = spans(text)?;
    let Some(at) = spans.iter().position(|span| span.key == *key) else { return Ok(text.to_owned()) };
    let span = &spans[at];
    if !rest.is_empty() {
        let new = remove(&text[span.value..span.end], rest)?;
        return Ok(format!("{}{new}{}", &text[..span.value], &text[span.end..]));
    }
    let (from, to) = match (spans.get(at + 1), at.checked_sub(1).map(|before| &spans[before])) {
        (Some(next), _) => (span.start, next.start),
        (None, Some(before)) => (before.end, span.end),
        (None, None) => (text[..span.start].trim_end().len(), end),
    };
    Ok(format!("{}{}", &text[..from], &text[to..]))
}

/// The position of a member in the text: start of the key, start of the value, end of the value.
struct Span<'a> {
    key: Cow<'a, str>,
    start: usize,
    value: usize,
    end: usize,
}

/// Returns the members of the object in `text`, and the position of its closing brace.
fn spans(text: &str) -> serde_json::Result<(Vec<Span<'_>>, usize)> {
    let object: &RawValue = serde_json::from_str(text)?;
    let offset = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
    let mut from = offset(object.get()) + 1;
    let mut spans = Vec::new();
    for (key, raw) in members(object)? {
        // White space and a comma separate two members.
        let gap =
            text[from..].len() - text[from..].trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',').len();
        let value = offset(raw.get());
        let end = value + raw.get().len();
        spans.push(Span { key, start: from + gap, value, end });
        from = end;
    }
    Ok((spans, offset(object.get()) + object.get().len() - 1))
}

/// Returns the white space at the beginning of the last line.
fn margin(before: &str) -> &str {
    let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    &line[..line.len() - line.trim_start().len()]
}

/// Returns the value with `margin` before each line but the first.
fn indented(value: &str, margin: &str) -> String {
    value.replace('\n', &format!("\n{margin}"))
}

fn quoted(key: &str) -> String {
    serde_json::Value::from(key).to_string()
}

/// Collects the members of an object without parsing their values.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            pairs.push((key, map.next_value()?));
        }
        Ok(pairs)
    }
}

/// A string, borrowed from the source unless it contains escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
pub struct Key<'a>(#[serde(borrow)] pub Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// The new text looks as if a person had written it: same lines, same indentation.
    #[test]
    fn set_follows_the_surrounding_layout() {
        for (text, path, value, wanted) in [
            ("", &["a"][..], "1", "{\n  \"a\": 1\n}\n"),
            ("{}", &["a", "b"], "1", "{\n  \"a\": {\n    \"b\": 1\n  }\n}"),
            ("{ \"a\": 1 }\n", &["b"], "2", "{ \"a\": 1, \"b\": 2 }\n"),
            ("{\"a\":1}", &["b"], "2", "{\"a\":1, \"b\": 2}"),
            ("{\n\t\"a\": 1\n}\n", &["b"], "{\n  \"c\": 2\n}", "{\n\t\"a\": 1,\n\t\"b\": {\n\t  \"c\": 2\n\t}\n}\n"),
            ("{\n  \"a\": 1,\n  \"b\": 2\n}", &["a"], "[3]", "{\n  \"a\": [3],\n  \"b\": 2\n}"),
            ("{\"\\u0061\" : { } , \"b\":0}", &["a", "x"], "1", "{\"\\u0061\" : {\n  \"x\": 1\n} , \"b\":0}"),
        ] {
            assert_eq!(set(text, path, value).unwrap(), wanted, "{text:?}");
        }
    }

    #[test]
    fn remove_leaves_no_trace_of_member() {
        for (text, path, wanted) in [
            ("{\n  \"a\": 1,\n  \"b\": 2\n}\n", &["a"][..], "{\n  \"b\": 2\n}\n"),
            ("{\n  \"a\": 1,\n  \"b\": 2\n}\n", &["b"], "{\n  \"a\": 1\n}\n"),
            ("{\n  \"a\": 1\n}\n", &["a"], "{}\n"),
            ("{\"a\": {\"b\": 1, \"c\": 2}}", &["a", "b"], "{\"a\": {\"c\": 2}}"),
            ("{\"a\": {\"b\": 1}}", &["a", "z"], "{\"a\": {\"b\": 1}}"),
            ("{\"a\": 1}", &["z", "a"], "{\"a\": 1}"),
        ] {
            assert_eq!(remove(text, path).unwrap(), wanted, "{text:?}");
        }
    }

    #[test]
    fn set_in_non_object_is_error() {
        for text in ["[]", "1", "{\"a\": 1", "{\"a\": 1}", "nul"] {
            assert!(set(text, &["a", "b"], "1").is_err(), "{text}");
        }
    }

    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(json!(null)), any::<i32>().prop_map(Value::from), ".{0,4}".prop_map(Value::from)];
        let value = leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[ab\"\\\\,é]{0,2}", inner, 0..4).prop_map(|map| json!(map)),
            ]
        });
        proptest::collection::btree_map("[ab\"\\\\,é]{0,2}", value, 0..4).prop_map(|map| json!(map))
    }

    proptest! {
        /// A change of the text gives the same value as a change of the parsed value, for any layout.
        #[test]
        fn text_change_equals_value_change(before in object(), key in "[ab\"\\\\,é]{0,2}", pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&before) } else { serde_json::to_string(&before) }.unwrap();
            let mut wanted = before.clone();
            wanted[&key] = json!({"new": [1]});
            let changed = set(&text, &[&key], "{\n  \"new\": [1]\n}").unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&changed).unwrap(), wanted.clone());
            wanted.as_object_mut().unwrap().remove(&key);
            let removed = remove(&changed, &[&key]).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&removed).unwrap(), wanted);
            if before.get(&key).is_none() && before.as_object().is_some_and(|object| !object.is_empty()) {
                prop_assert_eq!(removed, text);
            }
        }
    }
}
