//! What registrator's documents look like: the structures of the Docker client in Go that its templates were written against
//! (`go-dockerclient`, `Container`). A field of one of them is empty where Docker leaves it out; here, too.
//!
//! Only what a template could ask for is listed, and no field that is a pointer there: without a value such a one was an
//! error (`HostConfig.PidsLimit`, `Config.Healthcheck`, `Node`).

/// What stands at a place of the document.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    /// Nothing is known about it.
    Any,
    /// A text; without a value, an empty one.
    Text,
    /// A number; without a value, 0.
    Number,
    /// A boolean; without a value, false.
    Truth,
    /// A list or a map of such elements; without a value, an empty one.
    Each(&'static Shape),
    /// A structure with these fields; without a value, each of them is empty.
    Struct(&'static [(&'static str, Shape)]),
}

impl Shape {
    /// The field of that name, in any case, if it is a structure and has one.
    pub fn field(&self, name: &str) -> Option<&'static Self> {
        let Self::Struct(fields) = self else { return None };
        fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, shape)| shape)
    }

    /// What every element of a list or of a map is.
    pub fn element(&self) -> &'static Self {
        if let Self::Each(element) = self { element } else { &Self::Any }
    }
}

use Shape::{Any, Each, Number, Struct, Text, Truth};

const TEXTS: Shape = Each(&Text);

const NETWORK: Shape = Struct(&[
    ("Aliases", TEXTS),
    ("MacAddress", Text),
    ("GlobalIPv6PrefixLen", Number),
    ("GlobalIPv6Address", Text),
    ("IPv6Gateway", Text),
    ("IPPrefixLen", Number),
    ("IPAddress", Text),
    ("Gateway", Text),
    ("EndpointID", Text),
    ("NetworkID", Text),
]);

const NETWORK_SETTINGS: Shape = Struct(&[
    ("Networks", Each(&NETWORK)),
    ("IPAddress", Text),
    ("IPPrefixLen", Number),
    ("MacAddress", Text),
    ("Gateway", Text),
    ("Bridge", Text),
    ("Ports", Each(&Each(&Struct(&[("HostIP", Text), ("HostPort", Text)])))),
    ("NetworkID", Text),
    ("EndpointID", Text),
    ("SandboxKey", Text),
    ("GlobalIPv6Address", Text),
    ("GlobalIPv6PrefixLen", Number),
    ("IPv6Gateway", Text),
    ("LinkLocalIPv6Address", Text),
    ("LinkLocalIPv6PrefixLen", Number),
    ("SecondaryIPAddresses", Each(&Any)),
    ("SecondaryIPv6Addresses", Each(&Any)),
]);

const PROBE: Shape = Struct(&[("Start", Text), ("End", Text), ("ExitCode", Number), ("Output", Text)]);

const STATE: Shape = Struct(&[
    ("Status", Text),
    ("Running", Truth),
    ("Paused", Truth),
    ("Restarting", Truth),
    ("OOMKilled", Truth),
    ("RemovalInProgress", Truth),
    ("Dead", Truth),
    ("Pid", Number),
    ("ExitCode", Number),
    ("Error", Text),
    ("StartedAt", Text),
    ("FinishedAt", Text),
    ("Health", Struct(&[("Status", Text), ("FailingStreak", Number), ("Log", Each(&PROBE))])),
]);

const CONFIG: Shape = Struct(&[
    ("Hostname", Text),
    ("Domainname", Text),
    ("User", Text),
    ("Memory", Number),
    ("MemorySwap", Number),
    ("MemoryReservation", Number),
    ("KernelMemory", Number),
    ("CPUShares", Number),
    ("CPUSet", Text),
    ("PortSpecs", TEXTS),
    ("ExposedPorts", Each(&Any)),
    ("PublishService", Text),
    ("StopSignal", Text),
    ("StopTimeout", Number),
    ("Env", TEXTS),
    ("Cmd", TEXTS),
    ("Shell", TEXTS),
    ("DNS", TEXTS),
    ("Image", Text),
    ("Volumes", Each(&Any)),
    ("VolumeDriver", Text),
    ("WorkingDir", Text),
    ("MacAddress", Text),
    ("Entrypoint", TEXTS),
    ("SecurityOpts", TEXTS),
    ("OnBuild", TEXTS),
    ("Labels", TEXTS),
    ("AttachStdin", Truth),
    ("AttachStdout", Truth),
    ("AttachStderr", Truth),
    ("ArgsEscaped", Truth),
    ("Tty", Truth),
    ("OpenStdin", Truth),
    ("StdinOnce", Truth),
    ("NetworkDisabled", Truth),
    ("VolumesFrom", Text),
]);

