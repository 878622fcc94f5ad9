//! A skill that fetches what it is told with the SDK's client, which follows redirects.

use skills_sdk::prelude::*;

/// What answered in the end.
#[derive(Serialize, JsonSchema)]
pub struct Answered {
    status: u16,
    url: String,
    body: String,
}

/// Sends a request, and follows where the answers lead.
#[tool(open_world)]
pub fn follow(
    /// Where to begin.
    url: String,
    #[tool(default = "GET")] method: String,
    #[tool(default = "")] body: String,
    ctx: &Context,
) -> Result<Answered, Failure> {
    let answer = ctx.http().request(&method, &url).body(body).send()?;
    Ok(Answered {
        status: answer.status(),
        url: answer.url().to_owned(),
        body: answer.text(),
    })
}

skills_sdk::skill! { tools: [follow] }
