//! Whether figures are what they should be.

use serde_json::{Map, Value, json};

/// A figure should be at most this.
pub fn at_most(bound: f64) -> Value {
    json!({ "at_most": bound })
}

/// A figure should be at least this.
pub fn at_least(bound: f64) -> Value {
    json!({ "at_least": bound })
}

/// Holds figures against their targets, and names those that miss one.
///
/// Whatever has a `target` is held against it: an object of the same shape, with a bound in the place of each
/// figure. Each bound then has a field `met`: `null` where the figure is, as it could not be measured.
///
/// # Panics
/// Where a target names a figure that there is not.
pub fn judge(figures: &mut Value) -> Vec<String> {
    let mut missed = Vec::new();
    within(figures, "", &mut missed);
    missed
}

fn within(figures: &mut Value, place: &str, missed: &mut Vec<String>) {
    let Some(fields) = figures.as_object_mut() else {
        return;
    };
    if let Some(mut target) = fields.remove("target") {
        hold(&mut target, fields, place, missed);
        fields.insert("target".to_owned(), target);
    }
    for (name, inner) in fields.iter_mut().filter(|(name, _)| *name != "target") {
        within(inner, &below(place, name), missed);
    }
}

fn hold(target: &mut Value, figures: &Map<String, Value>, place: &str, missed: &mut Vec<String>) {
    let bounds = target.as_object_mut().expect("a target has names");
    for (name, bound) in bounds {
        let place = below(place, name);
        let figure = figures.get(name);
        let figure = figure.unwrap_or_else(|| panic!("there is no figure `{place}`"));
        let (most, least) = (bound["at_most"].as_f64(), bound["at_least"].as_f64());
        if most.is_none() && least.is_none() {
            let figures = figure.as_object();
            let figures = figures.unwrap_or_else(|| panic!("`{place}` is one figure"));
            hold(bound, figures, &place, missed);
            continue;
        }
        let met = figure.as_f64().map(|figure| {
            most.is_none_or(|most| figure <= most) && least.is_none_or(|least| figure >= least)
        });
        assert!(met.is_some() || figure.is_null(), "`{place}` is no number");
        bound["met"] = json!(met);
        if met == Some(false) {
            missed.push(format!(
                "{place} is {figure}, and should be {}",
                said(most, least)
            ));
        }
    }
}

fn below(place: &str, name: &str) -> String {
    match place {
        "" => name.to_owned(),
        place => format!("{place}.{name}"),
    }
}

fn said(most: Option<f64>, least: Option<f64>) -> String {
    let bounds = [
        least.map(|least| format!("at least {least}")),
        most.map(|most| format!("at most {most}")),
    ];
    bounds.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
