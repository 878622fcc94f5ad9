//! Components written by hand, in the text format, for what no compiler would make: a loop where no
//! loop belongs, lists that lie about their length, a hundred memories.
//!
//! [`Handmade`] is a whole skill of which a probe or a test replaces what it is about. Its core module
//! is called `main`, has one memory of 4 pages, and answers `{}` to everything.
//!
//! This is for the self-test and for this project's own tests: it follows them, and not semantic
//! versioning.

use std::fmt::Write as _;

/// Where the answers that are ready-made stand in memory. What is below is free for a guest's own
/// code.
pub const IMAGE: u32 = 4096;

/// The name of the only tool of a skill made here.
pub const TOOL: &str = "run";

/// A skill, part by part.
#[derive(Debug, Clone)]
pub struct Handmade {
    /// The version in the export's name.
    pub contract: &'static str,
    /// Definitions of the component before the core module, such as imports.
    pub before: String,
    /// What the core module is instantiated with: `(with "…" (instance …))`.
    pub with: String,
    /// Imports of the core module. They must stand first in it.
    pub imports: String,
    /// Further fields of the core module: globals, functions, a start function.
    pub fields: String,
    /// The memory that holds the answers.
    pub memory: String,
    /// The body of `execute`. It leaves the address of the answer, `$answer`.
    pub execute: String,
    /// The body of `describe`. It leaves the address of the description, `$description`.
    pub describe: String,
    /// The body of `cabi_realloc`.
    pub realloc: String,
    /// The body of both post-return functions.
    pub post_return: String,
    /// What `describe` answers.
    pub description: Description,
    /// What `execute` answers, where its body says so.
    pub answer: Answer,
    /// How it has its texts, such as `utf16`.
    pub encoding: &'static str,
}

/// What a handmade skill says of itself.
#[derive(Debug, Clone)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it says it is for.
    pub description: String,
    /// Names and input schemas.
    pub tools: Vec<(String, String)>,
    /// Of every tool.
    pub output_schema: Option<String>,
}

/// What a handmade skill answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The JSON text.
    pub json: Vec<u8>,
    /// Replaces the length of the JSON text.
    pub json_length: Option<u32>,
    /// Replaces pointer and length of the list of attachments, which is empty.
    pub attachments: (u32, u32),
    /// 0 for an answer, 1 for a failure.
    pub case: u8,
}

impl Default for Handmade {
    fn default() -> Self {
        Handmade {
            contract: "1.0.0",
            before: String::new(),
            with: String::new(),
            imports: String::new(),
            fields: String::new(),
            memory: r#"(memory (export "memory") 4)"#.into(),
            execute: "i32.const $answer".into(),
            describe: "i32.const $description".into(),
            realloc: BUMP.into(),
            post_return: String::new(),
            description: Description {
                name: "handmade".into(),
                version: "0.1.0".into(),
                description: "Made by hand.".into(),
                tools: vec![(TOOL.into(), "{}".into())],
                output_schema: None,
            },
            answer: Answer {
                json: b"{}".into(),
                json_length: None,
                attachments: (0, 0),
                case: 0,
            },
            encoding: "utf8",
        }
    }
}

/// Gives out the memory's last two pages, and never takes anything back.
const BUMP: &str = "
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
    (global.set $free (i32.add (local.get $at) (local.get 3)))
    (local.get $at)";

/// A loop without end, then whatever makes the body's type right.
pub const SPIN: &str = "(loop $for_ever (br $for_ever)) unreachable";

