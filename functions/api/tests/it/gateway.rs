//! On AWS an API Gateway stands before the function. Its own answers are no envelopes and cannot be made ones, so the
//! template leaves it as little to answer as there can be.

use serde_json::Value;

fn template() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../template.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// R3, G-35
#[test]
fn every_path_and_method_reaches_the_function_and_it_ends_before_the_gateway_does() {
    let template = template();
    let function = &template["Resources"]["ApiFunction"]["Properties"];
    let route = &function["Events"]["Public"];
    assert_eq!(route["Type"], "HttpApi");
    let properties = route["Properties"].as_object().unwrap();
    // Neither: the default route. `/{proxy+}` would leave `/` to the gateway.
    assert!(!properties.contains_key("Path") && !properties.contains_key("Method"), "{properties:?}");
    let (function, gateway) = (function["Timeout"].as_u64().unwrap(), properties["TimeoutInMillis"].as_u64().unwrap());
    // 25 s: `ANSWER` in lib.rs. 30 s is the most that an HTTP API waits.
    assert!(25 < function && function * 1000 < gateway && gateway <= 30_000, "{function} s, {gateway} ms");
}

/// A route with a method of its own hides the default route for its path, but not for other methods.
#[test]
fn no_route_but_the_workers_calls_is_taken_from_the_function() {
    let template = template();
    for (name, resource) in template["Resources"].as_object().unwrap() {
        let Some(events) = resource["Properties"]["Events"].as_object() else { continue };
        for (event, of) in events.iter().filter(|(_, of)| of["Type"] == "HttpApi") {
            let path = of["Properties"]["Path"].as_str();
            let is_workers = path.is_some_and(|path| path.starts_with("/internal/v1/"));
            assert!(is_workers || (name == "ApiFunction" && path.is_none()), "{name}.{event}: {path:?}");
        }
    }
}
