//! `skillhost doctor`: what it shows, and what it ends with.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use regex::Regex;
use serde_json::Value;
use snapbox::str;

use crate::harness::{Place, check, says};

/// What depends on the machine, and on how busy it is, replaced.
fn steady(said: &str) -> String {
    const FILTERS: [(&str, &str); 5] = [
        // Of the machine only that something was found out.
        (r"(?m)^  [✓!–] ([a-z0-9_]+) .*$", "  [SEEN] $1"),
        (r"(?m)^(warning: machine|hint: ).*\n", ""),
        (r"\+[\d.]+ (µs|ms)", "+[TIME]"),
        (
            r" on linux .* x86_64| on linux .* aarch64",
            " on [PLATFORM]",
        ),
        (r"· \d+ hold.*", "· [SUM]"),
    ];
    let (tried, machine) = said.split_once("    this machine").expect("it comes last");
    let mut machine = machine.to_owned();
    for (pattern, replacement) in FILTERS {
        let pattern = Regex::new(pattern).expect("a pattern of ours");
        machine = pattern.replace_all(&machine, replacement).into_owned();
    }
    let time = Regex::new(r"wall_time_ms( +)(\+[\d.]+ (µs|ms)|0)|(deadline {10}.*)deadline( +).*")
        .expect("a pattern of ours");
    let tried = time.replace_all(tried, "${4}[IN TIME]");
    format!("{tried}    this machine{machine}")
}

/// A place whose cache is its own rather than the one that all tests share.
fn place(mode: u32) -> Place {
    let place = Place::new();
    let cache = place.path("home/compiled");
    fs::remove_file(&cache).expect("it is a link");
    fs::create_dir(&cache).expect("a folder can be made");
    fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).expect("it is ours");
    place
}

