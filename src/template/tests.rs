//! What templates yield, and what they refuse.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;

/// An inspect document, shortened.
fn document() -> Value {
    json!({
        "Id": "0123456789abcdef0123456789abcdef",
        "Name": "/shop_web_1",
        "RestartCount": 2,
        "Args": [],
        "Config": {
            "Hostname": "Web-01",
            "Image": "registry.example:5000/shop/web:1.4",
            "Env": ["ENVIRONMENT=test", "SERVICE_8105_NAME=foo", "HOME=/home/foobar", "SERVICE_9404_NAME=bar"],
            "Cmd": null,
            "Labels": {
                "com.amazonaws.ecs.task-arn": "arn:aws:ecs:region:123:task/368f4403-0ee4",
                "tier": "front",
                "facts": "{\"zone\": {\"name\": \"eu-1\", \"racks\": [\"r1\", \"r2\"]}}"
            }
        },
        "State": {"Status": "running", "Running": true},
        "NetworkSettings": {"Networks": {"b": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": "10.0.0.1"}}}
    })
}

fn rendered(template: &str) -> Result<String, String> {
    Template::parse(template)
        .map_err(|error| format!("parse: {error}"))?
        .render(&document())
        .map(|rendered| rendered.text)
        .map_err(|error| error.to_string())
}

#[track_caller]
fn yields(template: &str, expected: &str) {
    assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
}

#[track_caller]
fn refused(template: &str, message: &str) {
    assert_eq!(rendered(template).unwrap_err(), message, "{template}");
}

#[test]
fn text_without_actions_is_copied() {
    yields("web,api", "web,api");
    yields("", "");
}

#[test]
fn fields_are_looked_up_in_the_document() {
    yields("host-{{.Config.Hostname}}", "host-Web-01");
    yields("{{ $.State.Status }}", "running");
    yields("{{.RestartCount}}{{.State.Running}}", "2true");
    yields("{{.Name}}", "/shop_web_1");
}

#[test]
fn the_field_names_of_registrators_documents_are_found() {
    yields("{{strSlice .ID 0 12}}", "0123456789ab");
    yields("{{range .NetworkSettings.Networks}}{{.IpAddress}} {{end}}", "10.0.0.1 10.0.0.2 ");
}

#[test]
fn trim_markers_and_comments_leave_no_trace() {
    yields("a, {{- /* why */ -}} b", "a,b");
    yields("a {{- \",\" -}} \n b", "a,b");
}

#[test]
fn pipelines_pass_their_value_as_the_last_argument() {
    yields("{{.Config.Hostname | toLower | printf \"%s-%s\" \"h\"}}", "h-web-01");
    yields("{{.Config.Image | split \"/\" | sIndex -1}}", "web:1.4");
    yields("{{(index .NetworkSettings.Networks \"b\").IPAddress}}", "10.0.0.2");
}

#[test]
fn conditions_take_the_first_true_branch() {
    let template = "{{if eq .State.Status \"dead\"}}a{{else if gt .RestartCount 1}}b{{else}}c{{end}}";
    yields(template, "b");
    yields("{{if .Args}}a{{else}}b{{end}}", "b");
    yields("{{if not .Config.Cmd}}a{{end}}", "a");
    yields("{{if and .State.Running (ne .RestartCount 0)}}a{{end}}", "a");
}

#[test]
fn what_is_missing_may_be_asked_about() {
    yields("{{if .State.Health}}a{{else}}b{{end}}", "b");
    yields("{{if .State.Health.Status}}a{{else}}b{{end}}", "b");
    yields("{{if eq .State.Health.Status \"healthy\"}}a{{else}}b{{end}}", "b");
    yields("{{or .Config.Labels.nothing \"none\"}}", "none");
    yields("{{with .Config.Labels.nothing}}{{.}}{{else}}none{{end}}", "none");
    yields("{{eq .State.Health.Status \"\"}}", "true");
}

#[test]
fn an_error_is_of_bounded_length() {
    let pattern = "\u{e000}".repeat(500);
    let why = rendered(&format!("{{{{matchAllElements \"[{pattern}\" .Config.Env}}}}")).unwrap_err();
    assert!((300..400).contains(&why.len()) && why.ends_with("… (line 1, column 3)"), "{} bytes: {why}", why.len());
}

#[test]
fn what_is_missing_is_never_written() {
    refused("{{.Config.Labels.foo}}", "no value at .Config.Labels.foo (line 1, column 3)");
    refused("a\n {{.Config.Lables.tier}}", "no value at .Config.Lables (line 2, column 4)");
    refused("{{toUpper .Config.Foo}}", "toUpper: no value at .Config.Foo (line 1, column 3)");
    refused("{{.Config.Cmd}}", "no value at .Config.Cmd (line 1, column 3)");
    refused("{{$x := .Config}}{{$x.Foo}}", "no value at $x.Foo (line 1, column 20)");
    refused("{{range .Nothing}}{{end}}", "no value at .Nothing (line 1, column 9)");
    refused(
        "{{(index .NetworkSettings.Networks \"\u{1}\").IPAddress}}",
        "no value at index .NetworkSettings.Networks \" \" (line 1, column 3)",
    );
    refused(
        "{{(index .NetworkSettings.Networks \"c\").IPAddress}}",
        "no value at index .NetworkSettings.Networks \"c\" (line 1, column 3)",
    );
}

#[test]
fn a_field_of_registrators_documents_that_docker_leaves_out_is_empty() {
    yields("prod,{{.State.Health.Status}}", "prod,");
    yields("{{with .State}}{{.Health.FailingStreak}}{{end}}|{{range .State.Health.Log}}x{{end}}", "0|");
    yields("[{{.NetworkSettings.IPAddress}}{{.NetworkSettings.Gateway}}{{.NetworkSettings.MacAddress}}]", "[]");
    yields("{{range .NetworkSettings.Networks}}[{{.GlobalIPv6Address}}]{{end}}", "[][]");
    yields("{{$n := .NetworkSettings}}[{{$n.IPAddress}}{{.HostConfig.NetworkMode}}{{.State.OOMKilled}}]", "[false]");
    yields("{{if .State.Health.Status}}a{{else}}b{{end}}{{or .Config.User \"root\"}}", "broot");
    refused("{{.State.Health}}", "no value at .State.Health (line 1, column 3)");
    refused("{{.State.Health.Foo}}", "no value at .State.Health (line 1, column 3)");
    refused("{{.Node.Hostname}}", "no value at .Node (line 1, column 3)");
}

/// The tags, and why others were left out.
fn parts(template: &str) -> (String, Vec<String>) {
    let rendered = Template::parse(template).unwrap().render(&document()).unwrap();
    (rendered.text, rendered.left_out)
}

#[test]
fn a_tag_that_fails_costs_itself() {
    let why = |path: &str, column: usize| format!("no value at {path} (line 1, column {column})");
    assert_eq!(parts("prod,{{.Foo}}"), ("prod,".into(), vec![why(".Foo", 8)]));
    assert_eq!(parts("{{.Foo}},x-{{.State.Status}}"), ("x-running".into(), vec![why(".Foo", 3)]));
    assert_eq!(parts("a,b-{{.Foo}}-{{.Name}}c,{{.Bar}},d").0, "a,d");
    assert_eq!(parts("a,b-{{.Foo}}-{{.Name}}c,{{.Bar}},d").1.len(), 2);
    assert_eq!(
        parts("a,{{range .Config.Env}}{{.}},{{$.Foo}}{{end}},b").0,
        "a,b",
        "a comma inside a block parts no tags"
    );
    assert_eq!(parts(r"a,x{{.Foo}}y\,z,b").0, "a,b", "an escaped comma parts no tags");
    assert_eq!(parts(r"a,x\,{{.Foo}}z,b").0, "a,b");
    assert_eq!(parts("{{range $k, $v := .Config.Labels}}{{$.Foo}}{{end}},b").0, "b");
    assert_eq!(parts("{{$x := \"v\"}}{{.Foo}},{{$x}}").0, "v");
    let many = format!("a{}", ",{{.Foo}}".repeat(100));
    assert_eq!(parts(&many).1.len(), 8);
}

#[test]
fn where_a_tag_may_depend_on_one_that_fails_all_fail() {
    for template in [
        "{{$x := \"a\"}},{{$x = .Foo.Bar | toUpper}},{{$x}}",
        "{{$x := \"a\"}},{{$x := toUpper .Foo}},{{$x}}",
        "{{$x := \"a\"}},{{.Foo}}{{$x = \"b\"}},{{$x}}",
        "{{$x := \"a\"}},{{if toUpper .Foo}}{{$x = \"b\"}}{{end}},{{$x}}",
        "{{.Foo}},{{.Bar}}",
    ] {
        assert!(
            rendered(template).unwrap_err().starts_with("no value at")
                || rendered(template).unwrap_err().contains(".Foo"),
            "{template}"
        );
    }
}

#[test]
fn a_label_that_is_not_there_is_an_empty_text_as_in_go() {
    yields("[{{index .Config.Labels \"nothing\"}}{{mIndex \"nothing\" .Config.Labels}}]", "[]");
    yields("{{index .Config.Labels \"tier\"}}", "front");
}

#[test]
fn slice_println_and_a_precision_work_as_in_go() {
    yields("{{slice .Id 0 12}}", "0123456789ab");
    yields("{{slice .Config.Hostname 4}}|{{slice .Config.Hostname}}", "01|Web-01");
    yields("{{join \",\" (slice .Config.Env 2 3)}}", "HOME=/home/foobar");
    yields("{{printf \"%.12s\" .Id}}", "0123456789ab");
    yields("{{println \"a\" 1}}", "a 1\n");
    assert!(
        rendered("{{slice .Config.Hostname 0 12}}").unwrap_err().contains("outside of a text, which has a length of 6")
    );
    assert!(rendered("{{slice .Config.Hostname 3 2}}").unwrap_err().contains("not behind the end"));
    assert!(rendered("{{slice .Config.Hostname -1}}").unwrap_err().contains("outside"));
    assert!(rendered("{{slice .Config.Labels 0}}").unwrap_err().contains("expected a text or a list"));
    assert!(rendered("{{slice .Config.Nothing 0}}").unwrap_err().contains("no value at .Config.Nothing"));
    assert!(rendered("{{slice .Id 0 1 2}}").unwrap_err().contains("expected `slice"));
}

#[test]
fn with_and_range_move_the_dot() {
    yields("{{with .Config}}{{.Hostname}}{{$.State.Status}}{{end}}", "Web-01running");
    yields(
        "{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{splitIndex 0 \"=\" $e}}{{end}}",
        "ENVIRONMENT,SERVICE_8105_NAME,HOME,SERVICE_9404_NAME",
    );
    yields(
        "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}} {{end}}",
        "a=10.0.0.1 b=10.0.0.2 ",
    );
    yields("{{range .Args}}x{{else}}none{{end}}", "none");
    yields("{{range .Config.Cmd}}x{{else}}none{{end}}", "none");
}

#[test]
fn variables_live_until_the_end_of_their_block() {
    yields("{{$x := 1}}{{if true}}{{$x = 2}}{{$y := 3}}{{$x}}{{$y}}{{end}}{{$x}}", "232");
    refused(
        "{{if true}}{{$y := 3}}{{end}}{{$y}}",
        "parse: no variable $y is set before this place (line 1, column 32)",
    );
}

#[test]
fn the_functions_of_registrator_do_what_its_source_documents() {
    yields("{{strSlice \"abcdef\" 2}}", "cdef");
    yields("{{strSlice \"abcdef\" 0 2}}", "ab");
    yields("{{strSlice \"abcdef\" 1 3}}", "bc");
    yields("{{strSlice \"abc\" 5}}", "abc");
    yields("{{strSlice \"abc\" 1 9}}", "abc");
    yields("{{strSlice \"abc\" 2 1}}", "c");
    yields("{{sIndex 0 .Config.Env}}", "ENVIRONMENT=test");
    yields("{{sIndex -1 .Config.Env}}", "SERVICE_9404_NAME=bar");
    yields("{{sIndex 99 .Config.Env}}", "SERVICE_9404_NAME=bar");
    yields("{{sIndex -99 .Config.Env}}", "ENVIRONMENT=test");
    yields("{{mIndex \"tier\" .Config.Labels}}", "front");
    yields("{{toUpper \"foo\"}}{{toLower \"FoO\"}}", "FOOfoo");
    yields("{{replace -1 \"=\" \"\" \"=foo=\"}}", "foo");
    yields("{{replace 1 \"=\" \"\" \"=foo=\"}}", "foo=");
    yields("{{join \",\" (split \"/\" \"/proc/bus,/proc/fs\")}}", ",proc,bus,,proc,fs");
    yields("{{split \",\" \"/proc/bus,/proc/fs,/proc/irq\"}}", "[/proc/bus /proc/fs /proc/irq]");
    yields("{{split \"\" \"añb\"}}", "[a ñ b]");
    yields("{{splitIndex -1 \"/\" (index .Config.Labels \"com.amazonaws.ecs.task-arn\")}}", "368f4403-0ee4");
    yields("{{matchFirstElement \"^SERVICE_\" .Config.Env}}", "SERVICE_8105_NAME=foo");
    yields("[{{matchFirstElement \"^NOTHING_\" .Config.Env}}]", "[]");
    yields("{{matchAllElements \"^SERVICE_\" .Config.Env}}", "[SERVICE_8105_NAME=foo SERVICE_9404_NAME=bar]");
    yields("{{jsonParse .Config.Labels.facts \"zone::name\"}}", "eu-1");
    yields("{{jsonParse .Config.Labels.facts \"zone::racks::[1]\"}}", "r2");
    yields("{{jsonParse .Config.Labels.facts \"zone::racks\"}}", "[\"r1\",\"r2\"]");
}

#[test]
fn a_cut_inside_of_a_character_yields_text() {
    yields("{{strSlice \"aéb\" 0 2}}|{{strSlice \"aéb\" 2}}", "a|éb");
}

#[test]
fn the_functions_of_go_compare_and_count() {
    yields("{{len .Config.Env}}{{len \"abc\"}}{{len .Config.Cmd}}{{len .Config.Labels}}", "4303");
    yields(
        "{{eq 1 2 1}}{{ne \"a\" \"a\"}}{{lt 1 2}}{{le \"b\" \"a\"}}{{gt 1.5 1}}{{ge 1 1}}",
        "truefalsetruefalsetruetrue",
    );
    yields("{{and true \"\" (index .Config.Env 99)}}|{{or \"\" 0 \"x\"}}", "|x");
    yields("{{index .Config.Env 1}}", "SERVICE_8105_NAME=foo");
    yields("{{index .NetworkSettings.Networks \"a\" \"IPAddress\"}}", "10.0.0.1");
    yields("{{print 1 2 \"a\"}}{{printf \"%d-%q\" 3 \"x\"}}", "1 2a3-\"x\"");
}

#[test]
fn wrong_values_are_refused_without_being_shown() {
    for (template, message) in [
        (
            "{{index .Config.Env 9}}",
            "index: position 9 is outside of the list, which has 4 elements (line 1, column 3)",
        ),
        ("{{toUpper .Config.Env}}", "toUpper: expected a text, not a list (line 1, column 3)"),
        ("{{join \",\" .Config.Labels}}", "join: expected a list of texts, not a map (line 1, column 3)"),
        ("{{eq .Config.Hostname 1}}", "eq: a text cannot be compared with a number (line 1, column 3)"),
        ("{{.Name.Foo}}", ".Name has no field Foo: it is a text (line 1, column 3)"),
        ("{{sIndex 0 .Args}}", "sIndex: the list is empty (line 1, column 3)"),
        ("{{jsonParse .Name \"a\"}}", "jsonParse: the text is not JSON (line 1, column 3)"),
        ("{{strSlice .Name -1}}", "strSlice: expected a position that is not negative (line 1, column 3)"),
        ("{{range .Name}}{{end}}", "range needs a list or a map, not a text (line 1, column 9)"),
    ] {
        refused(template, message);
    }
}

#[test]
fn mistakes_are_found_without_a_document() {
    for (template, message) in [
        ("{{.Config.Hostname", "`{{` is not closed: expected `}}` (line 1, column 1)"),
        ("{{}}", "unexpected `}}`: expected a value (line 1, column 3)"),
        ("{{if true}}x", "`{{if}}` is not closed: expected `{{end}}` (line 1, column 3)"),
        ("x{{end}}", "`{{end}}` without an `{{if}}`, `{{with}}` or `{{range}}` before it (line 1, column 4)"),
        ("{{toupper .Name}}", "unknown function toupper: did you mean toUpper? (line 1, column 3)"),
        ("{{len}}", "len with 0 arguments: expected `len x` (line 1, column 3)"),
        ("{{.Name .ID}}", "only a function takes arguments: expected a function before this value (line 1, column 9)"),
        ("{{.Name | .ID}}", "a value cannot be piped into: expected a function after `|` (line 1, column 11)"),
        ("{{$x}}", "no variable $x is set before this place (line 1, column 3)"),
        ("{{$x = 1}}", "no variable $x is set before this place: expected `:=` (line 1, column 3)"),
        ("{{$x, $y := .Name}}", "two variables can only be set in a `{{range}}` (line 1, column 3)"),
        ("{{print toUpper}}", "a function as an argument: expected it in parentheses, (toUpper …) (line 1, column 9)"),
        ("{{print \"a\"\"b\"}}", "unexpected a string: expected a space before it (line 1, column 12)"),
        (
            "{{template \"x\"}}",
            "`template` is not supported in tags: expected if, with, range or a value (line 1, column 3)",
        ),
        ("{{printf \"%d\"}}", "printf: the format asks for 1 values, but there are 0 (line 1, column 3)"),
        (
            "{{if true}}a{{else}}b{{else}}c{{end}}",
            "a second `{{else}}` in one block: expected `{{end}}` (line 1, column 24)",
        ),
    ] {
        assert_eq!(Template::parse(template).unwrap_err().0, message, "{template}");
    }
    let regex = Template::parse("{{matchFirstElement \"(\" .Config.Env}}").unwrap_err().0;
    assert!(regex.starts_with("matchFirstElement: \"(\" is not a usable regular expression: "), "{regex}");
}

#[test]
fn the_network_is_refused_with_what_to_do_instead() {
    let error = Template::parse("{{httpGet \"http://x\" | jsonParse \"a\"}}").unwrap_err().0;
    assert!(error.starts_with("httpGet is not supported, because a tag must not wait for the network"), "{error}");
    assert!(error.contains("label of the container"), "{error}");
}

#[test]
fn size_and_depth_of_a_template_are_bounded() {
    let long = "x".repeat(Template::MAX_SOURCE + 1);
    assert_eq!(Template::parse(&long).unwrap_err().0, "the template has 16385 bytes: expected at most 16384");
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(65), ")".repeat(65));
    assert!(Template::parse(&deep).unwrap_err().0.starts_with("nested too deep: expected at most 64 levels"));
    let blocks = "{{if true}}".repeat(65) + &"{{end}}".repeat(65);
    assert!(Template::parse(&blocks).unwrap_err().0.starts_with("nested too deep"));
}

#[test]
fn a_render_is_bounded_in_length_and_in_work() {
    let long = json!({"list": vec!["x".repeat(100); 1000]});
    let template = Template::parse("{{range .list}}{{.}}{{end}}").unwrap();
    assert_eq!(
        template.render(&long).unwrap_err().0,
        "the template yields more than 4096 bytes for this container: expected tags"
    );
    let loops = "{{range $.list}}".repeat(5) + &"{{end}}".repeat(5);
    assert_eq!(
        Template::parse(&loops).unwrap().render(&long).unwrap_err().0,
        "the template does too much work for one container: expected fewer loops"
    );
    let growth = "{{$x := \"xxxxxxxxxxxxxxxx\"}}".to_owned() + &"{{$x = replace -1 \"x\" $x $x}}".repeat(8);
    assert!(Template::parse(&growth).unwrap().render(&long).unwrap_err().0.contains("longer than 65536 bytes"));
}

#[test]
fn errors_never_hold_a_value_of_the_document() {
    let document = json!({
        "Config": {"Env": ["TOKEN=canary"], "Labels": {"a": "canary"}, "Hostname": "canary", "Image": "%canary"}
    });
    for template in [
        "{{index .Config .Config.Hostname}}",
        "{{index .Config.Env .Config.Hostname}}",
        "{{printf .Config.Image 1}}",
        "{{jsonParse .Config.Hostname .Config.Image}}",
        "{{matchFirstElement .Config.Image .Config.Hostname}}",
        "{{lt .Config.Hostname 1}}",
        "{{.Config.Hostname.x}}",
        "{{printf \"%d\" .Config.Hostname}}",
    ] {
        let error = Template::parse(template).unwrap().render(&document).unwrap_err().0;
        assert!(!error.contains("canary"), "{template}: {error}");
    }
}

#[test]
fn every_function_is_explained_in_the_documentation() {
    let documentation = include_str!("../../docs/tag-templates.md");
    for name in super::function_names() {
        assert!(documentation.contains(&format!("`{name}")), "docs/tag-templates.md does not explain {name}");
    }
}

/// Pieces of templates: random text alone hardly ever gets past the lexer.
fn fragments() -> impl Strategy<Value = String> {
    let fragment = prop_oneof![
        Just("{{"),
        Just("}}"),
        Just("{{- "),
        Just(" -}}"),
        Just("{{/* x */}}"),
        Just("if "),
        Just("else "),
        Just("{{else}}"),
        Just("{{end}}"),
        Just("{{range $i, $e := .Config.Env}}"),
        Just("{{range .Config.Labels}}"),
        Just("{{with .Config}}"),
        Just("{{if .State}}"),
        Just("$x := "),
        Just("$x = "),
        Just("$i"),
        Just("$"),
        Just("."),
        Just(".Config.Env"),
        Just(".Config.Labels"),
        Just(".Name"),
        Just(".Nothing"),
        Just("("),
        Just(")"),
        Just(" | "),
        Just(" "),
        Just("index "),
        Just("len "),
        Just("printf \"%s\" "),
        Just("print "),
        Just("eq "),
        Just("and "),
        Just("or "),
        Just("not "),
        Just("lt "),
        Just("strSlice "),
        Just("sIndex "),
        Just("mIndex "),
        Just("replace "),
        Just("join "),
        Just("split "),
        Just("splitIndex "),
        Just("matchAllElements "),
        Just("jsonParse "),
        Just("\",\" "),
        Just("\"\" "),
        Just("`a.*` "),
        Just("-1 "),
        Just("0 "),
        Just("9223372036854775807 "),
        Just("1.5 "),
        Just("nil "),
        Just("true "),
        Just("é"),
        Just("\n"),
        Just("'"),
        Just("\\"),
    ];
    prop::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat())
}

