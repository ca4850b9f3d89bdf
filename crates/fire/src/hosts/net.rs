//! Hosts that are network namespaces: made, cut off, made lossy, healed, removed.
//!
//! Here live the calls of `ip` and `iptables` and how a process or a thread gets into a namespace. Each network has
//! names of its own, made of the number of this process, and goes with the value; what a run that was killed has left
//! behind is removed by the next one. Needs root: `xtask` looks whether it can be done before it starts this.

use crate::Outcome;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// How the names of all namespaces of these tests begin.
const PREFIX: &str = "quorate-fire-";
/// The namespace with the switch that all hosts are connected to.
const SWITCH: &str = "lan";
/// The first three numbers of every address.
const SUBNET: &str = "10.231.7";
/// The last number of the switch's own address.
const SWITCH_NUMBER: usize = 254;
/// How the program calls itself whose namespaces may be removed once it is gone.
const OWN_NAME: &str = "fire";

/// How a host is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Its link goes down: the host itself knows at once.
    LinkDown,
    /// Every packet from and to it is dropped without a word.
    Silence,
}

/// A network of several hosts.
#[derive(Debug)]
pub struct Net {
    /// Begins the names of its namespaces.
    prefix: String,
    hosts: Vec<String>,
}

/// A host that processes may be started on.
#[derive(Debug, Clone)]
pub struct Home {
    namespace: String,
    host: String,
}

impl Net {
    /// Makes a network of hosts with these names, of at most 15 characters.
    pub fn make(hosts: &[&str]) -> Outcome<Net> {
        sweep()?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        // From here on the value removes what was made, also after a failure.
        let mut net = Net { prefix, hosts: Vec::new() };
        let switch = net.namespace(SWITCH);
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", SWITCH, "type", "bridge"])?;
        ip(&["-n", &switch, "address", "add", &format!("{SUBNET}.{SWITCH_NUMBER}/24"), "dev", SWITCH])?;
        ip(&["-n", &switch, "link", "set", SWITCH, "up"])?;
        for host in hosts {
            net.add(host, &switch)?;
        }
        Ok(net)
    }

