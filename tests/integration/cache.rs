//! The compiled cache: compiled once, described once, and never trusted blindly.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use serde_json::json;
use skillhost::skill::Digest;
use skillhost::{CompileEvent, ExecutionRequest, Host, HostError, Status};

use crate::handmade::Handmade;
use crate::harness::NONE;
use crate::harness::{behaviours_path, load, output, run_tool};

/// A host with a cache of its own, and how often it has compiled.
fn counting(folder: &Path) -> (Host, Arc<AtomicUsize>) {
    let compiled = Arc::new(AtomicUsize::new(0));
    let count = compiled.clone();
    let host = Host::builder()
        .concurrency(8)
        .cache(folder.join("compiled"))
        .on_compile(move |event| {
            if matches!(event, CompileEvent::Started { .. }) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        })
        .build()
        .unwrap();
    (host, compiled)
}

fn entries(folder: &Path, extension: &str) -> Vec<PathBuf> {
    fs::read_dir(folder.join("compiled"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

/// 8 threads in each of 4 hosts, which know nothing of each other but the folder.
#[test]
fn many_at_once_compile_once() {
    let folder = tempfile::tempdir().unwrap();
    let component = Handmade::default().build();
    let hosts: Vec<_> = (0..4).map(|_| counting(folder.path())).collect();
    std::thread::scope(|scope| {
        for (host, _) in &hosts {
            for _ in 0..8 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let skill = host.load_bytes(component.clone()).await.unwrap();
                        let result = run_tool(host, skill.digest(), NONE).await;
                        assert_eq!(result.status, Status::Success);
                    });
                });
            }
        }
    });
    let compiled: usize = hosts
        .iter()
        .map(|(_, count)| count.load(Ordering::SeqCst))
        .sum();
    assert_eq!(compiled, 1);
    assert_eq!(entries(folder.path(), "cwasm").len(), 1);
    for path in entries(folder.path(), "cwasm") {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
    }
}

/// What another process holds while it compiles a component, and what a host that wants the same then
/// tells.
fn with_another_at_it(component: &[u8], folder: &Path) -> (fs::File, Host, Receiver<CompileEvent>) {
    let (tell, heard) = std::sync::mpsc::channel();
    let host = Host::builder()
        .concurrency(2)
        .cache(folder.join("compiled"))
        .on_compile(move |event| {
            // Whoever listened may have gone.
            let _ = tell.send(event.clone());
        })
        .build()
        .unwrap();
    let digits = Digest::of_component(component).hex();
    let name = format!("compiled/.lock-{digits}");
    let lock = fs::File::create(folder.join(name)).unwrap();
    lock.lock().unwrap();
    (lock, host, heard)
}

#[test]
fn who_waits_for_another_process_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let component = Handmade::default().build();
    let (lock, host, heard) = with_another_at_it(&component, folder.path());
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let package = skillhost::skill::Package::from_bytes(component.clone());
            host.load_package_blocking(package)
        });
        assert!(matches!(
            heard.recv().unwrap(),
            CompileEvent::Waiting { .. }
        ));
        drop(lock);
        loading.join().unwrap().unwrap();
    });
    assert!(matches!(heard.recv().unwrap(), CompileEvent::Waited { .. }));
    assert!(matches!(
        heard.recv().unwrap(),
        CompileEvent::Started { .. }
    ));
    assert!(matches!(
        heard.recv().unwrap(),
        CompileEvent::Finished { .. }
    ));
}

/// A process can be stopped while it compiles, and never go on.
#[test]
fn who_does_not_want_it_any_more_waits_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let component = Handmade::default().build();
    let (_lock, host, heard) = with_another_at_it(&component, folder.path());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let loading = runtime.spawn(async move { host.load_bytes(component).await.map(drop) });
    assert!(matches!(
        heard.recv().unwrap(),
        CompileEvent::Waiting { .. }
    ));
    loading.abort();
    // Ends only once its threads have.
    drop(runtime);
}