/// One call with arguments of every kind: these get as far as the functions themselves.
fn calls() -> impl Strategy<Value = String> {
    let argument = prop_oneof![
        Just(".Config.Env".to_owned()),
        Just(".Config.Labels".to_owned()),
        Just(".Config.Labels.facts".to_owned()),
        Just(".Config.Cmd".to_owned()),
        Just(".Nothing".to_owned()),
        Just("nil".to_owned()),
        Just("$".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (-3_i64..9).prop_map(|number| number.to_string()),
        any::<f32>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| format!("{number:.3}")),
        ".{0,6}".prop_map(|text| format!("{text:?}")),
    ];
    let name = prop::sample::select(super::function_names());
    (name, prop::collection::vec(argument, 0..5))
        .prop_map(|(name, arguments)| format!("{{{{{name} {}}}}}", arguments.join(" ")))
}

proptest! {
    #[test]
    fn no_text_makes_a_template_panic(source in ".{0,200}") {
        if let Ok(template) = Template::parse(&source) {
            let _outcome = template.render(&document());
        }
    }

    #[test]
    fn no_combination_of_pieces_makes_a_template_panic(source in fragments()) {
        if let Ok(template) = Template::parse(&source) {
            let _outcome = template.render(&document());
        }
    }

    #[test]
    fn no_call_makes_a_template_panic_and_no_output_is_too_long(source in calls()) {
        if let Ok(found) = Template::parse(&source).and_then(|template| template.render(&document())) {
            prop_assert!(found.text.len() <= Template::MAX_OUTPUT);
        }
    }

    #[test]
    fn text_without_delimiters_is_its_own_template(text in "[^{}]{0,200}") {
        prop_assert_eq!(Template::parse(&text).unwrap().render(&Value::Null).unwrap().text, text);
    }
}