impl Handmade {
    /// A skill that can call the host: `$log` (level, pointer and length in a memory of 128 pages
    /// that is full of zeros), `$now`, `$subscribe` (nanoseconds; gives a pollable), `$block` and
    /// `$drop` (each of a pollable).
    pub fn that_calls() -> Self {
        Handmade {
            before: r#"
                (import "skillhost:skill/logging@1.0.0" (instance $logging
                    (type $l (enum "trace" "debug" "info" "warn" "error"))
                    (export "level" (type $level (eq $l)))
                    (export "log" (func (param "level" $level) (param "message" string)))))
                (import "wasi:io/poll@0.2.0" (instance $poll
                    (export "pollable" (type $p (sub resource)))
                    (export "[method]pollable.block" (func (param "self" (borrow $p))))))
                (alias export $poll "pollable" (type $pollable))
                (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                    (alias outer $skill $pollable (type $p))
                    (export "pollable" (type $q (eq $p)))
                    (export "now" (func (result u64)))
                    (export "subscribe-duration" (func (param "when" u64) (result (own $q))))))
                (core module $heap (memory (export "memory") 128))
                (core instance $heap (instantiate $heap))
                (core func $log (canon lower (func $logging "log")
                    (memory (core memory $heap "memory"))))
                (core func $now (canon lower (func $clock "now")))
                (core func $subscribe (canon lower (func $clock "subscribe-duration")))
                (core func $block (canon lower (func $poll "[method]pollable.block")))
                (core func $drop (canon resource.drop $pollable))"#
                .into(),
            with: r#"(with "host" (instance
                (export "log" (func $log)) (export "now" (func $now))
                (export "subscribe" (func $subscribe)) (export "block" (func $block))
                (export "drop" (func $drop))))"#
                .into(),
            imports: r#"
                (import "host" "log" (func $log (param i32 i32 i32)))
                (import "host" "now" (func $now (result i64)))
                (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
                (import "host" "block" (func $block (param i32)))
                (import "host" "drop" (func $drop (param i32)))"#
                .into(),
            ..Handmade::default()
        }
    }

    /// The component.
    ///
    /// # Panics
    /// Where the text is none of a component.
    pub fn build(&self) -> Vec<u8> {
        match self.component() {
            Ok(component) => component,
            Err(error) => panic!("{error}\n{}", self.text()),
        }
    }

    /// The component.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn component(&self) -> Result<Vec<u8>, String> {
        wat::parse_str(self.text()).map_err(|error| error.to_string())
    }

    /// The component's text.
    pub fn text(&self) -> String {
        let mut image = Image::new();
        let description = image.description(&self.description);
        let answer = image.answer(&self.answer);
        let bodies = |text: &str| {
            text.replace("$answer", &answer.to_string())
                .replace("$description", &description.to_string())
        };
        let Handmade {
            contract,
            before,
            with,
            imports,
            fields,
            memory,
            post_return,
            encoding,
            ..
        } = self;
        let (execute, describe) = (bodies(&self.execute), bodies(&self.describe));
        let (fields, realloc) = (bodies(fields), bodies(&self.realloc));
        let post_return = bodies(post_return);
        let data = image.data();
        format!(
            r#"(component $skill
            {before}
            (core module $main
                {imports}
                {memory}
                (data (i32.const {IMAGE}) "{data}")
                (global $free (mut i32) (i32.const 131072))
                {fields}
                (func (export "describe") (result i32) {describe})
                (func (export "execute")
                    (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {execute})
                (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc})
                (func (export "post-return") (param i32) {post_return}))
            (core instance $main (instantiate $main {with}))
            {TYPES}
            (type $describe (func (result $description)))
            (type $execute (func (param "tool" string) (param "input" string)
                (param "attachments" (list $attachment)) (param "context" $context)
                (result (result $output (error $failure)))))
            (func $describe (type $describe) (canon lift (core func $main "describe")
                (memory (core memory $main "memory"))
                (realloc (core func $main "realloc"))
                (post-return (core func $main "post-return"))))
            (func $execute (type $execute) (canon lift (core func $main "execute")
                string-encoding={encoding}
                (memory (core memory $main "memory"))
                (realloc (core func $main "realloc"))
                (post-return (core func $main "post-return"))))
            (instance $tools
                (export "attachment" (type $attachment)) (export "annotations" (type $annotations))
                (export "tool" (type $tool)) (export "description" (type $description))
                (export "context" (type $context)) (export "output" (type $output))
                (export "invalid-input" (type $invalid-input))
                (export "retryable" (type $retryable)) (export "error" (type $error))
                (export "failure" (type $failure))
                (export "describe" (func $describe)) (export "execute" (func $execute)))
            (export "skillhost:skill/tools@{contract}" (instance $tools)))"#
        )
    }
}

