//! A ledger over an encrypted connection: a server of the test's own with certificates of an authority of its own.

use crate::door::Door;
use quorate_testkit::server::Server;
use quorate_testkit::tls::Authority;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

/// Who may come, and how: encrypted with a password, or encrypted with a certificate in the role's name.
const DOORKEEPER: &str = "local all all trust\nhostssl all agent 127.0.0.1/32 cert\n\
                          hostssl all all 127.0.0.1/32 scram-sha-256\n";
/// The name in the server's certificate.
const NAME: &str = "db.test";

/// A server that speaks over TCP, encrypted, and to nobody else there.
struct Encrypted {
    server: Server,
    authority: Authority,
    port: u16,
}

impl Encrypted {
    fn start() -> Encrypted {
        let (server, authority) = (Server::start().expect("a server"), Authority::new("ours"));
        let (certificate, key) = authority.certify(NAME);
        write_private(&server, "server.crt", &certificate);
        write_private(&server, "server.key", &key);
        write_private(&server, "authority.crt", authority.certificate());
        write_private(&server, "pg_hba.conf", DOORKEEPER);
        let port = free_port();
        for sql in [
            "alter system set ssl = on",
            "alter system set ssl_ca_file = 'authority.crt'",
            "alter system set listen_addresses = '127.0.0.1'",
            &format!("alter system set port = {port}"),
            "alter role postgres password 'se/cret'",
            "create role agent superuser login",
        ] {
            server.psql(sql).unwrap_or_else(|why| panic!("{sql}: {why}"));
        }
        server.pg_ctl(&["-m", "fast", "restart"]).expect("the server obeys");
        Encrypted { server, authority, port }
    }

    /// A folder with the authority's certificate whose ledger is reached like this.
    fn door(&self, user: &str, host: &str, query: &str) -> Door {
        let port = self.port;
        let door = Door::at(&format!("postgres://{user}@{host}:{port}/postgres?hostaddr=127.0.0.1&{query}"));
        door.write("ours.pem", self.authority.certificate());
        door
    }
}

fn write_private(server: &Server, name: &str, text: &str) {
    let data = server.data();
    let file = data.join(name);
    std::fs::write(&file, text).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("made private");
    let owner = data.metadata().expect("there");
    chown(&file, Some(owner.uid()), Some(owner.gid())).expect("given to the server's user");
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has one").port()
}

/// A password with a character that means something in a url.
const USER: &str = "postgres:se%2Fcret";

#[track_caller]
fn refused(door: &Door, why: &str, hint: &str) {
    let error = door.fails(1, &["status"]);
    let (message, mends) = (error["message"].as_str(), error["hint"].as_str());
    assert!(message.is_some_and(|text| text.contains(why)), "{error}");
    assert!(mends.is_some_and(|text| text.contains(hint)), "{error}");
    assert!(!error.to_string().contains("cret"), "the password is shown: {error}");
}

#[test]
fn a_ledger_is_reached_encrypted_and_its_server_must_prove_who_it_is() {
    let there = Encrypted::start();
    let door = there.door(USER, NAME, "sslmode=verify-full&sslrootcert=ours.pem");
    door.ok(&["task", "add", "one", "--run", "true"]);
    door.write("plan.toml", "goal = \"g\"\n[[task]]\nkey = \"a\"\nrun = \"quorate task list >list\"\n");
    door.ok(&["run", "plan.toml"]);
    assert!(
        door.path().join("list").metadata().expect("written").len() > 0,
        "an agent's child reaches it too"
    );
    for query in ["sslmode=require", "sslmode=prefer", "sslmode=require&sslrootcert=ours.pem"] {
        there.door(USER, NAME, query).ok(&["status"]);
    }
    there.door(USER, "other.test", "sslmode=verify-ca&sslrootcert=ours.pem").ok(&["status"]);

    let stranger = Authority::new("a stranger");
    let door = there.door(USER, NAME, "sslmode=verify-full&sslrootcert=strange.pem");
    door.write("strange.pem", stranger.certificate());
    refused(&door, "UnknownIssuer", "sslrootcert");
    let door = there.door(USER, "other.test", "sslmode=verify-full&sslrootcert=ours.pem");
    refused(&door, "certificate", "verify-ca");
    refused(&there.door(USER, NAME, "sslmode=disable"), "no encryption", "");
}

#[test]
fn a_certificate_is_a_way_to_say_who_one_is() {
    let there = Encrypted::start();
    let (certificate, key) = there.authority.certify("agent");
    let query = "sslmode=verify-full&sslrootcert=ours.pem&sslcert=mine.pem&sslkey=mine.key";
    let door = there.door("agent", NAME, query);
    door.write("mine.pem", &certificate);
    door.write("mine.key", &key);
    door.ok(&["status"]);
    let bare = there.door("agent", NAME, "sslmode=verify-full&sslrootcert=ours.pem");
    refused(&bare, "certificate", "");
}

#[test]
fn a_server_without_encryption_is_not_spoken_to_where_encryption_is_demanded() {
    let there = Encrypted::start();
    there.server.pg_ctl(&["-o", "-c ssl=off", "restart"]).expect("the server obeys");
    refused(&there.door(USER, NAME, "sslmode=require"), "TLS", "ssl = on");
}
