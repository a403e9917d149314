//! Containers of all kinds: the flags of `docker run`, each by itself or with those that belong to it, as bodies of create calls.
//!
//! What the engine of the tests (20.10, cgroup v1, no swarm) refuses is left out: `StorageOpt` (needs overlay2 on XFS with project
//! quotas), GPU requests (need a driver), real-time scheduling (needs a kernel with it), `KernelMemory` (needs an older kernel),
//! `AppArmor` profiles (needs `AppArmor`), and what came with later versions of the API: annotations, `StartInterval`, image mounts, volume sub-paths, `GwPriority`.

use serde_json::{Value, json};

use super::Scene;
use super::support::free_port;

/// One kind of container.
pub struct Case {
    /// What is special about it.
    pub name: &'static str,
    /// The body of its create call.
    pub body: Value,
    /// Networks to be connected after that.
    pub connect: Vec<(String, Value)>,
    /// A network to be left after that.
    pub leave: Option<String>,
    /// What it does when it is cloned.
    pub state: State,
    /// A folder whose content has to survive.
    pub data: Option<&'static str>,
    /// A tag that means another image by the time of the clone.
    pub moved_tag: Option<(String, String)>,
    /// Fields that may differ, with the reason where the case is described.
    pub may_differ: &'static [&'static str],
}

/// What the original does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    Stopped,
    NeverStarted,
}

impl Case {
    fn connected(mut self, network: &str, endpoint: Value) -> Self {
        self.connect.push((network.to_owned(), endpoint));
        self
    }

    fn with_data(mut self, folder: &'static str) -> Self {
        self.data = Some(folder);
        self
    }

    fn may_differ(mut self, fields: &'static [&'static str]) -> Self {
        self.may_differ = fields;
        self
    }

    fn in_state(mut self, state: State) -> Self {
        self.state = state;
        self
    }
}

/// A container of the test's image that sleeps, with these changes.
fn case(name: &'static str, edit: impl FnOnce(&mut Value)) -> Case {
    let mut body = json!({"HostConfig": {}});
    edit(&mut body);
    Case {
        name,
        body,
        connect: Vec::new(),
        leave: None,
        state: State::Running,
        data: None,
        moved_tag: None,
        may_differ: &[],
    }
}

/// Takes the image that has everything, with its command.
fn rich(scene: &Scene, body: &mut Value) {
    body["Image"] = json!(scene.rich_image);
    body["Cmd"] = json!(null);
}

/// A container with these members of `HostConfig`.
fn host(name: &'static str, host: Value) -> Case {
    case(name, |it| it["HostConfig"] = host)
}

/// A container in this network, with this wish about its place there.
fn placed(name: &'static str, network: &str, endpoint: Value) -> Case {
    case(name, |it| {
        it["HostConfig"]["NetworkMode"] = json!(network);
        it["NetworkingConfig"]["EndpointsConfig"][network] = endpoint;
    })
}

/// All of them.
pub fn corpus(scene: &Scene) -> Vec<Case> {
    [process(scene), storage(scene), networks(scene), limits(), others(scene)].into_iter().flatten().collect()
}

