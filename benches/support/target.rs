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

/// What became of the targets.
#[derive(Default)]
pub struct Judged {
    /// The figures that miss one.
    pub missed: Vec<String>,
    /// Those that could not be measured.
    pub unknown: Vec<String>,
}

impl Judged {
    /// Whether all are met; `None` where that is not known of some, and none is missed.
    pub fn met(&self) -> Option<bool> {
        match self.missed.is_empty() {
            false => Some(false),
            true => self.unknown.is_empty().then_some(true),
        }
    }
}

/// Holds figures against their targets.
///
/// Whatever has a `target` is held against it: an object of the same shape, with a bound in the place of each
/// figure. Each bound then has a field `met`: `null` where the figure is, as it could not be measured.
///
/// # Panics
/// Where a target names a figure that there is not.
pub fn judge(figures: &mut Value) -> Judged {
    let mut judged = Judged::default();
    within(figures, "", &mut judged);
    judged
}

fn within(figures: &mut Value, place: &str, judged: &mut Judged) {
    let Some(fields) = figures.as_object_mut() else {
        return;
    };
    if let Some(mut target) = fields.remove("target") {
        hold(&mut target, fields, place, judged);
        fields.insert("target".to_owned(), target);
    }
    for (name, inner) in fields.iter_mut().filter(|(name, _)| *name != "target") {
        within(inner, &below(place, name), judged);
    }
}

fn hold(target: &mut Value, figures: &Map<String, Value>, place: &str, judged: &mut Judged) {
    let bounds = target.as_object_mut().expect("a target has names");
    for (name, bound) in bounds {
        let place = below(place, name);
        let figure = figures.get(name);
        let figure = figure.unwrap_or_else(|| panic!("there is no figure `{place}`"));
        let (most, least) = (bound["at_most"].as_f64(), bound["at_least"].as_f64());
        if most.is_none() && least.is_none() {
            let figures = figure.as_object();
            let figures = figures.unwrap_or_else(|| panic!("`{place}` is one figure"));
            hold(bound, figures, &place, judged);
            continue;
        }
        let met = figure.as_f64().map(|figure| {
            most.is_none_or(|most| figure <= most) && least.is_none_or(|least| figure >= least)
        });
        assert!(met.is_some() || figure.is_null(), "`{place}` is no number");
        bound["met"] = json!(met);
        match met {
            Some(true) => {}
            Some(false) => judged.missed.push(format!(
                "{place} is {figure}, and should be {}",
                said(most, least)
            )),
            None => judged.unknown.push(place),
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
