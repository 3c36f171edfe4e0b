//! JSON that says everything once: an object with a name twice is refused, where readers elsewhere would take one of the two.

use anyhow::{Result, anyhow};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// The value of a text. Nesting deeper than 128 is an error too.
pub fn parse(text: &[u8], origin: &str) -> Result<Value> {
    match serde_json::from_slice::<Once>(text) {
        Ok(Once(value)) => Ok(value),
        Err(problem) if problem.is_data() => Err(anyhow!("{origin}: {problem}")),
        Err(problem) => Err(anyhow!("{origin}: not JSON: {problem}")),
    }
}

struct Once(Value);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Once)
    }
}

struct Reader;

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or(E::custom("a number that is not finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Reader)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Reader)?;
            if map.insert(name.clone(), value).is_some() {
                return Err(de::Error::custom(format_args!("'{name}' stands there twice: expected it once")));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_serde_and_names_stand_once() {
        let text = r#"{"a": [1, -2, 2.5, null, true, "x\n"], "b": {"a": {}}}"#;
        assert_eq!(parse(text.as_bytes(), "f").unwrap(), serde_json::from_str::<Value>(text).unwrap());
        let error = |text: &str| parse(text.as_bytes(), "f.json").unwrap_err().to_string();
        assert!(error(r#"{"a": 1, "b": {"c": 1, "c": 2}}"#).contains("f.json: 'c' stands there twice"));
        assert!(error("{").contains("f.json: not JSON"));
        assert!(error(&"[".repeat(1000)).contains("recursion limit"));
        assert!(error("1e999").contains("f.json"));
    }
}
