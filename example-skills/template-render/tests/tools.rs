//! The tools, called as a host calls them.

use skills_sdk::prelude::*;
use skills_sdk::testing::TestContext;
use template_render::skill;

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/template.j2");
const PEOPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/people.json");

fn call(tool: &str, input: Value) -> Result<Value, Failure> {
    skill().call(tool, input, &TestContext::new())
}

fn render(input: Value) -> Value {
    call("render", input).unwrap()["text"].clone()
}

#[track_caller]
fn refused(result: Result<Value, Failure>, expected: &str, part: &str) {
    match result {
        Err(Failure::InvalidInput { pointer, message }) => {
            assert_eq!(pointer, expected);
            assert!(message.contains(part), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn templates_are_rendered_with_data() {
    let input = json!({ "template": "{{ greeting | title }}, {{ user.name }}!", "data": { "greeting": "good day", "user": { "name": "Ada" } } });
    assert_eq!(render(input), "Good Day, Ada!");
    assert_eq!(
        render(json!({ "template": "{% for i in range(3) %}{{ i }}{% endfor %}" })),
        "012"
    );
}

#[test]
fn files_are_rendered_with_files() {
    let text = render(json!({ "path": TEMPLATE, "data_path": PEOPLE }));
    let text = text.as_str().unwrap();
    assert!(
        text.starts_with("Dear members of Allotment 14,\n\nwe meet on 2025-04-08 at the shed.\n")
    );
    assert!(text.contains("\nBo (1 plot)\n  - fix the roof\n  - lend the ladder\n"));
    assert!(text.contains("Together we have 167 years"));
}

#[test]
fn templates_include_those_beside_them() {
    let directory = std::env::temp_dir().join(format!("template-render-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("part.txt"), "part {{ n }}").unwrap();
    let render = |template: &str| {
        let path = directory.join("whole.txt");
        std::fs::write(&path, template).unwrap();
        call("render", json!({ "path": path, "data": { "n": 1 } }))
    };
    let (whole, outside, endless) = (
        render("whole {% include 'part.txt' %}"),
        render("{% include '../x' %}"),
        render("{% include 'whole.txt' %}"),
    );
    std::fs::remove_dir_all(&directory).unwrap();

    assert_eq!(whole.unwrap()["text"], "whole part 1");
    refused(outside, "/path", "template not found");
    refused(endless, "/path", "recursion limit");
}

#[test]
fn inserted_values_are_escaped_as_asked() {
    let render = |escape: &str| {
        render(json!({ "template": "{{ a }}", "data": { "a": "<b>" }, "escape": escape }))
    };
    assert_eq!(render("auto"), "<b>");
    assert_eq!(render("html"), "&lt;b&gt;");
    assert_eq!(render("json"), "\"<b>\"");

    let page = Attachment::new("page.html.j2", "text/plain", "{{ a }}");
    let ctx = TestContext::new().attachment(page);
    let text = skill()
        .call("render", json!({ "data": { "a": "<b>" } }), &ctx)
        .unwrap();
    assert_eq!(text["text"], "&lt;b&gt;");
}

#[test]
fn undefined_variables_are_errors_unless_lenient() {
    let template = "Dear\n{{ user.name }}";
    refused(
        call("render", json!({ "template": template })),
        "/template",
        "undefined value: `user` is undefined: `user.name` (template, line 2)",
    );
    assert_eq!(
        render(json!({ "template": "a{{ b }}", "lenient": true })),
        "a"
    );
}

#[test]
fn runaway_templates_are_stopped() {
    let render = |template: &str| call("render", json!({ "template": template }));
    let forever = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    match render(forever) {
        Err(Failure::Error { code, .. }) => assert_eq!(code.as_deref(), Some("template-too-long")),
        other => panic!("{other:?}"),
    }
    let recursion = "{% macro a(n) %}{{ a(n) }}{% endmacro %}{{ a(1) }}";
    refused(render(recursion), "/template", "recursion limit");
}

#[test]
fn variables_are_listed() {
    let variables = call("variables", json!({ "path": TEMPLATE })).unwrap();
    assert_eq!(
        variables["variables"],
        json!(["meeting.date", "meeting.place", "people", "team"])
    );
    let template =
        "{% set a = b %}{{ a }}{% for i in range(3) %}{{ i }}{{ loop.index }}{% endfor %}";
    assert_eq!(
        call("variables", json!({ "template": template })).unwrap()["variables"],
        json!(["b"])
    );
}

#[test]
fn mistakes_are_located() {
    refused(
        call("render", json!({})),
        "",
        "give `template`, `path` or an attachment",
    );
    refused(
        call("render", json!({ "template": "a", "path": "b" })),
        "/path",
        "not both",
    );
    refused(
        call(
            "render",
            json!({ "template": "a", "data": {}, "data_path": "b" }),
        ),
        "/data_path",
        "not both",
    );
    refused(
        call("render", json!({ "template": "a", "data_path": "none" })),
        "/data_path",
        "not granted (--dir)",
    );
    refused(
        call("render", json!({ "template": "a", "data_path": TEMPLATE })),
        "/data_path",
        "not a JSON object",
    );
    refused(
        call("render", json!({ "template": "a", "data": [1] })),
        "/data",
        "map",
    );
    refused(
        call("render", json!({ "path": "none.j2" })),
        "/path",
        "not granted (--dir)",
    );
    refused(
        call("render", json!({ "template": "a\n{% if %}" })),
        "/template",
        "line 2",
    );
    refused(
        call("variables", json!({ "template": "{{ a" })),
        "/template",
        "syntax error",
    );
}
