//! Counts the characters, words and lines of a text.

use std::cmp::Reverse;
use std::collections::HashMap;

use skills_sdk::prelude::*;

/// What `count` found.
#[derive(Serialize, JsonSchema)]
pub struct Statistics {
    /// Unicode characters, line ends included.
    characters: usize,
    /// Words: runs of letters, digits and apostrophes.
    words: usize,
    /// Words that differ, upper and lower case taken as the same.
    distinct_words: usize,
    /// Lines; a line end at the very end starts no further line.
    lines: usize,
    /// The line with the most characters, the first of them if there are several.
    longest_line: Option<Line>,
    /// The most frequent words, in lower case; equally frequent ones by alphabet.
    top_words: Vec<WordCount>,
}

/// One line of the text.
#[derive(Serialize, JsonSchema)]
pub struct Line {
    /// Its number, from 1.
    number: usize,
    /// Its length in characters.
    characters: usize,
}

/// How often a word occurs.
#[derive(Serialize, JsonSchema)]
pub struct WordCount {
    word: String,
    count: usize,
}

/// Counts the characters, words and lines of a text.
///
/// Also finds the longest line and the most frequent words.
#[tool(title = "Count words", read_only, idempotent, open_world = false)]
pub fn count(
    /// The text to look at.
    text: String,
    /// How many of the most frequent words to list.
    #[tool(default = 10)]
    top: usize,
    /// Leave words shorter than this out of the most frequent ones.
    #[tool(default = 1)]
    min_length: usize,
) -> Statistics {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for word in words(&text) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    Statistics {
        characters: text.chars().count(),
        words: counts.values().sum(),
        distinct_words: counts.len(),
        lines: text.lines().count(),
        longest_line: longest_line(&text),
        top_words: most_frequent(counts, top, min_length),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .map(|word| word.trim_matches(['\'', '’']))
        .filter(|word| !word.is_empty())
}

fn longest_line(text: &str) -> Option<Line> {
    text.lines()
        .zip(1..)
        .map(|(line, number)| Line {
            number,
            characters: line.chars().count(),
        })
        .max_by_key(|line| (line.characters, Reverse(line.number)))
}

fn most_frequent(counts: HashMap<String, usize>, top: usize, min_length: usize) -> Vec<WordCount> {
    let mut words: Vec<WordCount> = counts
        .into_iter()
        .filter(|(word, _)| word.chars().count() >= min_length)
        .map(|(word, count)| WordCount { word, count })
        .collect();
    words.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
    words.truncate(top);
    words
}

skills_sdk::skill! { tools: [count] }

#[cfg(test)]
mod tests {
    use super::*;
    use skills_sdk::testing::TestContext;

    fn call(input: Value) -> Value {
        skill().call("count", input, &TestContext::new()).unwrap()
    }

    #[test]
    fn counts_everything() {
        let found =
            call(json!({ "text": "The cat sat.\nThe dog didn't sit, the end.\n", "top": 2 }));
        assert_eq!(
            found,
            json!({
                "characters": 42,
                "words": 9,
                "distinct_words": 7,
                "lines": 2,
                "longest_line": { "number": 2, "characters": 28 },
                "top_words": [{ "word": "the", "count": 3 }, { "word": "cat", "count": 1 }],
            })
        );
    }

    #[test]
    fn an_empty_text_has_nothing() {
        let found = call(json!({ "text": "" }));
        assert_eq!(found["characters"], 0);
        assert_eq!(found["lines"], 0);
        assert_eq!(found["longest_line"], Value::Null);
        assert_eq!(found["top_words"], json!([]));
    }

    #[test]
    fn characters_are_not_bytes() {
        assert_eq!(call(json!({ "text": "Zürich" }))["characters"], 6);
    }

    #[test]
    fn short_words_can_be_left_out() {
        let found = call(json!({ "text": "a a a house", "min_length": 2 }));
        assert_eq!(found["top_words"], json!([{ "word": "house", "count": 1 }]));
        assert_eq!(found["words"], 4);
    }

    #[test]
    fn the_first_of_equally_long_lines_is_the_longest() {
        let found = call(json!({ "text": "ab\ncd\ne" }));
        assert_eq!(found["longest_line"]["number"], 1);
    }
}