/// The contract's types.
const TYPES: &str = r#"
    (type $attachment (record (field "name" string) (field "media-type" string)
        (field "data" (list u8))))
    (type $annotations (record (field "read-only" (option bool))
        (field "destructive" (option bool)) (field "idempotent" (option bool))
        (field "open-world" (option bool))))
    (type $tool (record (field "name" string) (field "title" (option string))
        (field "description" string) (field "input-schema" string)
        (field "output-schema" (option string)) (field "annotations" $annotations)))
    (type $description (record (field "name" string) (field "version" string)
        (field "description" string) (field "tools" (list $tool))))
    (type $context (record (field "request-id" string) (field "attempt" u32)))
    (type $output (record (field "json" string) (field "attachments" (list $attachment))))
    (type $invalid-input (record (field "pointer" string) (field "message" string)))
    (type $retryable (record (field "message" string) (field "retry-after-ms" (option u64))))
    (type $error (record (field "message" string) (field "code" (option string))
        (field "details" (option string))))
    (type $failure (variant (case "unknown-tool") (case "invalid-input" $invalid-input)
        (case "retryable" $retryable) (case "error" $error)))"#;

/// The contents of the memory from [`IMAGE`] on.
struct Image(Vec<u8>);

impl Image {
    fn new() -> Self {
        Image(Vec::new())
    }

    /// Puts bytes there, and says where.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        while !self.0.len().is_multiple_of(8) {
            self.0.push(0);
        }
        let at = IMAGE + u32::try_from(self.0.len()).expect("an image is small");
        self.0.extend(bytes);
        at
    }

    /// A text: its pointer and length, as they stand in memory.
    fn text(&mut self, text: &[u8]) -> [u8; 8] {
        pair(
            self.put(text),
            u32::try_from(text.len()).expect("a text is small"),
        )
    }

    fn description(&mut self, from: &Description) -> u32 {
        let output_schema = match &from.output_schema {
            Some(schema) => [&[1, 0, 0, 0][..], &self.text(schema.as_bytes())].concat(),
            None => vec![0; 12],
        };
        let mut tools = Vec::new();
        for (name, schema) in &from.tools {
            tools.extend(self.text(name.as_bytes()));
            tools.extend([0; 12]);
            tools.extend(self.text(b"A tool."));
            tools.extend(self.text(schema.as_bytes()));
            tools.extend(&output_schema);
            tools.extend([0; 8]);
        }
        let tools = pair(
            self.put(&tools),
            u32::try_from(from.tools.len()).expect("there are few tools"),
        );
        let texts = [&from.name, &from.version, &from.description];
        let [name, version, description] = texts.map(|text| self.text(text.as_bytes()));
        self.put(&[name, version, description, tools].concat())
    }

    fn answer(&mut self, from: &Answer) -> u32 {
        let mut json = self.text(&from.json);
        if let Some(length) = from.json_length {
            json[4..].copy_from_slice(&length.to_le_bytes());
        }
        let attachments = pair(from.attachments.0, from.attachments.1);
        self.put(
            &[
                &[from.case, 0, 0, 0, 0, 0, 0, 0][..],
                &json,
                &attachments,
                &[0; 32],
            ]
            .concat(),
        )
    }

    fn data(&self) -> String {
        let mut text = String::with_capacity(self.0.len() * 3);
        for byte in &self.0 {
            let _ = write!(text, "\\{byte:02x}");
        }
        text
    }
}

fn pair(pointer: u32, length: u32) -> [u8; 8] {
    let mut pair = [0; 8];
    pair[..4].copy_from_slice(&pointer.to_le_bytes());
    pair[4..].copy_from_slice(&length.to_le_bytes());
    pair
}