#[test]
fn all_holds() {
    check(
        steady(&place(0o700).run(["doctor"])),
        str![[r#"
exit: 0
--- stdout
    limit                tried                         stopped by           past it
  ✓ fuel                 a loop without end            fuel                 0
  ✓ memory_bytes         growing one memory            memory_bytes         0
  ✓ memory_bytes         growing two memories in turn  memory_bytes         0
  ✓ memory_bytes         globals in many instances     memory_bytes         0
  ✓ table_elements       growing two tables in turn    table_elements       0
  ✓ instances            consisting of 61 instances    instances            0
  ✓ wall_time_ms         a loop without end            [IN TIME]
  ✓ wall_time_ms         code that does not yield      [IN TIME]
  ✓ wall_time_ms         waiting on a clock for ever   [IN TIME]
  ✓ wall_time_ms         waiting on a silent server    [IN TIME]
  ✓ wall_time_ms         calling the host without end  [IN TIME]
  ✓ wall_time_ms         filling its memory at once    [IN TIME]
  ✓ deadline             a loop without end            [IN TIME]
  ✓ input_bytes          an input a byte too long      input_bytes          0
  ✓ output_bytes         answering with a long text    output_bytes         0
  ✓ attachment_bytes     the same bytes many times     attachment_bytes     0
  ✓ stdout_bytes         printing without end          cut and counted      0
  ✓ stderr_bytes         printing without end          cut and counted      0
  ✓ log_bytes            logging without end           cut and counted      0
  ✓ progress_bytes       reporting without end         cut and counted      0
  ✓ host_bytes           a long text in one call       host_bytes           +64 KiB
  ✓ handles              opening clocks, closing none  handles              0
  ✓ open_files           opening, and closing none     open_files           0
  ✓ created_files        making symlinks               created_files        0
  ✓ write_bytes          writing a long file           write_bytes          0
  ✓ connections          connecting again and again    connections          0
  ✓ http_request_bytes   a request with a long path    http_request_bytes   0
  ✓ http_response_bytes  an answer with a long head    http_response_bytes  0
  ✓ http_fields_bytes    a head with a long field      http_fields_bytes    0
  ✓ socket_sent_bytes    sending byte by byte          socket_sent_bytes    0
  ✓ socket_read_bytes    receiving byte by byte        socket_read_bytes    0
  ✓ storage_keys         keeping one key more          storage_keys         0
  ✓ storage_bytes        keeping a byte too many       storage_bytes        0
  ✓ storage_value_bytes  a value a byte too long       storage_value_bytes  0
  ✓ stack_bytes          recursion without end         stack_bytes          0

    grant                tried                         stopped by
  ✓ directory            with nothing granted          no directory
  ✓ directory            a handle it was not given     contract violation
  ✓ directory            writing, `ro` granted         not-permitted
  ✓ directory            writing, `ro` declared        not-permitted
  ✓ directory            `..` and absolute paths       not-permitted
  ✓ directory            symlinks that lead out        not-permitted
  ✓ directory            moving a file out             not-permitted
  ✓ directory            hard links that lead out      not-permitted
  ✓ directory            moving a link to lead out     not-permitted
  ✓ directory            links swapped meanwhile       not-permitted
  ✓ directory            opening a FIFO or a socket    not-permitted
  ✓ directory            opening a device              not-permitted
  ✓ directory            what the kernel makes up      rejected
  ✓ directory            the host's own folder         rejected
  ✓ directory            granted and not declared      rejected
  ✓ environment          reading all variables         nothing is there
  ✓ environment          granted and not declared      rejected
  ✓ config               reading all keys              nothing is there
  ✓ config               granted and not declared      rejected
  ✓ consent              another skill's name          it was not admitted
  ✓ consent              what it declares changed      it was not admitted
  ✓ socket               connecting to this machine    access-denied
  ✓ socket               a socket for datagrams        access-denied
  ✓ socket               looking a name up             access-denied
  ✓ socket               connecting to another port    access-denied
  ✓ socket               granted and not declared      rejected
  ✓ http                 with nothing granted          refused
  ✓ http                 a request for another path    refused
  ✓ http                 a request by another method   refused
  ✓ http                 a request to another host     refused
  ✓ http                 a request by another scheme   refused
  ✓ http                 a redirect to another port    refused
  ✓ http                 granted and not declared      rejected
  ✓ address              a name for this machine       refused
  ✓ address              a name for a private address  refused
  ✓ address              a name for a metadata server  refused
  ✓ address              IPv4 addresses within IPv6    refused
  ✓ secret               a host it is not bound to     sent without
  ✓ secret               answering with its value      taken out
  ✓ secret               granted and not declared      rejected
  ✓ storage              with nothing granted          access-denied
  ✓ storage              what another one keeps        nothing is there
  ✓ storage              granted and not declared      rejected
  ✓ scratch              what another run left         no-entry
  ✓ scratch              what is left on the disk      it is gone
  ✓ scratch              granted and not declared      rejected
  ✓ clock                time off a still clock        it stands still
  ✓ random               drawing with one seed         the same each time

    isolation            tried                         stopped by
  ✓ memory               reading past its end          trap
  ✓ memory               a function as another         trap
  ✓ instance             finding what it left behind   a fresh instance
  ✓ describe             a loop without end            fuel
  ✓ start                a loop without end            fuel
  ✓ realloc              a loop without end            fuel
  ✓ post_return          a loop without end            fuel
  ✓ destructor           a loop without end            fuel

    compiling            tried                         stopped by           past it
  ✓ component_bytes      a component a byte too long   not compiled         0
  ✓ functions            a function too many           not compiled         0
  ✓ function_bytes       a function too long           not compiled         0
  ✓ nesting              a type in a type, too often   not compiled         0
  ✓ types                types of too many parts       not compiled
  ✓ artifact             little that becomes much      not kept
  ✓ child                with too little memory        its own limits

    compiled cache       tried, or looked at           found
  ✓ truncated            loading half of an entry      compiled anew
  ✓ foreign              loading code of other makers  compiled anew
  ✓ tampered             code of another component     compiled anew
  ✓ writable             an entry others may write     compiled anew
  ✓ link                 an entry that is a symlink    compiled anew
  ✓ mode                 a folder others may enter     refused
  ✓ folder               whose, and who may enter      mode 0700
  ✓ path                 who may replace the folder    nobody else
  ✓ entries              who may write them            all 0 are its own
  ✓ mount                whether code may run there    yes

    guard                tried                         stopped by
  ✓ ceilings             asking for more memory        memory_bytes
  ✓ concurrency          one more than may run         its turn
  ✓ concurrency          one more of a tenant          its tenant's turn
  ✓ concurrency          one more of a skill           its skill's turn
  ✓ fairness             a tenant that floods          turns between tenants
  ✓ rates                one more than may start       the rate
  ✓ breaker              a skill that always fails     its circuit
  ✓ breaker              a host that never answers     its circuit
  ✓ approval             running without one           rejected, and asked
  ✓ approval             one for another input         rejected, and asked
  ✓ approval             using one twice               rejected, and asked
  ✓ audit                changing a line               told: changed
  ✓ audit                taking a line out             told: missing
  ✓ audit                cutting the end off           told: cut

    this machine         which matters for             found
  [SEEN] clock
  [SEEN] code_pages
  [SEEN] address_space
  [SEEN] pagemap_scan
  [SEEN] openat2
  [SEEN] thread_clock
  [SEEN] processor
  [SEEN] cores
  [SEEN] memory
  [SEEN] overcommit
  [SEEN] open_files
  [SEEN] file_size
  [SEEN] speculation
  [SEEN] user
  [SEEN] seccomp
  [SEEN] scratch

    policy               tried, or looked at           found
  [SEEN] policy
--- stderr
✓ skillhost 0.1.0 on [PLATFORM] · [SUM]

"#]],
    );
}

#[test]
fn what_does_not_hold_is_explained() {
    let said = place(0o755).run(["doctor", "--quiet"]);
    assert!(said.starts_with("exit: 7\n"), "{said}");
    let (_, stderr) = said.split_once("--- stderr\n").expect("it is there");
    check(
        stderr,
        str![[r#"
error: cache `folder` (whose, and who may enter) does not hold: `[PLACE]/home/compiled` has mode 0755: others may enter it
hint: chmod 700 '[PLACE]/home/compiled'

"#]],
    );
}

#[test]
fn where_there_is_no_room_to_try_anything() {
    let place = Place::new();
    let mut command = place.command(["doctor"]);
    let output = command.env("TMPDIR", "/nowhere").output();
    let said = place.said(&output.expect("the command starts"));
    let name = Regex::new("doctor-[A-Za-z0-9]{6}").expect("a pattern of ours");
    check(
        name.replace_all(&said, "doctor-[NAME]"),
        str![[r#"
exit: 70
--- stdout
--- stderr
error: cannot use the temporary folder `/nowhere`: No such file or directory (os error 2) at path "/nowhere/skillhost-doctor-[NAME]"
hint: name another folder for temporary files in the variable TMPDIR

"#]],
    );
}

/// On a terminal lines fit its columns; whoever reads them from a pipe has all of each name.
#[test]
fn no_line_is_cut() {
    let output = place(0o755).output(["doctor"]);
    let stdout = String::from_utf8(output.stdout).expect("it is UTF-8");
    assert!(stdout.lines().count() > 60);
    for line in stdout.lines() {
        assert!(!line.contains('…'), "{line}");
    }
}

#[test]
fn one_document_for_a_program() {
    let place = place(0o700);
    let output = place.output(["doctor", "--json"]);
    let said = place.said(&output);
    assert!(output.status.success(), "{said}");
    assert!(output.stderr.is_empty(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is one document");
    assert_eq!(report["holds"], true);
    let checks = report["checks"].as_array().expect("a list");
    let find = |kind: &str, name: &str| {
        checks
            .iter()
            .find(|check| check["kind"] == kind && check["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {said}"))
    };
    let memory = find("limit", "memory_bytes");
    assert_eq!(memory["verdict"], "holds");
    assert_eq!(memory["stopped_by"], "memory_bytes");
    assert_eq!(memory["figures"]["unit"], "bytes");
    assert_eq!(memory["figures"]["limit"], memory["figures"]["reached"]);
    assert_eq!(memory["figures"]["past"], 0);
    let child = find("compile", "child");
    assert_eq!(child["verdict"], "holds", "{child}");
}

#[test]
fn nothing_is_left_behind() {
    let place = place(0o700);
    place.write("tmp/keep", "");
    let mut command = place.command(["doctor", "--json"]);
    let output = command.env("TMPDIR", place.path("tmp")).output();
    assert!(output.expect("the command starts").status.success());
    let names = |folder: &Path| fs::read_dir(folder).expect("it is there").count();
    assert_eq!(names(&place.path("tmp")), 1);
    assert_eq!(names(&place.path("home/compiled")), 0);
}

/// Without the folder, and without an audit that is required, nothing runs.
#[test]
fn what_could_not_be_made_does_not_hold() {
    let place = Place::new();
    place.write(
        "policy.toml",
        "[audit]\nrequired = true\nfolder = '/proc/x/audit'\n",
    );
    let said = place.run([
        "--home",
        "/proc/nope",
        "--policy",
        "policy.toml",
        "doctor",
        "--quiet",
    ]);
    says(
        &said,
        &[
            "exit: 7\n",
            "error: cache `folder` (whose, and who may enter) does not hold: `/proc/nope/compiled` cannot be made: ",
            "hint: name another folder for it\n",
            "error: policy `policy` (its file can be used) does not hold: the audit: cannot make `/proc/x/audit`: ",
            "hint: name another folder: `folder` in `[audit]`",
        ],
    );
}

/// The policy is among what is examined: whether others can write it, and whether it fits what is installed.
#[test]
fn a_policy_is_looked_at() {
    let place = place(0o700);
    place.write(
        "home/policy.toml",
        "[skills.nobody.grants]\nenvironment = [\"A=b\"]\n",
    );
    let said = place.run(["doctor"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    assert!(said.contains("! policy"), "{said}");
    let found = "warning: policy `policy` (its file can be used): nobody: no digest is confirmed";
    assert!(said.contains(found), "{said}");
    let policy = place.path("home/policy.toml");
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o666)).expect("it is ours");
    let said = place.run(["doctor", "--quiet"]);
    assert!(said.starts_with("exit: 7\n"), "{said}");
    let (_, stderr) = said.split_once("--- stderr\n").expect("it is there");
    check(
        stderr,
        str![[r#"
error: policy `policy` (its file can be used) does not hold: the policy `[PLACE]/home/policy.toml`: it can be written by others (mode 666), who could grant anything
hint: close it to them: `chmod go-w [PLACE]/home/policy.toml`

"#]],
    );
}

/// What a policy rests on is looked at also where there is none.
#[test]
fn what_the_host_keeps_is_looked_at() {
    let place = place(0o700);
    let mode = fs::Permissions::from_mode;
    fs::create_dir(place.path("home/audit")).expect("a folder can be made");
    fs::set_permissions(place.path("home/audit"), mode(0o755)).expect("it is ours");
    place.run_with_stdin(["secrets", "set", "token"], b"12345678abc\n");
    fs::set_permissions(place.path("home/secrets"), mode(0o644)).expect("it is ours");
    let said = place.run(["doctor"]);
    says(
        &said,
        &[
            "exit: 0\n",
            "! policy",
            "warning: policy `policy` (its file can be used): audit: nothing that runs is written down: \
             `[PLACE]/home/audit` is open to others (mode 755); `skillhost policy check` shows 1 more\n",
            "hint: it must be this user's alone: `chmod 700 [PLACE]/home/audit`\n",
        ],
    );
}

/// Whoever may open few files leaves nothing behind either.
#[test]
fn no_folder_stays_where_files_run_out() {
    let place = place(0o700);
    place.write("tmp/keep", "");
    let skillhost = place.command([]);
    let program = skillhost.get_program().to_string_lossy().into_owned();
    let mut command = std::process::Command::new("sh");
    command.args([
        "-c",
        &format!("ulimit -n 64 && exec {program} doctor --json"),
    ]);
    for (name, value) in skillhost.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    let output = command.env("TMPDIR", place.path("tmp")).output();
    let said = place.said(&output.expect("the command starts"));
    assert!(said.contains("Too many open files"), "{said}");
    let left = fs::read_dir(place.path("tmp"))
        .expect("it is there")
        .count();
    assert_eq!(left, 1);
}

/// A secret that is granted and cannot be had rejects what needs it.
#[test]
fn a_secret_that_cannot_be_had_is_warned_of() {
    let place = Place::new();
    place.write(
        "home/policy.toml",
        "[secrets]\ntoken = \"file:/nowhere/token\"\n[skills.probe.grants]\nhttp = [\"https://a.example\"]\n\
         secrets = [\"token=authorization@https://a.example\"]\n\
         [[skills.probe.confirmed]]\ndigest = \"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n",
    );
    let said = place.run(["policy", "check"]);
    assert!(said.starts_with("exit: 0\n"), "{said}");
    let said = place.run(["doctor"]);
    assert!(said.contains("! policy"), "{said}");
    assert!(
        said.contains("the secret `token` is granted and cannot be had"),
        "{said}"
    );
}