/// The second host allows too little fuel to be told anything by it: were it asked again, that would show.
#[tokio::test]
async fn another_host_neither_compiles_nor_asks_again() {
    let folder = tempfile::tempdir().unwrap();
    let skill = Handmade {
        // It takes a lot of fuel to describe itself, which only the first host allows.
        describe: "(local $n i32) (local.set $n (i32.const 1000000))
            (loop $more (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            i32.const $description"
            .into(),
        ..Handmade::default()
    };
    let (first, compiled) = counting(folder.path());
    let described = load(&first, &skill).await.description().clone();
    assert_eq!(compiled.load(Ordering::SeqCst), 1);
    let second = Host::builder()
        .concurrency(1)
        .cache(folder.path().join("compiled"))
        .default_limits(skillhost::Limits {
            fuel: 10_000,
            ..skillhost::Limits::default()
        })
        .on_compile(|event| panic!("{event:?}"))
        .build()
        .unwrap();
    let loaded = load(&second, &skill).await;
    assert_eq!(loaded.description(), &described);
    let result = run_tool(&second, loaded.digest(), NONE).await;
    assert_eq!(output(&result), &json!({}));
}

/// Whatever is wrong with an entry, it is made anew.
#[tokio::test]
async fn an_entry_that_is_not_what_it_should_be_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let skill = Handmade::default();
    let (first, _) = counting(folder.path());
    load(&first, &skill).await;
    let (code, record) = (
        entries(folder.path(), "cwasm"),
        entries(folder.path(), "json"),
    );
    let (code, record) = (&code[0], &record[0]);
    let (good_code, good_record) = (fs::read(code).unwrap(), fs::read(record).unwrap());
    let foreign = b"\x7fELF not made by wasmtime".repeat(good_code.len() / 20);
    let damage: [(&str, &dyn Fn()); 8] = [
        ("truncated", &|| {
            fs::write(code, &good_code[..good_code.len() / 2]).unwrap()
        }),
        ("empty", &|| fs::write(code, b"").unwrap()),
        ("garbage of the same length", &|| {
            fs::write(code, vec![7; good_code.len()]).unwrap()
        }),
        ("foreign", &|| {
            fs::write(code, &foreign[..good_code.len()]).unwrap()
        }),
        ("gone", &|| fs::remove_file(code).unwrap()),
        ("without a record", &|| fs::remove_file(record).unwrap()),
        ("with a torn record", &|| {
            fs::write(record, &good_record[..20]).unwrap()
        }),
        ("writable by others", &|| {
            fs::set_permissions(code, fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (what, damage) in damage {
        damage();
        let (host, compiled) = counting(folder.path());
        let skill = load(&host, &skill).await;
        assert_eq!(compiled.load(Ordering::SeqCst), 1, "{what}");
        let result = run_tool(&host, skill.digest(), NONE).await;
        assert_eq!(result.status, Status::Success, "{what}");
        let (host, compiled) = counting(folder.path());
        load(&host, &Handmade::default()).await;
        assert_eq!(
            compiled.load(Ordering::SeqCst),
            0,
            "{what}: it is whole again"
        );
    }
}

/// What a skill is and does is what the component says, whoever wrote into the record.
#[tokio::test]
async fn a_record_that_was_changed_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let skill = Handmade::default();
    let (first, _) = counting(folder.path());
    let described = load(&first, &skill).await.description().clone();
    let record = &entries(folder.path(), "json")[0];
    let good = fs::read_to_string(record).unwrap();
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{good}");
        fs::write(record, good.replace(from, to)).unwrap();
    };
    let tool = &described.tools[0].name;
    let remove = || fs::remove_file(record).unwrap();
    let damage: [(&str, &dyn Fn()); 6] = [
        ("another name", &|| replaced("handmade", "homemade")),
        ("no name", &|| replaced("handmade", "../../etc")),
        ("another tool", &|| {
            replaced(&format!("\\\"{tool}\\\""), "\\\"other\\\"")
        }),
        ("no schema", &|| {
            replaced(
                "\\\"input_schema\\\":{",
                "\\\"input_schema\\\":{\\\"type\\\":7,",
            )
        }),
        ("a FIFO", &|| {
            remove();
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, record, mode).unwrap();
        }),
        ("a folder", &|| {
            remove();
            fs::create_dir(record).unwrap();
        }),
    ];
    for (what, damage) in damage {
        damage();
        let (host, compiled) = counting(folder.path());
        let loaded = load(&host, &skill).await;
        assert_eq!(loaded.description(), &described, "{what}");
        assert_eq!(compiled.load(Ordering::SeqCst), 1, "{what}");
        assert_eq!(fs::read_to_string(record).unwrap(), good, "{what}");
    }
    let code = &entries(folder.path(), "cwasm")[0];
    fs::remove_file(code).unwrap();
    fs::create_dir(code).unwrap();
    let (host, compiled) = counting(folder.path());
    load(&host, &skill).await;
    assert_eq!(compiled.load(Ordering::SeqCst), 1);
    assert!(code.is_file());
}

#[test]
fn a_folder_that_others_may_enter_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let error = Host::builder()
        .concurrency(1)
        .cache(folder.path())
        .build()
        .unwrap_err();
    assert!(matches!(error, HostError::Io { .. }));
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

/// Two memories, a table and a number of instances that no slot of the pool has room for.
#[tokio::test]
async fn what_does_not_fit_the_pool_runs_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let memories = Handmade {
        fields: "(memory $second 1)".into(),
        ..Handmade::default()
    };
    let table = Handmade {
        fields: "(table 50000 funcref)".into(),
        ..Handmade::default()
    };
    let instances = Handmade {
        before: format!(
            "(core module $e) {}",
            "(core instance (instantiate $e))".repeat(90)
        ),
        ..Handmade::default()
    };
    for skill in [memories, table, instances] {
        for compilations in [1, 0] {
            let (host, compiled) = counting(folder.path());
            let skill = load(&host, &skill).await.digest();
            for _ in 0..3 {
                let result = run_tool(&host, skill, NONE).await;
                assert_eq!(result.status, Status::Success, "{:?}", result.failure);
            }
            assert_eq!(compiled.load(Ordering::SeqCst), compilations);
        }
    }
}

/// Three hosts with room for one entry each remove what the others have just made.
#[test]
fn a_cache_that_is_too_small_still_works() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let folder = folder.path().join("compiled");
            scope.spawn(move || {
                for round in 0..12 {
                    let host = Host::builder()
                        .concurrency(1)
                        .cache(&folder)
                        .cache_bytes(1)
                        .build()
                        .unwrap();
                    let skill = Handmade {
                        fields: format!("(global i32 (i32.const {}))", (thread + round) % 4),
                        ..Handmade::default()
                    };
                    let package = skillhost::skill::Package::from_bytes(skill.build());
                    let file = folder.join(format!("skill-{thread}.wasm"));
                    fs::write(&file, &package.component).unwrap();
                    let skill = host.load_blocking(&file).unwrap();
                    let request = ExecutionRequest::new(skill.digest(), json!({}));
                    let result = host.execute_blocking(request).unwrap();
                    assert_eq!(result.status, Status::Success);
                }
            });
        }
    });
}

