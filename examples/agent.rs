//! A small agent loop around an embedded host: a "model" asks for tools, the host runs them in the
//! sandbox, and the answers go back to the model.
//!
//! `cargo run --release --example agent -- path/to/text-stats.wasm`, or with the folder of a built
//! skill. The model here is a script of three turns, so that the example runs anywhere; put calls
//! to a real one in its place.

use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use skillhost::{
    Control, Event, ExecutionRequest, ExecutionResult, Host, LimitOverrides, Limits, Skill, Status,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("name a skill: a .wasm file or a folder with one")?;
    converse(Path::new(&path)).await?;
    Ok(())
}

/// Runs the loop, and gives all that went back to the model.
pub async fn converse(path: &Path) -> Result<Vec<Value>, Box<dyn Error>> {
    let host = Host::builder()
        // Whatever a request asks for, it gets no more than this.
        .ceiling(Limits {
            memory_bytes: 128 << 20,
            ..Limits::ceiling()
        })
        // A skill may only run for somebody.
        .before(|request, skill| match &request.user {
            Some(_) => Ok(()),
            None => Err(format!("{} runs only for a known user", skill.name).into()),
        })
        .build()?;
    let skill = host.load(path).await?;

    // What a model needs to know of the tools, in the form that most of them take.
    let tools: Vec<Value> = skill
        .description()
        .tools
        .iter()
        .map(|tool| {
            json!({
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.input_schema,
            })
        })
        .collect();
    println!("tools for the model: {}", serde_json::to_string(&tools)?);

    let mut model = Model::new(&skill);
    let mut answers = Vec::new();
    while let Some(call) = model.next(answers.last()) {
        println!("\nthe model calls {} with {}", call.tool, call.input);
        let mut request = ExecutionRequest::new(skill.digest(), call.input)
            .tool(call.tool)
            .limits(LimitOverrides {
                fuel: call.fuel,
                ..LimitOverrides::default()
            });
        request.user = Some("somebody".to_owned());

        // Ask first: a refusal costs nothing, and says what is missing.
        let admission = host.can_execute(&request);
        if let Some(refusal) = &admission.refusal {
            println!("would not be admitted: {refusal}");
        }
        let control = Control::default().observer(Arc::new(|_, event: &Event<'_>| {
            if let Event::Progress(progress) = event {
                println!("  … {}", skillhost::text::printable(&progress.step, false));
            }
        }));
        answers.push(answer(host.execute_with(request, control).await?));
    }
    Ok(answers)
}

/// What goes back to the model: the output, or a failure that it can act on.
fn answer(result: ExecutionResult) -> Value {
    println!(
        "  {} for {} fuel, {} bytes of memory, {:?}",
        result.status, result.usage.fuel, result.usage.peak_memory_bytes, result.usage.wall_time,
    );
    match (result.status, result.failure) {
        (Status::Success, _) => json!({"output": result.output}),
        (status, Some(failure)) => json!({
            "error": failure.message,
            "hint": failure.hint,
            "status": status,
            "fault": failure.fault,
        }),
        (status, None) => json!({"status": status}),
    }
}

/// A tool call of the model's.
struct Call {
    tool: String,
    input: Value,
    fuel: Option<u64>,
}

/// The model: three calls, whatever the answers are.
struct Model {
    calls: VecDeque<Call>,
}

impl Model {
    fn new(skill: &Skill) -> Self {
        let tool = skill.description().tools[0].name.clone();
        let call = |input: Value, fuel| Call {
            tool: tool.clone(),
            input,
            fuel,
        };
        Model {
            calls: VecDeque::from([
                call(json!({"text": "to be or not to be"}), None),
                // A mistake, as models make them: the answer says what was wrong.
                call(json!({"txet": "to be"}), None),
                // Too little fuel: the answer says which limit was met.
                call(json!({"text": "to be or not to be"}), Some(100)),
            ]),
        }
    }

    fn next(&mut self, answer: Option<&Value>) -> Option<Call> {
        if let Some(answer) = answer {
            println!("  back to the model: {answer}");
        }
        self.calls.pop_front()
    }
}