const HOST_CONFIG: Shape = Struct(&[
    ("Binds", TEXTS),
    ("CapAdd", TEXTS),
    ("CapDrop", TEXTS),
    ("GroupAdd", TEXTS),
    ("ContainerIDFile", Text),
    ("PortBindings", Each(&Each(&Struct(&[("HostIP", Text), ("HostPort", Text)])))),
    ("Links", TEXTS),
    ("DNS", TEXTS),
    ("DNSOptions", TEXTS),
    ("DNSSearch", TEXTS),
    ("ExtraHosts", TEXTS),
    ("VolumesFrom", TEXTS),
    ("UsernsMode", Text),
    ("NetworkMode", Text),
    ("IpcMode", Text),
    ("Isolation", Text),
    ("PidMode", Text),
    ("UTSMode", Text),
    ("RestartPolicy", Struct(&[("Name", Text), ("MaximumRetryCount", Number)])),
    ("Devices", Each(&Any)),
    ("LogConfig", Struct(&[("Type", Text), ("Config", TEXTS)])),
    ("SecurityOpt", TEXTS),
    ("CgroupnsMode", Text),
    ("Cgroup", Text),
    ("CgroupParent", Text),
    ("Memory", Number),
    ("MemoryReservation", Number),
    ("KernelMemory", Number),
    ("MemorySwap", Number),
    ("CPUShares", Number),
    ("CPUSetCPUs", Text),
    ("CPUSetMEMs", Text),
    ("CPUQuota", Number),
    ("CPUPeriod", Number),
    ("NanoCPUs", Number),
    ("BlkioWeight", Number),
    ("Ulimits", Each(&Any)),
    ("VolumeDriver", Text),
    ("OomScoreAdj", Number),
    ("ShmSize", Number),
    ("Tmpfs", TEXTS),
    ("StorageOpt", TEXTS),
    ("Sysctls", TEXTS),
    ("Runtime", Text),
    ("Privileged", Truth),
    ("PublishAllPorts", Truth),
    ("ReadonlyRootfs", Truth),
    ("AutoRemove", Truth),
]);

const MOUNT: Shape = Struct(&[
    ("Name", Text),
    ("Source", Text),
    ("Destination", Text),
    ("Driver", Text),
    ("Mode", Text),
    ("RW", Truth),
    ("Propagation", Text),
    ("Type", Text),
]);

/// The whole document.
pub(super) static CONTAINER: Shape = Struct(&[
    ("ID", Text),
    ("Created", Text),
    ("Path", Text),
    ("Args", TEXTS),
    ("Config", CONFIG),
    ("State", STATE),
    ("Image", Text),
    ("NetworkSettings", NETWORK_SETTINGS),
    ("SysInitPath", Text),
    ("ResolvConfPath", Text),
    ("HostnamePath", Text),
    ("HostsPath", Text),
    ("LogPath", Text),
    ("Name", Text),
    ("Driver", Text),
    ("Mounts", Each(&MOUNT)),
    ("Volumes", TEXTS),
    ("VolumesRW", Each(&Truth)),
    ("HostConfig", HOST_CONFIG),
    ("ExecIDs", TEXTS),
    ("RestartCount", Number),
    ("AppArmorProfile", Text),
    ("MountLabel", Text),
    ("ProcessLabel", Text),
    ("Platform", Text),
    ("SizeRw", Number),
    ("SizeRootFs", Number),
]);
