use skills_sdk::tool;

struct Owner;

impl Owner {
    /// Belongs to a type.
    #[tool]
    fn function(text: String) -> usize {
        text.len()
    }
}

fn main() {}