    fn add(&mut self, host: &str, switch: &str) -> Outcome {
        let namespace = self.namespace(host);
        ip(&["netns", "add", &namespace])?;
        self.hosts.push(host.to_owned());
        let peer = ["type", "veth", "peer", "name", "eth0", "netns", &namespace];
        ip(&[&["-n", switch, "link", "add", host][..], &peer].concat())?;
        ip(&["-n", switch, "link", "set", host, "master", SWITCH, "up"])?;
        let address = format!("{}/24", self.address(host));
        ip(&["-n", &namespace, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// Returns a host's address; that of the switch for any other name.
    pub fn address(&self, host: &str) -> String {
        let place = self.hosts.iter().position(|other| other == host);
        format!("{SUBNET}.{}", place.map_or(SWITCH_NUMBER, |place| place + 1))
    }

    /// Returns a host, for processes to be started there.
    pub fn home(&self, host: &str) -> Home {
        Home { namespace: self.namespace(host), host: host.to_owned() }
    }

    /// Returns the switch, which reaches all hosts.
    pub fn switch(&self) -> Home {
        self.home(SWITCH)
    }

    /// Cuts `host` off; what is dropped in silence is dropped at its door and at that of `from`.
    pub fn cut(&self, host: &str, from: &str, how: Cut) -> Outcome {
        match how {
            Cut::LinkDown => ip(&["-n", &self.namespace(host), "link", "set", "eth0", "down"]),
            Cut::Silence => {
                self.iptables(host, &["-A", "INPUT", "-i", "eth0", "-j", "DROP"])?;
                self.iptables(from, &["-A", "INPUT", "-s", &self.address(host), "-j", "DROP"])
            }
        }
    }

    /// Lets a packet to `host` get lost with this probability.
    pub fn lose(&self, host: &str, probability: &str) -> Outcome {
        let lose = ["-m", "statistic", "--mode", "random", "--probability", probability, "-j", "DROP"];
        self.iptables(host, &[&["-A", "INPUT", "-i", "eth0"][..], &lose].concat())
    }

    /// Takes back all that was done to `host`, there and at the door of `from`.
    pub fn heal(&self, host: &str, from: &str) -> Outcome {
        self.iptables(host, &["-F", "INPUT"])?;
        self.iptables(from, &["-F", "INPUT"])?;
        ip(&["-n", &self.namespace(host), "link", "set", "eth0", "up"])
    }

    fn iptables(&self, host: &str, words: &[&str]) -> Outcome {
        ip(&[&["netns", "exec", &self.namespace(host), "iptables"][..], words].concat())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let hosts = self.hosts.iter().map(String::as_str).chain([SWITCH]);
        hosts.for_each(|host| remove(&self.namespace(host)));
    }
}

impl Home {
    /// Lets a process begin on this host, and under its name.
    pub fn prepare(&self, command: &mut Command) -> Outcome {
        let (net, host) = (self.open()?, self.host.clone());
        let enter = move || {
            setns(&net, CloneFlags::CLONE_NEWNET)?;
            unshare(CloneFlags::CLONE_NEWUTS)?;
            sethostname(&host).map_err(std::io::Error::from)
        };
        // SAFETY: between fork and exec only functions may run that are safe in a signal handler. This one makes three
        // system calls with what was made before the fork, takes no lock and allocates nothing; its errors are numbers.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }

    /// Does something in a thread of its own on this host; what is started or opened there stays there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Outcome<T> {
        let net = self.open()?;
        let enter = || {
            let entered = setns(&net, CloneFlags::CLONE_NEWNET);
            entered.map(|()| work()).map_err(|e| format!("cannot enter {}: {e}", self.namespace))
        };
        let done = std::thread::scope(|scope| scope.spawn(enter).join());
        done.map_err(|_| format!("the work in {} panicked", self.namespace))?
    }

    fn open(&self) -> Outcome<File> {
        let path = format!("/run/netns/{}", self.namespace);
        File::open(&path).map_err(|e| format!("cannot open {path}: {e}"))
    }
}

/// Removes the namespaces that a dead run of this program has left.
fn sweep() -> Outcome {
    let list = answer(&["netns", "list"])?;
    for namespace in list.lines().filter_map(|line| line.split(' ').next()) {
        if owner(namespace).is_some_and(|pid| !is_running(pid)) {
            remove(namespace);
        }
    }
    Ok(())
}

/// Returns the process that made a namespace, if it is one of ours.
fn owner(namespace: &str) -> Option<u32> {
    namespace.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// Tells whether this process is alive and this program: a number may have been given to another since.
fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == OWN_NAME)
}

/// Removes a namespace and what still runs in it. What is not there any more is what is wanted.
fn remove(namespace: &str) {
    let left = answer(&["netns", "pids", namespace]).unwrap_or_default();
    for pid in left.lines().filter_map(|line| line.trim().parse().ok()) {
        crate::party::signal(pid, nix::sys::signal::Signal::SIGKILL);
    }
    let _ = ip(&["netns", "delete", namespace]);
}

fn ip(words: &[&str]) -> Outcome {
    answer(words).map(drop)
}

fn answer(words: &[&str]) -> Outcome<String> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("cannot run ip (package iproute2): {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_namespaces_of_dead_runs_are_removed() {
        assert_eq!(owner("quorate-fire-17-db"), Some(17));
        assert_eq!(owner("quorate-fire-x-db"), None);
        assert_eq!(owner("someone-elses-17-db"), None);
        assert!(!is_running(u32::MAX));
        // This test's own process lives, but it is another program.
        assert!(!is_running(1));
    }

    #[test]
    fn every_host_has_an_address_of_its_own() {
        let hosts = ["db", "n1"].map(str::to_owned).to_vec();
        // Dropped without having made anything: removing what is not there does no harm.
        let net = Net { prefix: format!("{PREFIX}0-"), hosts };
        assert_eq!((net.address("db"), net.address("n1")), ("10.231.7.1".into(), "10.231.7.2".into()));
        assert_eq!(net.address(SWITCH), "10.231.7.254");
    }
}