fn process(scene: &Scene) -> Vec<Case> {
    let image = |it: &mut Value| rich(scene, it);
    vec![
        case("plain", |_| {}),
        case("as the CLI sends it", |it| {
            *it = json!({
                "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": true, "AttachStderr": true,
                "Tty": false, "OpenStdin": false, "StdinOnce": false, "Volumes": {}, "WorkingDir": "", "Entrypoint": null, "OnBuild": null,
                "HostConfig": {
                    "Binds": null, "ContainerIDFile": "/tmp/cid", "LogConfig": {"Type": "", "Config": {}}, "NetworkMode": "default",
                    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "VolumeDriver": "", "VolumesFrom": null, "CapAdd": null,
                    "CapDrop": null, "CgroupnsMode": "", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null, "GroupAdd": null,
                    "IpcMode": "", "Links": null, "PidMode": "", "SecurityOpt": null, "BlkioWeightDevice": [], "BlkioDeviceReadBps": null,
                    "Devices": [], "DeviceCgroupRules": null, "DeviceRequests": null, "MemorySwappiness": -1, "OomKillDisable": false,
                    "PidsLimit": 0, "Ulimits": null, "MaskedPaths": null, "ReadonlyPaths": null,
                },
                "NetworkingConfig": {"EndpointsConfig": {}},
            });
        })
        .may_differ(&["HostConfig.ContainerIDFile"]), // a file of the client's
        case("environment", |it| {
            it["Env"] = json!(["A=1", "B=x=y", "EMPTY=", "UNSET", "DOUBLE=1", "DOUBLE=2", "WIDE=ü ✓", "LINES=a\nb", "QUOTES=\"'$HOME"]);
        }),
        case("an image with everything", image),
        case("the image's variable unset", |it| {
            image(it);
            it["Env"] = json!(["FROM_IMAGE", "OTHER=1"]);
        }),
        case("the image's entry point with another command", |it| {
            image(it);
            it["Cmd"] = json!(["100001"]);
        }),
        case("--entrypoint '' against the image's", |it| {
            image(it);
            it["Entrypoint"] = json!([""]);
            it["Cmd"] = json!(["/bin/busybox", "sleep", "100000"]);
        }),
        case("an empty list against the image's entry point", |it| {
            image(it);
            it["Entrypoint"] = json!([]);
            it["Cmd"] = json!(["/bin/busybox", "sleep", "100000"]);
        }),
        case("its own entry point without a command", |it| {
            image(it);
            it["Entrypoint"] = json!(["/bin/busybox", "sleep", "100000"]);
            it["Cmd"] = json!(null);
        }),
        case("user", |it| it["User"] = json!("1000:1001")),
        case("working folder", |it| it["WorkingDir"] = json!("/tmp/some/where")),
        case("host name and domain", |it| {
            it["Hostname"] = json!("db");
            it["Domainname"] = json!("example.org");
        }),
        case("labels", |it| {
            it["Labels"] = json!({"empty": "", "org.example.wide": "ü ✓", "long": "x".repeat(5000), "remora.heal.order": "stop-first",
                "json": "{\"a\": [1]}"});
        }),
        case("labels of compose", |it| {
            it["Labels"] = json!({
                "com.docker.compose.project": "shop", "com.docker.compose.service": "api", "com.docker.compose.container-number": "1",
                "com.docker.compose.oneoff": "False", "com.docker.compose.version": "2.40.0", "com.docker.compose.depends_on": "",
                "com.docker.compose.config-hash": "0f6b4e6d4e8f3b6c", "com.docker.compose.image": "sha256:abc",
            });
        }),
        case("stop signal and time", |it| {
            it["StopSignal"] = json!("SIGQUIT");
            it["StopTimeout"] = json!(0);
        }),
        case("HEALTHCHECK of its own", |it| {
            it["Healthcheck"] = json!({"Test": ["CMD", "/bin/busybox", "true"], "Interval": 5_000_000_000_u64, "Timeout": 2_000_000_000_u64,
                "Retries": 7, "StartPeriod": 1_000_000_000_u64});
        }),
        case("HEALTHCHECK in a shell", |it| it["Healthcheck"] = json!({"Test": ["CMD-SHELL", "exit 0"], "Interval": 60_000_000_000_u64})),
        case("the image's HEALTHCHECK taken away", |it| {
            image(it);
            it["Healthcheck"] = json!({"Test": ["NONE"]});
        }),
        case("the image's HEALTHCHECK at another interval", |it| {
            image(it);
            it["Healthcheck"] = json!({"Interval": 77_000_000_000_u64});
        }),
        case("a terminal", |it| {
            it["Tty"] = json!(true);
            it["OpenStdin"] = json!(true);
        }),
        case("attached, once", |it| {
            for field in ["AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin", "StdinOnce"] {
                it[field] = json!(true);
            }
        }),
        case("a shell of its own", |it| it["Shell"] = json!(["/bin/sh", "-e", "-c"])),
    ]
}

