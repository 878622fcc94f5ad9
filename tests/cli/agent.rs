//! The example program that embeds the host.

use serde_json::json;

use crate::harness::Place;

#[allow(dead_code, reason = "its `main` takes the path from its arguments")]
#[path = "../../examples/agent.rs"]
mod example;

/// Its model makes a call that is right, one that is wrong, and one with too little fuel.
#[tokio::test]
async fn the_agent_gets_answers_that_a_model_can_act_on() {
    let place = Place::with_text_stats();
    let answers = example::converse(&place.path("text-stats")).await;
    let answers = answers.unwrap_or_else(|error| panic!("{error}"));
    let [counted, mistaken, stopped] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(counted["output"]["words"], 6);
    assert_eq!(
        counted["output"]["top_words"][0],
        json!({"count": 2, "word": "be"})
    );
    assert_eq!(
        (&mistaken["status"], &mistaken["fault"]),
        (&json!("failed"), &json!("input"))
    );
    let error = mistaken["error"].as_str().expect("a text");
    assert!(error.contains("txet"), "{error}");
    assert_eq!(
        (&stopped["status"], &stopped["fault"]),
        (&json!("resource_exhausted"), &json!("limit"))
    );
    let error = stopped["error"].as_str().expect("a text");
    assert!(error.contains("fuel of 100 units"), "{error}");
    assert!(stopped["hint"].is_string(), "{stopped}");
}
