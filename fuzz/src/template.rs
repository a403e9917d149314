//! Tag templates: a template, and after a line `---` the document for it (else a recorded one).

use std::sync::LazyLock;

use remora::template::Template;
use serde_json::{Value, json};

use super::metadata::is_shown;

/// Stands in a document where a secret would.
const SECRET: &str = "c4n4ry-0f-4-d0cum3nt";

static RECORDED: LazyLock<Value> = LazyLock::new(|| {
    let text = include_str!("../../src/docker/testdata/inspect.json");
    serde_json::from_str(text).expect("a document in JSON")
});

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (source, document) = text.split_once("\n---\n").unwrap_or((&text, ""));
    let document = serde_json::from_str::<Value>(document).unwrap_or_else(|_| RECORDED.clone());
    let template = match Template::parse(source) {
        Ok(template) => template,
        Err(error) => return sentence(&error.0, source),
    };
    assert_eq!(Ok(&template), Template::parse(source).as_ref());
    let rendered = template.render(&document);
    assert_eq!(rendered, template.render(&document), "the same document gives the same tags");
    match &rendered {
        Ok(rendered) => {
            assert!(rendered.text.len() <= Template::MAX_OUTPUT, "{} bytes", rendered.text.len());
            assert!(!rendered.text.contains("<no value>") || text.contains("no value"), "{:?}", rendered.text);
            assert!(rendered.left_out.len() <= 9, "{:?}", rendered.left_out);
            rendered.left_out.iter().for_each(|why| sentence(why, source));
        }
        Err(error) => sentence(&error.0, source),
    }
    if !source.contains("{{") && source.len() <= Template::MAX_OUTPUT {
        assert_eq!(rendered.unwrap().text, source, "a text without templates is its own");
    }
    silent(&template, source);
}

/// An error is one sentence.
fn sentence(error: &str, source: &str) {
    assert!(!error.is_empty() && error.len() <= 2000, "{} bytes: {error}", error.len());
    // It may quote the template, never a line break.
    assert!(is_shown(error, 2000), "{error:?} of {source:?}");
}

/// No error shows a value of the document; what the template itself says may be quoted.
fn silent(template: &Template, source: &str) {
    if source.contains(SECRET) {
        return;
    }
    let mut secret = RECORDED.clone();
    fill(&mut secret);
    let told = match template.render(&secret) {
        Ok(rendered) => rendered.left_out.join(" "),
        Err(error) => error.0,
    };
    assert!(!told.contains(SECRET), "{told}");
}

fn fill(value: &mut Value) {
    match value {
        Value::String(text) => *text = SECRET.to_owned(),
        Value::Number(_) => *value = json!(SECRET),
        Value::Array(items) => items.iter_mut().for_each(fill),
        Value::Object(fields) => fields.values_mut().for_each(fill),
        Value::Null | Value::Bool(_) => {}
    }
}
