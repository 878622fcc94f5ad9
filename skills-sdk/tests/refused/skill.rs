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
    use super::{first, plain};
    struct Type;
    skills_sdk::skill! { tools: [first, plain, Type, std::string::String], name: "refused", description: "Refused." }
}

mod missing {
    skills_sdk::skill! { tools: [super::frist, nowhere::first], name: "refused", description: "Refused." }
}

mod hidden {
    mod within {
        /// Is seen within its module alone.
        #[skills_sdk::tool]
        fn unseen() {}
    }
    skills_sdk::skill! { tools: [within::unseen], name: "refused", description: "Refused." }
}

mod duplicate_by_path {
    skills_sdk::skill! { tools: [super::first, super::second], name: "refused", description: "Refused." }
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

mod no_tool_listed {
    skills_sdk::skill! { tools: [], name: "refused", description: "Refused." }
}

fn main() {}