/// The work of one of several processes: a test of its own, run by [`many_processes_compile_once`].
#[test]
#[ignore = "run by another test, in a process of its own"]
fn one_of_many_processes() {
    let folder = PathBuf::from(std::env::var_os("SHARED_FOLDER").expect("run by another test"));
    let (host, compiled) = counting(&folder);
    let skill = host.load_blocking(folder.join("skill.wasm")).unwrap();
    let result = host
        .execute_blocking(ExecutionRequest::new(skill.digest(), json!({})).tool("echo"))
        .unwrap();
    assert_eq!(result.status, Status::Success);
    println!("compiled {} times", compiled.load(Ordering::SeqCst));
}

#[test]
fn many_processes_compile_once() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(behaviours_path(), folder.path().join("skill.wasm")).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args([
                    "cache::one_of_many_processes",
                    "--exact",
                    "--ignored",
                    "--nocapture",
                ])
                .env("SHARED_FOLDER", folder.path())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut compiled = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        compiled += usize::from(said.contains("compiled 1 times"));
    }
    assert_eq!(compiled, 1);
}

/// Old entries go; what was just made stays, and what is in use goes on.
#[tokio::test]
async fn the_cache_is_bounded_in_size() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host::builder()
        .concurrency(1)
        .cache(folder.path().join("compiled"))
        .cache_bytes(1)
        .build()
        .unwrap();
    let mut skills = Vec::new();
    for number in 0..4 {
        let skill = Handmade {
            fields: format!("(global i32 (i32.const {number}))"),
            ..Handmade::default()
        };
        skills.push(load(&host, &skill).await.digest());
        assert_eq!(entries(folder.path(), "cwasm").len(), 1);
    }
    for skill in skills {
        let result = host
            .execute(ExecutionRequest::new(skill, json!({})))
            .await
            .unwrap();
        assert_eq!(result.status, Status::Success);
    }
}