fn storage(scene: &Scene) -> Vec<Case> {
    let folder = scene.folder.path().to_str().unwrap();
    let bind = |options: &str| format!("{folder}:/bound{options}");
    vec![
        host("bind", json!({"Binds": [bind("")]})),
        host(
            "bind, read-only and propagated",
            json!({"Binds": [bind(":ro,rprivate"), format!("{folder}/file:/etc/some-file:ro")]}),
        ),
        host("bind with a label of SELinux", json!({"Binds": [bind(":z")]})),
        host("binds within one another", json!({"Binds": [format!("{folder}:/bound/deep:ro"), bind("")]})),
        host("named volume", json!({"Binds": [format!("{}:/data", scene.volume)]})),
        host("named volume with a slash at the end", json!({"Binds": [format!("{}:/data/:ro,nocopy", scene.volume)]})),
        case("anonymous volume of the image", |it| rich(scene, it)).with_data("/data-of-image"),
        case("anonymous volume", |it| it["Volumes"] = json!({"/data": {}, "/more/": {}})).with_data("/data"),
        host(
            "anonymous volume as a mount",
            json!({"Mounts": [{"Type": "volume", "Target": "/data", "VolumeOptions": {"Labels": {"a": "b"}}}]}),
        )
        .with_data("/data"),
        host("anonymous volume as a bind", json!({"Binds": ["/data"]}))
            .with_data("/data")
            .may_differ(&["HostConfig.Binds"]), // it becomes a mount
        case("anonymous volume of the image, given a name", |it| {
            rich(scene, it);
            it["HostConfig"]["Binds"] = json!([format!("{}:/data-of-image", scene.volume)]);
        }),
        case("anonymous volume with a driver", |it| {
            it["Volumes"] = json!({"/data": {}});
            it["HostConfig"]["VolumeDriver"] = json!("local");
        })
        .with_data("/data"),
        host("tmpfs", json!({"Tmpfs": {"/run": "", "/cache": "size=1m,mode=1770"}})),
        host(
            "tmpfs as a mount",
            json!({"Mounts": [{"Type": "tmpfs", "Target": "/cache", "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 0o1770}}]}),
        ),
        host(
            "bind as a mount",
            json!({"Mounts": [
                {"Type": "bind", "Source": folder, "Target": "/bound/", "ReadOnly": true, "BindOptions": {"Propagation": "private"}},
            ]}),
        ),
        host(
            "volumes as mounts",
            json!({"Mounts": [
                {"Type": "volume", "Source": scene.volume, "Target": "/data", "ReadOnly": true, "VolumeOptions": {"NoCopy": true}},
                {"Type": "volume", "Source": scene.volume, "Target": "/again"},
            ]}),
        ),
        host(
            "all of them at once",
            json!({
                "Binds": [bind(":ro")], "Tmpfs": {"/run": ""}, "Mounts": [{"Type": "volume", "Source": scene.volume, "Target": "/data"}],
            }),
        ),
        host("volumes of another container", json!({"VolumesFrom": [scene.store.id]})).with_data("/stored"),
        host(
            "volumes of another container, read-only",
            json!({"VolumesFrom": [format!("{}:ro", scene.store.name)], "Binds": [bind("")]}),
        ),
        host("read-only root", json!({"ReadonlyRootfs": true, "Tmpfs": {"/tmp": ""}})),
    ]
}

fn networks(scene: &Scene) -> Vec<Case> {
    let (a, b, c) = (scene.networks[0].as_str(), scene.networks[1].as_str(), scene.networks[2].as_str());
    let shares = |id: &str| format!("container:{id}");
    let peer = &scene.peer.name;
    vec![
        case("exposed ports", |it| it["ExposedPorts"] = json!({"80/tcp": {}, "53/udp": {}, "7000/sctp": {}})),
        case("a fixed port", |it| {
            it["ExposedPorts"] = json!({"80/tcp": {}});
            it["HostConfig"]["PortBindings"] =
                json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": free_port().to_string()}]});
        }),
        case("a random port", |it| {
            it["ExposedPorts"] = json!({"80/tcp": {}});
            it["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]});
        }),
        case("a range of ports", |it| {
            // the whole range is this one's
            let first = free_port();
            for _ in 0..20 {
                free_port();
            }
            it["ExposedPorts"] = json!({"80/tcp": {}});
            it["HostConfig"]["PortBindings"] =
                json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": format!("{first}-{}", first + 20)}]});
        }),
        case("several bindings of several protocols", |it| {
            it["ExposedPorts"] = json!({"80/tcp": {}, "53/udp": {}});
            it["HostConfig"]["PortBindings"] = json!({
                "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": free_port().to_string()}, {"HostIp": "", "HostPort": "0"}],
                "53/udp": [{"HostIp": "127.0.0.1", "HostPort": free_port().to_string()}],
            });
        }),
        case("-P", |it| {
            rich(scene, it);
            it["HostConfig"]["PublishAllPorts"] = json!(true);
        }),
        host("network bridge by its name", json!({"NetworkMode": "bridge"})),
        host("network host", json!({"NetworkMode": "host"})),
        case("network host and a name of its own", |it| {
            it["HostConfig"]["NetworkMode"] = json!("host");
            it["Hostname"] = json!("not-the-host");
        }),
        host("network none", json!({"NetworkMode": "none"})),
        case("no network at all", |it| it["NetworkDisabled"] = json!(true)),
        placed("network of the user", a, json!({})),
        host("network of the user by its id", json!({"NetworkMode": scene.network_id}))
            .may_differ(&["HostConfig.NetworkMode"]), // named
        placed("two networks", b, json!({"Aliases": ["db"]})).connected(a, json!({"Aliases": ["db", "primary"]})),
        placed("three networks", b, json!({}))
            .connected(c, json!({"DriverOpts": {"org.example": "x"}}))
            .connected(a, json!({})),
        case("the default network and another", |_| {}).connected(a, json!({"Aliases": ["later"]})),
        placed("aliases", a, json!({"Aliases": ["one", "two.example", "three"]})),
        placed("a fixed address", c, json!({"IPAMConfig": {"IPv4Address": scene.address(9)}})),
        placed("fixed addresses, the second one later", a, json!({}))
            .connected(c, json!({"IPAMConfig": {"IPv4Address": scene.address(10)}})),
        placed("an address of the link", a, json!({"IPAMConfig": {"LinkLocalIPs": ["169.254.77.8"]}})),
        case("a hardware address", |it| it["MacAddress"] = json!("02:42:c0:a8:d5:01")),
        case("a hardware address in the user's network", |it| {
            it["MacAddress"] = json!("02:42:c0:a8:d5:02");
            it["HostConfig"]["NetworkMode"] = json!(a);
        }),
        Case {
            leave: Some(a.to_owned()),
            ..placed("a network that was left", a, json!({"Aliases": ["gone"]}))
                .connected(b, json!({"Aliases": ["kept"]}))
        }
        .may_differ(&["HostConfig.NetworkMode"]), // or it would join that network again
        host("links", json!({"Links": [format!("{peer}:db"), format!("{peer}:cache")]})),
        placed("links in the user's network", a, json!({"Links": [format!("{}:db", scene.neighbour.name)]})),
        host("network of another container", json!({"NetworkMode": shares(&scene.parent.id)})),
        case("network of another container, by name, ports of the image", |it| {
            rich(scene, it);
            it["HostConfig"]["NetworkMode"] = json!(shares(&scene.parent.name));
        }),
        host("processes of another container", json!({"PidMode": shares(&scene.parent.id)})),
        host("memory of another container", json!({"IpcMode": shares(&scene.parent.id)})),
        host("further hosts", json!({"ExtraHosts": ["db:192.0.2.1", "gateway:host-gateway"]})),
        host(
            "name servers",
            json!({"Dns": ["192.0.2.53"], "DnsOptions": ["ndots:2", "use-vc"], "DnsSearch": ["example.org", "."]}),
        ),
    ]
}

fn limits() -> Vec<Case> {
    vec![
        host(
            "memory",
            json!({"Memory": 67_108_864, "MemoryReservation": 33_554_432, "MemorySwap": 134_217_728, "MemorySwappiness": 10}),
        ),
        host("memory, swap without end", json!({"Memory": 67_108_864, "MemorySwap": -1, "OomKillDisable": true})),
        host("processors", json!({"NanoCpus": 500_000_000})),
        host(
            "shares of processors",
            json!({"CpuShares": 512, "CpuPeriod": 50_000, "CpuQuota": 25_000, "CpusetCpus": "0", "CpusetMems": "0"}),
        ),
        host("number of processes", json!({"PidsLimit": 100})),
        host("number of processes, without end", json!({"PidsLimit": -1})),
        host(
            "ulimits",
            json!({"Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}, {"Name": "core", "Soft": 0, "Hard": 0}]}),
        ),
        host("shared memory", json!({"ShmSize": 33_554_432})),
        host("weight of the disk", json!({"BlkioWeight": 300})),
        host("speed of devices", json!({"BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1_048_576}]})),
        host("score for the out-of-memory killer", json!({"OomScoreAdj": 500})),
        host("group of the kernel's", json!({"CgroupParent": "/remora-test-parent"})),
    ]
}

fn others(scene: &Scene) -> Vec<Case> {
    let policy = |name: &'static str, policy: Value| host(name, json!({"RestartPolicy": policy}));
    vec![
        policy("restarts: no", json!({"Name": "no"})),
        policy("restarts: always", json!({"Name": "always"})),
        policy("restarts: unless stopped", json!({"Name": "unless-stopped", "MaximumRetryCount": 0})),
        policy("restarts: three times", json!({"Name": "on-failure", "MaximumRetryCount": 3})),
        host("capabilities", json!({"CapAdd": ["NET_ADMIN", "SYS_PTRACE"], "CapDrop": ["ALL"]})),
        // The machine that this is written on does not let containers be started that way.
        host("privileged", json!({"Privileged": true})).in_state(State::NeverStarted),
        host(
            "devices",
            json!({"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rw"}],
            "DeviceCgroupRules": ["c 1:3 rwm", "a 7:* r"]}),
        ),
        host("options of security", json!({"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]})),
        host("label of SELinux off", json!({"SecurityOpt": ["label=disable"]})),
        host("nothing masked", json!({"MaskedPaths": [], "ReadonlyPaths": []})),
        host("something masked", json!({"MaskedPaths": ["/proc/kcore"], "ReadonlyPaths": ["/proc/sys"]})),
        host("settings of the kernel's", json!({"Sysctls": {"net.ipv4.ip_forward": "1", "net.core.somaxconn": "512"}})),
        host("init", json!({"Init": true})),
        host("no init, said so", json!({"Init": false})),
        host("further groups", json!({"GroupAdd": ["100", "4000"]})),
        host("processes of the host", json!({"PidMode": "host"})),
        host("memory of the host", json!({"IpcMode": "host"})),
        host("shareable memory", json!({"IpcMode": "shareable"})),
        host("no shared memory", json!({"IpcMode": "none"})),
        case("name of the host", |it| {
            it["HostConfig"]["UTSMode"] = json!("host");
        }),
        host("users of the host", json!({"UsernsMode": "host"})),
        host("control groups of the host", json!({"CgroupnsMode": "host"})),
        host("control groups of its own", json!({"CgroupnsMode": "private"})),
        host("runtime", json!({"Runtime": "runc"})),
        host(
            "log in files",
            json!({"LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2", "labels": "a,b"}}}),
        ),
        host("log in the local form", json!({"LogConfig": {"Type": "local", "Config": {"mode": "non-blocking"}}})),
        host("no log", json!({"LogConfig": {"Type": "none"}})),
        case("stopped", |_| {}).in_state(State::Stopped),
        case("stopped, in two networks", |it| it["HostConfig"]["NetworkMode"] = json!(scene.networks[0]))
            .connected(&scene.networks[1], json!({"Aliases": ["x"]}))
            .in_state(State::Stopped),
        case("never started", |it| it["Volumes"] = json!({"/data": {}})).in_state(State::NeverStarted),
        Case {
            moved_tag: Some((scene.moving_tag.clone(), scene.rich_image.clone())),
            ..case("an image whose name means another one by now", |it| it["Image"] = json!(scene.moving_tag))
        }
        .may_differ(&["Config.Image"]), // the id, because the name would make another container
    ]
}
