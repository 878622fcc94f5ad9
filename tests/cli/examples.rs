//! The example skills, built for the sandbox and run in it, by the commands that their own `SKILL.md`
//! names, on the data that stands beside them.

use std::fs;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{EXAMPLE_SKILLS, Place, root};
use crate::network::{page, serve};
use crate::readme::{Step, blocks, follow};

/// A place with a skill, and the data.
fn place(skill: &str) -> Place {
    let place = Place::new();
    place.add_example(skill);
    place.add_data();
    place
}

/// What the commands of the skill's `SKILL.md` answer, each a line of JSON, one after the other.
fn documented(place: &Place, skill: &str, change: impl Fn(String) -> String) -> Vec<Value> {
    let text = place.read(&format!("{skill}/SKILL.md"));
    let shell = blocks(&text, "sh");
    assert!(!shell.is_empty(), "{skill} names no command");
    let steps: Vec<Step> = shell
        .into_iter()
        .map(|command| Step {
            command: change(command),
            exit: 0,
            says: vec![format!("✓ {skill} 0.1.0 · ")],
        })
        .collect();
    // A block of several commands ends where one of them fails.
    let said = follow(place, "", &steps, |step| {
        format!("(set -e; {})", step.command)
    });
    // What it logged on the way is no JSON.
    said.lines()
        .filter(|line| line.starts_with(['{', '[']))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn answers(place: &Place, skill: &str) -> Vec<Value> {
    documented(place, skill, |command| command)
}

/// The answer of one run.
#[track_caller]
fn answer(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("an answer is JSON")
}

#[test]
fn all_are_tried_here() {
    let folder = root().join("example-skills");
    let mut there: Vec<_> = fs::read_dir(folder)
        .expect("it is there")
        .flatten()
        .filter(|entry| entry.path().join("skill.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    there.sort();
    assert_eq!(there, EXAMPLE_SKILLS);
}

#[test]
fn csv_query() {
    let place = place("csv-query");
    let answers = answers(&place, "csv-query");
    let [columns, largest, continents] = &answers[..] else {
        panic!("{answers:?}");
    };
    let named = columns["columns"].as_array().expect("a list");
    assert!(
        named.iter().any(|column| column["name"] == "population"),
        "{columns}"
    );
    assert_eq!(largest["columns"], json!(["city", "country", "population"]));
    assert_eq!(largest["rows"].as_array().map(Vec::len), Some(5));
    assert_eq!(
        continents["columns"],
        json!(["continent", "cities", "sum_population"])
    );
    assert_eq!(continents["rows"][0][0], "Asia");
}

#[test]
fn fetch_page() {
    let place = place("fetch-page");
    let server = serve(page(
        "<title>T</title><nav>menu</nav><main><h1>Hello</h1></main>",
    ));
    let site = format!("http://{server}");
    let answers = documented(&place, "fetch-page", |command| {
        command.replace("https://example.com", &site)
    });
    assert_eq!(
        answers,
        [json!({
            "markdown": "# Hello", "media_type": "text/html", "title": "T", "url": format!("{site}/"),
        })]
    );
}

#[test]
fn html_to_markdown() {
    let place = place("html-to-markdown");
    let answers = answers(&place, "html-to-markdown");
    let [main, whole] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(main["title"], "Why bread rises – The Slow Oven");
    let main = main["markdown"].as_str().expect("a text");
    assert!(
        main.starts_with("# Why bread rises\n\nPublished 3 February 2025"),
        "{main}"
    );
    assert!(
        main.contains("| 22 °C | 3 hours    | an everyday loaf        |"),
        "{main}"
    );
    assert!(!main.contains("Recipes"), "{main}");
    // With navigation, and without where it leads.
    let whole = whole["markdown"].as_str().expect("a text");
    assert!(
        whole.contains("Recipes") && !whole.contains("/recipes"),
        "{whole}"
    );
}

#[test]
fn image_tools() {
    let place = place("image-tools");
    let answers = answers(&place, "image-tools");
    let [metadata, thumbnail] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(metadata["media_type"], "image/jpeg");
    assert_eq!(metadata["bytes"], 49_224);
    assert!(
        metadata["exif"]
            .as_object()
            .is_some_and(|exif| !exif.is_empty()),
        "{metadata}"
    );
    let written = fs::read(place.path("thumbnails/thumbnail.jpg")).expect("it is there");
    assert_eq!(thumbnail["attachment"], "thumbnail.jpg");
    assert_eq!(thumbnail["bytes"], written.len());
    assert!(written.starts_with(b"\xff\xd8") && written.len() < 49_224);

    // The other format, by way of a granted folder; a PNG says itself how large it is.
    let output = place.output([
        "run",
        "image-tools",
        "thumbnail",
        "--dir",
        "data",
        "--arg",
        "path=data/photo.jpg",
        "--arg",
        "width=64",
        "--arg",
        "format=png",
        "--json",
    ]);
    let result = answer(&output);
    let attachment = &result["attachments"][0];
    assert_eq!(
        (&attachment["name"], &attachment["media_type"]),
        (&json!("thumbnail.png"), &json!("image/png"))
    );
    let png = attachment["data"].as_str().expect("base64");
    let png = STANDARD.decode(png).expect("base64");
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!(&png[1..4], b"PNG");
    assert_eq!(
        (json!(side(16)), json!(side(20))),
        (
            result["output"]["width"].clone(),
            result["output"]["height"].clone()
        )
    );
    assert_eq!(side(16).max(side(20)), 64);
}

#[test]
fn json_query() {
    let place = place("json-query");
    let answers = answers(&place, "json-query");
    let [query, verdict] = &answers[..] else {
        panic!("{answers:?}");
    };
    let people = json!([
        {"name": "Ada", "plots": 2}, {"name": "Chidi", "plots": 1}, {"name": "Dana", "plots": 3},
    ]);
    assert_eq!(query, &json!({"results": [people], "truncated": false}));
    assert_eq!(verdict, &json!({"valid": true, "faults": []}));

    // From standard input, and with a fault.
    let said = place.run_with_stdin(
        ["run", "json-query", "validate", "--dir", "data", "--input", "-"],
        br#"{"schema_path": "data/schema.json", "data": {"team": "", "people": [{"name": "Ada"}]}}"#,
    );
    assert!(said.contains(r#""valid":false"#), "{said}");
    for pointer in ["/team", "/people/0"] {
        assert!(
            said.contains(&format!(r#""pointer":"{pointer}""#)),
            "{said}"
        );
    }
}

#[test]
fn notes() {
    let place = place("notes");
    let answers = answers(&place, "notes");
    let [added, found] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(added["text"], "Anna prefers mornings");
    assert!(
        found.to_string().contains("Anna prefers mornings"),
        "{found}"
    );
}

#[test]
fn regex_search() {
    let place = place("regex-search");
    let answers = answers(&place, "regex-search");
    let [found, list] = &answers[..] else {
        panic!("{answers:?}");
    };
    let todo = |path: &str, text: &str| {
        let matches = found["matches"].as_array().expect("a list");
        let found = matches.iter().find(|found| found["path"] == path);
        let found = found.unwrap_or_else(|| panic!("{path}: {matches:?}"));
        assert!(
            found["text"]
                .as_str()
                .is_some_and(|line| line.contains(text)),
            "{found}"
        );
        found.clone()
    };
    let seeds = todo(
        "data/notes/meetings/2025-03-11.md",
        "TODO: Ada orders seeds",
    );
    assert_eq!(seeds["line"], 7);
    assert_eq!(
        seeds["before"],
        json!(["- Bo's offers for the roof: 840 and 1,120. We take the first."])
    );
    todo(
        "data/notes/meetings/2025-02-11.md",
        "TODO: Dana writes to the council",
    );
    todo("data/notes/reading.txt", "TODO: return");
    assert_eq!(
        (&found["files_searched"], &found["truncated"]),
        (&json!(6), &json!(false))
    );
    // Five of the six are Markdown, as they are on disk.
    assert_eq!(list["count"], 5);
    let size = |file: &Value| {
        let path = place.path(file["path"].as_str().expect("a path"));
        assert_eq!(path.extension().and_then(|end| end.to_str()), Some("md"));
        let size = fs::metadata(&path).expect("it is there").len();
        assert_eq!(file["bytes"], size, "{}", path.display());
    };
    list["files"]
        .as_array()
        .expect("a list")
        .iter()
        .for_each(size);

    // What is not granted is not searched, wherever it lies.
    let output = place.output([
        "run",
        "regex-search",
        "search",
        "--dir",
        "data/notes/recipes",
        "--arg",
        "path=data/notes",
        "--arg",
        "pattern=TODO",
    ]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn template_render() {
    let place = place("template-render");
    let answers = answers(&place, "template-render");
    let [variables, letter, line] = &answers[..] else {
        panic!("{answers:?}");
    };
    let wanted = variables["variables"].as_array().expect("a list");
    for variable in ["meeting.date", "meeting.place", "people", "team"] {
        assert!(wanted.contains(&json!(variable)), "{variables}");
    }
    let letter = letter["text"].as_str().expect("a text");
    assert!(
        letter.starts_with(
            "Dear members of Allotment 14,\n\nwe meet on 2025-04-08 at the shed.\n\n\
             Ada (2 plots)\n  - order seeds\n"
        ),
        "{letter}"
    );
    assert!(
        letter.contains("Together we have 167 years of experience."),
        "{letter}"
    );
    assert_eq!(line, &json!({"text": "Dear Ada,"}));
}

#[test]
fn text_stats() {
    let place = place("text-stats");
    let answers = answers(&place, "text-stats");
    let [count] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(count["words"], 6);
    assert_eq!(count["top_words"][0], json!({"count": 2, "word": "be"}));
}

/// A model that reads `SKILL.md` calls the tools by the names that it finds there.
#[test]
fn what_their_documents_name_is_what_they_take() {
    for skill in EXAMPLE_SKILLS {
        let place = Place::new();
        place.add_example(skill);
        let output = place.output(["inspect", skill, "--json"]);
        let inspected = answer(&output);
        let tools = inspected["tools"].as_array().expect("a list");
        let text = place.read(&format!("{skill}/SKILL.md"));
        for tool in tools {
            let name = tool["name"].as_str().expect("a name");
            let fields = &tool["input_schema"]["properties"];
            let fields = fields.as_object().expect("fields").keys();
            for name in fields.map(String::as_str).chain([name]) {
                let named = text.contains(&format!("`{name}`"));
                assert!(named, "{skill}'s SKILL.md does not name `{name}`");
            }
        }
        // And what it names is there.
        let known = inspected["tools"].to_string();
        for name in text.split('`').skip(1).step_by(2) {
            let of_fields = name.contains('_') && !name.contains(|c: char| !is_of_field(c));
            let there =
                known.contains(&format!("\"{name}\"")) || known.contains(&format!("`{name}`"));
            assert!(
                !of_fields || there,
                "{skill}'s SKILL.md names `{name}`, which is not there"
            );
        }
    }
}

fn is_of_field(character: char) -> bool {
    character.is_ascii_lowercase() || character == '_'
}
