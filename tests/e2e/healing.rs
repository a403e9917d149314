//! The check that says whether a container is healed. That it is healed is proved elsewhere (`tests/heal`).

use std::time::Duration;

use crate::support::scene::Scene;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn the_healing_check_passes_with_notes_costs_no_write_and_is_not_there_where_nothing_is_healed() {
    // Nothing fails here; should it, nothing is to be done before the test is over.
    let plan = Scene::plan("healing").env("REMORA_HEAL", "on").env("REMORA_HEAL_HOLDOFF", "10m").not_started();
    let mut scene = plan.start().await;
    let web = scene.engine.container("web").publish(80).label("remora.heal.max-attempts", "3").run().await;
    let off = scene.engine.container("off").publish(80).label("remora.heal", "off").run().await;
    scene.engine.container("bad").publish(80).label("remora.heal.grace", "soon").run().await;
    scene.remora.spawn();
    scene.remora.ready().await;
    scene.settled(SOON).await;

    let (writes, _) = scene.writes();
    assert!(writes.len() <= 3 + 1, "three services and its own: {writes:?}");
    let id = scene.id(&web, 80);
    let check = format!("{id}:healing");
    let instance = scene.catalog.instance(&id).await.unwrap();
    assert_eq!((instance.checks[&check].as_str(), instance.outputs[&check].as_str()), ("passing", ""));
    let notes = &instance.notes[&check];
    assert!(notes.contains("it is replaced by a new container") && notes.contains("after 3 attempts"), "{notes}");
    let off = scene.catalog.instance(&scene.id(&off, 80)).await.unwrap();
    assert_eq!(off.checks.keys().collect::<Vec<_>>(), [&format!("{}:docker", off.id)]);

    let (before, index) = (scene.catalog.of_node(&scene.node).await.unwrap(), scene.catalog.index().await);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(scene.catalog.index().await, index, "a watcher of the catalog was woken at rest");
    scene.a_restart_writes_no_service(SOON).await;
    assert_eq!(scene.catalog.of_node(&scene.node).await.unwrap(), before);
}
