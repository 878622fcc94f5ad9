use skills_sdk::prelude::*;

/// Is the first.
#[tool]
fn first() {}

/// Is called like the first.
#[tool(name = "first")]
fn second() {}

fn plain() {}

mod duplicate {
    use super::{first, second};
    skills_sdk::skill! { tools: [first, second], name: "refused", description: "Refused." }
}

mod no_tool {
    use super::plain;
    skills_sdk::skill! { tools: [plain], name: "refused", description: "Refused." }
}

mod unknown_key {
    skills_sdk::skill! { tool: [super::first] }
}

mod no_tools {
    skills_sdk::skill! { name: "refused", description: "Refused." }
}

mod bad_name {
    skills_sdk::skill! { tools: [super::first], name: "Not A Name", description: "Refused." }
}

mod hyphen_last {
    skills_sdk::skill! { tools: [super::first], name: "a-", description: "Refused." }
}

mod hyphen_first {
    skills_sdk::skill! { tools: [super::first], name: "-a", description: "Refused." }
}

mod hyphens_together {
    skills_sdk::skill! { tools: [super::first], name: "a--b", description: "Refused." }
}

mod bad_version {
    skills_sdk::skill! { tools: [super::first], name: "refused", version: "1", description: "Refused." }
}

mod no_description {
    skills_sdk::skill! { tools: [super::first], name: "refused" }
}

fn main() {}
