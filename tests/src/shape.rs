//! The shape of JSON: which members there are, and of what type, without the values that differ from run to run.

use serde_json::{Map, Value};

/// Every value as the name of its type; of a list the shape that its elements have in common.
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(list) => {
            let shapes = list.iter().map(shape).reduce(both);
            Value::Array(shapes.into_iter().collect())
        }
        Value::Object(members) => {
            let shapes = members
                .iter()
                .map(|(name, value)| (name.clone(), shape(value)));
            Value::Object(shapes.collect())
        }
    }
}

/// What fits both shapes.
fn both(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Object(mut a), Value::Object(b)) => {
            let mut members = Map::new();
            for (name, b) in b {
                let shape = match a.remove(&name) {
                    Some(a) => both(a, b),
                    None => format!("{b} or nothing").into(),
                };
                members.insert(name, shape);
            }
            members.extend(a);
            Value::Object(members)
        }
        (Value::Array(a), Value::Array(b)) => {
            let shapes = a.into_iter().chain(b).reduce(both);
            Value::Array(shapes.into_iter().collect())
        }
        (a, b) if a == b => a,
        (Value::String(a), Value::String(b)) if a.contains(&b) => a.into(),
        (Value::String(a), Value::String(b)) if b.contains(&a) => b.into(),
        (Value::String(a), b) if a == "null" => b,
        (a, Value::String(b)) if b == "null" => a,
        (a, b) => format!("{} or {}", text(&a), text(&b)).into(),
    }
}

fn text(shape: &Value) -> String {
    shape
        .as_str()
        .map_or_else(|| shape.to_string(), str::to_owned)
}
