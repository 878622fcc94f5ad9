//! Renders Jinja templates with JSON data.

mod source;

use std::collections::BTreeSet;
use std::error::Error;

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use skills_sdk::prelude::*;

use crate::source::Template;

/// How many instructions of the template language a template may take.
const FUEL: u64 = 5_000_000;
/// How deep a template may include, call and nest.
const MAX_RECURSION: usize = 100;

/// Which characters of inserted values are escaped, and how.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Escape {
    /// By the template's file name: `page.html.j2` as HTML, `a.json` as JSON, others not.
    Auto,
    /// For HTML and XML.
    Html,
    /// As JSON values.
    Json,
    /// Not at all.
    None,
}

/// A rendered template.
#[derive(Serialize, JsonSchema)]
pub struct Rendered {
    text: String,
}

/// Renders a Jinja template with JSON data.
///
/// The template is `template`, or the file `path`, or else the first attachment. A template from a
/// file may include and extend those beside it.
#[tool(title = "Render a template", read_only, idempotent, open_world = false)]
pub fn render(
    /// The template itself.
    template: Option<String>,
    /// A template file, in a granted directory.
    path: Option<String>,
    /// The variables.
    data: Option<serde_json::Map<String, Value>>,
    /// A JSON file with the variables, in a granted directory.
    data_path: Option<String>,
    /// How to escape inserted values.
    #[tool(default = Escape::Auto)]
    escape: Escape,
    /// Take an undefined variable as empty; without this it is an error.
    #[tool(default = false)]
    lenient: bool,
    ctx: &Context,
) -> Result<Rendered, Failure> {
    let template = Template::open(template, path, ctx.attachments().first())?;
    let data = source::data(data, data_path.as_deref())?;
    let environment = environment(&template, escape, lenient);
    let compiled = environment
        .template_from_named_str(&template.name, &template.text)
        .map_err(|error| failure(&template, &error))?;
    let text = compiled
        .render(Serde(&data))
        .map_err(|error| failure(&template, &error))?;
    Ok(Rendered { text })
}

/// The variables of a template.
#[derive(Serialize, JsonSchema)]
pub struct Variables {
    /// Their names, with the attributes that are looked up in them, such as `user.name`.
    variables: BTreeSet<String>,
}

/// Lists the variables that a Jinja template wants to be given.
///
/// The template is `template`, or the file `path`, or else the first attachment. What it
/// includes or extends is not looked at.
#[tool(
    title = "List template variables",
    read_only,
    idempotent,
    open_world = false
)]
pub fn variables(
    /// The template itself.
    template: Option<String>,
    /// A template file, in a granted directory.
    path: Option<String>,
    ctx: &Context,
) -> Result<Variables, Failure> {
    let template = Template::open(template, path, ctx.attachments().first())?;
    let environment = environment(&template, Escape::None, false);
    let compiled = environment
        .template_from_named_str(&template.name, &template.text)
        .map_err(|error| failure(&template, &error))?;
    let mut variables: BTreeSet<String> = compiled.undeclared_variables(true).into_iter().collect();
    for (global, _) in environment.globals() {
        variables.remove(global);
    }
    Ok(Variables { variables })
}

fn environment(template: &Template, escape: Escape, lenient: bool) -> Environment<'static> {
    let mut environment = Environment::new();
    // Errors then say which variable, and where.
    environment.set_debug(true);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_undefined_behavior(if lenient {
        UndefinedBehavior::Lenient
    } else {
        UndefinedBehavior::Strict
    });
    if let Some(directory) = &template.directory {
        environment.set_loader(minijinja::path_loader(directory));
    }
    match escape {
        Escape::Auto => {}
        Escape::Html => environment.set_auto_escape_callback(|_| AutoEscape::Html),
        Escape::Json => environment.set_auto_escape_callback(|_| AutoEscape::Json),
        Escape::None => environment.set_auto_escape_callback(|_| AutoEscape::None),
    }
    environment
}

fn failure(template: &Template, error: &minijinja::Error) -> Failure {
    if error.kind() == ErrorKind::OutOfFuel {
        return Failure::error(format!(
            "the template takes more than {FUEL} steps; does it loop?"
        ))
        .code("template-too-long");
    }
    let mut message = error.kind().to_string();
    if let Some(detail) = error.detail() {
        message = format!("{message}: {detail}");
    }
    if let Some(code) = error
        .template_source()
        .zip(error.range())
        .and_then(|(source, range)| source.get(range))
        .filter(|code| !message.contains(&format!("`{code}`")))
    {
        message = format!("{message}: `{code}`");
    }
    if let Some((name, line)) = error.name().zip(error.line()) {
        message = format!("{message} ({name}, line {line})");
    }
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    if let Some(cause) = causes.last() {
        message = format!("{message}: {cause}");
    }
    Failure::invalid_input(template.pointer, message)
}

skills_sdk::skill! { tools: [render, variables] }
