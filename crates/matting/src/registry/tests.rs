use super::*;

#[test]
fn the_builtin_registry_is_valid_and_fills_the_default_roles() {
    let registry = Registry::builtin().unwrap();
    for role in [Model::Human, Model::Original, Model::Light] {
        assert!(registry.for_role(role).is_some_and(|entry| entry.in_default_set), "{role}");
    }
    assert!(registry.runtime_for("linux", "x86_64").is_some());
    assert!(registry.runtime_for("linux", "aarch64").is_some());
}
