//! What a token needs for the catalog.

use futures_util::future::join_all;
use remora::config::{Secret, Token};
use remora::consul::{Class, Client, Registry as _, Service, Status, TaggedAddress};
use serde_json::{Value, json};

use crate::catalog_node::{ENGINE, marked, running};
use crate::consul::{Consul, Options};

/// A token with these rules.
async fn token(consul: &Consul, name: &str, secret: &str, rules: &str) -> Client {
    consul.put("/v1/acl/policy", &json!({"Name": name, "Rules": rules}).to_string()).await;
    consul.put("/v1/acl/token", &json!({"SecretID": secret, "Policies": [{"Name": name}]}).to_string()).await;
    consul.client_with(Token::Value(Secret::new(secret)))
}

const NODE_RULE: &str = r#"node "n1" { policy = "write" }"#;
const SERVICE_RULE: &str = r#"service "web" { policy = "write" }"#;

#[tokio::test]
async fn the_least_rights_are_enough_and_each_missing_one_is_named() {
    let consul = Consul::start_with(Options { acl: true, ..Options::default() }).await;
    let least =
        token(&consul, "least", "99999999-0000-0000-0000-000000000001", &format!("{NODE_RULE} {SERVICE_RULE}")).await;
    let no_node = token(&consul, "no-node", "99999999-0000-0000-0000-000000000002", SERVICE_RULE).await;
    let no_service = token(&consul, "no-service", "99999999-0000-0000-0000-000000000003", NODE_RULE).await;

    let error = running(no_node.clone(), ENGINE).register(&marked("web-1", ENGINE)).await.unwrap_err();
    assert!(error.to_string().contains(NODE_RULE) && error.class() == Class::Denied, "{error}");
    assert!(error.to_string().ends_with("to set the node n1"), "{error}");

    let registry = running(least, ENGINE);
    let mut tagged = marked("web-2", ENGINE);
    tagged.tagged_addresses.insert("lan".into(), TaggedAddress { address: "fd00::1".into(), port: 81 });
    // One that is refused takes none of the others with it.
    let denied = Service { name: "db".into(), ..marked("db-1", ENGINE) };
    let mut denied_tagged = Service { id: "db-2".into(), checks: vec![], ..denied.clone() };
    denied_tagged.tagged_addresses.clone_from(&tagged.tagged_addresses);
    let web = marked("web-1", ENGINE);
    let all = [&web, &denied, &tagged, &denied_tagged];
    let outcomes = join_all(all.into_iter().map(|it| registry.register(it))).await;
    for (service, outcome) in all.iter().zip(outcomes) {
        if service.name == "web" {
            outcome.unwrap();
            continue;
        }
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains(r#"it needs service "db" { policy = "write" }"#), "{error}");
        assert_eq!(error.class(), Class::Denied);
    }
    registry.update_check("web-1:docker", Status::Critical, "exit 1").await.unwrap();
    registry.set_node_check(Status::Critical, "x").await.unwrap();
    registry.remove_check("web-1:docker").await.unwrap();
    assert_eq!(registry.read().await.unwrap().services.keys().collect::<Vec<_>>(), ["web-1", "web-2"]);
    assert!(registry.find("WEB-1").await.unwrap().is_some());

    // To see nothing is not to have nothing.
    let error = running(no_node, ENGINE).read().await.unwrap_err();
    assert!(
        error.to_string().contains(r#"node "n1" { policy = "read" }"#) && error.class() == Class::Denied,
        "{error}"
    );
    let error = running(no_service, ENGINE).register(&marked("web-3", ENGINE)).await.unwrap_err();
    assert!(error.to_string().contains(SERVICE_RULE) && error.class() == Class::Denied, "{error}");

    registry.deregister("web-1").await.unwrap();
    assert!(registry.remove_node().await.unwrap());
    assert_eq!(consul.get("/v1/catalog/node/n1").await, Value::Null);
}
