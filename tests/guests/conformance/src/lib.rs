//! A skill with the tools that the conformance suite of the Model Context Protocol calls, as far as a
//! skill can have them. It speaks the contract directly, without the SDK.

use exports::skillhost::skill::tools::{Attachment, Context, Description, Failure, Guest, Output};
use serde_json::{Value, json};
use skillhost::skill::logging::{Level, log};
use skillhost::skill::progress::report;
use skillhost::skill::types::{Annotations, Error, Tool};
use wasip2::clocks::monotonic_clock;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "skill",
    generate_all,
});

struct Conformance;

export!(Conformance);

/// What is asked for by these names.
const TOOLS: &[&str] = &[
    "json_schema_2020_12_tool",
    "test_audio_content",
    "test_embedded_resource",
    "test_error_handling",
    "test_image_content",
    "test_multiple_content_types",
    "test_reconnection",
    "test_simple_text",
    "test_tool_with_logging",
    "test_tool_with_progress",
];

impl Guest for Conformance {
    fn describe() -> Description {
        Description {
            name: "conformance".into(),
            version: "0.1.0".into(),
            description: "Has the tools that the conformance suite calls.".into(),
            tools: TOOLS.iter().map(|name| tool(name)).collect(),
        }
    }

    fn execute(tool: String, _: String, _: Vec<Attachment>, _: Context) -> Result<Output, Failure> {
        let png = || attachment("pixel.png", "image/png", b"\x89PNG\r\n\x1a\n");
        Ok(match tool.as_str() {
            "test_audio_content" => answer(
                "sound",
                vec![attachment("a.wav", "audio/wav", b"RIFF....WAVE")],
            ),
            "test_embedded_resource" => {
                let text = b"This is an embedded resource content.";
                answer("a file", vec![attachment("file.txt", "text/plain", text)])
            }
            "test_error_handling" => {
                return Err(Failure::Error(Error {
                    message: "This tool intentionally returns an error for testing".into(),
                    code: None,
                    details: None,
                }));
            }
            "test_image_content" => answer("a picture", vec![png()]),
            "test_multiple_content_types" => {
                let data = br#"{"test":"data","value":123}"#;
                let file = attachment("data.json", "application/json", data);
                answer("Multiple content types test:", vec![png(), file])
            }
            "test_simple_text" => answer("This is a simple text response for testing.", Vec::new()),
            "test_tool_with_logging" => {
                for text in ["started", "processing data", "completed"] {
                    log(Level::Info, &format!("Tool execution {text}"));
                    pause();
                }
                answer("done", Vec::new())
            }
            "test_tool_with_progress" => {
                for percent in [0.0, 50.0, 100.0] {
                    report(Some(percent), "on the way", None);
                    pause();
                }
                answer("done", Vec::new())
            }
            "json_schema_2020_12_tool" | "test_reconnection" => answer("done", Vec::new()),
            other => unreachable!("the host checks that {other} is one of the tools"),
        })
    }
}

fn pause() {
    monotonic_clock::subscribe_duration(50_000_000).block();
}

fn answer(text: &str, attachments: Vec<Attachment>) -> Output {
    Output {
        json: Value::from(text).to_string(),
        attachments,
    }
}

fn attachment(name: &str, media_type: &str, data: &[u8]) -> Attachment {
    Attachment {
        name: name.into(),
        media_type: media_type.into(),
        data: data.into(),
    }
}

fn tool(name: &str) -> Tool {
    let input_schema = match name {
        "json_schema_2020_12_tool" => json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": {"address": {
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}}
            }},
            "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
            "additionalProperties": false
        }),
        _ => json!({"type": "object"}),
    };
    Tool {
        name: name.into(),
        title: None,
        description: format!("Tests {name}."),
        input_schema: input_schema.to_string(),
        output_schema: None,
        annotations: Annotations {
            read_only: Some(true),
            destructive: None,
            idempotent: None,
            open_world: Some(false),
        },
    }
}
